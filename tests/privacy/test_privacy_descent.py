"""DP-SGD: every row's gradient is clipped as the lemma says, noise has the promised size, and members stay unknown."""

from collections.abc import Callable
from functools import partial
from math import sqrt

import numpy as np
import opendp.prelude as dp
import pytest
from sklearn.datasets import make_moons
from sklearn.metrics import roc_auc_score

from koinon.kernel.codec import encode
from koinon.kernel.errors import InvalidInput, KoinonError, Refused
from koinon.privacy.arrays import SecretArray, concatenate, constant_like
from koinon.privacy.backend import Backend, PlainInput, Program
from koinon.privacy.clear import ClearBackend
from koinon.privacy.computation import Revealed, program, reveal, run, table
from koinon.privacy.differential import descent
from koinon.privacy.differential.accountant import spent_epsilon
from koinon.privacy.differential.budget import Budget, Entry, gaussian_entry, spend
from koinon.privacy.differential.descent import Descent, clipped_gradient
from koinon.privacy.differential.logistic import STUDY_DELTA
from koinon.privacy.programs import noisy_network, registry
from koinon.privacy.programs.offer import Layout, Parameters, cost, settings_from
from koinon.privacy.rep4.adversary import SeededRng
from koinon.privacy.rep4.simulation import SimulatedRep4
from koinon.wire.committee import Column

ENGINES = pytest.mark.parametrize("engine", [ClearBackend(), SimulatedRep4()], ids=lambda engine: engine.name)
LOGISTIC = Descent(4, 0, 10, 1, 0.7, 1.0)
NETWORK = Descent(4, 3, 10, 1, 0.7, 1.0)


def rows_of(count: int, features: int, seed: int = 1) -> np.ndarray:
    """Corners of the cube and what lies between, with labels of ±1."""
    random = np.random.default_rng(seed)
    rows = np.clip(random.normal(0, 1, (count, features + 1)), -1, 1)
    rows[:, -1] = random.choice([-1.0, 1.0], count)
    return rows


def weights_of(found: Descent, seed: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-2, 2, found.size)


def gradients(rows: np.ndarray, weights: np.ndarray, found: Descent) -> np.ndarray:
    """(n, D) each row's own gradient of the log-loss, by the chain rule, one row at a time."""
    cut = (found.features + 1) * found.hidden
    first, last = weights[:cut].reshape(found.features + 1, found.hidden), weights[cut:]
    lines = []
    for row in rows:
        design, label = np.append(row[:-1], 1.0), (row[-1] + 1) / 2
        signal = design @ first
        inner = np.append(np.clip(signal, -1, 1), 1.0) if found.hidden else design
        surplus = 1 / (1 + np.exp(-inner @ last)) - label
        back = surplus * last[:-1] * (np.abs(signal) < 1) if found.hidden else np.zeros(0)
        lines.append(np.concatenate([np.outer(design, back).ravel(), surplus * inner]))
    return np.array(lines)


def summed(rows: np.ndarray, weights: np.ndarray, found: Descent, engine: Backend) -> np.ndarray:
    def compute(data: SecretArray, held: SecretArray) -> SecretArray:
        ones = (data[:, :1] > -2.0).reshape(-1, 1)
        design = concatenate([data[:, :-1], ones * 1.0], 1)
        return clipped_gradient(held.reshape(-1), design, (data[:, -1:] + 1.0) * 0.5, ones, found)

    inputs = [table(rows, ranges=[(-1, 1)] * rows.shape[1])]
    constant = partial(constant_like, numbers=weights)
    result = run(lambda data: reveal(gradient=compute(data, constant(data))), inputs, engine, scaled=True)
    return result.outputs["gradient"]


@ENGINES
@pytest.mark.parametrize("found", [LOGISTIC, NETWORK], ids=["logistic", "network"])
def test_the_sum_is_that_of_clipped_gradients(found: Descent, engine: Backend) -> None:
    rows, weights = rows_of(30, 4), weights_of(found)
    plain = gradients(rows, weights, found)
    norms = np.linalg.norm(plain, axis=1)
    assert (norms > found.clip).any()
    assert (norms < found.clip).any()
    wanted = (plain * np.minimum(1, found.clip / norms)[:, None]).sum(0)
    # The sigmoid errs by 3 · 10⁻⁴ in each of 30 rows.
    assert np.abs(summed(rows, weights, found, engine) - wanted).max() < 0.02


@pytest.mark.parametrize("found", [LOGISTIC, NETWORK, Descent(30, 8, 1, 1, 0.2, 1.0)], ids=lambda each: str(each.size))
def test_no_row_adds_more_than_the_lemma_says(found: Descent) -> None:
    """Two rows in one another's place: half of the sensitivity each."""
    norms = []
    for seed in range(12):
        row = rows_of(1, found.features, seed)
        for scale in (0.2, 2.0, 4.0):
            alone = summed(row, weights_of(found, seed) * scale, found, ClearBackend())
            norms.append(np.linalg.norm(np.round(alone * 2.0**16)))
    assert 2 * max(norms) <= found.sensitivity
    assert 2 * max(norms) > 0.95 * found.sensitivity


def test_noise_has_the_scale_that_the_accountant_was_told() -> None:
    """Four parts, of which any one alone is the noise that pays: twice the deviation in all."""
    found = Descent(20, 8, 1, 1, 1.0, 1.0)
    rows = rows_of(40, 20)
    inputs = [table(rows, ranges=[(-1, 1)] * 21)]

    def once(number: int) -> np.ndarray:
        engine, seed = ClearBackend(), SeededRng(number.to_bytes(2, "big"))
        made = learning(found, 1.0, inputs)
        outputs = engine.run(made, inputs, seed).outputs
        return np.concatenate([outputs["hidden"].ravel(), outputs["output"]])

    tries = np.array([once(number) for number in range(6)])
    inside = (np.abs(tries) < descent.LARGEST_WEIGHT).all(0)
    assert inside.all()
    deviation = found.mechanism(1.0).multiplier * found.sensitivity * 2.0**-16 / 40
    samples = (tries - tries.mean(0)).ravel()
    measured = sqrt((samples**2).sum() / (5 * found.size))
    # 885 degrees of freedom: 2.4 per cent is one deviation.
    assert measured == pytest.approx(2 * deviation, rel=0.15)


def learning(found: Descent, epsilon: float, inputs: list[PlainInput]) -> Program:
    def compute(rows: SecretArray) -> Revealed:
        hidden, last = descent.learn(rows, found, epsilon)
        return reveal(hidden=hidden, output=last)

    columns = inputs[0].columns
    return program("descent/1", compute, [each.values.shape for each in inputs], columns, scaled=True)


@pytest.mark.parametrize("epsilon", [0.5, 3.0, 8.0])
def test_the_ledger_is_charged_what_the_study_declares_and_no_less_than_a_second_accountant_needs(
    epsilon: float,
) -> None:
    mechanism = cost(registry.offer("noisy-network/1"), b"", epsilon)
    assert mechanism.count == noisy_network.Settings().epochs
    spent = spent_epsilon([mechanism], STUDY_DELTA)
    assert spent == pytest.approx(epsilon, rel=2e-3)
    # OpenDP: the same noise on a sum of sensitivity 1, composed and converted from zero-concentrated privacy.
    dp.enable_features("contrib")
    space = dp.atom_domain(T="f64", nan=False), dp.absolute_distance(T="f64")
    one = dp.m.make_gaussian(*space, mechanism.multiplier)
    together = dp.c.make_composition([one] * mechanism.count)
    bound = dp.c.make_zCDP_to_approxDP(together).map(1.0).epsilon(STUDY_DELTA)
    assert spent <= bound <= spent * 1.2


def test_studies_add_up_until_the_owner_refuses() -> None:
    mechanism = cost(registry.offer("noisy-network/1"), b"", 2.0)
    entries: tuple[Entry, ...] = ()

    def answered(study: int) -> tuple[Entry, ...]:
        entry = gaussian_entry(study, 0, mechanism.multiplier, mechanism.count, bytes(32))
        return spend(entries, entry, Budget(4.0, STUDY_DELTA))

    # ε = 2 three times is 3.6, not 6: Gaussian answers compose like the square root of their number.
    for study in (1, 2, 3):
        entries = answered(study)
    with pytest.raises(Refused, match="budget"):
        answered(4)


COLUMNS = (Column("x", -2.5, 2.5), Column("y", -2.5, 2.5), Column("upper", 0.0, 1.0))


def study_outputs(
    rows: np.ndarray, columns: tuple[Column, ...], epsilon: float, engine: Backend, **settings: object
) -> dict[str, np.ndarray]:
    offer = registry.offer("noisy-network/1")
    parts = np.array_split(rows, 3)
    layout = Layout(tuple(len(part) for part in parts), columns, columns[-1].name)
    parameters = Parameters(layout, settings_from(offer, settings), offer.outputs, epsilon)
    made = registry.load(offer.name, encode(parameters))
    return dict(engine.run(made, [PlainInput(columns, part) for part in parts], SeededRng(b"noise")).outputs)


def test_a_network_learns_through_noise_what_no_line_can() -> None:
    points, labels = make_moons(2000, noise=0.15, random_state=1)
    rows = np.column_stack([np.clip(points, -2.5, 2.5), labels])
    outputs = study_outputs(rows[:1500], COLUMNS, 8.0, ClearBackend(), hidden=16, epochs=100, rate=8.0)
    right = ((noisy_network.decision(outputs, points[1500:] / 2.5) > 0) == labels[1500:]).mean()
    # A line tells 0.85 apart; without noise the same network 0.96.
    assert right > 0.91


def test_both_engines_run_it_and_the_tables_have_names() -> None:
    points, labels = make_moons(45, noise=0.15, random_state=2)
    rows = np.column_stack([points, labels])
    offer = registry.offer("noisy-network/1")
    for hidden in (0, 2):
        for engine in (ClearBackend(), SimulatedRep4()):
            outputs = study_outputs(rows, COLUMNS, 20.0, engine, hidden=hidden, epochs=3, batches=2)
            settings = noisy_network.Settings(hidden=hidden)
            shown = offer.present(outputs, Layout((15, 15, 15), COLUMNS, "upper"), settings)
            assert [one.name for one in shown] == (["hidden", "output"] if hidden else ["output"])
            assert all(one.values.shape == (len(one.rows), len(one.columns)) for one in shown)
            assert all(0 < np.abs(one.values).max() <= descent.LARGEST_WEIGHT for one in shown)


def test_whoever_asks_who_was_in_the_table_is_told_nothing() -> None:
    """Yeom et al., CSF 2018: a row whose loss is small was a member. An exact fit tells; noise does not."""
    random = np.random.default_rng(4)
    names = tuple(Column(f"c{number}", -1.0, 1.0) for number in range(60))
    columns = (*names, Column("label", 0.0, 1.0))
    rows = np.column_stack([random.uniform(-1, 1, (100, 60)), random.integers(0, 2, 100)])
    members, others = rows[:50], rows[50:]
    exact = registry.load(
        "logistic-regression/1",
        encode(
            Parameters(
                Layout((50,), columns, "label"),
                settings_from(registry.offer("logistic-regression/1"), {"penalty": 0.01, "iterations": 100}),
                ("coefficients", "intercept"),
            )
        ),
    )
    line = ClearBackend().run(exact, [PlainInput(columns, members)], SeededRng(b"exact")).outputs
    assert attack(lambda x: x @ line["coefficients"] + line["intercept"], members, others) > 0.9
    noisy = study_outputs(members, columns, 1.0, ClearBackend())
    assert attack(lambda x: noisy_network.decision(noisy, x), members, others) < 0.65


def attack(score: Callable[[np.ndarray], np.ndarray], members: np.ndarray, others: np.ndarray) -> float:
    """Area under the curve of guessing membership from the loss."""
    both = np.concatenate([members, others])
    loss = np.logaddexp(0, -score(both[:, :-1]) * (2 * both[:, -1] - 1))
    return float(roc_auc_score(np.arange(len(both)) < len(members), -loss))


@pytest.mark.parametrize(
    "settings",
    [
        {"hidden": -1},
        {"hidden": 257},
        {"epochs": 0},
        {"epochs": 1001},
        {"batches": 0},
        {"batches": 31},
        {"clip": 0.0},
        {"clip": float("nan")},
        {"clip": 101.0},
        {"rate": 0.0},
        {"rate": float("inf")},
        {"hidden": 200, "clip": 0.01},
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, object]) -> None:
    rows = np.column_stack([rows_of(30, 1), np.ones(30)])
    rows[:, 1] = 0.5
    with pytest.raises(KoinonError):
        study_outputs(rows, COLUMNS, 1.0, ClearBackend(), **settings)


@pytest.mark.parametrize(("epsilon", "outputs"), [(0.0, ("hidden", "output")), (1.0, ("output",)), (1.0, ("hidden",))])
def test_it_learns_through_noise_and_whole_or_not_at_all(epsilon: float, outputs: tuple[str, ...]) -> None:
    layout = Layout((30,), COLUMNS, "upper")
    with pytest.raises(InvalidInput, match="noisy-network/1"):
        registry.load("noisy-network/1", encode(Parameters(layout, b"", outputs, epsilon)))
