"""A service node: fetches a model when its publisher asks, answers for it on the configured port, and gets paid.

A contract is on disk before its endpoint is told to anybody, and is taken up again after a restart. One port answers
for one service.
"""

import asyncio
import logging
from dataclasses import dataclass
from typing import Final

from koinon.contracts.assets import AssetKind
from koinon.contracts.client import Log
from koinon.contracts.market import ChannelCloseRequested, Offer
from koinon.contracts.refusals import Reverted
from koinon.journey.disclosure import disclose
from koinon.journey.package import fetch_model
from koinon.kernel.codec import Record, decode, encode
from koinon.kernel.errors import InvalidInput, KoinonError, Refused, Unavailable
from koinon.kernel.ids import Address, Hash32, NodeId
from koinon.market.payments import Terms
from koinon.node.context import Context
from koinon.node.roles.market import SERVE
from koinon.node.roles.served_model import ServedSandbox
from koinon.node.roles.till import ChainMarket, Till, note_closing
from koinon.serving.service import Service, ServiceConfig, open_service
from koinon.serving.service import Till as Money
from koinon.serving.tensors import Signature
from koinon.wire.catalogue import Message
from koinon.wire.studies import DeployService, FetchReceipts, ReceiptsReply, ServiceReady

journal = logging.getLogger("koinon.service")

VERSION: Final = "1"
RETRY_SECONDS: Final = 2.0
SETTLE_SECONDS: Final = 60
_PREFIX: Final = b"service/"


class Contract(Record, frozen=True):
    """What a publisher asked this node to serve."""

    service: int
    model: int
    name: str
    publisher: Address
    weights_hash: Hash32


@dataclass
class _Running:
    contract: Contract
    task: "asyncio.Task[None]"
    ready: "asyncio.Future[str]"
    service: Service | None = None
    till: Till | None = None
    model: ServedSandbox | None = None


class ServiceRole:
    """This node's service, at most one for its one port."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._running: _Running | None = None
        self._deploying = asyncio.Lock()

    async def attach(self) -> None:
        """Take orders of publishers, follow channels, and open again what a restart has closed."""
        context = self._context
        context.feed.on(context.suite.market, ChannelCloseRequested, self._close_requested)
        context.transport.handle(DeployService, self._deploy)
        context.transport.handle(FetchReceipts, self._receipts)
        for _, stored in list(context.memory.scan(_PREFIX)):
            self._begin(decode(Contract, stored), again=True)

    def report(self) -> list[str]:
        """What this node answers for, for its status."""
        running = self._running
        if running is None:
            return []
        head = f"service {running.contract.service} ({running.contract.name})"
        if running.service is None or running.model is None:
            return [f"{head}: opening"]
        status = running.service.status()
        return [
            f"{head}: {status.url}, {status.answered} answered since the start, {status.receipts} receipts, "
            f"{status.unanchored} not anchored, {status.earned} token units earned, "
            f"model lost {running.model.losses} times"
        ]

    # ------------------------------------------------------------------------------------------------- deploying

    async def _deploy(self, sender: NodeId, order: DeployService) -> Message:
        async with self._deploying:
            contract = await check_order(self._context, sender, order)
            running = self._running
            if running is not None and running.contract != contract:
                raise Refused(
                    f"this node's port answers for service {running.contract.service} already; ask another provider"
                )
            if running is None:
                running = self._begin(contract, again=False)
        url = await asyncio.shield(running.ready)
        # One port, one service: an earlier contract whose service had to end is not taken up again.
        memory, entry = self._context.memory, _entry(contract.service)
        memory.write({entry: encode(contract)}, delete=[old for old, _ in memory.scan(_PREFIX) if old != entry])
        return ServiceReady(url, contract.weights_hash)

    def _begin(self, contract: Contract, *, again: bool) -> _Running:
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        name = f"service {contract.service}"
        task = self._context.spawn(self._live(again), name)
        self._running = _Running(contract, task, ready)
        return self._running

    async def _live(self, again: bool) -> None:
        """Serve until the node stops. After a restart, try until the publisher, the chain and the port are there."""
        running = self._running
        assert running is not None  # made together with this task
        try:
            await self._live_as(running, again)
        finally:
            # Whatever ended it, the port is free for another service.
            if self._running is running:
                self._running = None

    async def _live_as(self, running: _Running, again: bool) -> None:
        contract = running.contract
        while True:
            try:
                await self._serve(running)
            except KoinonError as problem:
                if not again and not running.ready.done():
                    running.ready.set_exception(problem)
                    running.ready.exception()  # whoever ordered it may have hung up
                    return
                if not isinstance(problem, Unavailable):
                    raise
                journal.warning("service %d: %s; trying again", contract.service, problem)
            running.service = running.till = running.model = None
            await asyncio.sleep(RETRY_SECONDS)

    async def _serve(self, running: _Running) -> None:
        context, contract = self._context, running.contract
        opened = await fetch_model(context.desk(self._say), contract.model, SERVE, contract.service)
        terms = terms_of(contract.service, await context.suite.market.offer_of(contract.service))
        reader = ChainMarket(context.suite.market)
        domain = await context.suite.market.domain()
        async with ServedSandbox.open(opened.onnx) as model:
            seen = model.metadata
            config = ServiceConfig(
                name=contract.name,
                version=VERSION,
                signature=Signature(seen.inputs[0].name, seen.outputs[0].name, seen.columns),
                weights=opened.weights_hash,
                terms=terms,
                host=context.config.host,
                port=context.config.service_port,
            )
            folder = context.home.path / "receipts"
            await asyncio.to_thread(folder.mkdir, mode=0o700, exist_ok=True)
            log = folder / f"{contract.service}.log"
            money = Money(domain, context.account, reader)
            async with open_service(
                config, model.predict, context.keys.node, log, clock=context.clock, rng=context.rng, till=money
            ) as service:
                running.service, running.model = service, model
                running.till = Till(context, service, reader)
                journal.info("service %d: answering at %s", contract.service, service.url)
                if not running.ready.done():
                    running.ready.set_result(service.url)
                await running.till.keep()

    def _say(self, sentence: str, _fraction: float) -> None:
        journal.info("%s", sentence)

    # --------------------------------------------------------------------------------------- channels and receipts

    async def _close_requested(self, event: ChannelCloseRequested, _: Log) -> None:
        channel = await self._context.suite.market.channel_of(event.channel_id)
        running = self._running
        if channel.receiver != self._context.account or running is None:
            return
        if channel.service_id == running.contract.service:
            # Noted on disk; the till's next round closes it, whatever happens to this process in between.
            note_closing(self._context, channel.service_id, event.channel_id)

    async def _receipts(self, _: NodeId, request: FetchReceipts) -> Message:
        running = self._running
        if running is None or running.contract.service != request.service:
            raise Refused(f"this node does not answer for service {request.service}")
        if running.service is None:
            raise Unavailable(f"service {request.service} is being opened; ask again in a few seconds")
        return ReceiptsReply(await disclose(running.service.receipts, request.sequence))


async def check_order(context: Context, sender: NodeId, order: DeployService) -> Contract:
    """The contract behind an order.

    Raises:
        Refused: whoever asks does not own the service and its model on the chain, or they do not belong together.
        InvalidInput: no usable name.
    """
    assets = context.suite.assets
    if not 3 <= len(order.name) <= 64 or not order.name.isascii() or not order.name.isprintable():
        raise InvalidInput("a service's name has 3 to 64 characters of a-z, 0-9, '-' and '.'")
    if order.service == order.model:
        raise Refused(f"asset {order.service} cannot be service and model at once")
    try:
        service, model = await assets.asset_of(order.service), await assets.asset_of(order.model)
    except Reverted:
        raise Refused(f"there is no asset {order.service} or {order.model} on this chain") from None
    if service.kind != AssetKind.SERVICE or model.kind != AssetKind.MODEL or order.model not in service.parents:
        raise Refused(f"asset {order.service} is no service of model {order.model}")
    publisher = (await context.directory.find_node(sender)).claim.account
    if not publisher == service.publisher == model.publisher == await assets.owner_of(order.service):
        raise Refused(f"only the publisher of service {order.service} may have it served here")
    return Contract(order.service, order.model, order.name, publisher, model.content_hash)


def terms_of(service: int, offer: Offer) -> Terms:
    """The conditions at the door, from the offer on the chain. Raises Refused where nothing is offered."""
    if not offer.open:
        raise Refused(f"the owner of service {service} offers nothing now; set an offer first")
    return Terms(
        service,
        offer.voucher_price,
        pass_required=bool(offer.voucher_price and (offer.price_per_day or offer.price_per_call)),
        settle_seconds=SETTLE_SECONDS,
    )


def _entry(service: int) -> bytes:
    return _PREFIX + service.to_bytes(8, "big")
