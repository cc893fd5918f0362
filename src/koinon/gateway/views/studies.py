"""What the pages about studies say."""

from koinon.gateway.views.parts import Event, Flow, Head, Measure, Party, Quantity, Sentence, Tone, View


class StudyRow(View, frozen=True):
    """One line of the list of studies."""

    number: int
    phase: str
    tone: Tone
    publisher: Party
    owners: int
    attempts: int
    proposed_at: int


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
