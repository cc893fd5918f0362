"""The trust vector and its evidence: one encoding, checked whole, graded by the written rule."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koinon.kernel.codec import encode
from koinon.kernel.errors import Forged, InvalidInput, MalformedMessage
from koinon.trust.evidence import (
    EvaluationSettings,
    Evidence,
    Finding,
    check_settings,
    decode_evidence,
    encode_evidence,
    evidence_hash,
    finding_hash,
    to_json,
)
from koinon.trust.recompute import check_linked
from koinon.trust.vector import (
    GRADE_BOUNDS,
    KINDS,
    LARGEST_VALUE,
    UNGRADED,
    Criterion,
    TrustVector,
    combine,
    criterion_id,
    decode_vector,
    encode_vector,
    grade,
    grade_criterion,
    grade_families,
    millionths,
    vector_hash,
)

replace = msgspec.structs.replace


def criterion(name: str, value: int, low: int | None = None, high: int | None = None) -> Criterion:
    return Criterion(name, value, value if low is None else low, value if high is None else high, bytes(32))


def vector(*criteria: Criterion) -> TrustVector:
    return TrustVector(bytes(32), bytes(32), criteria)


GOOD = vector(
    criterion("auc", 990_000, 970_000, 999_000),
    criterion("recall", 950_000, 910_000, 980_000),
    criterion("log_loss", 100_000, 80_000, 130_000),
    criterion("robustness_suite", 900_000, 820_000, 950_000),
    criterion("load_p99", 3_000_000),
    criterion("fairness_recall_gap", 50_000, 0, 150_000),
)


def test_a_vector_comes_back_and_every_field_is_in_its_hash() -> None:
    assert decode_vector(encode_vector(GOOD)) == GOOD
    first = GOOD.criteria[0]
    others = [
        replace(GOOD, weights_hash=b"\x01" * 32),
        replace(GOOD, evidence_hash=b"\x01" * 32),
        replace(GOOD, criteria=GOOD.criteria[:-1]),
        replace(GOOD, criteria=(replace(first, value=first.value + 1), *GOOD.criteria[1:])),
        replace(GOOD, criteria=(replace(first, high=first.high + 1), *GOOD.criteria[1:])),
        replace(GOOD, criteria=(replace(first, evidence=b"\x01" * 32), *GOOD.criteria[1:])),
    ]
    hashes = {vector_hash(other) for other in others}
    assert len(hashes) == len(others)
    assert vector_hash(GOOD) not in hashes


def test_the_encoding_of_a_vector_is_fixed_for_ever() -> None:
    small = vector(criterion("auc", 990_000, 970_000, 999_000))
    assert vector_hash(small).hex() == "23ed62ab0b0b0305067499bbd00ea5b8c2e16cecdc53003a1ab13c8892319985"


BAD_VECTORS = {
    "empty": vector(),
    "unknown": vector(criterion("charm", 1)),
    "twice": vector(criterion("auc", 1), criterion("auc", 1)),
    "out of order": vector(criterion("recall", 1), criterion("auc", 1)),
    "below its interval": vector(criterion("auc", 5, 6, 7)),
    "above its interval": vector(criterion("auc", 8, 6, 7)),
    "too large": vector(criterion("auc", 2**63)),
    "evidence": replace(GOOD, evidence_hash=b""),
    "weights": replace(GOOD, weights_hash=bytes(31)),
    "criterion evidence": vector(Criterion("auc", 1, 1, 1, b"")),
    "suite": replace(GOOD, suite=2),
}


@pytest.mark.parametrize("name", BAD_VECTORS)
def test_vectors_that_contradict_themselves_are_neither_written_nor_read(name: str) -> None:
    with pytest.raises(InvalidInput):
        encode_vector(BAD_VECTORS[name])
    with pytest.raises(InvalidInput):
        decode_vector(encode(BAD_VECTORS[name]))


def test_bytes_that_are_no_vector_are_refused() -> None:
    for data in (b"", b"\x90", encode_vector(GOOD) + b"\x00", encode_vector(GOOD)[:-1], bytes(70_000)):
        with pytest.raises(MalformedMessage):
            decode_vector(data)


def test_every_kind_fits_the_chain_and_has_a_meaning() -> None:
    for name, kind in KINDS.items():
        assert len(criterion_id(name)) == 32
        assert criterion_id(name).rstrip(b"\0").decode() == name
        assert kind.name == name
        assert kind.meaning
    assert len({criterion_id(name) for name in KINDS}) == len(KINDS)
    assert set(GRADE_BOUNDS) <= set(KINDS)


def test_bounds_of_grades_get_worse_from_a_to_c() -> None:
    for name, bounds in GRADE_BOUNDS.items():
        assert list(bounds) == sorted(bounds, reverse=KINDS[name].higher_is_better)


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        (criterion("auc", 990_000, 950_000, 999_000), "A"),
        (criterion("auc", 990_000, 949_999, 999_000), "B"),
        (criterion("auc", 800_000, 700_000, 999_000), "D"),
        (criterion("log_loss", 100_000, 0, 250_000), "A"),
        (criterion("log_loss", 100_000, 0, 250_001), "B"),
        (criterion("log_loss", 100_000, 0, 5_000_000), "D"),
        (criterion("load_rate", 1), None),
    ],
)
def test_a_criterion_is_graded_by_the_worse_end_of_its_interval(measured: Criterion, expected: str | None) -> None:
    assert grade_criterion(measured) == expected


def test_the_worst_family_makes_the_grade_and_gates_must_be_there() -> None:
    assert grade_families(GOOD) == {"performance": "A", "robustness": "A", "load": "A", "fairness": "A"}
    assert grade(GOOD) == "A"
    worse = [c if c.name != "fairness_recall_gap" else criterion(c.name, 400_000) for c in GOOD.criteria]
    assert grade(vector(*worse)) == "C"
    without = [c for c in GOOD.criteria if c.name != "robustness_suite"]
    assert grade(vector(*without)) == UNGRADED


@given(st.lists(st.integers(-(10**9), 10**9), min_size=3, max_size=9), st.integers(-(2**62), 2**62))
def test_one_liar_cannot_move_a_combined_value_past_the_honest_ones(honest: list[int], lie: int) -> None:
    combined = combine(vector(criterion("auc", value)) for value in (*honest, lie))
    assert min(honest) <= combined[0].value <= max(honest)


def test_the_median_of_an_even_number_is_the_contracts() -> None:
    assert combine([vector(criterion("auc", value)) for value in (-3, 0)])[0].value == -2
    assert combine([vector(criterion("auc", value)) for value in (1, 9, 4, 2)])[0].value == 3
    assert combine([vector(criterion("auc", value)) for value in (7, 1, 4)])[0].value == 4


def test_a_criterion_without_a_majority_is_not_combined() -> None:
    with_extra = vector(criterion("auc", 5), criterion("membership_advantage", 7))
    assert [c.name for c in combine([with_extra, vector(criterion("auc", 5)), vector(criterion("auc", 6))])] == ["auc"]
    for wrong in ([], [GOOD, replace(GOOD, weights_hash=b"\x01" * 32)]):
        with pytest.raises(InvalidInput):
            combine(wrong)


def test_numbers_become_millionths() -> None:
    assert millionths(0.987) == 987_000
    assert millionths(-0.02) == -20_000
    assert millionths(float("inf")) == LARGEST_VALUE


BAD_SETTINGS = {
    "resamples": 99,
    "epsilon_ppm": 0,
    "attack_rows": 9,
    "square_queries": 1,
    "hop_skip_jump_queries": 99,
    "noise_ppm": -1,
    "missing_ppm": 1_000_001,
    "extraction_queries": 0,
    "load_rates": (200, 100),
    "load_calls": 99,
    "objective_microseconds": 0,
    "deadline_milliseconds": 0,
}


@pytest.mark.parametrize("name", BAD_SETTINGS)
def test_settings_that_cannot_be_followed_are_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidInput, match=name):
        check_settings(replace(EvaluationSettings("age"), **{name: BAD_SETTINGS[name]}))


FINDING = Finding("auc", "bootstrap", 10, 990_000, 970_000, 999_000, (("curve", (1, 2)),))
EVIDENCE = Evidence(
    bytes(32),
    bytes(32),
    bytes(32),
    10,
    bytes(32),
    EvaluationSettings("age"),
    (FINDING,),
    (("recall", "no rows"),),
    (),
    "x",
)


def linked() -> TrustVector:
    measured = Criterion("auc", 990_000, 970_000, 999_000, bytes(finding_hash(FINDING)))
    return TrustVector(bytes(32), evidence_hash(EVIDENCE), (measured,))


def test_evidence_comes_back_and_reads_as_json() -> None:
    assert decode_evidence(encode_evidence(EVIDENCE)) == EVIDENCE
    shown = json.loads(to_json(EVIDENCE))
    assert shown["findings"][0]["criterion"] == "auc"
    assert shown["seed"] == "0x" + "00" * 32
    with pytest.raises(InvalidInput, match="version 2"):
        decode_evidence(encode(replace(EVIDENCE, version=2)))
    with pytest.raises(InvalidInput, match="resamples"):
        decode_evidence(encode(replace(EVIDENCE, settings=EvaluationSettings("age", resamples=1))))


def test_a_vector_must_be_the_one_its_evidence_shows() -> None:
    check_linked(linked(), EVIDENCE)
    first = linked().criteria[0]
    for forged, evidence in (
        (replace(linked(), weights_hash=b"\x01" * 32), EVIDENCE),
        (replace(linked(), evidence_hash=b"\x01" * 32), EVIDENCE),
        (replace(linked(), criteria=(replace(first, value=991_000),)), EVIDENCE),
        (replace(linked(), criteria=(replace(first, evidence=b"\x01" * 32),)), EVIDENCE),
        (linked(), replace(EVIDENCE, seed=b"\x01" * 32)),
        (linked(), replace(EVIDENCE, findings=(replace(FINDING, queries=11),))),
    ):
        with pytest.raises(Forged):
            check_linked(forged, evidence)
