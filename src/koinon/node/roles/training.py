"""A data owner's part in a federated study: its rows stay here, and masked words about them go to the committee."""

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from koinon.jobs.inputs import layout, parameters
from koinon.jobs.sessions import session_key, study_key
from koinon.jobs.study import StudyFile
from koinon.kernel.errors import Forged, MalformedMessage, Unavailable
from koinon.kernel.ids import NodeId
from koinon.kernel.quantities import Seconds
from koinon.node.context import Context
from koinon.wire.committee import Peer, ShareManifest
from koinon.wire.studies import FetchSeat, SeatReply

if TYPE_CHECKING:
    from koinon.data.table import Table

journal = logging.getLogger("koinon.data")
CALL_SECONDS: Final = Seconds(10.0)
RETRY_SECONDS: Final = 0.3


def attested(context: Context, study: StudyFile, number: int, attempt: int, dataset: bytes, rows: int) -> ShareManifest:
    """This owner's signed word about which rows it trains on."""
    from koinon.privacy.programs.offer import FRACTION_BITS
    from koinon.privacy.sharing import Dealing, attest

    dealing = Dealing(study_key(study, number), attempt, dataset)
    columns = layout(study, (rows,) * len(study.owners)).columns
    return attest(rows, columns, FRACTION_BITS, dealing, context.keys.node)


def check_rows_of(study: StudyFile, table: "Table") -> None:
    """Refuse rows of this owner that the training could not use. Raises InvalidInput, or Refused for small groups."""
    from koinon.privacy.federated.studies import plan_of_encoded, rows_of

    counts = (table.rows,) * len(study.owners)
    rows_of(plan_of_encoded(study.algorithm, parameters(study, counts)), table.matrix, layout(study, counts))


async def train_here(
    context: Context, study: StudyFile, number: int, attempt: int, members: Sequence[NodeId], place: int, table: "Table"
) -> None:
    """Train with the others until the joint model stands still. The rows go to a child process and to nobody else.

    Args:
        members: nodes of the drawn members, as the chain names them; the first leads, the others vouch for its models.
        place: this owner's number in the study.

    Raises:
        InvalidInput: the rows do not fit the study.
        ProtocolAbort: the leader said what no honest one says; nothing more was sent to it.
        Unavailable, Expired: it cannot be reached, or gave the training up.
    """
    from koinon.privacy.federated.contributing import contribute
    from koinon.privacy.federated.links import Roster, link_label
    from koinon.privacy.federated.studies import plan_of_encoded, rows_of
    from koinon.privacy.federated.worker import local_training
    from koinon.privacy.seats import dialled, endpoint_of

    counts = (study.minimum_rows,) * len(study.owners)
    plan = plan_of_encoded(study.algorithm, parameters(study, counts))
    rows = await asyncio.to_thread(rows_of, plan, table.matrix, layout(study, counts))
    session, run = session_key(study, number, attempt), Seconds(float(study.terms.run_seconds))
    try:
        async with asyncio.timeout(run):
            peer = await _leading_worker(context, number, attempt, members[0], session)
            link = await dialled(context.transport, endpoint_of(peer), link_label(session), run)
    except TimeoutError:
        raise Unavailable("the member that leads the training was not reached in time") from None
    try:
        owners = tuple(party.node_id for party in study.owners)
        roster = Roster(session, NodeId(peer.ephemeral), owners, tuple(members[1:]))
        async with local_training(plan, len(study.owners), place, rows, run) as training:
            await contribute(plan, roster, place, context.keys.node, link, training.words, context.rng, run)
    finally:
        await link.close()


async def _leading_worker(context: Context, number: int, attempt: int, leader: NodeId, session: bytes) -> Peer:
    """Where the leader's worker listens, and with which key; asked for until it is there."""
    from koinon.privacy.seats import check_certificate

    while True:
        try:
            record = await context.directory.find_node(leader)
            reply = await context.transport.call(record.endpoint, FetchSeat(number, attempt), CALL_SECONDS)
        except Unavailable:  # it may not have heard of the draw yet, or its worker is starting
            await asyncio.sleep(RETRY_SECONDS)
            continue
        if not isinstance(reply, SeatReply):
            raise MalformedMessage("the member that leads answered with something other than where its worker listens")
        if reply.peer.node != leader:
            raise Forged("the member that leads named another node's worker")
        check_certificate(session, 0, reply.peer)
        return reply.peer
