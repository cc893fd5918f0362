"""What the pages about receipts and settlement say."""

from koinon.gateway.views.parts import Event, Flow, Head, Measure, Party, Quantity, Sentence, Tone, View


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
