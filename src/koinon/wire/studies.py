"""0x05xx: studies, from the first reading of a study file to the answer of a served model's node."""

from koinon.kernel.codec import Record
from koinon.wire.catalogue import Done, Message, message
from koinon.wire.committee import Input, OpenedView, OutputPackage, Peer, SealedDispute, ShareManifest


@message(0x0501, limit=1 << 20)
class StudyFileReply(Message, frozen=True):
    """A study file (encoding of ``jobs.study.SignedStudy``)."""

    signed_study: bytes


@message(0x0502, answers=(StudyFileReply,), limit=256)
class FetchStudyFile(Message, frozen=True):
    """Anyone who is named in a study asks its publisher for the file behind the hash on the chain."""

    specification_hash: bytes


@message(0x0503, answers=(Done,), limit=1024)
class CommitteeHello(Message, frozen=True):
    """A committee node tells another where its worker listens and with which key.

    ``peer`` holds the node's certificate over the worker's key for this session and position: only the node that was
    drawn can name the worker that takes its place.
    """

    study: int
    attempt: int
    position: int
    peer: Peer


@message(0x0504, answers=(Done,), limit=128 << 20)
class DeliverShares(Message, frozen=True):
    """A data owner hands one committee node its share package and the signed manifest that all four compare."""

    study: int
    attempt: int
    owner: int
    shares: Input


@message(0x0505, answers=(Done,), limit=64 << 20)
class DeliverOutput(Message, frozen=True):
    """A committee node hands the result party its output components and its signature on their digest.

    ``manifests`` are the owners' that all four compared, in the study's order: signed by the owners, they need no
    trust.
    ``signature`` is the account's, over the contract's EIP-712 digest of (study, attempt, output digest); ``handed``,
    over ``eip712.handed_digest`` of the three components, is how it can be held to them.
    """

    study: int
    attempt: int
    position: int
    output: OutputPackage
    output_digest: bytes
    signature: bytes
    handed: bytes
    manifests: tuple[ShareManifest, ...]


@message(0x0534, answers=(Done,), limit=1024)
class DeliverSignature(Message, frozen=True):
    """A committee member tells another its account's signature on the digest of its output; see ``DeliverOutput``."""

    study: int
    attempt: int
    position: int
    output_digest: bytes
    signature: bytes


@message(0x0540, answers=(Done,), limit=64)
class Ping(Message, frozen=True):
    """Nothing but an answer is asked of a node that can be drawn, to learn how far it is."""


class WrappedKey(Record, frozen=True):
    """A data key sealed to one node's HPKE key."""

    sealed: bytes


@message(0x0506, limit=8192)
class ModelKeyReply(Message, frozen=True):
    """The model's data key, sealed to the node that asked and may open it.

    ``manifest`` is the CID of the encrypted package in ASCII, the same as on the chain; ``sources`` are node ids that
    keep its blobs, the publisher's among them.
    """

    key: WrappedKey
    manifest: bytes
    sources: tuple[bytes, ...]


@message(0x0507, answers=(ModelKeyReply,), limit=256)
class FetchModelKey(Message, frozen=True):
    """A drawn evaluator or a contracted service node asks the publisher for a model's key.

    ``purpose`` is ``evaluate`` or ``serve``; ``reference`` the evaluation or service number on the chain.
    """

    model: int
    purpose: str
    reference: int


@message(0x0508, limit=4096)
class ServiceReady(Message, frozen=True):
    """The endpoint at which a service node answers for a model."""

    url: str
    weights_hash: bytes


@message(0x0509, answers=(ServiceReady,), limit=4096)
class DeployService(Message, frozen=True):
    """The publisher asks a provider to serve a model under a service asset."""

    service: int
    model: int
    name: str


@message(0x050A, limit=16 << 20)
class EvaluationEvidenceReply(Message, frozen=True):
    """The evidence document whose hash an evaluator revealed on the chain."""

    evidence: bytes


@message(0x050B, answers=(EvaluationEvidenceReply,), limit=256)
class FetchEvaluationEvidence(Message, frozen=True):
    """Anyone may ask an evaluator for the evidence behind its revealed scores."""

    evaluation: int


@message(0x050C, limit=16 << 20)
class ReceiptsReply(Message, frozen=True):
    """Signed receipt batches of one service, and one sampled receipt with its inclusion proof."""

    receipts: bytes


@message(0x050D, answers=(ReceiptsReply,), limit=256)
class FetchReceipts(Message, frozen=True):
    """Anyone may ask a service node for the signed batches of a service and the receipt with this sequence number."""

    service: int
    sequence: int


@message(0x050E, limit=4096)
class RefusalReason(Message, frozen=True):
    """Why an owner refused; its hash is on the chain."""

    reason: str


@message(0x050F, answers=(RefusalReason,), limit=64)
class FetchRefusal(Message, frozen=True):
    """The publisher asks an owner why it refused a study."""

    study: int


@message(0x0510, limit=1 << 20)
class ManifestsReply(Message, frozen=True):
    """An owner's signed share manifest of one attempt."""

    manifest: ShareManifest


@message(0x0511, answers=(ManifestsReply,), limit=64)
class FetchManifest(Message, frozen=True):
    """Anyone may ask an owner, or the result party, for an owner's manifest of an attempt: commitments, no rows.

    ``owner`` counts the study's owners from 0.
    """

    study: int
    attempt: int
    owner: int


@message(0x0512, limit=4096)
class EvaluationPlanReply(Message, frozen=True):
    """The settings of an evaluation (encoding of ``journey.evaluation.EvaluationPlan``).

    The nonce that the requester committed to on the chain is a hash of them, so whoever asks can check them.
    """

    plan: bytes


@message(0x0513, answers=(EvaluationPlanReply,), limit=64)
class FetchEvaluationPlan(Message, frozen=True):
    """Anyone may ask the requester of an evaluation with which settings evaluators measure."""

    evaluation: int


@message(0x0515, limit=64)
class WouldSign(Message, frozen=True):
    """An owner would sign a study, for which it has so many rows; 0 where they depend on who is in others' data."""

    rows: int


@message(0x0514, answers=(WouldSign,), limit=1 << 20)
class ConsultOwner(Message, frozen=True):
    """The publisher asks an owner, before any money moves, whether it would sign.

    ``signed_study`` is the encoding of a ``jobs.study.SignedStudy``. The answer promises nothing: another study may
    spend the privacy budget first. A failure says why the owner would refuse.
    """

    signed_study: bytes


@message(0x0521, limit=1024)
class SeatReply(Message, frozen=True):
    """Where the worker of a committee member listens, with its node's certificate."""

    peer: Peer


@message(0x0522, answers=(SeatReply,), limit=64)
class FetchSeat(Message, frozen=True):
    """A data owner of a federated study asks the member that leads it where to send its words."""

    study: int
    attempt: int


@message(0x0523, limit=4 << 20)
class EncryptionKeyReply(Message, frozen=True):
    """The result party's public key of a study on ciphertexts, as the library writes it."""

    public: bytes


@message(0x0524, answers=(EncryptionKeyReply,), limit=64)
class FetchEncryptionKey(Message, frozen=True):
    """A data owner asks the result party under which key it is to encrypt its sums."""

    study: int


@message(0x0530, limit=1 << 17)
class EvidenceReply(Message, frozen=True):
    """Evidence that one of two committee members deviated, or that one did."""

    dispute: SealedDispute


@message(0x0531, answers=(EvidenceReply,), limit=64)
class FetchEvidence(Message, frozen=True):
    """Anyone may ask a node that took part in a study for the evidence whose hash is on the chain; it shows no row."""

    evidence_hash: bytes


@message(0x0535, answers=(EvidenceReply,), limit=64)
class FetchTestimony(Message, frozen=True):
    """A member or party that accuses asks a member what it was told in a stopped attempt; it shows no row."""

    study: int
    attempt: int


@message(0x0532, limit=193 << 20)
class ViewReply(Message, frozen=True):
    """What an accused member received and drew: as secret as its shares, for one of its own judges alone."""

    view: OpenedView


@message(0x0533, answers=(ViewReply,), limit=64)
class FetchView(Message, frozen=True):
    """A judge that the chain drew for ``side`` of a case asks that accused member for its view. Nobody else gets it."""

    case: int
    side: int
