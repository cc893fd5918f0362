"""Models kept as shares by four nodes: this node's part of other people's, and its operator's own and questions.

A node keeps a share of the models of those owners that its ``node.toml`` names (``shared_models_of``), on its disk,
until the owner lets go of it. Whoever the owner allows asks; no node sees weights or rows.
"""

import asyncio
import logging
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Final

from koinon.kernel.codec import decode
from koinon.kernel.errors import InvalidInput, KoinonError, MalformedMessage, Refused
from koinon.kernel.ids import NodeId, to_hex
from koinon.kernel.quantities import Seconds
from koinon.node import disputes
from koinon.node.context import Context
from koinon.node.orders import AskShared, ForgetShared, Nothing, PrivateAnswers, SharedWith, ShareModel
from koinon.node.shared_models import SharedModelChild
from koinon.node.tasks import Narrator
from koinon.wire.catalogue import Done, Message
from koinon.wire.committee import Peer
from koinon.wire.discovery import Endpoint
from koinon.wire.inference import (
    AnswerSharedQuestion,
    AskSharedModel,
    FindSharedModel,
    FindSharedModelSeat,
    ForgetSharedModel,
    KeepSharedModel,
    SharedAnswer,
    SharedModelCard,
    SharedModelFound,
    SharedModelSeat,
)

if TYPE_CHECKING:
    from koinon.privacy.inference import SharedModel

journal = logging.getLogger("koinon.shared-models")

MOST_MODELS: Final = 64
MOST_WAITING: Final = 32
"""Questions to one model at one node, before more are sent away."""
_CALL_SECONDS: Final = Seconds(60.0)


class SharedModelsRole:
    """This node's shares of models, and the orders of an operator that shares or asks."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._cards: dict[bytes, SharedModelCard] = {}
        self._children: dict[bytes, SharedModelChild] = {}
        self._waiting: dict[bytes, int] = {}

    def offer(self) -> None:
        """Take the operator's orders."""
        board = self._context.board
        board.offer("model.share", self._share)
        board.offer("model.ask", self._ask)
        board.offer("model.forget", self._let_go)

    def attach(self) -> None:
        """Read what is kept, and answer owners, callers and the other members."""
        folder = self._context.home.shared_models
        for path in sorted(folder.glob("*.model")) if folder.is_dir() else []:
            try:
                self._take(disputes.read(path, KeepSharedModel))
            except KoinonError as problem:
                journal.error("the shared model in %s cannot be used: %s", path.name, problem)
        handle = self._context.transport.handle
        handle(KeepSharedModel, self._keep)
        handle(ForgetSharedModel, self._forget)
        handle(FindSharedModel, self._find)
        handle(FindSharedModelSeat, self._seat)
        handle(AskSharedModel, self._answer)

    def report(self) -> list[str]:
        """The models this node keeps a share of, for its status."""
        return [f"{card.name} {model.hex()[:18]}" for model, card in self._cards.items()]

    # ------------------------------------------------------------------------------------- messages of other nodes

    async def _keep(self, sender: NodeId, message: KeepSharedModel) -> Message:
        from koinon.privacy.answering import check_card, model_id
        from koinon.privacy.sharing import accept_package

        card, context = message.card, self._context
        if sender != card.owner or sender not in context.config.shared_models_of:
            raise Refused("this node keeps shares only of models of owners that its operator has named")
        model = model_id(card)
        if model not in self._cards and len(self._cards) >= MOST_MODELS:
            raise Refused(f"this node keeps {MOST_MODELS} shared models already")
        await asyncio.to_thread(check_card, card, message.graph)
        if message.weights.manifest != card.weights:
            raise MalformedMessage("the weights are not those that the model's card names")
        position = self._position(card)
        await asyncio.to_thread(accept_package, card.weights, position, message.weights.package)
        if model in self._cards:
            return Done()  # given twice: an answer was lost on the way
        # Only a child reads the graph; a model that it refuses is not kept.
        child = SharedModelChild(context, model, position, message)
        await child.seat()
        await asyncio.to_thread(disputes.keep, self._path(model), message)
        self._cards[model], self._children[model] = card, child
        journal.info("keeps a share of %s for %s", card.name, to_hex(sender)[:18])
        return Done()

    async def _forget(self, sender: NodeId, message: ForgetSharedModel) -> Message:
        card = self._card(message.model)
        if sender != card.owner:
            raise Refused("only its owner lets go of a shared model")
        del self._cards[message.model]
        self._children.pop(message.model).end()
        await asyncio.to_thread(self._path(message.model).unlink, missing_ok=True)
        journal.info("keeps no share of %s any more", card.name)
        return Done()

    async def _find(self, _: NodeId, message: FindSharedModel) -> Message:
        return SharedModelFound(self._card(message.model))

    async def _seat(self, sender: NodeId, message: FindSharedModelSeat) -> Message:
        if sender not in self._card(message.model).members:
            raise Refused("only the four members of a shared model are told where their workers listen")
        return SharedModelSeat(await self._children[message.model].seat())

    async def _answer(self, sender: NodeId, message: AskSharedModel) -> Message:
        from koinon.privacy.answering import check_question, question_id

        card, manifest = self._card(message.model), message.rows.manifest
        child = self._children[message.model]  # the owner may let go of the model meanwhile
        if card.callers and sender not in card.callers:
            raise Refused(f"the owner of {card.name} does not let this caller ask")
        if manifest.owner != sender:
            raise Refused("a question must come from the node that signed its rows")
        await asyncio.to_thread(check_question, card, manifest)
        if self._waiting.get(message.model, 0) >= MOST_WAITING:
            raise Refused("this node has as many questions as it takes at once; ask again later")
        self._waiting[message.model] = self._waiting.get(message.model, 0) + 1
        try:
            first, second, third, fourth = await asyncio.gather(
                *(self._seat_of(card, message.model, child, NodeId(member)) for member in card.members)
            )
            order = AnswerSharedQuestion(question_id(manifest), (first, second, third, fourth), message.rows)
            return SharedAnswer(await child.answer(order))
        finally:
            self._waiting[message.model] -= 1

    async def _seat_of(self, card: SharedModelCard, model: bytes, child: SharedModelChild, member: NodeId) -> Peer:
        if member == self._context.keys.node.node_id:
            return await child.seat()
        reply = await self._context.transport.call(
            await self._endpoint(member), FindSharedModelSeat(model), _CALL_SECONDS
        )
        if not isinstance(reply, SharedModelSeat) or reply.peer.node != member:
            raise MalformedMessage(f"a member that keeps {card.name} did not say where its worker listens")
        return reply.peer

    def _take(self, kept: KeepSharedModel) -> None:
        from koinon.privacy.answering import model_id

        model, position = model_id(kept.card), self._position(kept.card)
        self._cards[model] = kept.card
        self._children[model] = SharedModelChild(self._context, model, position, kept)

    def _position(self, card: SharedModelCard) -> int:
        own = self._context.keys.node.node_id
        if own not in card.members:
            raise Refused("this node is none of the four that the model's owner names")
        return card.members.index(own)

    def _card(self, model: bytes) -> SharedModelCard:
        if model not in self._cards:
            raise Refused("this node keeps no share of that model")
        return self._cards[model]

    def _path(self, model: bytes) -> Path:
        return self._context.home.shared_models / f"{model.hex()}.model"

    async def _endpoint(self, node: NodeId) -> Endpoint:
        return (await self._context.directory.find_node(node)).endpoint

    # --------------------------------------------------------------------------------------------- operator's orders

    async def _share(self, argument: bytes, narrator: Narrator) -> SharedWith:
        """Give four nodes a package of the weights each.

        Raises:
            InvalidInput: the file or the nodes cannot be used so.
            Refused: a node does not keep models of this owner; those that took theirs are told to let go of it.
            Unavailable: a node cannot be reached.
        """
        from koinon.privacy.answering import share_model

        order, context = decode(ShareModel, argument), self._context
        if len(set(order.members)) != 4:
            raise InvalidInput("a model is shared among four different nodes")
        zeroth, first, second, third = order.members
        model = await asyncio.to_thread(_read_model, Path(order.path))
        narrator.say(f"{model.weights.size} weights become four packages", 0.1)
        identity, packages = await asyncio.to_thread(
            share_model,
            model,
            order.name,
            order.largest,
            (zeroth, first, second, third),
            order.callers,
            context.keys.node,
            context.rng,
        )
        endpoints = [await self._endpoint(member) for member in order.members]
        given = await asyncio.gather(
            *(
                context.transport.call(endpoint, package, _CALL_SECONDS)
                for endpoint, package in zip(endpoints, packages, strict=True)
            ),
            return_exceptions=True,
        )
        if problems := [each for each in given if isinstance(each, BaseException)]:
            forget = ForgetSharedModel(identity)
            took = [endpoint for endpoint, each in zip(endpoints, given, strict=True) if isinstance(each, Done)]
            await asyncio.gather(
                *(context.transport.call(endpoint, forget, _CALL_SECONDS) for endpoint in took),
                return_exceptions=True,
            )
            raise problems[0]
        narrator.say("four nodes keep a share each; none of them can read the model", 1.0)
        card = packages[0].card
        return SharedWith(identity, card.name, card.row, card.largest, model.weights.size)

    async def _ask(self, argument: bytes, narrator: Narrator) -> PrivateAnswers:
        """Have a shared model answer for the rows of a file.

        Raises:
            KoinonError: see ``privacy.answering.RemotePredictor``.
        """
        from koinon.data.table import read_features
        from koinon.privacy.answering import RemotePredictor, find_card

        order, context = decode(AskShared, argument), self._context
        rows = await asyncio.to_thread(read_features, Path(order.path), ())
        card = await find_card(context.transport, await self._endpoint(order.member), order.model)
        if rows.shape[1] != (wanted := prod(card.row)):
            raise InvalidInput(
                f"{card.name} takes rows of {wanted} numbers; {Path(order.path).name} has {rows.shape[1]}"
            )
        endpoints = [await self._endpoint(NodeId(member)) for member in card.members]
        narrator.say(f"{len(rows)} rows become four packages each; four nodes compute", 0.2)
        predictor = await RemotePredictor.find(
            context.transport, endpoints, order.model, context.keys.node, context.rng
        )
        answers = await predictor.predict(rows.reshape(len(rows), *card.row))
        narrator.say(f"{len(answers)} answers, which this node alone has opened", 1.0)
        return PrivateAnswers(card.name, int(answers.shape[1]), tuple(answers.ravel().tolist()))

    async def _let_go(self, argument: bytes, narrator: Narrator) -> Nothing:
        """Have the four nodes forget a model of this operator's. Raises what the first one says that does not."""
        from koinon.privacy.answering import find_card

        order, context = decode(ForgetShared, argument), self._context
        card = await find_card(context.transport, await self._endpoint(order.member), order.model)
        for member in card.members:
            await context.transport.call(
                await self._endpoint(NodeId(member)), ForgetSharedModel(order.model), _CALL_SECONDS
            )
        narrator.say("four nodes have let go of the model", 1.0)
        return Nothing()


def _read_model(path: Path) -> "SharedModel":
    """Raises InvalidInput for what is no ONNX model that can be shared."""
    from koinon.node.onnx_files import read_onnx
    from koinon.privacy.inference import SharedModel

    return SharedModel.of(read_onnx(path))
