"""What data sets told, and how much they still may: commitments from the chain, entries from whoever opened them.

The chain holds nothing but salted commitments, so that it tells nobody how a data set was used. An owner, or an auditor
whom the owner gave its opened entries, shows them on a site of its own; they are compared with the chain here, and what
they cost together is computed again.
"""

import asyncio
from collections.abc import Mapping, Sequence
from functools import cache
from math import isfinite

from koinon.gateway.facts import ROWS_OF_A_PAGE, Absent, Facts, named
from koinon.gateway.journal import Entry, about, keys, last_of
from koinon.gateway.origins import of_view, sentence
from koinon.gateway.views.budget import AnswerRow, BudgetPage, BudgetsPage, DatasetRow, Part
from koinon.gateway.views.parts import Event, Quantity, Sentence, Tone
from koinon.gateway.writing import shorten
from koinon.kernel.errors import Forged
from koinon.privacy.differential import budget
from koinon.privacy.differential.budget import OWN_ANSWER
from koinon.privacy.differential.opened import OpenedLedger

Ledgers = Mapping[str, OpenedLedger]
"""By the ``0x`` hash of the data set."""
DATASET_KIND = 0
MOST_COMPUTED = 60
"""Entries whose sums are shown one by one; each is a composition of its own."""
LARGEST = 10**12


@cache
def spent_after(entries: tuple[budget.Entry, ...], delta: float) -> float:
    """ε of all these together; infinite where none is enough. Raises Forged for an entry that no ledger holds."""
    return budget.spent(entries, delta)


def millionths(epsilon: float) -> int:
    """ε as the pages count it, rounded up; what no budget covers is the largest number."""
    return min(LARGEST, -int(-epsilon * 1e6 // 1)) if isfinite(epsilon) else LARGEST


async def budgets_page(facts: Facts, ledgers: Ledgers) -> BudgetsPage:
    """``/budgets``."""
    rows = []
    for asset, minted in _datasets(facts)[-ROWS_OF_A_PAGE:]:
        ledger = ledgers.get(minted.values["contentHash"])
        epsilon = await asyncio.to_thread(_spent, ledger) if ledger else 0.0
        rows.append(
            DatasetRow(
                asset=asset,
                owner=facts.party(minted.values["publisher"]),
                dataset_hash=minted.values["contentHash"],
                answers=await _noted(facts, asset),
                spent=_epsilon(epsilon) if ledger else None,
                allowed=_epsilon(ledger.allowed.epsilon) if ledger else None,
            )
        )
    answer = sentence(
        "Data sets on this chain: {count}; opened to this site: {opened}. Of the others only the number of answers is"
        " public.",
        count=len(rows),
        opened=sum(row.spent is not None for row in rows),
    )
    return BudgetsPage(
        head=facts.head,
        answer=answer if rows else sentence("No data set stands on this chain yet."),
        datasets=tuple(reversed(rows)),
    )


async def budget_page(facts: Facts, ledgers: Ledgers, asset: int) -> BudgetPage:
    """``/budgets/{asset}``. Raises Absent where that is no data set."""
    minted = dict(_datasets(facts)).get(asset)
    if minted is None:
        raise Absent(f"There is no data set with the number {asset} on this chain.")
    notes = await facts.reader.view("Assets", "notesOf", asset, since=last_of(facts.journal, "notes", asset))
    ledger = ledgers.get(minted.values["contentHash"])
    noted = named(about(facts.journal, "notes", asset), "Noted")
    allowed, epsilon, holds = None, None, False
    rows: tuple[AnswerRow, ...] = ()
    parts: tuple[Part, ...] = ()
    if ledger is not None:
        # Compositions take seconds for a long ledger; other pages go on meanwhile.
        allowed, epsilon = ledger.allowed.epsilon, await asyncio.to_thread(_spent, ledger)
        holds = _holds(ledger, notes["count"], notes["head"])
        rows, parts = await asyncio.to_thread(_answers, ledger, noted)
    return BudgetPage(
        head=facts.head,
        asset=asset,
        owner=facts.party(minted.values["publisher"]),
        dataset_hash=minted.values["contentHash"],
        answer=_said(ledger, epsilon, notes["count"], holds=holds),
        opened=ledger is not None,
        holds=holds,
        allowed=None if allowed is None else _epsilon(allowed),
        spent=None if epsilon is None else _epsilon(epsilon),
        left=None if allowed is None or epsilon is None else _epsilon(max(0.0, allowed - epsilon)),
        delta=f"{ledger.allowed.delta:g}" if ledger else "",
        exact=budget.exact_answers(ledger.entries) if ledger else 0,
        answers=rows,
        parts=parts,
        events=tuple(_event(facts, entry) for entry in noted[-ROWS_OF_A_PAGE:]),
    )


def _said(ledger: OpenedLedger | None, epsilon: float | None, count: int, *, holds: bool) -> Sentence:
    if ledger is None or epsilon is None:
        return sentence(
            "The chain holds commitments to {count} answers. What they cost only the owner can show.", count=count
        )
    if not holds:
        return sentence(
            "The entries opened to this site are NOT those that the chain holds commitments of: one is missing, added"
            " or changed."
        )
    return sentence(
        "ε {spent} of {allowed} is spent at δ = {delta}. The chain holds commitments of {count} of the {all} entries,"
        " and they are the same.",
        spent=f"{epsilon:.4g}",
        allowed=f"{ledger.allowed.epsilon:g}",
        delta=f"{ledger.allowed.delta:g}",
        count=count,
        all=len(ledger.entries),
    )


def _datasets(facts: Facts) -> list[tuple[int, Entry]]:
    """Number and ``Minted`` event of every data set, in order."""
    found = []
    for asset in sorted(keys(facts.journal, "asset")):
        minted = named(about(facts.journal, "asset", asset), "Minted")
        if minted and minted[0].values["kind"] == DATASET_KIND:
            found.append((asset, minted[0]))
    return found


async def _noted(facts: Facts, asset: int) -> Quantity:
    notes = await facts.reader.view("Assets", "notesOf", asset, since=last_of(facts.journal, "notes", asset))
    data = facts.reader.call_data("Assets", "notesOf", asset)
    origin = of_view("Assets", "notesOf", facts.address("Assets"), data, facts.reader.public_rpc)
    return Quantity(value=notes["count"], unit="count", origin=origin)


def _epsilon(value: float) -> Quantity:
    return Quantity(value=millionths(value), unit="ppm")


def _spent(ledger: OpenedLedger) -> float:
    try:
        return spent_after(ledger.entries, ledger.allowed.delta)
    except Forged:
        return float("inf")  # the page says beside it that the entries are not the chain's


def _holds(ledger: OpenedLedger, count: int, on_chain: str) -> bool:
    """Whether the chain's commitments are those of the first entries; the newest may not be there yet."""
    commitments = [budget.commitment(entry) for entry in ledger.entries]
    if count > len(commitments) or budget.head(commitments[:count]) != bytes.fromhex(on_chain[2:]):
        return False
    try:
        spent_after(ledger.entries, ledger.allowed.delta)
    except Forged:
        return False
    return True


def _answers(ledger: OpenedLedger, noted: Sequence[Entry]) -> tuple[tuple[AnswerRow, ...], tuple[Part, ...]]:
    delta, entries = ledger.allowed.delta, ledger.entries
    written = {entry.values["sequence"]: entry for entry in noted}
    first = max(0, len(entries) - MOST_COMPUTED)
    grown: dict[int, float] = {}
    rows = []
    before = _spent(OpenedLedger(ledger.allowed, entries[:first]))
    for number in range(first, len(entries)):
        entry, on_chain = entries[number], written.get(number)
        after = _spent(OpenedLedger(ledger.allowed, entries[: number + 1]))
        if isfinite(after):
            grown[entry.study] = grown.get(entry.study, 0.0) + after - before
            before = after
        what, tone = _what(entry)
        noisy = entry.mechanism in ("gaussian", "pure")
        rows.append(
            AnswerRow(
                number=number,
                study=entry.study if entry.study != OWN_ANSWER else None,
                attempt=entry.attempt,
                what=what,
                tone=tone,
                alone=_epsilon(_spent(OpenedLedger(ledger.allowed, (entry,)))) if noisy else None,
                together=_epsilon(after),
                at=on_chain.at if on_chain else None,
                transaction=on_chain.transaction if on_chain else None,
            )
        )
    if first:
        whole = spent_after(entries[:first], delta)
        grown = {-1: whole, **grown}
    parts = tuple(Part(label=_label(study), grown=_epsilon(max(0.0, each))) for study, each in grown.items())
    return tuple(reversed(rows)), parts


def _label(study: int) -> Sentence:
    if study == -1:
        return sentence("earlier answers")
    return sentence("own answers") if study == OWN_ANSWER else sentence("Study {number}", number=study)


def _what(entry: budget.Entry) -> tuple[Sentence, Tone]:
    match entry.mechanism:
        case "gaussian":
            multiplier = f"{entry.millionths / 1e6:.4g}"
            return sentence("normal noise, {multiplier} × {count}", multiplier=multiplier, count=entry.count), "pending"
        case "pure":
            return sentence("whole-number noise, ε = {epsilon}", epsilon=f"{entry.millionths / 1e6:g}"), "pending"
        case "exact":
            return sentence("exact: no ε describes it"), "failed"
        case "unused":
            return sentence("entry {number} paid back: nothing had left", number=entry.millionths), "final"
    return sentence("no entry that a ledger holds"), "failed"


def _event(facts: Facts, entry: Entry) -> Event:
    said = sentence(
        "commitment {number} of this data set: {hash}",
        number=entry.values["sequence"],
        hash=shorten(entry.values["commitment"]),
    )
    return facts.event(entry, said, None, "neutral")
