"""0x0Cxx: models that four nodes keep as shares, and questions to them.

The model's owner gives each of four nodes one package of the weights; a caller gives each one package of its rows. No
node sees either; the caller alone opens the answers.
"""

from koinon.kernel.codec import Record
from koinon.wire.catalogue import Done, Message, message
from koinon.wire.committee import Four, Input, OutputPackage, Peer, ShareManifest

_GRAPH_LIMIT = 64 << 20
_QUESTION_LIMIT = 128 << 20


class SharedWeight(Record, frozen=True):
    """One initialiser of the graph that is shared: its shape, and the public power of two that bounds its numbers."""

    name: str
    shape: tuple[int, ...]
    reach: float


class SharedModelCard(Record, frozen=True):
    """All that is public about a shared model; its hash is the model's id.

    Attributes:
        owner: node id of who shared it.
        name: the owner's, for people.
        members: node ids by position.
        graph: hash of the ONNX graph without its shared numbers.
        places: the shared numbers, in the order in which they stand in the one column of ``weights``.
        row: shape of one row.
        largest: rows with larger numbers are refused; a power of two.
        weights: the owner's signed manifest of the dealing.
        callers: node ids of who may ask; empty for everybody who can reach the nodes.
    """

    owner: bytes
    name: str
    members: Four
    graph: bytes
    places: tuple[SharedWeight, ...]
    row: tuple[int, ...]
    largest: float
    weights: ShareManifest
    callers: tuple[bytes, ...]


@message(0x0C01, answers=(Done,), limit=_GRAPH_LIMIT)
class KeepSharedModel(Message, frozen=True):
    """Owner to member: keep this model; ``weights`` holds the member's own package."""

    card: SharedModelCard
    graph: bytes
    weights: Input


@message(0x0C02, limit=4 << 20)
class SharedModelFound(Message, frozen=True):
    """What a model's card says; whoever asked compares its hash with the id."""

    card: SharedModelCard


@message(0x0C03, answers=(SharedModelFound,), limit=1024)
class FindSharedModel(Message, frozen=True):
    """Caller to any member: what is public about the model of this id?"""

    model: bytes


@message(0x0C04, limit=4096)
class SharedModelSeat(Message, frozen=True):
    """The worker that a member keeps for a model, under a key that its node vouches for."""

    peer: Peer


@message(0x0C05, answers=(SharedModelSeat,), limit=1024)
class FindSharedModelSeat(Message, frozen=True):
    """Member to member: where does your worker for this model listen?"""

    model: bytes


@message(0x0C06, limit=64 << 20)
class SharedAnswer(Message, frozen=True):
    """Member to caller: its part of the answers; three of four open them."""

    package: OutputPackage


@message(0x0C07, answers=(SharedAnswer,), limit=_QUESTION_LIMIT)
class AskSharedModel(Message, frozen=True):
    """Caller to member: its package of the rows. The manifest's ``dataset`` is a number used once."""

    model: bytes
    rows: Input


@message(0x0C08, answers=(Done,), limit=1024)
class ForgetSharedModel(Message, frozen=True):
    """Owner to member: keep this model no longer."""

    model: bytes


@message(0x0C09, limit=_QUESTION_LIMIT)
class AnswerSharedQuestion(Message, frozen=True):
    """Node to its worker: take part in answering ``rows`` with these workers. ``question`` is the run's identity."""

    question: bytes
    peers: tuple[Peer, Peer, Peer, Peer]
    rows: Input


@message(0x0C0A, limit=64 << 20)
class SharedQuestionDone(Message, frozen=True):
    """Worker to its node: the part of the answers, or the kind of error and the sentence why there is none."""

    question: bytes
    package: OutputPackage | None
    kind: str = ""
    sentence: str = ""
