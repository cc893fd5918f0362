"""The journal keeps what it should, in bounds, whatever the chain does."""

from hypothesis import given
from hypothesis import strategies as st

from koinon.gateway.journal import Entry, Journal, about, cut_back, extend, keys


def entry(height: int, index: int, study: int) -> Entry:
    values = {"studyId": study, "party": f"0x{study:040x}", "nonce": "0x"}
    return Entry("Studies", "Revealed", values, 1_000 + height, height, f"0x{height:064x}", index)


blocks = st.lists(st.lists(st.integers(1, 4), max_size=4), min_size=1, max_size=30)


def filled(content: list[list[int]], capacity: int = 10_000) -> Journal:
    journal = Journal(capacity=capacity)
    for height, studies in enumerate(content):
        extend(journal, [entry(height, place, one) for place, one in enumerate(studies)], height, f"hash {height}")
    return journal


def facts(journal: Journal) -> object:
    return journal.height, journal.entries, dict(journal.subjects), journal.last_acts, journal.checkpoints


@given(blocks, st.integers(-1, 30))
def test_cutting_back_is_as_if_the_rest_had_never_been_read(content: list[list[int]], height: int) -> None:
    journal = filled(content)
    cut_back(journal, height)
    assert facts(journal) == facts(filled(content[: height + 1]))


@given(blocks, st.integers(8, 40))
def test_the_newest_entries_are_kept_within_the_capacity(content: list[list[int]], capacity: int) -> None:
    journal = filled(content, capacity)
    whole = filled(content)
    assert len(journal.entries) <= capacity
    assert journal.entries == whole.entries[len(whole.entries) - len(journal.entries) :]
    dropped = whole.entries[: len(whole.entries) - len(journal.entries)]
    assert journal.forgotten_to == (dropped[-1].height if dropped else -1)
    for study in range(1, 5):
        kept = tuple(one for one in journal.entries if one.values["studyId"] == study)
        assert about(journal, "study", study) == kept


def test_an_unknown_subject_is_empty_and_leaves_no_trace() -> None:
    journal = filled([[1]])
    assert about(journal, "study", 99) == ()
    assert keys(journal, "study") == (1,)


def test_a_loss_of_stake_is_filed_under_what_it_was_for() -> None:
    journal = Journal()
    slashed = Entry(
        "Providers", "Slashed", {"account": "0xa", "by": "Evaluations", "amount": 5, "subject": 1}, 0, 1, "t", 0
    )
    credit = Entry(
        "Providers", "Credited", {"account": "0xb", "amount": 5, "reason": "slashed stake", "subject": 1}, 0, 1, "t", 1
    )
    extend(journal, [slashed, credit], 1, "hash")
    assert about(journal, "evaluation", 1) == (slashed, credit)
    assert about(journal, "study", 1) == ()
