"""The disposable child of one committee position in a federated study: ``koinon.privacy.federated.member:main``.

What node and worker say to each other is as on rep4 (``privacy.seats``). Position 0 leads: the owners' nodes dial it
and send their masked words; the three others dial it too, and repeat every round. All four end with the joint model,
which each hands to the result party in full: on this engine the committee and the owners know the output.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from koinon.crypto.signature import NodeKey
from koinon.kernel.effects import Link
from koinon.kernel.errors import Forged, InvalidInput, KoinonError, ProtocolAbort, Unavailable
from koinon.kernel.ids import NodeId
from koinon.kernel.quantities import Seconds
from koinon.net.transport import Transport
from koinon.privacy.federated import studies, witness
from koinon.privacy.federated.approvals import ENOUGH_APPROVALS, Voucher
from koinon.privacy.federated.links import Pace, Roster, coordinate, link_label
from koinon.privacy.federated.training import RoundReport, TrainingPlan
from koinon.privacy.opening import public_package
from koinon.privacy.programs import registry
from koinon.privacy.programs.offer import FRACTION_BITS
from koinon.privacy.seats import check_seats, dialled, endpoint_of, expect, prepared, serve
from koinon.privacy.sharing import NOTHING_SHARED, check_manifest, check_same_run
from koinon.wire.catalogue import to_frame
from koinon.wire.committee import NOBODY, POSITIONS, Aborted, Listening, Output, OutputPackage, Prepare, Progress, Run
from koinon.worker.channel import AsyncChannel

LEADER: Final = 0
TO_CONNECT, TO_TRAIN, TO_ANSWER = 1 / 4, 1 / 3, 1 / 6
"""Parts of a run's time: to connect, for owners to train in a round, and for their answer in any other stage."""


@dataclass(frozen=True)
class Seat:
    """What one position knows when its run begins."""

    prepare: Prepare
    run: Run
    key: NodeKey
    plan: TrainingPlan
    roster: Roster


async def main(channel: AsyncChannel) -> None:
    """Take part in one training and end."""
    await serve(channel, _serve)


async def _serve(channel: AsyncChannel) -> None:
    prepare = await prepared(channel)
    key = NodeKey.from_seed(prepare.seed)
    async with Transport.open(key, prepare.host) as transport:
        await channel.send(to_frame(Listening(key.node_id, transport.endpoint.port)))
        seat = agreed(prepare, await expect(channel, Run), key)
        try:
            async with asyncio.timeout(seat.run.deadline_seconds):
                taking_part = _lead if prepare.position == LEADER else _follow
                package, digest = await taking_part(channel, transport, seat)
        except (Unavailable, ProtocolAbort) as problem:
            await channel.send(to_frame(_aborted(problem, prepare.position)))
        except TimeoutError:
            silent = ProtocolAbort("the training did not end in time", {LEADER})
            await channel.send(to_frame(_aborted(silent, prepare.position)))
        else:
            await channel.send(to_frame(Output(package, digest, (), 0, 0)))


def witness_label(session: bytes) -> str:
    """What the leader and the members that repeat its rounds call their links."""
    return f"federated witness {session.hex()}"


def agreed(prepare: Prepare, run: Run, key: NodeKey) -> Seat:
    """Check what the node asks for before anything is connected. Raises InvalidInput, Forged or Refused."""
    check_seats(prepare, run, key)
    if run.algorithm != registry.algorithm_hash(run.program, registry.FEDERATED):
        raise InvalidInput(f"this node's {run.program} is not the algorithm of the study; install the agreed version")
    program = registry.load(run.program, run.parameters)
    plan = studies.plan_of_encoded(run.program, run.parameters)
    if len(run.inputs) != len(program.shapes):
        raise InvalidInput(f"the study has {len(program.shapes)} owners; {len(run.inputs)} manifests were given")
    for number, each in enumerate(run.inputs):
        manifest = each.manifest
        check_manifest(manifest)
        shape = (manifest.rows, len(manifest.columns))
        if manifest.sums or shape != program.shapes[number] or manifest.columns != program.columns:
            raise InvalidInput(f"the manifest of owner {number} has other rows or columns than the study declares")
        if manifest.commitments != NOTHING_SHARED or each.package is not None:
            raise Forged(f"owner {number} dealt shares, and on this engine rows stay with their owners")
    check_same_run([each.manifest for each in run.inputs])
    owners = tuple(NodeId(each.manifest.owner) for each in run.inputs)
    witnesses = tuple(NodeId(peer.node) for peer in run.peers[LEADER + 1 :])
    roster = Roster(prepare.session, NodeId(run.peers[LEADER].ephemeral), owners, witnesses)
    return Seat(prepare, run, key, plan, roster)


# ----------------------------------------------------------------------------------------------------- the leader


async def _lead(channel: AsyncChannel, transport: Transport, seat: Seat) -> tuple[OutputPackage, bytes]:
    """Add up with the owners that come, and tell the others of every round."""
    run, session = seat.run, seat.prepare.session
    seconds = run.deadline_seconds * TO_CONNECT
    reports: set[asyncio.Task[None]] = set()

    def report(told: RoundReport) -> None:
        progress = Progress("train", told.round + 1, seat.plan.rounds)
        reports.add(task := asyncio.create_task(channel.send(to_frame(progress))))
        task.add_done_callback(reports.discard)

    async with AsyncExitStack() as closing:
        others = [NodeId(peer.ephemeral) for peer in run.peers[LEADER + 1 :]]
        awaited = [transport.accept_link(other, witness_label(session), seconds) for other in others]
        awaited += [transport.accept_link(owner, link_label(session), seconds) for owner in seat.roster.owners]
        arrived = await _arrived(awaited, closing)
        witnesses = {number + 1: link for number, link in enumerate(arrived[: len(others)]) if link is not None}
        owners = {number: link for number, link in enumerate(arrived[len(others) :]) if link is not None}
        if len(witnesses) < ENOUGH_APPROVALS:
            missing = [position for position in POSITIONS[1:] if position not in witnesses]
            raise ProtocolAbort("too few members came to repeat the rounds", missing)
        pace = Pace(Seconds(run.deadline_seconds * TO_TRAIN), Seconds(run.deadline_seconds * TO_ANSWER))
        account = witness.Account(seat.roster, list(witnesses.values()), pace.stage)
        await closing.enter_async_context(account)
        state = await coordinate(
            seat.plan,
            seat.roster,
            owners,
            pace,
            watch=account.watch,
            report=report,
            ended=account.ended,
            vouched=account.vouched,
        )
        await account.endorsements()  # nobody needs the signatures: that they came says that the frames were read
        await asyncio.gather(*reports)
    words = studies.outputs_of(state, seat.plan, studies.parameters_of(seat.run.parameters), FRACTION_BITS)
    return public_package(session, LEADER, words, FRACTION_BITS, account.transcript)


async def _arrived(awaited: Sequence[Awaitable[Link]], closing: AsyncExitStack) -> list[Link | None]:
    """Links in the order given; None for whoever did not come. All are closed in the end."""
    found: list[Link | None] = []
    for link in await asyncio.gather(*awaited, return_exceptions=True):
        if isinstance(link, Unavailable):
            found.append(None)
        elif isinstance(link, BaseException):
            raise link
        else:
            closing.push_async_callback(link.close)
            found.append(link)
    return found


# ----------------------------------------------------------------------------------------------------- the others


async def _follow(_: AsyncChannel, transport: Transport, seat: Seat) -> tuple[OutputPackage, bytes]:
    """Repeat the leader's rounds."""
    session, position = seat.prepare.session, seat.prepare.position
    leader = endpoint_of(seat.run.peers[LEADER])
    try:
        link = await dialled(transport, leader, witness_label(session), seat.run.deadline_seconds * TO_CONNECT)
    except TimeoutError:
        raise ProtocolAbort("the member that leads cannot be reached", {LEADER}) from None
    try:
        voucher = Voucher(position, seat.key, seat.run.peers[position].certificate)
        state, _endorsement, transcript = await witness.witness(seat.plan, seat.roster, voucher, link)
    finally:
        await link.close()
    words = studies.outputs_of(state, seat.plan, studies.parameters_of(seat.run.parameters), FRACTION_BITS)
    return public_package(session, position, words, FRACTION_BITS, transcript)


def _aborted(problem: KoinonError, position: int) -> Aborted:
    """Nobody is accused on the chain: a leader that told of rounds that do not hold gets no three signatures, and what
    the others saw of it convinces nobody else. Whoever is silent is asked there whether it is alive.
    """
    suspects = tuple(sorted(problem.suspects - {position})) if isinstance(problem, ProtocolAbort) else ()
    return Aborted(str(problem), NOBODY, NOBODY, NOBODY, suspects, NOBODY, b"")
