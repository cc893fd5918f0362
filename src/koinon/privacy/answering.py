"""A model that four nodes keep as shares: dealing it, asking it.

    card, packages = share_model(SharedModel.of(model), …)        its owner, who gives each member one package
    predictor = await RemotePredictor.find(transport, endpoints, model_id)      a caller, who knows the model's id
    answers = await predictor.predict(rows)

Against one of the four, doing anything at all, weights and rows are private and answers right. Two together see both.
The model's owner and the callers' other questions see nothing of a question; a caller learns its answers, and of many
answers, like any caller, it can approximate the model.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, log2, prod
from typing import Final, Protocol, Self

import numpy as np

from koinon.crypto.hash import tagged_hash
from koinon.crypto.signature import NodeKey
from koinon.kernel.codec import encode
from koinon.kernel.effects import Rng
from koinon.kernel.errors import Forged, InvalidInput, MalformedMessage
from koinon.kernel.ids import Hash32, NodeId
from koinon.privacy.inference import FRACTION_BITS, NUMBERS, SharedModel, checked_rows, reach_of
from koinon.privacy.opening import reconstruct
from koinon.privacy.sharing import Dealing, check_manifest, deal, manifest_hash
from koinon.wire.catalogue import Message
from koinon.wire.committee import POSITIONS, Four, Input, ShareManifest
from koinon.wire.discovery import Endpoint
from koinon.wire.inference import (
    AskSharedModel,
    FindSharedModel,
    KeepSharedModel,
    SharedAnswer,
    SharedModelCard,
    SharedModelFound,
)

MOST_WEIGHTS: Final = 1 << 22
MOST_NUMBERS: Final = 1 << 20
"""In the rows of one question."""
MOST_CALLERS: Final = 1_000
MOST_AXES: Final = 8
LARGEST_GRAPH: Final = 4 << 20
LONGEST_NAME: Final = 80
ANSWER_SECONDS: Final = 420.0
_MODEL_DOMAIN: Final = "koinon/shared-model/1"
_GRAPH_DOMAIN: Final = "koinon/shared-model/graph/1"
_DEALING_DOMAIN: Final = "koinon/shared-model/dealing/1"


class Caller(Protocol):
    """What asking needs of a transport."""

    async def call(self, endpoint: Endpoint, message: Message, timeout: float = ..., /) -> Message: ...


def model_id(card: SharedModelCard) -> Hash32:
    """BLAKE3 of a shared model's card."""
    return tagged_hash(_MODEL_DOMAIN, encode(card))


def question_id(manifest: ShareManifest) -> Hash32:
    """Identity of a question's run: of the manifest of its rows, which holds a number used once."""
    return manifest_hash(manifest)


def share_model(
    model: SharedModel,
    name: str,
    largest: float,
    members: Four,
    callers: Sequence[bytes],
    owner: NodeKey,
    rng: Rng,
) -> tuple[Hash32, tuple[KeepSharedModel, ...]]:
    """Split a model's weights among four nodes.

    Args:
        name: for people; 1 to 80 characters.
        largest: rows with larger numbers will be refused; rounded up to a power of two.
        members: node ids, by position.
        callers: node ids of who may ask; nobody means everybody who can reach the nodes.

    Returns:
        The model's id, and what each of the four is to be given.

    Raises:
        InvalidInput: the model, the name or the nodes cannot be used so.
    """
    graph = model.graph.model.SerializeToString()
    used_once = rng.bytes(32)
    dealing = Dealing(tagged_hash(_DEALING_DOMAIN, used_once), 0, tagged_hash(_GRAPH_DOMAIN, graph))
    manifest, packages = deal(model.weights.reshape(-1, 1), NUMBERS, FRACTION_BITS, dealing, owner, rng)
    card = SharedModelCard(
        owner=owner.node_id,
        name=name,
        members=members,
        graph=tagged_hash(_GRAPH_DOMAIN, graph),
        places=model.graph.places,
        row=model.graph.row,
        largest=reach_of(largest),
        weights=manifest,
        callers=tuple(callers),
    )
    # What a member would refuse is found before anything leaves.
    try:
        check_card(card, graph)
    except MalformedMessage as problem:
        raise InvalidInput(str(problem)) from None
    model.graph.program((1, *card.row), card.largest)
    return model_id(card), tuple(KeepSharedModel(card, graph, Input(manifest, package)) for package in packages)


def check_card(card: SharedModelCard, graph: bytes | None = None) -> None:
    """Check what comes from outside, and the graph where it is given.

    Raises:
        MalformedMessage: no honest owner would state this.
        Forged: the owner did not sign the manifest, or the graph is another.
    """
    if not 1 <= len(card.name) <= LONGEST_NAME or not card.name.isprintable():
        raise MalformedMessage(f"a shared model needs a name of 1 to {LONGEST_NAME} characters")
    if len(set(card.members)) != len(POSITIONS) or any(len(each) != 32 for each in card.members):
        raise MalformedMessage("a shared model is kept by four different nodes")
    if len(card.callers) > MOST_CALLERS or any(len(each) != 32 for each in card.callers):
        raise MalformedMessage(f"a shared model names at most {MOST_CALLERS} callers, each by 32 bytes")
    if not 1 <= len(card.row) <= MOST_AXES or min(card.row) < 1 or prod(card.row) > MOST_NUMBERS:
        raise MalformedMessage(f"a row of a shared model has 1 to {MOST_NUMBERS} numbers")
    if not (card.largest > 0 and isfinite(card.largest) and log2(card.largest).is_integer()):
        raise MalformedMessage("the largest number of a shared model's rows is a power of two")
    check_manifest(card.weights)
    if card.weights.owner != card.owner:
        raise Forged("the shared weights are signed by another node than the model's owner")
    stated = sum(prod(each.shape) for each in card.places)
    if card.weights.rows != stated or not 1 <= stated <= MOST_WEIGHTS or card.weights.columns != NUMBERS:
        raise MalformedMessage(f"a shared model has 1 to {MOST_WEIGHTS} weights, in one column")
    if card.weights.fraction_bits != FRACTION_BITS:
        raise MalformedMessage(f"a shared model's weights have {FRACTION_BITS} fraction bits")
    if graph is not None and (len(graph) > LARGEST_GRAPH or tagged_hash(_GRAPH_DOMAIN, graph) != card.graph):
        raise Forged("the graph is not the one that the shared model's card names")


def check_question(card: SharedModelCard, manifest: ShareManifest) -> tuple[int, ...]:
    """The shape of the rows that a question is about.

    Raises:
        MalformedMessage: the manifest is unusable.
        Forged: it is not signed by its caller.
        InvalidInput: it is about another model, or rows of another shape.
    """
    check_manifest(manifest)
    size = prod(card.row)
    if manifest.study != model_id(card) or manifest.columns != NUMBERS or manifest.fraction_bits != FRACTION_BITS:
        raise InvalidInput("the rows were shared for another model")
    if manifest.rows % size or manifest.rows > max(size, MOST_NUMBERS):
        raise InvalidInput(f"the model takes rows of {size} numbers, {max(size, MOST_NUMBERS)} numbers at a time")
    return manifest.rows // size, *card.row


@dataclass(frozen=True)
class RemotePredictor:
    """Answers of one model that four nodes keep as shares, for rows that none of them sees; a ``Predictor``."""

    caller: Caller
    endpoints: tuple[Endpoint, ...]
    card: SharedModelCard
    key: NodeKey
    rng: Rng

    @classmethod
    async def find(cls, caller: Caller, endpoints: Sequence[Endpoint], model: bytes, key: NodeKey, rng: Rng) -> Self:
        """Ask the members about a model.

        Args:
            endpoints: of the four, in any order.
            model: its id, which the caller has from the model's owner.
            key: of the caller.

        Raises:
            Refused: they keep no such model.
            Forged: what they told is not that model.
            InvalidInput: these are not its four nodes.
        """
        card = await find_card(caller, endpoints[0], model)
        where = {endpoint.node_id: endpoint for endpoint in endpoints}
        if set(where) != set(card.members):
            raise InvalidInput("these are not the four nodes that keep the model")
        return cls(caller, tuple(where[NodeId(member)] for member in card.members), card, key, rng)

    async def predict(self, rows: np.ndarray) -> np.ndarray:
        """See ``Predictor.predict``; rows of shape (n, …) as the model's input has, as many at once as go into a run.

        Raises:
            InvalidInput: rows that do not fit the model.
            Refused: the model could overflow on some rows, or the nodes do not answer this caller.
            Unavailable: a node cannot be reached.
            ProtocolAbort: a node deviated; ``suspects`` are positions in ``card.members``.
        """
        values = checked_rows(rows, self.card.largest)
        if values.ndim < 2 or values.shape[1:] != self.card.row:
            raise InvalidInput(f"{self.card.name} takes rows of shape {self.card.row}; got {values.shape[1:]}")
        size = max(1, MOST_NUMBERS // prod(self.card.row))
        return np.concatenate(
            [await self._batch(values[start : start + size]) for start in range(0, len(values), size)]
        )

    async def _batch(self, rows: np.ndarray) -> np.ndarray:
        model = model_id(self.card)
        dealing = Dealing(model, 0, self.rng.bytes(32))
        numbers = (rows / self.card.largest).reshape(-1, 1)
        manifest, packages = await asyncio.to_thread(deal, numbers, NUMBERS, FRACTION_BITS, dealing, self.key, self.rng)
        asked = [AskSharedModel(model, Input(manifest, package)) for package in packages]
        found = await asyncio.gather(
            *(self._ask(endpoint, question) for endpoint, question in zip(self.endpoints, asked, strict=True)),
            return_exceptions=True,
        )
        answers = [each for each in found if isinstance(each, SharedAnswer)]
        if len(answers) < len(POSITIONS) - 1:
            raise next(each for each in found if isinstance(each, BaseException))
        flat, _ = reconstruct([each.package for each in answers], question_id(manifest))
        if flat.size % len(rows):
            raise MalformedMessage("the nodes answered for another number of rows")
        return flat.reshape(len(rows), -1)

    async def _ask(self, endpoint: Endpoint, question: AskSharedModel) -> SharedAnswer:
        reply = await self.caller.call(endpoint, question, ANSWER_SECONDS)
        if not isinstance(reply, SharedAnswer) or reply.package.position != self.endpoints.index(endpoint):
            raise MalformedMessage("a node did not answer a question with its part of the answers")
        return reply


async def find_card(caller: Caller, endpoint: Endpoint, model: bytes) -> SharedModelCard:
    """What is public about a model.

    Raises:
        Refused: the node keeps no such model.
        Forged, MalformedMessage: what it told is not that model.
    """
    reply = await caller.call(endpoint, FindSharedModel(model))
    if not isinstance(reply, SharedModelFound) or model_id(reply.card) != model:
        raise Forged("the node described another model than the one that was asked for")
    check_card(reply.card)
    return reply.card
