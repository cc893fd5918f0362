"""A ledger that is never overspent, whose entries an auditor can check, and what it refuses."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koinon.crypto.hash import keccak256
from koinon.kernel.errors import Forged, Refused
from koinon.privacy.differential import budget
from koinon.privacy.differential.budget import Budget, Entry

ALLOWED = Budget(2.0, 1e-6)


def salt(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_the_last_answer_that_fits_is_paid_and_the_next_refused_with_the_figures() -> None:
    entries: tuple[Entry, ...] = ()
    for number in range(4):
        entries = budget.spend(entries, budget.pure_entry(number + 1, 0, 0.499, salt(number)), ALLOWED)
    with pytest.raises(Refused, match=r"ε = 1\.99\d* of 2 is spent at δ = 1e-06, and .* would be 2\.0"):
        budget.spend(entries, budget.pure_entry(9, 0, 0.05, salt(9)), ALLOWED)
    assert budget.spent(entries, 1e-6) <= 2.0


def test_an_answer_that_never_left_is_paid_back_once() -> None:
    first = budget.spend((), budget.pure_entry(1, 0, 1.9, salt(1)), ALLOWED)
    back = budget.pay_back(first, 1, 0, salt(2))
    assert budget.spent(back, 1e-6) == 0.0
    assert budget.pay_back(back, 1, 0, salt(3)) == back
    assert budget.find(back, 1, 0) is None
    assert budget.spend(back, budget.pure_entry(2, 0, 1.9, salt(4)), ALLOWED)[:-1] == back


def test_exact_answers_are_counted_apart() -> None:
    entries = budget.spend((), budget.exact_entry(1, 0, salt(1)), ALLOWED)
    assert (budget.spent(entries, 1e-6), budget.exact_answers(entries)) == (0.0, 1)


@pytest.mark.parametrize(
    "entries",
    [
        [Entry(1, 0, "unused", 0, 1, salt(1))],
        [budget.pure_entry(1, 0, 0.1, salt(1)), Entry(2, 0, "unused", 0, 1, salt(2))],
        [Entry(1, 0, "magic", 5, 1, salt(1))],
        [Entry(1, 0, "pure", 0, 1, salt(1))],
        [Entry(1, 0, "gaussian", 1_000_000, 0, salt(1))],
    ],
)
def test_a_ledger_that_no_honest_node_wrote_is_refused(entries: list[Entry]) -> None:
    with pytest.raises(Forged, match="of the privacy ledger"):
        budget.spent(entries, 1e-6)


def test_an_auditor_finds_what_is_missing_added_or_changed() -> None:
    entries = [budget.pure_entry(number, 0, 0.1, salt(number)) for number in range(1, 5)]
    head = budget.head([budget.commitment(entry) for entry in entries])
    budget.check_opened(entries, 4, head)
    cheaper = [budget.pure_entry(1, 0, 0.01, salt(1)), *entries[1:]]
    for opened in (entries[:-1], [*entries, entries[0]], entries[::-1], cheaper):
        with pytest.raises(Forged, match="missing, added or changed"):
            budget.check_opened(opened, 4, head)


def test_the_chain_is_what_the_contract_computes() -> None:
    first, second = b"a" * 32, b"b" * 32
    assert budget.head([first, second]) == keccak256(keccak256(bytes(32) + first) + second)


def test_entries_and_their_printed_form_do_not_show_the_salt() -> None:
    entry = budget.pure_entry(1, 0, 0.1, b"s" * 32)
    assert "ssss" not in repr(entry)
    assert budget.commitment(entry) != budget.commitment(budget.pure_entry(1, 0, 0.1, b"t" * 32))


@dataclass
class Node:
    """What a node keeps on disk, and which answers have left it."""

    disk: tuple[Entry, ...] = ()
    left: list[float] = field(default_factory=list)


@given(
    st.lists(
        st.tuples(st.sampled_from(["study", "again", "return", "crash"]), st.integers(1, 6), st.floats(0.05, 1.5)),
        max_size=25,
    )
)
@settings(max_examples=25, deadline=None)
def test_whatever_happens_when_the_answers_that_left_never_cost_more_than_the_budget(
    events: list[tuple[str, int, float]],
) -> None:
    """Studies are paid before their answer leaves; a crash comes between any two of the three steps."""
    node, dealt = Node(), set[tuple[int, int]]()
    for step, (kind, study, epsilon) in enumerate(events):
        attempt = 0 if kind == "study" else step
        if kind == "return":
            if (study, 0) not in dealt:
                node.disk = budget.pay_back(node.disk, study, 0, salt(step))
            continue
        if budget.find(node.disk, study, attempt) is None:
            try:
                after = budget.spend(node.disk, budget.pure_entry(study, attempt, epsilon, salt(step)), ALLOWED)
            except Refused:
                continue
            if kind == "crash":
                continue  # before the write: nothing was paid and nothing leaves
            node.disk = after
        if (study, attempt) not in dealt:
            place = budget.find(node.disk, study, attempt)
            assert place is not None
            dealt.add((study, attempt))
            node.left.append(node.disk[place].millionths / 1e6)
    from koinon.privacy.differential.accountant import Pure, spent_epsilon

    assert spent_epsilon([Pure(epsilon) for epsilon in node.left], ALLOWED.delta) <= ALLOWED.epsilon
