"""``koinon node start``: one organisation as one process.

    keys → transport → directory → chain (our own validator, or a client of somebody's) → roles → the operator's socket

Everything opens in that order and closes in the reverse. Heavy parts are imported by the role that needs them.
"""

import asyncio
import json
import logging
import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

import psutil

from koinon.contracts.client import ChainClient
from koinon.contracts.suite import Suite, parse_addresses
from koinon.kernel.codec import decode
from koinon.kernel.errors import Refused
from koinon.kernel.ids import Address, to_hex
from koinon.kernel.measures import exposition
from koinon.ledger.health import unfitness
from koinon.net.control import ControlServer
from koinon.net.discovery import Directory
from koinon.net.transport import Transport
from koinon.node import orders
from koinon.node.config import read_config, write_config
from koinon.node.context import Context, SystemClock
from koinon.node.feed import Feed
from koinon.node.home import Home, Identity, NodeKeys
from koinon.node.logs import start_logging
from koinon.node.roles.account import AccountOrders
from koinon.node.roles.encrypted_models import EncryptedModelsRole
from koinon.node.roles.shared_models import SharedModelsRole
from koinon.node.tasks import Narrator, TaskBoard
from koinon.store.blobs import DirectoryBlobs
from koinon.store.exchange import serve_blobs
from koinon.store.keyvalue import LmdbStore
from koinon.wire.catalogue import Message
from koinon.wire.control import (
    AskStatus,
    AskTask,
    CancelTask,
    StartTask,
    StatusReport,
    StopNode,
    TaskReport,
    TaskStarted,
)
from koinon.wire.discovery import Endpoint

if TYPE_CHECKING:
    from koinon.ledger.validator import Validator

CLOSING_SECONDS: Final = 15.0
"""How long closing may take before the process ends as it is."""
DATABASE_BYTES: Final = 1 << 30
LARGEST_KEPT_BLOB: Final = 2 << 20
journal = logging.getLogger("koinon.node")


def run_node(home: Home, log_level: str | None = None, log_format: str | None = None) -> None:
    """Run until told to stop.

    Args:
        log_level, log_format: take the place of what node.toml says.

    Raises:
        KoinonError: it cannot start, or cannot go on; nothing that was durable is lost.
    """
    log = read_config(home.config).log
    start_logging(replace(log, level=log_level or log.level, format=log_format or log.format), home.path)
    try:
        import uvloop
    except ImportError:  # the standard loop does the same, slower
        asyncio.run(_run(home))
    else:
        uvloop.run(_run(home))


async def _run(home: Home) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    opening = asyncio.current_task()
    assert opening is not None
    node: Node | None = None

    def stop() -> None:
        if stopping.is_set():
            _give_up("told to stop twice")
        stopping.set()
        # Closing is bounded: whatever a part of the node waits for, a supervisor never has to kill it.
        deadline = threading.Timer(CLOSING_SECONDS, _give_up, (f"not closed within {CLOSING_SECONDS:.0f} s",))
        deadline.daemon = True
        deadline.start()
        if node is None:
            opening.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    async with AsyncExitStack() as stack:
        try:
            node = await Node.open(home, stack, stop)
        except asyncio.CancelledError:
            if stopping.is_set():
                return  # told to stop before it was up
            raise
        journal.info("%s is up as %s, roles %s", node.name, to_hex(node.node_id)[:18], " ".join(node.roles))
        await stopping.wait()
        journal.info("%s is shutting down", node.name)
    journal.info("%s has closed everything", node.name)


def _give_up(reason: str) -> None:
    """End the process at once, as a power cut would; what is durable stays so."""
    journal.error("the node ends at once: %s", reason)
    logging.shutdown()
    os._exit(1)


class Node:
    """A running node: its context, its roles, and what its operator may ask."""

    def __init__(self, context: Context, stop: Callable[[], None]) -> None:
        self.context = context
        self.validator: Validator | None = None
        self._stop_all = stop
        self._started = time.monotonic()
        self._monitor_url: str | None = None
        self._roles: dict[str, object] = {}
        self._encrypted_models = EncryptedModelsRole(context)
        self._following: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        return self.context.config.name

    @property
    def node_id(self) -> bytes:
        return self.context.keys.node.node_id

    @property
    def roles(self) -> tuple[str, ...]:
        return self.context.config.roles

    @classmethod
    async def open(cls, home: Home, stack: AsyncExitStack, stop: Callable[[], None]) -> "Node":
        """Open everything in order on ``stack``; ``stop`` ends it all when the operator says so.

        Raises:
            KoinonError: with one sentence, where something is missing.
        """
        config = read_config(home.config)
        secrets = home.secrets()
        keys = NodeKeys.from_secrets(secrets)
        memory = LmdbStore.open(home.database, DATABASE_BYTES)
        stack.callback(memory.close)
        transport = await stack.enter_async_context(Transport.open(keys.node, config.host, config.port))
        keepers = tuple(Endpoint(peer.node_id, peer.host, peer.port) for peer in config.bootstrap)
        client = await stack.enter_async_context(ChainClient(list(config.chain.rpc), keys.account))
        clock = SystemClock()
        directory = Directory(transport, clock, [keeper for keeper in keepers if keeper.node_id != keys.node.node_id])
        if any(keeper.node_id == keys.node.node_id for keeper in keepers):
            directory.serve()
        blobs = DirectoryBlobs(home.blobs)
        serve_blobs(transport.handle, blobs, may_put=lambda _peer, size: size <= LARGEST_KEPT_BLOB)
        board = TaskBoard()
        stack.push_async_callback(board.close)
        context = Context(
            home=home,
            config=config,
            identity=Identity.read(home.identity),
            keys=keys,
            transport=transport,
            directory=directory,
            client=client,
            memory=memory,
            blobs=blobs,
            board=board,
            feed=Feed(client, memory),
            clock=clock,
        )
        stack.push_async_callback(context.close)
        node = cls(context, stop)
        if "validator" in config.roles:
            from koinon.node.roles.validator import open_validator

            node.validator = await open_validator(context, secrets.validator_seed, stack)
        if config.monitor_port is not None:
            from koinon.node.monitor import Pages, serve_monitor

            pages = Pages(node.metrics, node.unfitness, node.report)
            serving = serve_monitor(pages, config.monitor_host, config.monitor_port)
            node._monitor_url = await stack.enter_async_context(serving)
        node._offer()
        context.spawn(context.announce(), "announcements")
        if config.chain.suite:
            await node._adopt(dict(config.chain.suite))
        control = await stack.enter_async_context(ControlServer.open(home.control))
        node._answer(control)
        return node

    # --------------------------------------------------------------------------------------------------- roles

    def _offer(self) -> None:
        """Orders of every node; roles add their own."""
        board = self.context.board
        board.offer("suite.adopt", self._order_adopt)
        AccountOrders(self.context).offer()
        self._encrypted_models.offer()
        self._roles["encrypted_models"] = self._encrypted_models
        shared_models = SharedModelsRole(self.context)
        shared_models.offer()
        if self.context.config.shared_models_of:
            shared_models.attach()
            self._roles["shared_models"] = shared_models
        if "publisher" in self.roles:
            from koinon.node.roles.publisher import PublisherRole

            publisher = PublisherRole(self.context)
            publisher.offer()
            self._roles["publisher"] = publisher

    async def _adopt(self, addresses: dict[str, Address]) -> None:
        """Work with these contracts: check them once, attach every role, follow the chain."""
        context = self.context
        suite = Suite.at(context.client, parse_addresses({name: to_hex(value) for name, value in addresses.items()}))
        await suite.verify()
        context.adopted = suite
        if "data" in self.roles:
            from koinon.node.roles.data import DataRole

            data = DataRole(context)
            data.offer()
            data.attach()
            self._roles["data"] = data
        if "publisher" in self.roles:
            from koinon.node.roles.market import ModelKeys

            self._roles["publisher"].attach()  # type: ignore[attr-defined]
            ModelKeys(context).attach()
        if "compute" in self.roles:
            from koinon.node.roles.compute import ComputeRole
            from koinon.node.roles.judge import JudgeRole

            compute, judge = ComputeRole(context), JudgeRole(context)
            compute.attach()
            judge.attach()
            self._roles |= {"compute": compute, "judge": judge}
        if {"data", "publisher", "compute"} & set(self.roles):
            from koinon.node.roles.cases import CasesRole

            cases = CasesRole(context)
            cases.attach()
            self._roles["cases"] = cases
        from koinon.node.roles.outsourced_work import WorkRole
        from koinon.node.roles.outsourcing import OutsourceRole
        from koinon.node.roles.products import ProductRole

        OutsourceRole(context).attach()
        ProductRole(context).attach()
        if "service" in self.roles:
            from koinon.node.roles.multiplying import MultiplyRole

            work = WorkRole(context, self._encrypted_models)
            work.attach()
            self._roles["work"] = work
            MultiplyRole(context).attach()
        if "evaluator" in self.roles:
            from koinon.node.roles.evaluator import EvaluatorRole

            evaluator = EvaluatorRole(context)
            evaluator.attach()
            self._roles["evaluator"] = evaluator
        if "service" in self.roles:
            from koinon.node.roles.service import ServiceRole

            service = ServiceRole(context)
            await service.attach()
            self._roles["service"] = service
        self._following = context.spawn(context.feed.follow(), "following the chain")

    async def _order_adopt(self, argument: bytes, narrator: Narrator) -> orders.Nothing:
        order, context = decode(orders.Suite, argument), self.context
        if context.adopted is None:
            await self._adopt(dict(order.contracts))
            chain = replace(context.config.chain, suite=order.contracts)
            context.config = replace(context.config, chain=chain)
            write_config(context.home.config, context.config)
        elif dict(context.config.chain.suite) != dict(order.contracts):
            raise Refused("this node works with other contracts already; change node.toml and restart it")
        narrator.say("the contracts are what they claim to be", 1.0)
        return orders.Nothing()

    # ------------------------------------------------------------------------------------------------- control

    def _answer(self, control: ControlServer) -> None:
        control.handle(AskStatus, self._status)
        control.handle(StartTask, self._start_task)
        control.handle(AskTask, self._ask_task)
        control.handle(CancelTask, self._cancel_task)
        control.handle(StopNode, self._stop)

    async def _status(self, _: AskStatus) -> Message:
        return StatusReport(json.dumps(self.report()))

    async def _start_task(self, request: StartTask) -> Message:
        return TaskStarted(self.context.board.start(request.name, request.argument))

    async def _ask_task(self, request: AskTask) -> TaskReport:
        return await self.context.board.report(request.task, request.first_note)

    async def _cancel_task(self, request: CancelTask) -> None:
        self.context.board.cancel(request.task)

    async def _stop(self, _: StopNode) -> None:
        asyncio.get_running_loop().call_soon(self._stop_all)

    def unfitness(self) -> str | None:
        """Why this node does not do its part, or None if it does."""
        if self.validator is not None:
            reason = unfitness(self.validator.facts())
            if reason is not None:
                return reason
        if not self.context.feed.in_reach:
            return "the chain cannot be reached; check [chain] rpc in node.toml"
        return None

    def metrics(self) -> str:
        """Everything that is measured, in Prometheus' text form."""
        from koinon.node.metrics import families

        return exposition(families(self))

    def report(self) -> dict[str, object]:
        """How this node is, in JSON's terms; nothing in it is secret."""
        context = self.context
        usage = resource.getrusage(resource.RUSAGE_SELF)
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        report: dict[str, object] = {
            "name": self.name,
            "node": to_hex(self.node_id),
            "account": to_hex(context.account),
            "roles": list(self.roles),
            "process": os.getpid(),
            "uptime_seconds": round(time.monotonic() - self._started, 1),
            "processor_seconds": round(usage.ru_utime + usage.ru_stime, 2),
            "children_processor_seconds": round(children.ru_utime + children.ru_stime, 2),
            "memory_bytes": psutil.Process().memory_info().rss,
            "peers": sorted(to_hex(peer) for peer in context.transport.peers()),
            "contracts": context.adopted is not None,
            "followed_height": context.feed.height,
            "tasks": context.board.running(),
            "state": self.unfitness() or "ready",
            "offending": {to_hex(peer)[:18]: points for peer, points in context.transport.standings().items()},
            "refused_messages": context.transport.measures.refused.total,
            "monitor": self._monitor_url,
        }
        if self.validator is not None:
            facts = self.validator.facts()
            report["height"] = facts.final_height
            report["ledger"] = {
                "final height": facts.final_height,
                "known height": facts.known_height,
                "seconds since": round(facts.final_age, 1),
                "epoch": facts.epoch,
                "view": facts.view,
                "in reach": f"{facts.connected} of {facts.validators} validators, {facts.quorum} needed",
                "waiting transactions": facts.waiting_transactions,
            }
        else:
            report["height"] = context.feed.height
        for name, role in self._roles.items():
            if isinstance(role, Reports):
                report[name] = role.report()
        return report


@runtime_checkable
class Reports(Protocol):
    """A role that says what it is doing."""

    def report(self) -> object: ...
