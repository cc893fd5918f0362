"""What the methods see of a ledger: a validator's, an observer's or a development chain's."""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from koinon.kernel.errors import Unavailable
from koinon.kernel.ids import ZERO_ADDRESS, Address, Hash32
from koinon.kernel.quantities import Height, UnixSeconds
from koinon.ledger.chain import Chain
from koinon.ledger.evm.tracing import Tracer
from koinon.ledger.execution import (
    BlockContext,
    BlockExecution,
    Call,
    CallResult,
    ExecutedBlock,
    ExecutionEngine,
    Receipt,
)
from koinon.ledger.journal import Journal
from koinon.ledger.mempool import Mempool
from koinon.ledger.precompile import Precompile
from koinon.ledger.rpc.announcements import Announcements
from koinon.ledger.rpc.calls import CallLane, estimate_gas
from koinon.ledger.rpc.limits import Deadline
from koinon.ledger.rpc.readers import BlockChoice
from koinon.ledger.rpc.tracers.watch import Watch
from koinon.ledger.state import StateView
from koinon.ledger.transaction import Transaction
from koinon.ledger.types import Header, header_hash


class WatchedExecution(BlockExecution, Protocol):
    """A block being executed, whose transactions can be watched."""

    def apply(self, transaction: Transaction, tracer: Tracer | None = None) -> Receipt: ...


class WatchableEngine(ExecutionEngine, Protocol):
    """An engine whose runs can be watched."""

    @property
    def precompiles(self) -> Mapping[Address, Precompile]: ...

    @property
    def warm(self) -> Mapping[Address, bool]: ...

    def begin(self, context: BlockContext, state: StateView) -> WatchedExecution: ...

    def call(self, call: Call, context: BlockContext, state: StateView, tracer: Tracer | None = None) -> CallResult: ...

    def call_in(
        self, journal: Journal, call: Call, context: BlockContext, tracer: Tracer | None = None
    ) -> CallResult: ...


@dataclass(frozen=True)
class Progress:
    """How far a node that lags behind has come."""

    first: Height
    now: Height
    target: Height


@dataclass(frozen=True)
class LedgerView:
    """What the methods read and the one thing they do.

    ``latest``, ``safe`` and ``finalized`` are the last final block, ``pending`` the newest block known.

    Attributes:
        lane: runs contract calls beside the event loop.
        tip: header of the newest executed block, final or not.
        submit: takes a signed transaction into the mempool and tells the validators.
        peers: how many other nodes this one is connected to.
        progress: None unless the node lags behind.
        clock: Unix time in seconds, what a block made now would carry.
        announcements: new final blocks and waiting transactions.
    """

    chain: Chain
    mempool: Mempool
    engine: WatchableEngine
    lane: CallLane
    tip: Callable[[], Header]
    submit: Callable[[bytes], Awaitable[Transaction]]
    peers: Callable[[], int] = lambda: 0
    progress: Callable[[], Progress | None] = lambda: None
    clock: Callable[[], float] = time.time
    announcements: Announcements = field(default_factory=Announcements)

    def final_height(self, choice: BlockChoice) -> Height | None:
        """Height of the final block that a caller names, None if there is none such; the last for ``pending``."""
        chain = self.chain
        if choice in ("latest", "pending"):
            return chain.final_height
        if choice == "earliest":
            return Height(0)
        if isinstance(choice, bytes):
            return chain.height_of(Hash32(choice))
        assert isinstance(choice, int)
        return Height(choice) if choice <= chain.final_height else None

    def state(self, choice: BlockChoice) -> StateView:
        """State after a block. Raises Unavailable where it is not kept."""
        tip = self.tip()
        if choice == "pending" and tip.height > self.chain.final_height:
            return self.chain.state_after(tip)
        return self.chain.state.view(self._known_height(choice))

    def next_context(self, choice: BlockChoice) -> BlockContext:
        """The block that would follow if it were made now: what a transaction sent now would see."""
        parent = self.tip() if choice == "pending" else self.chain.header_at(self._known_height(choice))
        now = UnixSeconds(max(parent.timestamp, int(self.clock())))
        return self.chain.context_for(parent, now, ZERO_ADDRESS, parent.mix)

    def unfinalised(self) -> tuple[Header, ExecutedBlock] | None:
        """The newest block, if it is not final yet."""
        tip = self.tip()
        executed = self.chain.executed.get(header_hash(tip))
        return None if executed is None else (tip, executed)

    def deadline(self) -> Deadline:
        """When work that begins now must be done."""
        return Deadline.after(self.lane.limits.call_seconds)

    def run(self, call: Call, context: BlockContext, state: StateView) -> CallResult:
        """A call within the time a call may take; in a thread of the lane. Raises LimitExceeded."""
        return self.engine.call(call, context, state, Watch(self.deadline()))

    def estimate(self, call: Call, context: BlockContext, state: StateView) -> int:
        """Gas with which a call succeeds, found within the time a call may take; in a thread of the lane."""
        watch = Watch(self.deadline())
        return estimate_gas(lambda one: self.engine.call(one, context, state, watch), call)

    def _known_height(self, choice: BlockChoice) -> Height:
        height = self.final_height(choice)
        if height is not None:
            return height
        if isinstance(choice, int):
            last = self.chain.final_height
            raise Unavailable(f"block {choice} is not final, so its state is not kept; the last final block is {last}")
        raise Unavailable("the block is not known or not final")
