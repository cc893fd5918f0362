"""The state of one validator, and what goes into and comes out of its step."""

from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property

from koinon.kernel.codec import Record
from koinon.kernel.ids import Hash32
from koinon.kernel.quantities import BlockIndex, ChainId, Epoch, Height, Seconds, View
from koinon.ledger.giskard.certificates import Signer, Verifier
from koinon.ledger.giskard.evidence import Evidence
from koinon.ledger.giskard.rules import Rules, VotedSlot
from koinon.ledger.types import (
    Block,
    FinalityProof,
    Header,
    PrepareBlock,
    PrepareVote,
    QuorumCertificate,
    ValidatorSet,
    ViewChange,
    ViewEntry,
    header_hash,
)
from koinon.wire.consensus import ConsensusMessage


class Voting(Enum):
    """Who hears a vote (GISKARD-LIVENESS-5).

    ``COLLECTED`` sends it to the proposers of this view and the next; the former makes the certificate and broadcasts
    it, so that a block costs O(n) messages and everybody else checks one signature for it. After a view that was lost
    votes are broadcast until a block is final again, so a silent collector costs no more than a silent proposer.
    """

    BROADCAST = "broadcast"
    COLLECTED = "collected"


@dataclass(frozen=True)
class Configuration:
    """What stays the same for a whole epoch.

    Attributes:
        position: this validator's place in the set; None for an observer that follows without voting.
        blocks_per_view: N.
        pipeline: how many blocks the proposer may be ahead of the highest certificate.
        base_timeout: seconds without a new certificate, while there is work, before a view is given up; grows by half
            with every view lost since the last final block.
        voting: a parameter of the chain; ``COLLECTED`` saves messages where there are many validators.
        last_height: where the epoch ends (GISKARD-SAFETY-8); None for an epoch that never does.
    """

    chain_id: ChainId
    epoch: Epoch
    validators: ValidatorSet
    position: int | None
    blocks_per_view: int
    base_timeout: Seconds
    verifier: Verifier
    signer: Signer | None
    pipeline: int = 3
    voting: Voting = Voting.BROADCAST
    last_height: Height | None = None
    rules: Rules = field(default_factory=Rules)


class SafetyRecord(Record, frozen=True):
    """What must be durable before any signature made under it is sent (GISKARD-SAFETY-7)."""

    epoch: Epoch
    view: View
    timed_out: bool
    voted: tuple[VotedSlot, ...]
    accepted: Hash32 | None
    proposed_index: int
    proposed: Hash32 | None
    highest: QuorumCertificate
    entry: ViewEntry
    certificates: tuple[QuorumCertificate, ...]


class Execution(Enum):
    """How far this validator has come with executing a block."""

    WAITING = "waiting"
    RUNNING = "running"
    VALID = "valid"
    INVALID = "invalid"


@dataclass(frozen=True)
class Tracked:
    """A block above the last final one.

    Attributes:
        signature: the proposer's, None where the block came with its certificate instead.
        justified: for the first block of a view, whether its justification was checked and holds.
    """

    block: Block
    signature: bytes | None
    parent_certificate: QuorumCertificate | None
    justified: bool
    execution: Execution = Execution.WAITING

    @cached_property
    def header(self) -> Header:
        return self.block.header

    @cached_property
    def hash(self) -> Hash32:
        return header_hash(self.block.header)


@dataclass
class State:
    """One validator. Treat as immutable: ``step`` copies it before it changes anything.

    Attributes:
        root: the certificate everybody grants the block that the epoch begins on.
        voted: index and height of every vote cast in this view.
        accepted: index and hash of the last block voted for in this view.
        locked_height: height of the highest certified block with a certified child.
        failures: views lost to time-out since the last final block.
        absent: proposers whose last turn was lost without a certified block; only patience depends on it.
        pending: whether the mempool holds transactions that could go into a block.
        deadline: monotonic time at which the view times out, None while there is nothing to finalise.
        settled: whether everything that follows from the blocks and certificates here has been done.
        reported: validators against which evidence was reported; one is enough.
        forgers: validators that sent a vote they had not signed; theirs are checked one by one.
        ended: the proof that the last block of the epoch is final, once it is; nothing is signed after that.
    """

    configuration: Configuration
    view: View
    entry: ViewEntry
    root: QuorumCertificate
    highest: QuorumCertificate
    final_header: Header
    timed_out: bool = False
    voted: tuple[VotedSlot, ...] = ()
    accepted: tuple[int, Hash32] | None = None
    proposed_index: int = -1
    proposed: Hash32 | None = None
    proposing: bool = False
    locked_height: int = 0
    failures: int = 0
    absent: frozenset[int] = frozenset()
    pending: bool = False
    deadline: float | None = None
    halted: bool = False
    settled: bool = field(default=False, compare=False)
    reported: frozenset[int] = frozenset()
    forgers: frozenset[int] = frozenset()
    ended: FinalityProof | None = None
    blocks: dict[Hash32, Tracked] = field(default_factory=dict)
    certificates: dict[Hash32, QuorumCertificate] = field(default_factory=dict)
    votes: dict[tuple[View, BlockIndex, int], PrepareVote] = field(default_factory=dict)
    proposals: dict[tuple[View, BlockIndex], PrepareBlock] = field(default_factory=dict)
    view_changes: dict[tuple[View, int], ViewChange] = field(default_factory=dict)

    def copy(self) -> "State":
        """A copy whose containers may be changed without touching this one; everything inside them is frozen."""
        twin = object.__new__(State)
        twin.__dict__.update(self.__dict__)
        twin.blocks = self.blocks.copy()
        twin.certificates = self.certificates.copy()
        twin.votes = self.votes.copy()
        twin.proposals = self.proposals.copy()
        twin.view_changes = self.view_changes.copy()
        return twin

    @property
    def is_active(self) -> bool:
        """Whether this validator still takes part in its epoch."""
        return not self.halted and self.ended is None

    @property
    def final_hash(self) -> Hash32:
        return header_hash(self.final_header)

    def header_of(self, block: Hash32) -> Header | None:
        """Header of a tracked block or of the last final one."""
        tracked = self.blocks.get(block)
        if tracked is not None:
            return tracked.header
        return self.final_header if block == self.final_hash else None


# Events: each carries the monotonic time at which it happened.


@dataclass(frozen=True)
class Received:
    """A message from the validator at ``sender``, whose identity the transport has proven."""

    sender: int
    message: ConsensusMessage
    now: float


@dataclass(frozen=True)
class BlockFetched:
    """A block asked for with ``Fetch``, from an untrusted peer, with its proposer's signature or its certificate."""

    block: Block
    signature: bytes | None
    certificate: QuorumCertificate | None
    now: float


@dataclass(frozen=True)
class Executed:
    """The answer to ``Execute``."""

    block: Hash32
    valid: bool
    now: float


@dataclass(frozen=True)
class Proposed:
    """The answer to ``Propose``: a block built and executed, or None where there was nothing to put in."""

    block: Block | None
    now: float


@dataclass(frozen=True)
class PendingChanged:
    """The mempool now holds, or no longer holds, transactions for a block."""

    pending: bool
    now: float


@dataclass(frozen=True)
class TimerFired:
    """The time set by ``SetTimer`` has come."""

    now: float


Event = Received | BlockFetched | Executed | Proposed | PendingChanged | TimerFired

# Effects: the driver performs them in order.


@dataclass(frozen=True)
class Persist:
    """Make this durable, with the blocks it speaks of, before performing any later effect."""

    record: SafetyRecord
    blocks: tuple[Tracked, ...]


@dataclass(frozen=True)
class Broadcast:
    """Send to every other validator."""

    message: ConsensusMessage


@dataclass(frozen=True)
class Send:
    """Send to one validator."""

    to: int
    message: ConsensusMessage


@dataclass(frozen=True)
class Execute:
    """Execute the block on its parent, whose execution is done; answer with ``Executed``."""

    block: Block


@dataclass(frozen=True)
class Propose:
    """Build and execute a block on ``parent``; answer with ``Proposed``.

    Attributes:
        required: also without transactions, because blocks below need successors to become final.
        closing: without transactions, because the epoch ends below this block (GISKARD-SAFETY-8).
    """

    parent: Hash32
    height: Height
    view: View
    index: BlockIndex
    required: bool
    closing: bool


@dataclass(frozen=True)
class SetTimer:
    """Fire ``TimerFired`` at this monotonic time; None cancels."""

    at: float | None


@dataclass(frozen=True)
class Finalise:
    """These blocks, ascending, are final for ever, each with its certificate.

    Attributes:
        headers: the last of them and those above it that prove it final: two, or more at the end of an epoch.
        proof: the certificates of the last three of ``headers``.
    """

    blocks: tuple[Block, ...]
    certificates: tuple[QuorumCertificate, ...]
    headers: tuple[Header, ...]
    proof: tuple[QuorumCertificate, ...]


@dataclass(frozen=True)
class EpochEnded:
    """The last block of the epoch is final; emitted once, after its ``Finalise``.

    Open the next epoch with ``initial_state`` and this header as root, and keep this state to answer those behind.
    """

    header: Header
    certificate: QuorumCertificate


@dataclass(frozen=True)
class Fetch:
    """Ask the other validators for a block; answer with ``BlockFetched`` for it and whatever lies between."""

    block: Hash32
    height: Height


@dataclass(frozen=True)
class Report:
    """Two signatures that contradict each other; once for each offender of an epoch."""

    offender: int
    evidence: Evidence


@dataclass(frozen=True)
class Distrust:
    """A message of this validator was refused; one sentence says why.

    Attributes:
        proven: whether nobody but this validator can have caused it, and no honest one ever does.
    """

    sender: int
    reason: str
    proven: bool = False


@dataclass(frozen=True)
class Halt:
    """Something happened that cannot happen with at most f liars; the validator signs nothing any more."""

    reason: str


Effect = (
    Persist | Broadcast | Send | Execute | Propose | SetTimer | Finalise | EpochEnded | Fetch | Report | Distrust | Halt
)
