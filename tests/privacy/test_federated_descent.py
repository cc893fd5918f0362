"""DP-SGD where rows lie: rows are clipped as the lemma says, every owner's noise is enough alone, all are charged."""

from math import sqrt
from typing import Any

import msgspec
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from test_privacy_descent import gradients, rows_of, weights_of

from koinon.kernel.codec import encode
from koinon.kernel.errors import InvalidInput
from koinon.privacy.backend import PlainInput
from koinon.privacy.differential.accountant import Gaussian, spent_epsilon
from koinon.privacy.differential.descent import Descent
from koinon.privacy.differential.logistic import STUDY_DELTA
from koinon.privacy.engines import engine_named
from koinon.privacy.federated import encoding, studies, training
from koinon.privacy.federated.local import LocalFederated
from koinon.privacy.programs import noisy_network, registry
from koinon.privacy.programs.offer import Layout, Parameters, settings_from
from koinon.privacy.rep4.adversary import SeededRng
from koinon.privacy.sums.descent import UNIT, NoisyDescent
from koinon.wire.committee import Column

LOGISTIC = Descent(4, 0, 10, 1, 0.7, 1.0)
NETWORK = Descent(4, 3, 10, 1, 0.7, 1.0)
ROWS = (400, 500, 600)


def given(epsilon: float = 4.0, features: int = 2, **settings: Any) -> Parameters:
    columns = (*(Column(f"x{number}", -1.0, 1.0) for number in range(features)), Column("ill", 0.0, 1.0))
    found = settings_from(noisy_network.OFFER, settings)
    return Parameters(Layout(ROWS, columns, "ill"), found, ("hidden", "output"), epsilon)


@pytest.mark.parametrize("found", [LOGISTIC, NETWORK], ids=["logistic", "network"])
def test_the_sums_are_those_of_clipped_gradients(found: Descent) -> None:
    rows, weights = rows_of(30, 4), weights_of(found)
    plain = gradients(rows, weights, found)
    norms = np.linalg.norm(plain, axis=1)
    assert (norms > found.clip).any()
    assert (norms < found.clip).any()
    wanted = (plain / np.maximum(norms, found.clip)[:, None]).sum(0)
    assert np.abs(NoisyDescent(found, "ill").add(weights, rows) - wanted).max() < 1e-9


@pytest.mark.parametrize("found", [LOGISTIC, NETWORK, Descent(30, 8, 1, 1, 0.2, 1.0)], ids=lambda each: str(each.size))
def test_no_row_in_anothers_place_moves_the_sums_further_than_the_lemma_says(found: Descent) -> None:
    """Also at weights that no honest leader sends."""
    program, rows = NoisyDescent(found, "ill"), rows_of(20, found.features)
    furthest = 0.0
    for seed in range(12):
        for scale in (0.2, 4.0, 1e6):
            weights = weights_of(found, seed) * scale
            other = rows.copy()
            other[seed] = -rows[seed]
            ends = [np.round(program.add(weights, each) / UNIT) * UNIT for each in (rows, other)]
            furthest = max(furthest, float(np.linalg.norm(ends[0] - ends[1])))
    assert 0.5 * program.sensitivity < furthest <= program.sensitivity


def test_every_owners_noise_is_enough_for_its_rows_alone() -> None:
    """The words of one owner, before masks, less its sums: normal, of the deviation that the ledger was told."""
    parameters = given(hidden=8)
    plan = studies.plan_of(noisy_network.NAME, parameters)
    model, state = training.model_of(plan), training.start(plan, training.model_of(plan))
    draw = np.random.default_rng(5)
    rows = training.Rows(np.sign(draw.normal(size=(400, 3))), np.zeros(400))
    length = training.length_of(plan, model) - training.METRICS
    sums = studies.table.sums_of(noisy_network.NAME, parameters).add(state.joint.parameters, rows.features)
    told = []
    for number in range(20):
        rng = SeededRng(number.to_bytes(2, "big"))
        words = training.contribution(plan, model, state.joint.parameters, rows, 0, 0, rng)
        found = encoding.decode_sum(words, plan.fraction_bits, training.limit_of(plan), 1) * plan.most_rows
        assert found[length] == 400.0
        told.append(found[:length] - sums)
    promised = studies.mechanism(noisy_network.NAME, parameters.settings, parameters.epsilon).multiplier
    # 660 samples: 2.8 per cent is one deviation.
    assert float(np.std(told)) == pytest.approx(promised * (2 + 1.01 * sqrt(length) * UNIT), rel=0.14)


@pytest.mark.parametrize("epsilon", [0.5, 4.0, 16.0])
def test_the_ledger_is_charged_one_answer_for_every_epoch(epsilon: float) -> None:
    settings = settings_from(noisy_network.OFFER, {"epochs": 25})
    charge = engine_named("federated").noise
    assert charge is not None
    mechanism = charge(noisy_network.NAME, settings, epsilon)
    assert mechanism.count == 25 == studies.plan_of(noisy_network.NAME, given(epsilon, epochs=25)).rounds
    assert 0.9 * epsilon < spent_epsilon([mechanism], STUDY_DELTA / 2) <= epsilon * 1.01
    promised = training.privacy_of(studies.plan_of(noisy_network.NAME, given(epsilon, epochs=25)))
    assert promised is not None
    assert promised[0] == spent_epsilon([Gaussian(mechanism.multiplier, 25)], STUDY_DELTA / 2)


def test_three_owners_learn_what_tells_two_groups_apart_through_their_noise() -> None:
    draw = np.random.default_rng(2)
    features = draw.uniform(-1.0, 1.0, (sum(ROWS) + 500, 2))
    target = (features[:, 0] + 0.5 * features[:, 1] + draw.normal(0, 0.2, len(features)) > 0).astype(float)
    rows = np.column_stack([features, target])
    parts, held = np.split(rows[: sum(ROWS)], np.cumsum(ROWS)[:-1]), rows[sum(ROWS) :]
    areas = {}
    for epsilon in (0.05, 8.0):
        parameters = given(epsilon, hidden=0)
        program = registry.load(noisy_network.NAME, encode(parameters))
        inputs = [PlainInput(parameters.layout.columns, part) for part in parts]
        outputs = LocalFederated().run(program, inputs, SeededRng(b"noise")).outputs
        assert {name: each.shape for name, each in outputs.items()} == {"hidden": (1, 1), "output": (3,)}
        areas[epsilon] = roc_auc_score(held[:, -1], noisy_network.decision(outputs, held[:, :-1]))
    assert areas[8.0] > 0.95
    assert areas[0.05] < areas[8.0]


REFUSED: dict[str, tuple[str, Parameters, str]] = {
    "no noise": ("federated", given(0.0), "through noise only"),
    "noise that hides little": ("federated", given(17.0), "at most 16"),
    "batches": ("federated", given(batches=2), "set batches to 1"),
    "too many epochs": ("federated", given(epochs=500), "1 to 400 epochs"),
    "half a network": ("federated", msgspec.structs.replace(given(), outputs=("hidden",)), "only whole"),
    "ciphertexts": ("he", given(epochs=1), "noise that nobody knows"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_learnt_through_noise_is_refused(case: str) -> None:
    engine, parameters, sentence = REFUSED[case]
    assert sentence in engine_named(engine).refusal(noisy_network.NAME, parameters)


@pytest.mark.parametrize("changes", [{"noise": None}, {"program": "statistics/1"}])
def test_a_plan_without_the_noise_that_its_program_needs_is_refused(changes: dict[str, Any]) -> None:
    plan = studies.plan_of(noisy_network.NAME, given())
    training.check_plan(plan, 3)
    with pytest.raises(InvalidInput):
        training.check_plan(msgspec.structs.replace(plan, **changes), 3)
