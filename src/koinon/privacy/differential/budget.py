"""A data set's privacy budget: every answer that ever left it, one entry each, and the refusal when nothing is left.

Entries are only ever added. An entry is on disk before the answer it pays for leaves; an answer that never left is
paid back by a later entry that names it. Each entry has a salted commitment, and the commitments form a hash chain
whose head stands on the blockchain beside the data set's asset: who is given the opened entries can recompute what was
spent, and none can be left out or changed later.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from koinon.crypto.commitment import SALT_BYTES, commit
from koinon.crypto.hash import keccak256
from koinon.kernel.codec import Record, encode
from koinon.kernel.errors import Forged, InvalidInput, Refused
from koinon.kernel.ids import ZERO_HASH, Hash32
from koinon.privacy.differential.accountant import LARGEST_EPSILON, Gaussian, Mechanism, Pure, spent_epsilon

ENTRY_DOMAIN: Final = "koinon/privacy-budget/entry/1"
MOST_ENTRIES: Final = 100_000
OWN_ANSWER: Final = 0
"""In place of a study's number: an answer that the owner itself published."""


class Entry(Record, frozen=True):
    """One answer.

    Attributes:
        study: the study's number on the chain, or OWN_ANSWER.
        attempt: of the study, from 0; every attempt draws fresh noise and costs again.
        mechanism: ``gaussian``, ``pure``, ``exact`` (no noise: outside the budget), or ``unused``.
        millionths: of the noise multiplier (gaussian) or of ε (pure); for ``unused``, the number of the entry whose
            answer never left.
        count: how often.
        salt: 32 secret bytes that hide the entry in its commitment.
    """

    study: int
    attempt: int
    mechanism: str
    millionths: int
    count: int
    salt: bytes

    def __repr__(self) -> str:
        return f"Entry(study={self.study}, attempt={self.attempt}, {self.mechanism})"


@dataclass(frozen=True, slots=True)
class Budget:
    """What an owner allows in all, over all studies and for ever: (ε, δ) of one row replaced by another."""

    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        if not (0.0 < self.epsilon <= LARGEST_EPSILON and 0.0 < self.delta < 1.0):
            raise InvalidInput(
                f"a privacy budget has ε above 0 and at most {LARGEST_EPSILON:g} and δ between 0 and 1;"
                f" got {self.epsilon:g}, {self.delta:g}"
            )


def gaussian_entry(study: int, attempt: int, multiplier: float, count: int, salt: bytes) -> Entry:
    """An answer with Gaussian noise. The multiplier is rounded down to millionths: the safe side."""
    return Entry(study, attempt, "gaussian", int(multiplier * 1e6), count, salt)


def pure_entry(study: int, attempt: int, epsilon: float, salt: bytes) -> Entry:
    """An ε-differentially private answer. ε is rounded up to millionths."""
    return Entry(study, attempt, "pure", -int(-epsilon * 1e6 // 1), 1, salt)


def exact_entry(study: int, attempt: int, salt: bytes) -> Entry:
    """An answer without noise, which no ε describes."""
    return Entry(study, attempt, "exact", 0, 1, salt)


def spent(entries: Sequence[Entry], delta: float) -> float:
    """ε of all noisy answers together for this δ; infinite where none is enough. Exact answers are not in it.

    Raises:
        Forged: an entry that no honest ledger holds.
    """
    return spent_epsilon(mechanisms(entries), delta)


def mechanisms(entries: Sequence[Entry]) -> tuple[Mechanism, ...]:
    """What was answered with noise, without what was paid back. Raises Forged where an entry is impossible."""
    unused = set()
    for place, entry in enumerate(entries):
        if entry.mechanism == "unused":
            returned = entries[entry.millionths] if 0 <= entry.millionths < place else None
            if returned is None or (returned.study, returned.attempt) != (entry.study, entry.attempt):
                raise Forged(f"entry {place} of the privacy ledger pays back an entry that is not its own")
            unused.add(entry.millionths)
    found: list[Mechanism] = []
    for place, entry in enumerate(entries):
        if place in unused or entry.mechanism in ("unused", "exact"):
            continue
        try:
            found.append(_mechanism(entry))
        except InvalidInput as problem:
            raise Forged(f"entry {place} of the privacy ledger is impossible: {problem}") from None
    return tuple(found)


def exact_answers(entries: Sequence[Entry]) -> int:
    """How many answers left without noise."""
    unused = {entry.millionths for entry in entries if entry.mechanism == "unused"}
    return sum(entry.mechanism == "exact" and place not in unused for place, entry in enumerate(entries))


def find(entries: Sequence[Entry], study: int, attempt: int) -> int | None:
    """Number of the entry that pays for an attempt of a study and was not paid back."""
    unused = {entry.millionths for entry in entries if entry.mechanism == "unused"}
    for place, entry in enumerate(entries):
        if (entry.study, entry.attempt) == (study, attempt) and entry.mechanism != "unused" and place not in unused:
            return place
    return None


def spend(entries: Sequence[Entry], entry: Entry, budget: Budget) -> tuple[Entry, ...]:
    """The ledger with one more answer paid for.

    Raises:
        Refused: the budget does not cover it; the sentence says how much there is.
    """
    if len(entry.salt) != SALT_BYTES:
        raise InvalidInput(f"an entry of the privacy ledger has a salt of {SALT_BYTES} bytes")
    if len(entries) >= MOST_ENTRIES:
        raise Refused(f"the privacy ledger of this data set is full ({MOST_ENTRIES} entries)")
    after = (*entries, entry)
    if entry.mechanism == "exact":
        return after
    needed = spent(after, budget.delta)
    if needed > budget.epsilon:
        before = spent(entries, budget.delta)
        raise Refused(
            f"the privacy budget of this data set does not cover it: ε = {before:.4g} of {budget.epsilon:g} is spent at"
            f" δ = {budget.delta:g}, and with this answer it would be {needed:.4g}"
        )
    return after


def pay_back(entries: Sequence[Entry], study: int, attempt: int, salt: bytes) -> tuple[Entry, ...]:
    """The ledger after an answer that was paid for but for which nothing ever left; unchanged where there is none."""
    place = find(entries, study, attempt)
    if place is None:
        return tuple(entries)
    return (*entries, Entry(study, attempt, "unused", place, 1, salt))


def commitment(entry: Entry) -> Hash32:
    """What stands for the entry in public."""
    return commit(ENTRY_DOMAIN, encode([*_public(entry)]), entry.salt)


def head(commitments: Sequence[bytes]) -> Hash32:
    """Head of the hash chain over commitments, as ``Assets.note`` computes it: keccak256(head ‖ commitment)."""
    found = ZERO_HASH
    for each in commitments:
        found = keccak256(found + each)
    return found


def check_opened(entries: Sequence[Entry], count: int, on_chain: bytes) -> None:
    """An auditor's check: these are all the entries, in order, whose head the chain holds.

    Raises:
        Forged: one is missing, added or changed.
    """
    if len(entries) != count or head([commitment(entry) for entry in entries]) != on_chain:
        raise Forged(
            f"the {len(entries)} opened entries are not the {count} that the chain holds commitments of;"
            " one is missing, added or changed"
        )


def _public(entry: Entry) -> tuple[object, ...]:
    return entry.study, entry.attempt, entry.mechanism, entry.millionths, entry.count


def _mechanism(entry: Entry) -> Mechanism:
    if entry.mechanism == "gaussian":
        return Gaussian(entry.millionths / 1e6, entry.count)
    if entry.mechanism == "pure":
        return Pure(entry.millionths / 1e6, entry.count)
    raise InvalidInput(f"no mechanism is called {entry.mechanism[:40]!r}")
