"""Records of a committee: what an owner deals to it, what a node and its disposable worker say to each other.

Committee positions are 0 to 3. A secret x is the sum x₀ + x₁ + x₂ + x₃ modulo 2⁶⁴; position i holds every component but
xᵢ. Byte strings that stand for 64-bit words are little-endian, row-major.
"""

from typing import Final

from koinon.kernel.codec import Record
from koinon.wire.catalogue import Message, message

POSITIONS: Final = (0, 1, 2, 3)
NOBODY: Final = -1
"""In place of a position: this role does not exist in the event that is described."""
_RUN_LIMIT: Final = 512 * 1024 * 1024
_OUTPUT_LIMIT: Final = 64 * 1024 * 1024

Four = tuple[bytes, bytes, bytes, bytes]


class Column(Record, frozen=True):
    """One column and the range that all owners agreed to in public; it is mapped affinely to [−1, 1]."""

    name: str
    low: float
    high: float


class ShareManifest(Record, frozen=True):
    """What an owner says, signed, about rows it shared: everything but the rows.

    ``commitments[j]`` is a salted commitment to component j. ``attempt`` counts re-runs of the study from 0. Where an
    owner shared one row of so many sums over its rows in their place, ``sums`` says how many; else it is 0.
    """

    study: bytes
    attempt: int
    owner: bytes
    dataset: bytes
    rows: int
    columns: tuple[Column, ...]
    fraction_bits: int
    commitments: Four
    sums: int = 0
    parts: tuple[int, ...] = ()
    """Where people were matched in pairs of owners (``privacy.programs.crossed``): how many of the rows, in their
    order, are of people that each owner of the other columns has; else empty."""
    signature: bytes = b""


class ComponentShare(Record, frozen=True):
    """One component of a shared matrix: components 0 to 2 as a 32-byte seed, component 3 as words; and its salt."""

    index: int
    value: bytes
    salt: bytes


class SharePackage(Record, frozen=True):
    """The three components that one position holds."""

    position: int
    components: tuple[ComponentShare, ComponentShare, ComponentShare]


class SignedHeads(Record, frozen=True):
    """A party's signed statement at a checkpoint, made in ``round``: every frame so far was accepted, and these are the
    BLAKE3 heads of the chains of all it sent to the three other positions before that round, in ascending order.
    """

    session: bytes
    position: int
    round: int
    sent: tuple[bytes, bytes, bytes]
    note: bytes
    signature: bytes


class Complaint(Record, frozen=True):
    """A party's signed statement that it stopped, and why. Only the receiver of a message can complain about it.

    ``sender`` and ``backup`` are positions, or NOBODY. Who made the run fail is among sender, backup and receiver; or
    it is the owner of input number ``input``, where that is not NOBODY.
    """

    session: bytes
    round: int
    reason: str
    sender: int
    backup: int
    receiver: int
    input: int
    signature: bytes


class Seal(Record, frozen=True):
    """What a party signs in every round it sends in: the heads of its three outgoing chains, ascending by peer."""

    session: bytes
    position: int
    round: int
    sent: tuple[bytes, bytes, bytes]
    signature: bytes


class RouteDigest(Record, frozen=True):
    """The hash of all values of one round that ``sender`` and ``backup`` know and ``receiver`` is told."""

    sender: int
    backup: int
    receiver: int
    digest: bytes


class FrameDigests(Record, frozen=True):
    """What the chain of a link takes in of one frame: no value, only digests.

    ``values`` of what the frame's sender sends itself, ``hashes`` those it backs up, ``announced`` of each of its
    announcements.
    """

    values: tuple[RouteDigest, ...]
    announced: tuple[bytes, ...]
    hashes: tuple[RouteDigest, ...]


class SealedFrame(Record, frozen=True):
    """A frame's digests, the chain head before it, and the seal over the head after it."""

    seal: Seal
    previous: bytes
    frame: FrameDigests


class OpenedFrame(Record, frozen=True):
    """A sealed frame with the announcements that its digests are of; None in place of one that is not shown."""

    sealed: SealedFrame
    receiver: int
    contents: tuple[bytes | None, ...]


class PairEvidence(Record, frozen=True):
    """Two sealed frames of one round that state different things about one value, and the receiver's complaint.

    It proves to anybody that the sender or the backup deviated, and shows no value.
    """

    complaint: Complaint
    sender: SealedFrame
    backup: SealedFrame


class OutputComponent(Record, frozen=True):
    """One component of the output vector, with the salt of its digest."""

    index: int
    values: bytes
    salt: bytes


class OutputPackage(Record, frozen=True):
    """What one position sends to the result party, and to nobody else."""

    session: bytes
    position: int
    count: int
    fraction_bits: int
    components: tuple[OutputComponent, OutputComponent, OutputComponent]
    digests: Four


class Peer(Record, frozen=True):
    """How to reach the worker of one committee position, and the node that vouches for it.

    ``certificate`` is the node's signature over the worker's ephemeral key for this session and position.
    """

    node: bytes
    ephemeral: bytes
    certificate: bytes
    host: str
    port: int


class Input(Record, frozen=True):
    """What one owner gives one position: its shares on rep4; on the engine ``he`` a ciphertext, the same for all four;
    on the federated engine, where rows stay with their owner, nothing but its manifest.
    """

    manifest: ShareManifest
    package: SharePackage | None = None
    sealed: bytes = b""


class Fault(Record, frozen=True):
    """Test only: flip bit ``bit`` of the first value sent to ``peer`` in or after ``round``; or of the first
    announcement to it in ``round``, where that is one of the rounds in which keys are agreed on.
    """

    round: int
    peer: int
    bit: int


@message(0x0601)
class Prepare(Message, frozen=True):
    """Node to worker: open a transport under this ephemeral key and say where it listens."""

    session: bytes
    position: int
    seed: bytes
    host: str


@message(0x0602)
class Listening(Message, frozen=True):
    """Worker to node: the ephemeral public key, and the port its transport listens on."""

    ephemeral: bytes
    port: int


@message(0x0603, limit=_RUN_LIMIT)
class Run(Message, frozen=True):
    """Node to worker: everything agreed on, this position's shares, and the time allowed.

    ``parameters`` is the canonical encoding of the program's parameter record. ``deadline_seconds`` bounds the whole
    run, ``silence_seconds`` the wait for any one frame.
    """

    peers: tuple[Peer, Peer, Peer, Peer]
    program: str
    algorithm: bytes
    parameters: bytes
    result_party: bytes
    inputs: tuple[Input, ...]
    deadline_seconds: float
    silence_seconds: float
    fault: Fault | None = None


@message(0x0604)
class Progress(Message, frozen=True):
    """Worker to node: ``done`` of ``total`` units of ``stage``; total is 0 where it is not known in advance."""

    stage: str
    done: int
    total: int


@message(0x0605, limit=_OUTPUT_LIMIT)
class Output(Message, frozen=True):
    """Worker to node: the run ended and every check passed.

    ``heads`` are the last signed statements of all four positions; empty on engines without any. ``output_digest`` is
    Keccak-256 of the four digests.
    """

    package: OutputPackage
    output_digest: bytes
    heads: tuple[SignedHeads, ...]
    rounds: int
    bytes_sent: int


@message(0x0607, limit=1 << 16)
class SealedDispute(Message, frozen=True):
    """Evidence with what a stranger needs to check it: the run's identity and who vouches for the workers.

    About two members it is ``evidence``, about one it is ``frames`` and no ``evidence``. It is public: it holds hashes,
    keys, signatures, addresses, and announcements that protected nothing.
    """

    identity: bytes
    peers: tuple[Peer, Peer, Peer, Peer]
    evidence: PairEvidence | None
    frames: tuple[OpenedFrame, ...] = ()


@message(0x0606)
class Aborted(Message, frozen=True):
    """Worker to node: the run stopped and nothing was opened.

    ``sender``, ``backup``, ``receiver`` are positions (NOBODY where the role does not exist) to exclude from the
    re-run; ``suspects`` are the positions of whom, as this worker knows, at least one deviated. ``input`` is the number
    of the input whose owner is to blame, or NOBODY. ``complaint`` is the encoded signed ``Complaint``. ``dispute``
    proves to outsiders that one of two members deviated, or that one did; ``testimony`` are frames that may prove it
    together with those of other members.
    """

    reason: str
    sender: int
    backup: int
    receiver: int
    suspects: tuple[int, ...]
    input: int
    complaint: bytes
    dispute: SealedDispute | None = None
    testimony: SealedDispute | None = None


@message(0x0608, limit=_RUN_LIMIT)
class OpenedView(Message, frozen=True):
    """All that one position received, drew and signed in a run that stopped over a message of its own. As secret as its
    shares: for its own node, and for one judge of this position alone.

    ``run`` is the order it worked under. ``rounds`` holds the frames it took in, by position of the sender, empty where
    there was none. ``signature`` is the worker's over everything but ``run``, which the session binds.
    """

    identity: bytes
    position: int
    run: Run
    rounds: tuple[Four, ...]
    signatures: tuple[bytes, ...]
    randomness: tuple[bytes, ...]
    signature: bytes


@message(0x0609, limit=_RUN_LIMIT)
class Hear(Message, frozen=True):
    """A judge's node to its child: repeat the part of the position that opened ``view``, up to the disputed round."""

    dispute: SealedDispute
    view: OpenedView


@message(0x060A, limit=64)
class Heard(Message, frozen=True):
    """What repeating it showed: the name of an outcome, such as ``KEPT``."""

    outcome: str
