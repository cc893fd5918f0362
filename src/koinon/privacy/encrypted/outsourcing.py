"""Encrypted rows handed to several strangers that all have the model: none sees them, and none can lie alone.

    result = await outsource(transport, endpoints, "risk", model, rows, SystemRng())
    result.answers            as the model gives them
    result.evidence           signed wrong answers, which anybody with the model can check: ``service.is_wrong``

Rows are cut into pieces, each piece goes to strangers drawn for it (``replication``), and answers are compared byte by
byte. Strangers learn nothing about the rows. Those of one piece who lie together, ``agree`` of them, can make it wrong.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from koinon.crypto.hash import tagged_hash
from koinon.kernel.effects import Rng
from koinon.kernel.errors import InvalidInput, KoinonError
from koinon.kernel.ids import NodeId
from koinon.privacy.encrypted import replication
from koinon.privacy.encrypted.ckks import generate, rows_for
from koinon.privacy.encrypted.models import EncryptedModel, linked
from koinon.privacy.encrypted.replication import Answered, Ask, Begin, Event, Lost, Named, Settled
from koinon.privacy.encrypted.service import DECIMALS, Caller, ask
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
    """

    answers: np.ndarray
    evidence: tuple[WrongAnswer, ...]
    silent: tuple[NodeId, ...]
    earned: tuple[int, ...]


async def outsource(
    caller: Caller,
    endpoints: Sequence[Endpoint],
    name: str,
    model: EncryptedModel,
    rows: np.ndarray,
    rng: Rng,
    *,
    agree: int = 2,
    piece_rows: int | None = None,
) -> Outsourced:
    """Have strangers evaluate a model on rows that they do not see.

    Args:
        endpoints: nodes that ``serve`` this model under this name.
        rows: (n, features).
        agree: how many must send the same bytes.
        piece_rows: of one piece; by default as many as one ciphertext holds.

    Raises:
        InvalidInput: rows that do not fit the model, or too few nodes.
        Unavailable: too few nodes answered alike.
    """
    model.check()
    values = np.asarray(rows, np.float64)
    size = piece_rows or rows_for(model.depth)
    if values.ndim != 2 or values.shape[1] != model.features or not len(values):
        raise InvalidInput(f"{name} takes rows of {model.features} numbers; got shape {values.shape}")
    if not 1 <= size <= rows_for(model.depth):
        raise InvalidInput(f"a piece has 1 to {rows_for(model.depth)} rows, not {size}")
    cuts = range(0, len(values), size)
    state = replication.begin(len(cuts), len(endpoints), agree, rng)
    keys = await asyncio.to_thread(generate, model.depth)
    questions: dict[int, EncryptedQuestion] = {}
    answers: dict[tuple[int, int], EncryptedAnswer] = {}
    events: asyncio.Queue[Event] = asyncio.Queue()
    settled: dict[int, np.ndarray] = {}
    evidence: list[WrongAnswer] = []

    async def give(stranger: int, piece: int) -> None:
        try:
            reply = await ask(caller, endpoints[stranger], questions[piece])
        except KoinonError:
            events.put_nowait(Lost(stranger, piece))
            return
        answers[stranger, piece] = reply
        events.put_nowait(Answered(stranger, piece, tagged_hash("koinon/outsourced-answer/1", *reply.columns)))

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
                            part = values[cuts[piece] : cuts[piece] + size]
                            columns = await asyncio.to_thread(keys.encrypt, part)
                            questions[piece] = EncryptedQuestion(name, keys.public, tuple(columns))
                        tasks.append(asyncio.create_task(give(stranger, piece)))
                        awaited += 1
                    case Settled(piece, stranger):
                        count = len(values[cuts[piece] : cuts[piece] + size])
                        answer = list(answers[stranger, piece].columns)
                        settled[piece] = await asyncio.to_thread(keys.decrypt, answer, count, DECIMALS)
                    case Named(stranger, piece):
                        node = endpoints[stranger].node_id
                        evidence.append(WrongAnswer(node, questions[piece], answers[stranger, piece]))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return Outsourced(
        linked(np.concatenate([settled[piece] for piece in range(len(cuts))]), model.link),
        tuple(evidence),
        tuple(endpoints[stranger].node_id for stranger in sorted(state.silent)),
        tuple(replication.shares(state, len(endpoints))),
    )
