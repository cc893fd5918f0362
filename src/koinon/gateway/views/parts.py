"""What all pages are made of: values with unit and origin, parties, sentences, events, flows; and an error's page."""

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


class ProblemPage(View, frozen=True):
    """An error, said whole: what happened, what did not, what to do next."""

    status: int
    title: Sentence
    happened: Sentence
    unchanged: Sentence
    next_step: Sentence
