"""What the pages about models say."""

from typing import Literal

from koinon.gateway.views.parts import Head, Party, Quantity, Sentence, Tone, View


class ModelRow(View, frozen=True):
    """One line of the list of names."""

    name: str
    grade: str | None
    publisher: Party
    price: Quantity | None
    since: int


class ModelsPage(View, frozen=True):
    """``/models``: what can be called, and how far can it be relied on?"""

    head: Head
    answer: Sentence
    models: tuple[ModelRow, ...]


class Criterion(View, frozen=True):
    """One measured property: medians over the evaluators, and over both ends of their intervals.

    Values are millionths of ``unit``. ``score`` places it on the radar, where it has a grade: 0 worst to 1,000,000
    best, with the bounds of grades C, B and A at one, two and three quarters.
    """

    identifier: str
    label: str
    group: str
    unit: str
    value: Quantity
    low: int
    high: int
    grade: str | None
    score: int | None
    score_low: int | None
    score_high: int | None
    higher_is_better: bool
    machine_dependent: bool
    weak: bool
    meaning: str


class EvaluatorRow(View, frozen=True):
    """One drawn evaluator: what it found, whether its finding stood, what it was paid."""

    party: Party
    state: str
    tone: Tone
    values: tuple[Quantity | None, ...]
    evidence_hash: str | None = None
    paid: Quantity | None = None
    lost: Quantity | None = None


class GraphNode(View, frozen=True):
    """A box of the provenance graph; ``column`` counts from 0 at the left."""

    identifier: str
    label: Sentence
    kind: Literal["dataset", "study", "model", "variant", "service"]
    column: int
    hash: str | None = None
    link: str | None = None


class GraphEdge(View, frozen=True):
    """What was made from what."""

    source: str
    target: str


class Endpoint(View, frozen=True):
    """Where the service answers, and the last public sign that it does."""

    url: str
    node: Party
    alive: Literal["answers", "silent", "unknown"] = "unknown"
    last_anchor_at: int | None = None


class Call(View, frozen=True):
    """A way to call the service, ready to paste."""

    title: str
    language: str
    text: str


class Share(View, frozen=True):
    """Who gets which part of each sale, in basis points."""

    party: Party
    basis_points: int


class HistoryPoint(View, frozen=True):
    """The vector as it was after one evaluation, and what had changed."""

    at: int
    evaluation: int
    sentence: Sentence
    values: dict[str, int]


class ModelPage(View, frozen=True):
    """``/models/{name}``: can I rely on it?"""

    head: Head
    name: str
    owner: Party
    answer: Sentence
    grade: str | None
    grade_rule: Sentence | None
    weak: tuple[str, ...]
    since: int
    model: int
    weights_hash: str
    content_hash: str | None
    criteria: tuple[Criterion, ...]
    evaluation: int | None
    evaluators: tuple[EvaluatorRow, ...]
    history: tuple[HistoryPoint, ...]
    nodes: tuple[GraphNode, ...]
    edges: tuple[GraphEdge, ...]
    endpoints: tuple[Endpoint, ...]
    calls: tuple[Call, ...]
    shares: tuple[Share, ...]
    service: int | None = None
    price: Quantity | None = None
    node_share: int | None = None
