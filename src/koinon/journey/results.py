"""What each step of the main job hands to the next. A step takes the result of the one before, so none can be
skipped.

    Study → Trained → Published → Hardened → Validated → Named → Served → Paid → Audited

Each result is a Record that holds the one before it: a publisher's node stores the latest and can go on from there.
"""

from koinon.kernel.codec import Record
from koinon.kernel.ids import Address, Hash32, NodeId
from koinon.kernel.quantities import PartsPerMillion, TokenAmount


class Study(Record, frozen=True):
    """A study whose owners have all consented and whose committee's randomness is fixed."""

    number: int
    specification_hash: Hash32
    signed: bytes
    """The signed study file (encoding of ``jobs.study.SignedStudy``)."""
    dataset_hashes: tuple[Hash32, ...]


class Incident(Record, frozen=True):
    """Something that went wrong in an attempt, as the chain recorded it.

    ``kind`` is ``complaint`` or ``silence``; ``accounts`` are who leaves the study unpaid; ``slashed`` is the stake
    taken.
    """

    attempt: int
    kind: str
    accounts: tuple[Address, ...]
    slashed: TokenAmount


class Output(Record, frozen=True):
    """One array of the opened result, as computed on columns mapped from their public range to [−1, 1]."""

    name: str
    shape: tuple[int, ...]
    values: tuple[float, ...]


class Trained(Record, frozen=True):
    """The opened outputs of the joint computation, agreed on by three of the four that computed it."""

    study: Study
    attempt: int
    committee: tuple[Address, ...]
    output_digest: Hash32
    outputs: tuple[Output, ...]
    """What the study declared and nothing else, in the algorithm's order."""
    training_rows: tuple[int, ...]
    liars: tuple[int, ...]
    incidents: tuple[Incident, ...]


class Published(Record, frozen=True):
    """The model as an asset: encrypted, replicated, minted."""

    trained: Trained
    model: int
    dataset_assets: tuple[int, ...]
    weights_hash: Hash32
    manifest: str
    """CID of the package's manifest."""
    replicas: tuple[NodeId, ...]
    name_hint: str


class VariantMeasured(Record, frozen=True):
    """One form of the model's weights: its difference from the original and its time for one row."""

    name: str
    weights_hash: Hash32
    largest_difference: float
    microseconds: float
    kept: bool


class Hardened(Record, frozen=True):
    """The measured variants, and the asset of the one that is evaluated and served (the original's, if none was
    better).
    """

    published: Published
    domain: str
    variants: tuple[VariantMeasured, ...]
    model: int
    weights_hash: Hash32
    manifest: str


class Score(Record, frozen=True):
    """One criterion of the trust vector as it stands on the chain: medians of what the evaluators revealed."""

    criterion: str
    value: PartsPerMillion
    low: PartsPerMillion
    high: PartsPerMillion


class Validated(Record, frozen=True):
    """The trust vector that drawn evaluators committed to, revealed and signed."""

    hardened: Hardened
    evaluation: int
    evaluators: tuple[Address, ...]
    evidence_hashes: tuple[Hash32, ...]
    vector: tuple[Score, ...]
    grade: str


class Named(Record, frozen=True):
    """A name that resolves to the weights and their vector."""

    validated: Validated
    name: str


class Endpoint(Record, frozen=True):
    """A live service endpoint and the node that answers there."""

    url: str
    node: NodeId
    account: Address


class Served(Record, frozen=True):
    """The name resolves to live endpoints."""

    named: Named
    service: int
    endpoints: tuple[Endpoint, ...]


class Payee(Record, frozen=True):
    """What one party received."""

    account: Address
    reason: str
    amount: TokenAmount


class Paid(Record, frozen=True):
    """A stranger's calls, and who got what of the money. The sum of ``payees`` is exactly ``spent``."""

    served: Served
    buyer: Address
    calls: int
    pass_number: int
    channels: tuple[Hash32, ...]
    spent: TokenAmount
    payees: tuple[Payee, ...]
    samples: tuple[tuple[NodeId, int], ...]
    """The last receipt of each service node: node and sequence number."""
    first_answer: float


class Check(Record, frozen=True):
    """One thing a stranger checked in the bundle."""

    identifier: str
    sentence: str
    holds: bool
    detail: str


class Audited(Record, frozen=True):
    """The evidence bundle, checked offline."""

    paid: Paid
    bundle: str
    bundle_hash: Hash32
    checks: tuple[Check, ...]
