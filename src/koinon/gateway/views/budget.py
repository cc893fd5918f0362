"""What the pages about privacy budgets say. Amounts of ε are in millionths."""

from koinon.gateway.views.parts import Event, Head, Party, Quantity, Sentence, Tone, View


class DatasetRow(View, frozen=True):
    """One data set on the chain. ``spent`` and ``allowed`` are known where its owner opened its ledger to this site."""

    asset: int
    owner: Party
    dataset_hash: str
    answers: Quantity
    spent: Quantity | None = None
    allowed: Quantity | None = None


class BudgetsPage(View, frozen=True):
    """``/budgets``: how much may data sets still tell?"""

    head: Head
    answer: Sentence
    datasets: tuple[DatasetRow, ...]


class AnswerRow(View, frozen=True):
    """One entry of an opened ledger.

    Attributes:
        study: its number; None for an answer of the owner's own.
        what: how it was protected.
        alone: ε of this answer by itself; None where no ε describes it.
        together: ε of everything up to here; None where it was not computed.
        at: when its commitment came to the chain, with the transaction; None while it is not there.
    """

    number: int
    study: int | None
    attempt: int
    what: Sentence
    tone: Tone
    alone: Quantity | None = None
    together: Quantity | None = None
    at: int | None = None
    transaction: str | None = None


class Part(View, frozen=True):
    """By how much one study, or the owner's own answers, brought the whole up."""

    label: Sentence
    grown: Quantity


class BudgetPage(View, frozen=True):
    """``/budgets/{asset}``: what did this data set tell, and how much is left?

    Attributes:
        opened: whether the owner opened the ledger to this site; without, only the chain's commitments are known.
        holds: whether the opened entries are those that the chain holds commitments of.
    """

    head: Head
    asset: int
    owner: Party
    dataset_hash: str
    answer: Sentence
    opened: bool
    holds: bool
    allowed: Quantity | None
    spent: Quantity | None
    left: Quantity | None
    delta: str
    exact: int
    answers: tuple[AnswerRow, ...]
    parts: tuple[Part, ...]
    events: tuple[Event, ...]
