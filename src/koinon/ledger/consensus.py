"""Giskard on a real chain: performs the effects of its step, one event at a time, in a thread of its own.

Everything that takes time and must keep its order happens in that thread: signatures, execution, durable writes. What
goes to the network is handed to the event loop at once, in the order of the effects, so a vote never waits for the
execution of the next block, and never leaves before what it commits to is durable.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from koinon.crypto.bls import BlsKey
from koinon.kernel.errors import Forged, Unavailable
from koinon.kernel.quantities import Epoch, Seconds
from koinon.ledger.blocks import check_and_execute, propose
from koinon.ledger.chain import Chain
from koinon.ledger.execution import ExecutionEngine
from koinon.ledger.finality import BlsVerifier
from koinon.ledger.giskard.protocol import step
from koinon.ledger.giskard.start import restored_state
from koinon.ledger.giskard.state import (
    Broadcast,
    Configuration,
    Distrust,
    Effect,
    EpochEnded,
    Event,
    Execute,
    Executed,
    Fetch,
    Finalise,
    Halt,
    PendingChanged,
    Persist,
    Propose,
    Proposed,
    Report,
    Send,
    SetTimer,
    State,
)
from koinon.ledger.measures import LedgerMeasures
from koinon.ledger.mempool import Mempool
from koinon.ledger.types import Header, PrepareBlock, header_hash

CLOCK_TOLERANCE: Final = 15
"""Seconds that a fresh block's timestamp may lie ahead of the own clock."""
_log: Final = logging.getLogger("koinon.ledger.consensus")
Outward = Broadcast | Send | SetTimer | Fetch


@dataclass(frozen=True)
class Wake:
    """Nothing happened but that transactions may be waiting."""


class Consensus:
    """One validator's Giskard on one chain. ``take`` belongs to one thread; ``state`` may be read from any.

    Args:
        key: signs; None for an observer.
        outward: called from the thread for every effect that belongs to the event loop, in order.
        finalised: called from the thread with the new last header after blocks became final.
    """

    def __init__(
        self,
        chain: Chain,
        engine: ExecutionEngine,
        mempool: Mempool,
        key: BlsKey | None,
        position: int | None,
        outward: Callable[[Outward], None],
        finalised: Callable[[Header], None],
    ) -> None:
        self._chain = chain
        self._engine = engine
        self._mempool = mempool
        self._key = key
        self._position = position
        self._outward = outward
        self._finalised = finalised
        self.measures = LedgerMeasures()
        parameters = chain.genesis.parameters
        configuration = Configuration(
            chain_id=chain.genesis.chain_id,
            epoch=Epoch(0),
            validators=chain.validators,
            position=position,
            blocks_per_view=parameters.blocks_per_view,
            base_timeout=Seconds(parameters.base_timeout / 1000),
            verifier=BlsVerifier(chain.validators),
            signer=key,
        )
        record, blocks = chain.restored()
        self.state: State = restored_state(
            configuration,
            chain.final_header,
            chain.certificate_at(chain.final_height),
            record,
            tuple((kept.block, kept.signature) for kept in blocks),
        )

    def tip(self) -> Header:
        """Header of the newest block this validator would build on or has voted for, that it has executed."""
        state = self.state
        for candidate in (state.proposed, state.accepted[1] if state.accepted else None, state.highest.block):
            if candidate is not None and candidate in self._chain.executed:
                header = self._chain.header_of(candidate)
                if header is not None and header.height > self._chain.final_height:
                    return header
        return self._chain.final_header

    def take(self, event: Event | Wake) -> None:
        """Take in one event and everything that follows from it."""
        waiting: deque[Event] = deque()
        if not isinstance(event, Wake):
            waiting.append(event)
        while True:
            while waiting:
                before = self.state
                self.state, effects = step(before, waiting.popleft())
                if self.state.failures > before.failures:
                    self.measures.views_lost += 1
                if self.state.highest is not before.highest:
                    self.measures.certify(self.state.highest.block, time.monotonic())
                waiting.extend(self._perform(effects))
            pending = self._mempool.has_candidate(self._chain.state_after(self.tip()))
            if pending == self.state.pending or self.state.halted:
                return
            waiting.append(PendingChanged(pending, time.monotonic()))

    def _perform(self, effects: tuple[Effect, ...]) -> list[Event]:
        """Perform effects in order, the slow ones last; the events that answer them."""
        slow: list[Execute | Propose] = []
        for effect in effects:
            match effect:
                case Persist():
                    self._chain.persist(effect)
                case Execute() | Propose():
                    slow.append(effect)
                case Finalise():
                    transactions = self._chain.finalise(effect)
                    self._mempool.settle(transactions, self._chain.next_base_fee(self._chain.final_header))
                    names = [header_hash(block.header) for block in effect.blocks]
                    self.measures.finalise(names, len(transactions), time.monotonic())
                    self._finalised(effect.headers[0])
                case EpochEnded():
                    _log.info("epoch %d ended with block %d", self.state.configuration.epoch, effect.header.height)
                case Distrust():
                    self.measures.distrusted += 1
                    _log.warning("validator %d: %s", effect.sender, effect.reason)
                case Report():
                    self.measures.contradictions += 1
                    _log.error(
                        "validator %d signed a contradiction: %s", effect.offender, type(effect.evidence).__name__
                    )
                case Halt():
                    _log.critical("consensus halts: %s", effect.reason)
                case _:
                    self._outward(effect)
        return [self._execute(effect) if isinstance(effect, Execute) else self._propose(effect) for effect in slow]

    def _execute(self, effect: Execute) -> Executed:
        name = header_hash(effect.block.header)
        self.measures.begin(name, time.monotonic())
        try:
            check_and_execute(self._chain, self._engine, effect.block)
        except (Forged, Unavailable) as problem:
            _log.warning("block %d is refused: %s", effect.block.header.height, problem)
            return Executed(name, False, time.monotonic())
        return Executed(name, True, time.monotonic())

    def _propose(self, effect: Propose) -> Proposed:
        assert self._key is not None
        assert self._position is not None
        began = time.monotonic()
        block = propose(self._chain, self._engine, self._mempool, self._key, self._position, effect)
        if block is not None:
            self.measures.begin(header_hash(block.header), began)
        return Proposed(block, time.monotonic())


def is_timely(message: PrepareBlock) -> bool:
    """Whether a fresh block's timestamp is not ahead of our clock by more than the tolerance.

    A matter of when to listen, not of validity: a block that a quorum certified is taken whatever our clock says.
    """
    return message.block.header.timestamp <= time.time() + CLOCK_TOLERANCE
