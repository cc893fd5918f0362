"""Encrypted rows handed to several strangers: none sees them, and none can lie alone.

    result = await outsource(transport, endpoints, whole("risk", model), rows, SystemRng())
    result.answers            as the model gives them
    result.evidence           signed wrong answers, which anybody with the model can check: ``service.is_wrong``

Rows are cut into pieces, each piece goes to strangers drawn for it (``replication``), and answers are compared byte by
byte. Strangers learn nothing about the rows. Those of one piece who lie together, ``agree`` of them, can make it wrong.
Where the model is ``divided`` too, there is a piece for each part of it, and no stranger is asked about all parts.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from koinon.kernel.effects import Rng
from koinon.kernel.errors import InvalidInput, KoinonError
from koinon.kernel.ids import Hash32, NodeId
from koinon.privacy.encrypted import replication
from koinon.privacy.encrypted.ckks import generate, rows_for
from koinon.privacy.encrypted.parts import Division
from koinon.privacy.encrypted.replication import Answered, Ask, Begin, Event, Lost, Named, Settled
from koinon.privacy.encrypted.service import DECIMALS, Caller, answer_hash, ask, question_hash
from koinon.wire.discovery import Endpoint
from koinon.wire.encrypted import EncryptedAnswer, EncryptedQuestion


@dataclass(frozen=True)
class WrongAnswer:
    """A node's signed answer that differs from what enough others said to the same question."""

    node: NodeId
    question: EncryptedQuestion
    answer: EncryptedAnswer


@dataclass(frozen=True)
class Outsourced:
    """What came of the work.

    Attributes:
        answers: (n, outputs).
        evidence: wrong answers, by node.
        silent: nodes that failed to answer once or more.
        earned: pieces that each node is to be paid for, in the order of the endpoints; 0 for whoever lied.
        signed: receipts of paid work, wrong answers' too.
    """

    answers: np.ndarray
    evidence: tuple[WrongAnswer, ...]
    silent: tuple[NodeId, ...]
    earned: tuple[int, ...]
    signed: "tuple[SignedPiece, ...]" = ()


@dataclass(frozen=True)
class SignedPiece:
    """One node's receipt for one piece of paid work.

    Attributes:
        stranger: its place among the endpoints.
        piece: from 0.
        question, answer: their hashes.
        receipt: its account's signature; it has been checked.
        settled: whether the answer is the one that enough others gave.
    """

    stranger: int
    piece: int
    question: Hash32
    answer: Hash32
    receipt: bytes
    settled: bool


@dataclass(frozen=True)
class PaidWork:
    """What the questions and receipts of paid work look like.

    Attributes:
        task: piece → what its question names.
        is_receipt: stranger, piece, hash of the question, hash of the answer, signature → whether that is a receipt.
    """

    task: Callable[[int], bytes]
    is_receipt: Callable[[int, int, Hash32, Hash32, bytes], bool]


Give = Callable[[int, int], Awaitable[None]]
"""Shows a part to a stranger, both by number. Raises a KoinonError where the stranger does not take it."""


@dataclass
class _Given:
    """Which parts strangers have been shown: each once, however many of its pieces wait for it."""

    give: Give | None
    turns: defaultdict[tuple[int, int], asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    done: set[tuple[int, int]] = field(default_factory=set)

    async def have(self, stranger: int, part: int) -> None:
        async with self.turns[stranger, part]:
            if self.give is not None and (stranger, part) not in self.done:
                await self.give(stranger, part)
                self.done.add((stranger, part))


async def outsource(
    caller: Caller,
    endpoints: Sequence[Endpoint],
    division: Division,
    rows: np.ndarray,
    rng: Rng,
    *,
    agree: int = 2,
    piece_rows: int | None = None,
    paid: PaidWork | None = None,
    give: Give | None = None,
) -> Outsourced:
    """Have strangers evaluate a model on rows that they do not see.

    Args:
        endpoints: nodes that ``serve`` the division's parts under their names, or do so once they are given one.
        rows: (n, features).
        agree: how many must send the same bytes.
        piece_rows: of one piece; by default as many as one ciphertext holds.
        paid: for work under a contract; an answer without a receipt then counts as none.
        give: shows a part to a stranger, before it is asked about it for the first time.

    Raises:
        InvalidInput: rows that do not fit the model, or too few nodes.
        Unavailable: too few nodes answered alike.
    """
    values = np.asarray(rows, np.float64)
    size = piece_rows or rows_for(division.depth)
    if values.ndim != 2 or values.shape[1] != division.features or not len(values):
        raise InvalidInput(f"the model takes rows of {division.features} numbers; got shape {values.shape}")
    if not 1 <= size <= rows_for(division.depth):
        raise InvalidInput(f"a piece has 1 to {rows_for(division.depth)} rows, not {size}")
    parts, cuts = division.parts, range(0, len(values), size)
    state = replication.begin(len(cuts) * len(parts), len(endpoints), agree, rng, len(parts))
    keys = await asyncio.to_thread(generate, division.depth)
    given = _Given(give)
    questions: dict[int, EncryptedQuestion] = {}
    answers: dict[tuple[int, int], EncryptedAnswer] = {}
    events: asyncio.Queue[Event] = asyncio.Queue()
    settled: dict[int, np.ndarray] = {}
    evidence: list[WrongAnswer] = []

    async def put(stranger: int, piece: int) -> None:
        try:
            await given.have(stranger, piece % len(parts))
            reply = await ask(caller, endpoints[stranger], questions[piece])
        except KoinonError:
            events.put_nowait(Lost(stranger, piece))
            return
        said = answer_hash(reply.columns)
        if paid is not None and not paid.is_receipt(
            stranger, piece, question_hash(questions[piece]), said, reply.receipt
        ):
            events.put_nowait(Lost(stranger, piece))
            return
        answers[stranger, piece] = reply
        events.put_nowait(Answered(stranger, piece, said))

    tasks: list[asyncio.Task[None]] = []
    events.put_nowait(Begin())
    awaited = 1
    try:
        # The last answers to a settled piece are waited for too: they may be evidence.
        while awaited:
            state, effects = replication.step(state, await events.get())
            awaited -= 1
            for effect in effects:
                match effect:
                    case Ask(stranger, piece):
                        if piece not in questions:
                            part, start = parts[piece % len(parts)], cuts[piece // len(parts)]
                            taken = values[start : start + size, list(part.columns)]
                            columns = await asyncio.to_thread(keys.encrypt, taken)
                            named = paid.task(piece) if paid is not None else b""
                            questions[piece] = EncryptedQuestion(part.name, keys.public, tuple(columns), named)
                        tasks.append(asyncio.create_task(put(stranger, piece)))
                        awaited += 1
                    case Settled(piece, stranger):
                        count = min(size, len(values) - cuts[piece // len(parts)])
                        answer = list(answers[stranger, piece].columns)
                        settled[piece] = await asyncio.to_thread(keys.decrypt, answer, count, DECIMALS)
                    case Named(stranger, piece):
                        node = endpoints[stranger].node_id
                        evidence.append(WrongAnswer(node, questions[piece], answers[stranger, piece]))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    together = [range(first, first + len(parts)) for first in range(0, len(settled), len(parts))]
    return Outsourced(
        np.concatenate([division.together([settled[each] for each in pieces]) for pieces in together]),
        tuple(evidence),
        tuple(endpoints[stranger].node_id for stranger in sorted(state.silent)),
        tuple(replication.shares(state, len(endpoints))),
        _signed(questions, answers, state) if paid is not None else (),
    )


def _signed(
    questions: Mapping[int, EncryptedQuestion],
    answers: Mapping[tuple[int, int], EncryptedAnswer],
    state: replication.State,
) -> tuple[SignedPiece, ...]:
    found = []
    for (stranger, piece), reply in sorted(answers.items()):
        said = answer_hash(reply.columns)
        settled = said == state.pieces[piece].settled
        found.append(SignedPiece(stranger, piece, question_hash(questions[piece]), said, reply.receipt, settled))
    return tuple(found)
