"""Giskard on a real chain: performs the effects of its step, one event at a time, in a thread of its own.

Everything that takes time and must keep its order happens in that thread: signatures, execution, durable writes. What
goes to the network is handed to the event loop at once, in the order of the effects, so a vote never waits for the
execution of the next block, and never leaves before what it commits to is durable.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from koinon.crypto.bls import BlsKey
from koinon.kernel.errors import Forged, Unavailable
from koinon.kernel.ids import NodeId
from koinon.kernel.quantities import Epoch, Seconds
from koinon.ledger.blocks import check_and_execute, propose
from koinon.ledger.chain import Chain
from koinon.ledger.execution import ExecutionEngine
from koinon.ledger.finality import BlsVerifier
from koinon.ledger.giskard.epochs import EarlyMessages, message_epoch
from koinon.ledger.giskard.evidence import Evidence
from koinon.ledger.giskard.protocol import step
from koinon.ledger.giskard.start import initial_state, restored_state
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
    Received,
    Report,
    Send,
    SetTimer,
    State,
    Voting,
)
from koinon.ledger.measures import LedgerMeasures
from koinon.ledger.mempool import Mempool
from koinon.ledger.types import (
    EpochSync,
    Header,
    PrepareBlock,
    ValidatorSet,
    ViewChange,
    bitmap_positions,
    header_hash,
)
from koinon.wire.consensus import ConsensusMessage

CLOCK_TOLERANCE: Final = 15
"""Seconds that a fresh block's timestamp may lie ahead of the own clock."""
_log: Final = logging.getLogger("koinon.ledger.consensus")
OUTSIDER: Final = -1
"""Position of a sender that has none in this epoch."""


@dataclass(frozen=True)
class Heard:
    """A message from a node, whose identity the transport has proven, for whichever epoch it may be."""

    peer: NodeId
    message: ConsensusMessage
    now: float


@dataclass(frozen=True)
class Answer:
    """Send to one node."""

    to: NodeId
    message: ConsensusMessage


@dataclass(frozen=True)
class EpochBegan:
    """These validators sign from now on."""

    validators: ValidatorSet


@dataclass(frozen=True)
class Contradiction:
    """A validator of this epoch signed two messages of which at most one can be meant."""

    configuration: Configuration
    offender: int
    evidence: Evidence


Outward = Broadcast | Answer | SetTimer | Fetch | EpochBegan | Contradiction | Distrust


@dataclass(frozen=True)
class Wake:
    """Nothing happened but that transactions may be waiting, or a block may be due without any."""


class Consensus:
    """One validator's Giskard on one chain. ``take`` belongs to one thread; ``state`` may be read from any.

    Where the validators change, it opens one Giskard after the other: an epoch that has ended is followed by the next
    on its last block, with the set that the block's state names.

    Args:
        key: signs where this node is a member under this key; None for an observer.
        outward: called from the thread for every effect that belongs to the event loop, in order.
        finalised: called from the thread with the new last header after blocks became final.
    """

    def __init__(
        self,
        chain: Chain,
        engine: ExecutionEngine,
        mempool: Mempool,
        key: BlsKey | None,
        node_id: NodeId,
        outward: Callable[[Outward], None],
        finalised: Callable[[Header], None],
    ) -> None:
        self._chain = chain
        self._engine = engine
        self._mempool = mempool
        self._key = key
        self._node_id = node_id
        self._early = EarlyMessages()
        self._outward = outward
        self._finalised = finalised
        self.measures = LedgerMeasures()
        self.state: State = self._restored()

    def _restored(self) -> State:
        """Where a validator begins that finds this chain, and on record what it signed."""
        chain = self._chain
        record, blocks = chain.restored()
        return restored_state(
            self._configuration(),
            chain.final_header,
            chain.certificate_at(chain.final_height),
            record,
            tuple((kept.block, kept.signature) for kept in blocks),
        )

    def begin_anew(self, change: Callable[[], object]) -> None:
        """Let ``change`` replace the final state in the store and begin on it as after a start; in the ledger's thread.

        What this validator signed stays on record (GISKARD-SAFETY-7), so that it signs nothing a second time.

        Raises:
            KoinonError: what ``change`` raised. It begins anew on the old state, or signs nothing any more if that is
                half gone.
        """
        try:
            self._chain.replace(change)
        finally:
            if self._chain.is_half_replaced:
                self.state = replace(self.state, halted=True)
            else:
                self._early = EarlyMessages()
                self.state = self._restored()
                self._mempool.settle((), self._chain.next_base_fee(self._chain.final_header))
                self._outward(SetTimer(None))
                self._outward(EpochBegan(self.state.configuration.validators))

    def _configuration(self) -> Configuration:
        """Of the epoch above the last final block."""
        chain, epoch = self._chain, self._chain.epoch
        parameters, validators = chain.genesis.parameters, chain.set_of(epoch)
        position = None if self._key is None else validators.position_of(self._node_id)
        if (
            position is not None
            and self._key is not None
            and validators.members[position].bls_key != self._key.public_key
        ):
            _log.error("epoch %d names another BLS key for this node than it has; it signs nothing", epoch)
            position = None
        return Configuration(
            chain_id=chain.genesis.chain_id,
            epoch=epoch,
            validators=validators,
            position=position,
            blocks_per_view=parameters.blocks_per_view,
            base_timeout=Seconds(parameters.base_timeout / 1000),
            verifier=BlsVerifier(validators),
            signer=None if position is None else self._key,
            voting=Voting.COLLECTED if len(validators) >= parameters.collect_votes_from else Voting.BROADCAST,
            last_height=chain.last_height(epoch),
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

    def take(self, event: Event | Wake | Heard) -> None:
        """Take in one event and everything that follows from it."""
        waiting: deque[Event] = deque()
        if isinstance(event, Heard):
            waiting.extend(self._hear(event))
        elif not isinstance(event, Wake):
            waiting.append(event)
        while True:
            while waiting:
                before = self.state
                self.state, effects = step(before, waiting.popleft())
                if self.state.failures > before.failures:
                    self.measures.views_lost += 1
                if self.state.highest is not before.highest:
                    self.measures.certify(self.state.highest.block, time.monotonic())
                    self._look_for_a_twin()
                waiting.extend(self._perform(effects))
                if self.state.ended is not None:
                    waiting = deque(self._begin_epoch())
            pending = self._is_due() or self._mempool.has_candidate(self._chain.state_after(self.tip()))
            if pending == self.state.pending or self.state.halted:
                return
            waiting.append(PendingChanged(pending, time.monotonic()))

    def _is_due(self) -> bool:
        """Whether a block is to be made though nothing waits."""
        due = self._chain.heartbeat
        return due is not None and time.time() >= due

    def _hear(self, heard: Heard) -> Iterator[Received]:
        """A message as Giskard takes it; what is of another epoch is kept, answered or dropped."""
        current, message = self.state.configuration, heard.message
        epoch = message_epoch(message)
        if epoch == current.epoch + 1:
            if not self._early.add(heard.peer, message):
                _log.debug("an early message of node 0x%s… is dropped", heard.peer.hex()[:16])
        elif epoch is not None and epoch < current.epoch:
            if isinstance(message, ViewChange):
                self._show_end(heard.peer, epoch)
        elif epoch == current.epoch:
            position = current.validators.position_of(heard.peer)
            if position is not None or isinstance(message, EpochSync):
                yield Received(OUTSIDER if position is None else position, message, heard.now)

    def _show_end(self, peer: NodeId, epoch: Epoch) -> None:
        """GISKARD-LIVENESS-4: who is still in an epoch that has ended is shown the proof of it."""
        last = self._chain.last_height(epoch)
        assert last is not None, "where no epoch ends, none is earlier"
        try:
            proof = self._chain.finality_proof(last)
        except Unavailable as problem:
            _log.debug("no proof for a node that is behind: %s", problem)
            return
        self._outward(Answer(peer, EpochSync(proof)))

    def _begin_epoch(self) -> Iterator[Received]:
        """Open the next Giskard on the block that has ended the present one."""
        self._chain.begin_epoch()
        self.state = initial_state(self._configuration(), self._chain.final_header)
        configuration = self.state.configuration
        _log.info(
            "epoch %d begins with %d validators; this node is %s",
            configuration.epoch,
            len(configuration.validators),
            "none of them" if configuration.position is None else f"number {configuration.position}",
        )
        self._outward(SetTimer(None))
        self._outward(EpochBegan(configuration.validators))
        for peer, message in self._early.take():
            yield from self._hear(Heard(peer, message, time.monotonic()))

    @property
    def signs(self) -> bool:
        """Whether this validator takes part, rather than only follows."""
        return self._key is not None

    def _look_for_a_twin(self) -> None:
        """Halt if a certificate of this view holds a vote of ours that we have not cast: every vote of the view is on
        record before it is sent, so another node signs with our key, or our ledger is an old copy."""
        state, certificate = self.state, self.state.highest
        if state.configuration.position is None or (certificate.epoch, certificate.view) != (
            state.configuration.epoch,
            state.view,
        ):
            return
        if certificate.height <= state.final_header.height or state.halted:
            return
        signers = bitmap_positions(certificate.signers, len(state.configuration.validators))
        if state.configuration.position in signers and all(index != certificate.index for index, _ in state.voted):
            self.state = replace(state, halted=True)
            _log.critical(
                "consensus halts: block %d carries a vote of this validator that it has not cast; another node runs "
                "with the same key, or this ledger is an old copy: stop one of the two",
                certificate.height,
            )

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
                case Send():
                    members = self.state.configuration.validators.members
                    if 0 <= effect.to < len(members):
                        self._outward(Answer(members[effect.to].node_id, effect.message))
                case Distrust():
                    self.measures.distrusted += 1
                    self._outward(effect)
                    _log.warning("validator %d: %s", effect.sender, effect.reason)
                case Report():
                    self.measures.contradictions += 1
                    _log.error(
                        "validator %d signed a contradiction: %s", effect.offender, type(effect.evidence).__name__
                    )
                    configuration = self.state.configuration
                    self._outward(Contradiction(configuration, effect.offender, effect.evidence))
                case Halt():
                    _log.critical("consensus halts: %s", effect.reason)
                case _:
                    self._outward(effect)
        return [event for effect in slow if (event := self._work_off(effect)) is not None]

    def _work_off(self, effect: Execute | Propose) -> Executed | Proposed | None:
        if isinstance(effect, Propose):
            return self._propose(effect)
        # A block on a branch that the same step has cut off needs no verdict, and its parent's state is gone.
        return self._execute(effect) if header_hash(effect.block.header) in self.state.blocks else None

    def _execute(self, effect: Execute) -> Executed:
        """Raises Unavailable if the store cannot be read: that says nothing about the block, and ends the validator."""
        name = header_hash(effect.block.header)
        self.measures.begin(name, time.monotonic())
        try:
            check_and_execute(self._chain, self._engine, effect.block)
        except Forged as problem:
            _log.warning("block %d is refused: %s", effect.block.header.height, problem)
            return Executed(name, False, time.monotonic())
        return Executed(name, True, time.monotonic())

    def _propose(self, effect: Propose) -> Proposed:
        assert self._key is not None
        position = self.state.configuration.position
        assert position is not None
        began = time.monotonic()
        block = propose(self._chain, self._engine, self._mempool, self._key, position, effect)
        if block is not None:
            self.measures.begin(header_hash(block.header), began)
        return Proposed(block, time.monotonic())


def is_timely(message: PrepareBlock) -> bool:
    """Whether a fresh block's timestamp is not ahead of our clock by more than the tolerance.

    A matter of when to listen, not of validity: a block that a quorum certified is taken whatever our clock says.
    """
    return message.block.header.timestamp <= time.time() + CLOCK_TOLERANCE
