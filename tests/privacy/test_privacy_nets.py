"""Networks on secret rows: what they learn beside scikit-learn, both engines alike, and what is refused."""

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray
from koinon.privacy.backend import Backend
from koinon.privacy.clear import ClearBackend
from koinon.privacy.computation import Revealed, reveal, run, table
from koinon.privacy.nets.functions import Architecture, convolutional, perceptron, recurrent
from koinon.privacy.nets.network import Network
from koinon.privacy.rep4.simulation import SimulatedRep4

CLEAR = ClearBackend()


def digits() -> tuple[np.ndarray, np.ndarray]:
    features, classes = load_digits(return_X_y=True)
    return features / 8 - 1, classes.astype(float)


def accuracy(network: Network, rows: np.ndarray, codes: np.ndarray, fitted_to: int, engine: Backend = CLEAR) -> float:
    """Share of the rows after the first ``fitted_to`` that the network gets right."""
    ranges = [(-1.0, 1.0)] * rows.shape[1] + [(-16.0, 16.0)]

    def compute(x: SecretArray) -> Revealed:
        fitted = network.fit(x[:fitted_to, :-1], x[:fitted_to, -1])
        return reveal(share=fitted.score(x[fitted_to:, :-1], x[fitted_to:, -1]))

    return float(run(compute, [table(np.column_stack([rows, codes]), ranges=ranges)], engine).outputs["share"])


@pytest.mark.long
@pytest.mark.parametrize(
    ("network", "least"),
    [
        (Network(perceptron(64, (32,), 10), rate=0.05), 0.89),
        (Network(perceptron(64, (32,), 10), rate=0.01, epochs=6, batch=64, adam=True), 0.88),
        (Network(convolutional((8, 8, 1), (8,), 10), rate=0.05, epochs=4), 0.87),
        (Network(recurrent(8, 8, 16, 10), rate=0.1, epochs=6), 0.80),
    ],
    ids=["perceptron", "adam", "convolutions", "recurrent"],
)
def test_digits_are_learnt(network: Network, least: float) -> None:
    assert accuracy(network, *digits(), 1400) > least


@pytest.mark.long
def test_a_perceptron_is_as_right_as_scikit_learns_sample() -> None:
    features, classes = load_breast_cancer(return_X_y=True)
    rows = np.clip(StandardScaler().fit_transform(features) / 4, -1, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = MLPClassifier((16,), max_iter=100, random_state=0).fit(rows[:400], classes[:400])
    ours = accuracy(Network(perceptron(30, (16,), 2)), rows, classes.astype(float), 400)
    assert ours >= plain.score(rows[400:], classes[400:]) - 0.03


@pytest.mark.parametrize("adam", [False, pytest.param(True, marks=pytest.mark.long)], ids=["momentum", "adam"])
def test_four_parties_learn_what_one_learns(adam: bool) -> None:
    rows, codes = digits()
    chosen = np.random.default_rng(1).choice(64, 6, replace=False)
    network = Network(perceptron(6, (4,), 3), epochs=1, batch=8, adam=adam, rate=0.05)

    def compute(x: SecretArray) -> Revealed:
        return reveal(**{name.replace(" ", ""): w for name, w in network.fit(x[:, :-1], x[:, -1]).weights.items()})

    given = table(np.column_stack([rows[:16, chosen], codes[:16] % 3]), ranges=[(-1.0, 1.0)] * 6 + [(-4.0, 4.0)])
    found, want = (run(compute, [given], engine).outputs for engine in (SimulatedRep4(), CLEAR))
    for name in want:
        assert np.abs(found[name] - want[name]).max() < 5e-3
        assert want[name].any()


def test_a_number_is_learnt() -> None:
    rows, target = load_diabetes(return_X_y=True)
    scaled = np.clip(rows * 5, -1, 1)
    target = (target - target.mean()) / 200
    network = Network(perceptron(10, (), 1), rate=0.1, epochs=4)

    def compute(x: SecretArray) -> Revealed:
        return reveal(found=network.fit(x[:, :-1], x[:, -1]).predict(x[:, :-1]))

    found = run(compute, [table(np.column_stack([scaled, target]), ranges=[(-1.0, 1.0)] * 11)], CLEAR).outputs["found"]
    assert 1 - ((found - target) ** 2).sum() / (target**2).sum() > 0.4


SMALL = perceptron(6, (4,), 3)
UNUSABLE = {
    "other width": (perceptron(5, (4,), 3), {}),
    "no rate": (SMALL, {"rate": 0.0}),
    "no epochs": (SMALL, {"epochs": 0}),
    "no batch": (SMALL, {"batch": 0}),
    "momentum of one": (SMALL, {"momentum": 1.0}),
    "endless weights": (SMALL, {"largest": 1e6}),
}


@pytest.mark.parametrize("name", sorted(UNUSABLE))
def test_unusable_networks_are_refused(name: str) -> None:
    architecture, settings = UNUSABLE[name]
    assert isinstance(architecture, Architecture)
    with pytest.raises(InvalidInput):
        accuracy(Network(architecture, **settings), np.zeros((8, 6)), np.zeros(8), 6)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "build",
    [lambda: perceptron(0, (), 2), lambda: convolutional((4, 4, 1), (2, 2), 3), lambda: recurrent(3, 2, -1, 2)],
    ids=["no features", "image too small", "negative"],
)
def test_unusable_architectures_are_refused(build: object) -> None:
    with pytest.raises(InvalidInput):
        build()  # type: ignore[operator]
