"""What the first page says: who takes part, and are they alive."""

from typing import Literal

from koinon.gateway.views.chain import BlockRow
from koinon.gateway.views.parts import Head, Quantity, Sentence, View
from koinon.gateway.views.studies import StudyRow


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
