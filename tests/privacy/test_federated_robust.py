"""Lying owners against masks and against robust aggregates: what steers the mean, what does not, on every engine."""

from collections.abc import Callable, Mapping

import msgspec
import numpy as np
import pytest
from test_federated_training import accuracy, adding, cancer, evenly, plan

from koinon.kernel.errors import InvalidInput
from koinon.privacy.backend import Backend
from koinon.privacy.clear import ClearBackend
from koinon.privacy.estimate import estimate
from koinon.privacy.federated import training
from koinon.privacy.federated.encoding import as_words
from koinon.privacy.federated.models import perceptron
from koinon.privacy.federated.robust import Parameters, Rule, combine, program
from koinon.privacy.federated.training import Rows
from koinon.privacy.rep4.adversary import SeededRng
from koinon.privacy.rep4.simulation import SimulatedRep4

OWNERS, LIARS = 7, 2
PLAN = plan(rounds=5, threshold=4, most_rows=0, clip=4.0)
MODEL = perceptron(30, (), 2, PLAN.penalty)
ENGINES: dict[str, Backend] = {"clear": ClearBackend(), "rep4": SimulatedRep4()}


def expected(updates: np.ndarray, rule: Rule, clip: float, trim: int) -> np.ndarray:
    match rule:
        case Rule.CLIPPED_MEAN:
            lengths = np.linalg.norm(updates, axis=1, keepdims=True)
            return np.asarray((updates * np.minimum(1.0, clip / lengths)).mean(0))
        case Rule.TRIMMED_MEAN:
            return np.asarray(np.sort(updates, 0)[trim : len(updates) - trim].mean(0))
        case Rule.MEDIAN:
            return np.median(updates, 0)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("rule", Rule)
@pytest.mark.parametrize("owners", [4, 5])
def test_every_rule_is_computed_as_it_is_defined(rule: Rule, owners: int, engine: str) -> None:
    updates = np.random.default_rng(owners).uniform(-2.0, 2.0, (owners, 6))
    updates[0] *= 0.01
    found = combine(list(updates), rule, 2.0, ENGINES[engine], SeededRng(b"robust"))
    assert found == pytest.approx(expected(updates, rule, 2.0, 1), abs=2e-4)


Attack = Callable[[np.ndarray], np.ndarray]


def as_far_as_shares_reach(update: np.ndarray) -> np.ndarray:
    """Every number at the end of its range, against the direction of the honest."""
    return np.where(update > 0, -PLAN.clip, PLAN.clip)


def backwards(length: float) -> Attack:
    return lambda update: -update * length / float(np.linalg.norm(update))


def robustly(rule: Rule, attack: Attack, owners: list[Rows], agreed: training.TrainingPlan = PLAN) -> np.ndarray:
    """The model of a training in which the first owners attack; aggregates on the clear engine's arithmetic."""
    state = training.start(agreed, MODEL)
    while not state.finished:
        updates = [
            training.local_update(agreed, MODEL, state.joint.parameters, rows, owner, state.round)
            for owner, rows in enumerate(owners)
        ]
        updates[:LIARS] = [attack(update) for update in updates[:LIARS]]
        mean = combine(updates, rule, agreed.clip, ClearBackend(), SeededRng(b"x"), LIARS)
        state = training.advance(state, agreed, tuple(range(OWNERS)), mean)
    return state.joint.parameters


def masked(attack: Attack, owners: list[Rows]) -> np.ndarray:
    """The same with masks, under which the attack goes as far as honest words could reach."""

    def lying(terms: training.RoundTerms, words: Mapping[int, np.ndarray]) -> tuple[tuple[int, ...], np.ndarray]:
        changed = dict(words)
        for liar in range(LIARS):
            whole = words[liar].view("<i8").copy()
            update = whole[: MODEL.size] / 2.0**PLAN.fraction_bits
            far = np.clip(attack(update) * 2.0**PLAN.fraction_bits, -terms.limit, terms.limit)
            changed[liar] = as_words(np.concatenate([far.astype(np.int64), whole[MODEL.size :]]), 64)
        return adding(terms, changed)

    return training.train(PLAN, owners, SeededRng(b"x"), lying).joint.parameters


def test_two_liars_of_seven_spoil_a_masked_mean_and_no_robust_one() -> None:
    rows, held = cancer()
    owners = evenly(rows, OWNERS)
    honest = accuracy(MODEL, training.train(PLAN, owners, SeededRng(b"x"), adding).joint.parameters, held)
    assert honest > 0.94
    assert accuracy(MODEL, masked(as_far_as_shares_reach, owners), held) < 0.6
    for rule in (Rule.TRIMMED_MEAN, Rule.MEDIAN):
        assert accuracy(MODEL, robustly(rule, as_far_as_shares_reach, owners), held) > honest - 0.04


def test_a_clipped_mean_outlasts_liars_if_it_is_clipped_as_short_as_honest_updates_are() -> None:
    rows, held = cancer()
    owners = evenly(rows, OWNERS)
    tight = msgspec.structs.replace(PLAN, clip=0.4)
    assert accuracy(MODEL, robustly(Rule.CLIPPED_MEAN, backwards(0.4), owners, tight), held) > 0.92
    assert accuracy(MODEL, robustly(Rule.CLIPPED_MEAN, backwards(4.0), owners), held) < 0.6


def test_flipped_labels_of_two_owners_do_not_spoil_a_median() -> None:
    rows, held = cancer()
    owners = evenly(rows, OWNERS)
    owners[:LIARS] = [Rows(part.features, 1 - part.targets) for part in owners[:LIARS]]
    assert accuracy(MODEL, robustly(Rule.MEDIAN, lambda update: update, owners), held) > 0.92


def test_a_clipped_mean_moves_by_no_more_than_its_bound() -> None:
    draw = np.random.default_rng(3)
    updates = [training.clip_norm(draw.normal(size=20), 1.0) for _ in range(5)]
    calm = combine(updates, Rule.CLIPPED_MEAN, 1.0, ClearBackend(), SeededRng(b"x"))
    for attack in (np.full(20, 1.0), np.full(20, -1.0), np.zeros(20)):
        moved = combine([attack, *updates[1:]], Rule.CLIPPED_MEAN, 1.0, ClearBackend(), SeededRng(b"x"))
        assert float(np.linalg.norm(moved - calm)) <= 2 / 5 + 1e-3


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"owners": 1}, "2 to 64 owners"),
        ({"owners": 65}, "2 to 64 owners"),
        ({"length": 0}, "1 to"),
        ({"clip": 0.0}, "clipped"),
        ({"clip": np.nan}, "clipped"),
        ({"rule": "mean"}, "no rule 'mean'"),
        ({"trim": 0}, "leaves out 1 to 2"),
        ({"trim": 3}, "leaves out 1 to 2"),
    ],
)
def test_parameters_that_cannot_be_computed_are_refused(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        program(msgspec.structs.replace(Parameters(5, 10, 1.0), **changes))


def test_updates_outside_the_range_are_not_shared() -> None:
    with pytest.raises(InvalidInput, match="outside its declared range"):
        combine([np.ones(3), np.full(3, 1.1)], Rule.MEDIAN, 1.0, ClearBackend(), SeededRng(b"x"))


@pytest.mark.parametrize("rule", Rule)
def test_no_rule_can_overflow_for_64_owners_and_long_updates(rule: Rule) -> None:
    assert estimate(program(Parameters(64, 1 << 14, 2.0**16, rule.value))).rounds > 10
