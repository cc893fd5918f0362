"""Asking and answering over the network.

    serve(transport.handle, key, {"risk": model})                                     a node that has the model
    predictor = await EncryptedPredictor.find(transport, endpoint, "risk")       somebody who has the rows
    probabilities = await predictor.predict(rows)

The node sees how many rows there are and nothing of them, whatever it does: it is honest or not, the rows are under the
caller's key. It can answer wrongly. The caller learns the answers; with many questions, like any caller, it learns the
model.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self, TypeVar

import numpy as np

from koinon.crypto.hash import tagged_hash
from koinon.crypto.signature import NodeKey, verify_node_signature
from koinon.kernel.codec import encode
from koinon.kernel.errors import InvalidInput, MalformedMessage, Refused
from koinon.kernel.ids import Hash32, NodeId
from koinon.privacy.encrypted.ckks import DEEPEST, Keys, generate, rows_for
from koinon.privacy.encrypted.models import MOST_FEATURES, MOST_UNITS, EncryptedModel, Link, linked
from koinon.privacy.encrypted.worker import LIMITS, answer
from koinon.wire.catalogue import Message
from koinon.wire.discovery import Endpoint
from koinon.wire.encrypted import EncryptedAnswer, EncryptedOffer, EncryptedQuestion, FetchEncryptedOffer
from koinon.worker import Limits

DECIMALS: Final = 4
"""Kept of every decrypted number; the noise is below 10⁻⁵."""
ANSWER_SECONDS: Final = 600.0
_DOMAIN: Final = "koinon/encrypted-answer/1"

_M = TypeVar("_M", bound=Message)


class Handles(Protocol):
    """What serving needs of a transport: ``Transport.handle``."""

    def __call__(
        self, kind: type[_M], function: Callable[[NodeId, _M], Coroutine[Any, Any, Message | None]]
    ) -> None: ...


class Caller(Protocol):
    """What asking needs of a transport."""

    async def call(self, endpoint: Endpoint, message: Message, timeout: float = ..., /) -> Message: ...


Receipts = Callable[[bytes, Hash32, Hash32], bytes]
"""A question's task, hash of the question, hash of the answer → a signature for the contract that pays and charges.
Raises Refused for work that this node did not take."""


Admits = Callable[[NodeId, FetchEncryptedOffer | EncryptedQuestion], None]
"""Raises Refused where this caller may not ask this."""


def serve(
    handle: Handles,
    key: NodeKey,
    models: Mapping[str, EncryptedModel],
    limits: Limits = LIMITS,
    at_once: int = 1,
    receipts: Receipts | None = None,
    admits: Admits | None = None,
) -> None:
    """Answer encrypted questions for these models.

    Args:
        key: signs every answer.
        at_once: how many are worked on side by side; the others wait for their turn.
        receipts: signs answers to paid work; without it such questions are refused.
        admits: who may ask what; everybody where it is not given. ``models`` may grow meanwhile.

    Raises:
        InvalidInput: a model that cannot be evaluated on ciphertexts.
    """
    for model in models.values():
        model.check()
    turns = asyncio.Semaphore(at_once)

    def named(name: str) -> EncryptedModel:
        if name not in models:
            raise Refused(f"this node answers no encrypted questions to {name[:80]!r}")
        return models[name]

    async def offer(caller: NodeId, message: FetchEncryptedOffer) -> EncryptedOffer:
        if admits is not None:
            admits(caller, message)
        model = named(message.model)
        return EncryptedOffer(model.features, model.outputs, model.depth, model.link.value)

    async def reply(caller: NodeId, message: EncryptedQuestion) -> EncryptedAnswer:
        if admits is not None:
            admits(caller, message)
        model = named(message.model)
        if message.task and receipts is None:
            raise Refused("this node takes no paid work; ask without a task")
        async with turns:
            columns = await answer(model, message, limits)
        signature = key.sign(_DOMAIN, _statement(message, columns))
        if receipts is None or not message.task:
            return EncryptedAnswer(columns, signature)
        receipt = receipts(message.task, question_hash(message), answer_hash(columns))
        return EncryptedAnswer(columns, signature, receipt)

    handle(FetchEncryptedOffer, offer)
    handle(EncryptedQuestion, reply)


async def ask(caller: Caller, endpoint: Endpoint, question: EncryptedQuestion) -> EncryptedAnswer:
    """One question to one node.

    Raises:
        MalformedMessage: what came back is no answer.
        Forged: it is not signed by that node.
    """
    reply = await caller.call(endpoint, question, ANSWER_SECONDS)
    if not isinstance(reply, EncryptedAnswer):
        raise MalformedMessage("the node did not answer an encrypted question with an encrypted answer")
    verify_node_signature(endpoint.node_id, _DOMAIN, _statement(question, reply.columns), reply.signature)
    return reply


async def is_wrong(node: NodeId, model: EncryptedModel, question: EncryptedQuestion, reply: EncryptedAnswer) -> bool:
    """Whether a node's signed answer is not what the model gives; anybody who has the model can find out.

    Evaluating ciphertexts has no randomness: the same version of the library gives the same bytes.

    Raises:
        Forged: the node did not sign this.
        InvalidInput, MalformedMessage: the question has no answer, so that no answer to it is evidence.
    """
    verify_node_signature(node, _DOMAIN, _statement(question, reply.columns), reply.signature)
    return await answer(model, question) != reply.columns


def question_hash(question: EncryptedQuestion) -> Hash32:
    """What stands for a question on a chain."""
    return tagged_hash("koinon/outsourced-question/1", encode(question))


def answer_hash(columns: Sequence[bytes]) -> Hash32:
    """What stands for an answer on a chain."""
    return tagged_hash("koinon/outsourced-answer/1", *columns)


def _statement(question: EncryptedQuestion, columns: tuple[bytes, ...]) -> bytes:
    return tagged_hash(_DOMAIN, encode(question), *columns)


@dataclass(frozen=True)
class EncryptedPredictor:
    """Answers of one model at one node, for rows that the node does not see."""

    caller: Caller
    endpoint: Endpoint
    name: str
    offer: EncryptedOffer
    link: Link
    keys: Keys

    @classmethod
    async def find(cls, caller: Caller, endpoint: Endpoint, name: str) -> Self:
        """Ask a node about a model and make keys for it.

        Raises:
            Refused: it has no such model for encrypted questions.
            MalformedMessage: it describes what no model can be.
        """
        offer = await caller.call(endpoint, FetchEncryptedOffer(name))
        if not isinstance(offer, EncryptedOffer):
            raise MalformedMessage("the node did not describe its model")
        links = {link.value: link for link in Link}
        sizes = 1 <= offer.features <= MOST_FEATURES and 1 <= offer.outputs <= MOST_UNITS
        if not (sizes and 1 <= offer.depth <= DEEPEST and offer.link in links):
            raise MalformedMessage("the node describes a model that none can be")
        keys = await asyncio.to_thread(generate, offer.depth)
        return cls(caller, endpoint, name, offer, links[offer.link], keys)

    async def predict(self, rows: np.ndarray) -> np.ndarray:
        """(n, outputs) for (n, features), in batches of as many rows as a ciphertext holds.

        Raises:
            InvalidInput: rows that do not fit the model.
            MalformedMessage: an answer that is none.
        """
        values = np.asarray(rows, np.float64)
        if values.ndim != 2 or values.shape[1] != self.offer.features or not len(values):
            raise InvalidInput(f"{self.name} takes rows of {self.offer.features} numbers; got shape {values.shape}")
        size = rows_for(self.keys.depth)
        answers = [await self._batch(values[start : start + size]) for start in range(0, len(values), size)]
        return linked(np.concatenate(answers), self.link)

    async def _batch(self, rows: np.ndarray) -> np.ndarray:
        columns = await asyncio.to_thread(self.keys.encrypt, rows)
        question = EncryptedQuestion(self.name, self.keys.public, tuple(columns))
        reply = await ask(self.caller, self.endpoint, question)
        if len(reply.columns) != self.offer.outputs:
            raise MalformedMessage(f"{self.offer.outputs} ciphertexts were due")
        return await asyncio.to_thread(self.keys.decrypt, list(reply.columns), len(rows), DECIMALS)
