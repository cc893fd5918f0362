"""An owner's people in studies whose owners hold different columns: who is with all of them, and under which names.

Of the three joins of a study (``jobs.study.JOINS``) two are work for the owners' nodes. ``psi``: before it signs, each
finds out with the others which of its rows are of people in all owners' data, and shares those. ``oblivious``: each
shares pseudonyms beside its rows, hashes of ids under a key that the first owner draws and tells the others.
"""

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final

from koinon.contracts.studies import StudyPhase
from koinon.crypto.hash import tagged_hash
from koinon.jobs.study import MATCHED, OBLIVIOUS, StudyFile
from koinon.kernel.codec import decode, encode
from koinon.kernel.errors import Forged, InvalidInput, Refused, Unavailable
from koinon.kernel.ids import Hash32, NodeId
from koinon.kernel.quantities import Seconds
from koinon.node.context import Context
from koinon.node.datasets import Datasets, write_private
from koinon.node.intersections import Occasion, Watch, intersection
from koinon.node.matching import Matched, matched
from koinon.node.orders import Intersect, Intersected
from koinon.node.roles.studies import fetch_study
from koinon.node.tasks import Narrator
from koinon.wire.catalogue import Message
from koinon.wire.joins import FetchPseudonymKey, PseudonymKeyReply

if TYPE_CHECKING:
    from koinon.data.table import FloatArray, Table

journal = logging.getLogger("koinon.data")
KEY_BYTES: Final = 32
NOT_TOLD: Final = -1
_OCCASION_DOMAIN: Final = "koinon/data/intersection/1"
_KEY_SECONDS: Final = Seconds(20.0)
_RETRY_SECONDS: Final = 1.0


class PeopleDesk:
    """What one owner's node knows of other owners' people while their studies go on."""

    def __init__(self, context: Context, datasets: Datasets) -> None:
        self._context = context
        self._datasets = datasets
        self._matching: dict[int, asyncio.Task[Matched]] = {}

    def attach(self) -> None:
        """Answer the other owners of this owner's studies."""
        self._context.transport.handle(FetchPseudonymKey, self._tell_key)

    async def match(self, number: int, study: StudyFile, dataset_hash: bytes) -> int | None:
        """Find out and keep which rows the study takes; how many, or None where the study ended.

        Raises:
            KoinonError: see ``node.matching``; the sentence may be told to everybody.
        """
        context = self._context
        deadline = (await context.suite.studies.terms_of(number)).consent_deadline
        identifiers = await asyncio.to_thread(self._datasets.identifiers, Hash32(dataset_hash))
        until = context.clock.monotonic() + deadline - context.clock.unix()
        matching = asyncio.create_task(matched(context, number, study, identifiers, until), name=f"people {number}")
        self._matching[number] = matching
        try:
            found = await matching
        except asyncio.CancelledError:
            if (current := asyncio.current_task()) is not None and current.cancelling():
                matching.cancel()
                raise
            return None
        finally:
            del self._matching[number]
        context.memory.write(
            {_common_key(number): found.rows.astype("<u4").tobytes(), _parts_key(number): encode(found.parts)}
        )
        journal.info("study %d: the owners' nodes found out whom they have in common", number)
        return len(found.rows)

    def parts(self, number: int) -> tuple[int, ...]:
        """How many of the rows that the study takes each owner of the other columns has; see ``node.matching``."""
        kept = self._context.memory.get(_parts_key(number))
        return decode(tuple[int, ...], kept) if kept is not None else ()

    async def intersect(self, argument: bytes, narrator: Narrator) -> Intersected:
        """The operator's order: an intersection outside of any study, for which the other operator must give it too.

        Raises:
            InvalidInput: no such data set, one without ids, or a file that is there already; nothing was sent.
            KoinonError: see ``node.intersections.intersection``.
        """
        order = decode(Intersect, argument)
        path = Path(order.path) if order.path else None
        if path is not None and path.exists():
            raise InvalidInput(f"{path.name} exists already; choose another name or remove it")
        if order.peer == self._context.keys.node.node_id or not order.occasion or not 1 <= order.seconds <= 86_400:
            raise InvalidInput("an intersection is with another owner's node, on an occasion, within a day")
        stored = self._datasets.find(order.dataset_hash)
        identifiers = await asyncio.to_thread(self._datasets.identifiers, Hash32(stored.dataset_hash))
        peers = sorted((order.peer, self._context.keys.node.node_id))
        session = tagged_hash(_OCCASION_DOMAIN, order.occasion.encode(), *peers)
        occasion = Occasion(order.peer, session, order.asks, order.both_learn, order.most)
        narrator.say(f"{stored.rows} people here; waiting for the other owner's node", 0.05)
        watch = Watch(
            lambda: narrator.say("both nodes compute", 0.1),
            lambda share: narrator.say(f"both nodes compute, {share:.0%}", 0.1 + 0.8 * share),
        )
        found = await intersection(self._context, occasion, identifiers, Seconds(order.seconds), watch)
        if found is None:
            narrator.say("done; only the other owner learns who is in both", 1.0)
            return Intersected(stored.rows, NOT_TOLD, watch.sent, watch.received)
        if path is not None:
            lines = "\n".join(["id", *(identifiers[row] for row in found)]) + "\n"
            await asyncio.to_thread(write_private, path, lines.encode())
        narrator.say(f"{len(found)} people are in both", 1.0)
        return Intersected(stored.rows, len(found), watch.sent, watch.received)

    def stop_matching(self, number: int) -> None:
        """The study has ended: nobody needs to know any more who is in all data."""
        if (matching := self._matching.get(number)) is not None:
            matching.cancel()

    def forget(self, number: int) -> None:
        """The study is over: neither its people nor its key are of any use."""
        self._context.memory.write({}, (_common_key(number), _parts_key(number), _pseudonym_key(number)))

    async def shared_rows(self, number: int, study: StudyFile, dataset_hash: Hash32, table: "Table") -> "FloatArray":
        """What the study takes of a data set: (rows, columns) for ``jobs.inputs.share_columns``.

        Raises:
            Unavailable: this node has lost which of its rows the study takes, or the study ended before the first
                owner's node told the key.
            Forged: the first owner's node told something else than a key.
        """
        if study.join == MATCHED:
            return await asyncio.to_thread(self._common, number, table)
        if study.join == OBLIVIOUS:
            key = await self._key(number, study)
            return await asyncio.to_thread(self._under_pseudonyms, dataset_hash, table, key)
        return await asyncio.to_thread(lambda: table.matrix)

    def _common(self, number: int, table: "Table") -> "FloatArray":
        import numpy as np

        kept = self._context.memory.get(_common_key(number))
        if kept is None:
            raise Unavailable("it is lost which rows are of people in all owners' data; propose the study again")
        common: FloatArray = table.matrix[np.frombuffer(kept, "<u4")]
        return common

    def _under_pseudonyms(self, dataset_hash: Hash32, table: "Table", key: bytes) -> "FloatArray":
        import numpy as np

        from koinon.privacy.joins.oblivious import pseudonyms

        return np.column_stack([pseudonyms(self._datasets.identifiers(dataset_hash), key), table.matrix])

    async def _key(self, number: int, study: StudyFile) -> bytes:
        """The key under which this study's owners replace ids: the first owner draws it, the others ask its node."""
        context, first = self._context, study.owners[0]
        if first.account == context.account:
            return self._own_key(number)
        while True:
            try:
                record = await context.directory.find_node(first.node_id)
                reply = await context.transport.call(record.endpoint, FetchPseudonymKey(number), _KEY_SECONDS)
                break
            except Unavailable as problem:
                if (await context.suite.studies.study_of(number)).phase in (StudyPhase.COMPLETED, StudyPhase.ENDED):
                    raise
                journal.warning("study %d: no key for pseudonyms yet: %s", number, problem)
                await asyncio.sleep(_RETRY_SECONDS)
        if not isinstance(reply, PseudonymKeyReply) or len(reply.key) != KEY_BYTES:
            raise Forged(f"the first owner's node answered with something other than a key of {KEY_BYTES} bytes")
        return reply.key

    def _own_key(self, number: int) -> bytes:
        kept = self._context.memory.get(_pseudonym_key(number))
        if kept is None:
            kept = self._context.rng.bytes(KEY_BYTES)
            self._context.memory.write({_pseudonym_key(number): kept})
        return kept

    async def _tell_key(self, sender: NodeId, request: FetchPseudonymKey) -> Message:
        """To the other owners of a running study, which all owners have signed, and to nobody else."""
        context = self._context
        try:
            study = await fetch_study(context, request.study)
        except InvalidInput as problem:
            raise Refused(str(problem)) from None
        if study.join != OBLIVIOUS or study.owners[0].account != context.account:
            raise Refused("this node keeps no key for that study")
        if sender not in {party.node_id for party in study.owners}:
            raise Refused("the key is for the study's owners only")
        if (await context.suite.studies.study_of(request.study)).phase != StudyPhase.RUNNING:
            raise Refused("the key is told while a committee computes, and neither before nor after")
        return PseudonymKeyReply(self._own_key(request.study))


def _common_key(number: int) -> bytes:
    return b"common-rows/" + number.to_bytes(8, "big")


def _parts_key(number: int) -> bytes:
    return b"common-parts/" + number.to_bytes(8, "big")


def _pseudonym_key(number: int) -> bytes:
    return b"pseudonym-key/" + number.to_bytes(8, "big")
