"""What each page says, as frozen values: the templates print them and ``/api`` answers them as JSON.

Units: amounts of the payment token in its smallest unit, ether in wei, times in Unix seconds, ratios in parts per
million. Identifiers are ``0x`` hexadecimal text. A ``Sentence`` is an English text with named gaps, which the page
fills and may translate; every number that somebody may want to check is a ``Quantity`` and carries its ``Origin``.
"""

from typing import Literal, TypeAlias

import msgspec

Tone: TypeAlias = Literal["neutral", "final", "pending", "failed"]
"""How a state is coloured: done for good, under way, or gone wrong."""
Unit: TypeAlias = Literal["token", "wei", "gas", "count", "ppm", "seconds", "bytes", "percent", "basis points"]


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every view model."""


class Sentence(View, frozen=True):
    """An English text with ``{gaps}``, filled after translation; a gap may hold another sentence."""

    text: str
    values: dict[str, "str | int | Sentence"] = {}


class Origin(View, frozen=True):
    """Where a number came from, and the command with which anybody gets it again."""

    statement: Sentence
    command: str
    transaction: str | None = None
    height: int | None = None


class Quantity(View, frozen=True):
    """A number with its unit and, where it can be recomputed, its origin."""

    value: int
    unit: Unit
    origin: Origin | None = None


class Party(View, frozen=True):
    """An account, with the name that the operator of this site or the chain gives it, if any."""

    account: str
    name: str | None = None


class Head(View, frozen=True):
    """The chain this site reads, as far as it has read it."""

    chain_id: int
    height: int
    final_height: int
    indexed_height: int
    timestamp: int
    client: str
    symbol: str
    decimals: int
    problem: Sentence | None = None


class Measure(View, frozen=True):
    """One row of a conservation check: both sides in words and integers."""

    statement: Sentence
    left: Quantity
    right: Quantity

    @property
    def holds(self) -> bool:
        """Whether both sides are the same integer."""
        return self.left.value == self.right.value


class Flow(View, frozen=True):
    """Money that went from one place to another. ``layer`` counts the steps from the first payer."""

    payer: str
    payee: str
    amount: Quantity
    layer: int = 0
    reason: str = ""


class Event(View, frozen=True):
    """One entry of a timeline: when, who, what, and the transaction that proves it."""

    at: int
    height: int
    transaction: str
    sentence: Sentence
    actor: Party | None = None
    tone: Tone = "neutral"


# The network ---------------------------------------------------------------------------------------------------------


class Organisation(View, frozen=True):
    """Who takes part: what the chain says, and what its node says where this site may ask it."""

    account: str
    roles: tuple[str, ...]
    name: str | None = None
    node_id: str | None = None
    operator: str | None = None
    stake: Quantity | None = None
    assignments: int = 0
    alive: Literal["answers", "silent", "unknown"] = "unknown"
    seen_at: int | None = None
    height: int | None = None
    cpu_percent: float | None = None
    memory_bytes: int | None = None
    children: int | None = None
    last_act_at: int | None = None


class MapLink(View, frozen=True):
    """A line on the map between two organisations: a live connection, or work they did together."""

    source: str
    target: str
    kind: Literal["connection", "study"]


class BlockRow(View, frozen=True):
    """One line of a list of blocks."""

    height: int
    hash: str
    timestamp: int
    transactions: int
    gas_used: int
    proposer: Party
    final: bool


class StudyRow(View, frozen=True):
    """One line of the list of studies."""

    number: int
    phase: str
    tone: Tone
    publisher: Party
    owners: int
    attempts: int
    proposed_at: int


class NetworkPage(View, frozen=True):
    """``/``: who takes part, and are they alive?"""

    head: Head
    answer: Sentence
    organisations: tuple[Organisation, ...]
    links: tuple[MapLink, ...]
    blocks: tuple[BlockRow, ...]
    studies: tuple[StudyRow, ...]
    staked: Quantity
    node_status_known: bool


# Studies -------------------------------------------------------------------------------------------------------------


class StudiesPage(View, frozen=True):
    """``/studies``: what is computed together?"""

    head: Head
    answer: Sentence
    studies: tuple[StudyRow, ...]


class Owner(View, frozen=True):
    """A data owner of a study: what it agreed to and what it got."""

    party: Party
    state: str
    tone: Tone
    dataset_hash: str | None = None
    consented_at: int | None = None
    revealed: bool = False
    paid: Quantity | None = None


class Member(View, frozen=True):
    """A compute node drawn for one attempt."""

    position: int
    party: Party
    state: str
    tone: Tone
    paid: Quantity | None = None
    lost: Quantity | None = None


class Attempt(View, frozen=True):
    """One draw of a committee and how it ended."""

    number: int
    seed: str
    drawn_at: int
    height: int
    transaction: str
    pool: int
    state: Sentence
    tone: Tone
    members: tuple[Member, ...]


class Term(View, frozen=True):
    """One line of the terms that everybody signed."""

    label: str
    quantity: Quantity | None = None
    hash: str | None = None
    moment: int | None = None


class StudyPage(View, frozen=True):
    """``/studies/{number}``: what happened in this study, and who was paid?"""

    head: Head
    number: int
    phase: str
    tone: Tone
    answer: Sentence
    publisher: Party
    result_party: Party
    terms: tuple[Term, ...]
    owners: tuple[Owner, ...]
    attempts: tuple[Attempt, ...]
    events: tuple[Event, ...]
    flows: tuple[Flow, ...]
    checks: tuple[Measure, ...]
    output_digest: str | None = None
    models: tuple[str, ...] = ()


# Models --------------------------------------------------------------------------------------------------------------


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


# Money ---------------------------------------------------------------------------------------------------------------


class AnchorRow(View, frozen=True):
    """One batch of receipts whose root is on the chain."""

    service: int
    node: Party
    root: str
    first_sequence: int
    count: int
    at: int
    height: int
    transaction: str


class ChannelRow(View, frozen=True):
    """One payment channel between a buyer and a service node."""

    identifier: str
    service: int
    payer: Party
    receiver: Party
    deposited: Quantity
    settled: Quantity
    refunded: Quantity
    state: str
    tone: Tone
    expires_at: int


class PassRow(View, frozen=True):
    """One bought right to call."""

    number: int
    service: int
    holder: Party
    quota: int
    expires_at: int
    price: Quantity


class ServiceRow(View, frozen=True):
    """A service and what it earned."""

    service: int
    name: str | None
    earned: Quantity
    answers: int
    channels: int


class ReceiptsPage(View, frozen=True):
    """``/receipts``: which answers were given, and what was paid for them?"""

    head: Head
    answer: Sentence
    services: tuple[ServiceRow, ...]
    anchors: tuple[AnchorRow, ...]
    channels: tuple[ChannelRow, ...]
    passes: tuple[PassRow, ...]


class SettlementPage(View, frozen=True):
    """``/settlement/{service}``: who was paid what, and does it add up?"""

    head: Head
    service: int
    name: str | None
    answer: Sentence
    flows: tuple[Flow, ...]
    checks: tuple[Measure, ...]
    channels: tuple[ChannelRow, ...]
    passes: tuple[PassRow, ...]
    anchors: tuple[AnchorRow, ...]
    events: tuple[Event, ...]


# The chain -----------------------------------------------------------------------------------------------------------


class Argument(View, frozen=True):
    """One decoded argument of a call or an event."""

    name: str
    kind: str
    value: str


class DecodedLog(View, frozen=True):
    """One log entry; ``event`` is empty where none of our contracts made it."""

    index: int
    contract: Party
    event: str
    arguments: tuple[Argument, ...]
    topics: tuple[str, ...]
    data: str


class TransactionRow(View, frozen=True):
    """One line of a block's transactions."""

    hash: str
    sender: Party
    recipient: Party | None
    call: str
    value: Quantity


class BlocksPage(View, frozen=True):
    """``/blocks``: what was written last, and is it final?"""

    head: Head
    answer: Sentence
    blocks: tuple[BlockRow, ...]
    newest: bool
    older: int | None


class BlockPage(View, frozen=True):
    """``/blocks/{height}``: what does this block hold, and can it still change?"""

    head: Head
    answer: Sentence
    block: BlockRow
    parent: str
    state_root: str
    transactions_root: str
    receipts_root: str
    gas_limit: int
    base_fee: Quantity | None
    size: int
    transactions: tuple[TransactionRow, ...]
    not_shown: int


class TracedCall(View, frozen=True):
    """One call that a transaction made.

    Attributes:
        depth: 0 for the transaction's own call.
        kind: the instruction: CALL, DELEGATECALL, STATICCALL, CREATE, CREATE2, SELFDESTRUCT.
        call: name of the function with the suite's interfaces, or the first bytes of what was sent.
        error: why it failed, empty if it did not; ``reason`` is what the contract said about it.
    """

    depth: int
    kind: str
    caller: Party
    callee: Party | None
    call: str
    arguments: tuple[Argument, ...]
    value: int
    gas_used: int
    error: str
    reason: str


class Trace(View, frozen=True):
    """The calls of a transaction in the order in which they began.

    Attributes:
        not_shown: how many there are beyond the ones here.
        problem: why there is no trace, where there is none.
    """

    calls: tuple[TracedCall, ...] = ()
    not_shown: int = 0
    problem: str = ""


class TransactionPage(View, frozen=True):
    """``/transactions/{hash}``: what did this transaction do, and can it still change?"""

    head: Head
    answer: Sentence
    hash: str
    tone: Tone
    height: int | None
    at: int | None
    sender: Party
    recipient: Party | None
    created: Party | None
    call: str
    arguments: tuple[Argument, ...]
    input: str
    value: Quantity
    fee: Quantity | None
    gas_limit: int
    gas_used: int | None
    nonce: int
    kind: int
    trace: Trace | None
    logs: tuple[DecodedLog, ...]
    not_shown: int


class ProblemPage(View, frozen=True):
    """An error, said whole: what happened, what did not, what to do next."""

    status: int
    title: Sentence
    happened: Sentence
    unchanged: Sentence
    next_step: Sentence
