"""Owners' own networks, combined on shares so that a lying owner does not steer the joint one."""

from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from koinon.kernel.codec import encode
from koinon.kernel.errors import InvalidInput, KoinonError
from koinon.privacy.backend import Backend, PlainInput
from koinon.privacy.clear import ClearBackend
from koinon.privacy.engines import engine_named
from koinon.privacy.programs import perceptron, registry
from koinon.privacy.programs.offer import Layout, Parameters, decode_settings, settings_from
from koinon.privacy.programs.own_networks import LARGEST
from koinon.privacy.programs.owner_sums import local_sums
from koinon.privacy.rep4.adversary import SeededRng
from koinon.privacy.rep4.simulation import SimulatedRep4
from koinon.wire.committee import Column

OWNERS, KEPT, HIDDEN = 5, 8, 3
COLUMNS = (*(Column(f"x{number}", -4.0, 4.0) for number in range(KEPT)), Column("benign", 0.0, 1.0))


def people() -> tuple[list[np.ndarray], np.ndarray]:
    """Five owners' rows of the breast cancer data, and rows of nobody's."""
    data = load_breast_cancer()
    chosen = data.data[:, :KEPT]
    rows = np.clip((chosen - chosen.mean(0)) / chosen.std(0), -4.0, 4.0)
    table = np.column_stack([rows, data.target])[np.random.default_rng(3).permutation(len(rows))]
    return np.split(table[:400], OWNERS), table[400:]


def parameters(strategy: str = "median", owners: int = OWNERS, **settings: object) -> Parameters:
    given = {"solver": "sums", "strategy": strategy, "hidden": HIDDEN, "epochs": 40, "rate": 0.5, **settings}
    encoded = settings_from(registry.offer(perceptron.NAME), given)
    return Parameters(Layout((80,) * owners, COLUMNS, "benign"), encoded, perceptron.OUTPUTS)


def shared(given: Parameters) -> list[np.ndarray]:
    """What each owner shares."""
    found = registry.offer(perceptron.NAME)
    settings = decode_settings(found, given.settings)
    return [local_sums(found, given, settings, rows) for rows in people()[0][: len(given.layout.rows)]]


def opened(given: Parameters, networks: list[np.ndarray], engine: Backend) -> dict[str, np.ndarray]:
    made = registry.load(perceptron.NAME, encode(given))
    inputs = [PlainInput(made.columns, each.reshape(1, -1)) for each in networks]
    return dict(engine.run(made, inputs, SeededRng(b"networks")).outputs)


def right(weights: dict[str, np.ndarray]) -> float:
    """The share of nobody's rows that a network gets right."""
    rows = people()[1]
    active = np.maximum(rows[:, :-1] / 4 @ weights["hidden"].reshape(KEPT, HIDDEN) + weights["hidden_bias"], 0)
    odds = active @ weights["output"].reshape(HIDDEN) + weights["output_bias"]
    return float(((odds > 0) == rows[:, -1]).mean())


def as_outputs(flat: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(perceptron.OUTPUTS, np.split(flat, np.cumsum([KEPT * HIDDEN, HIDDEN, HIDDEN])), strict=True))


@pytest.mark.parametrize("strategy", ["median", "trimmed-mean"])
def test_an_owner_that_shares_a_poisoned_network_does_not_steer_the_joint_one(strategy: str) -> None:
    given = parameters(strategy)
    networks = shared(given)
    honest = right(opened(given, networks, ClearBackend()))
    assert honest > 0.9
    networks[2] = -np.sign(networks[2])
    assert right(as_outputs(np.mean(networks, axis=0) * LARGEST)) < 0.6, "the control: a mean is steered"
    assert right(opened(given, networks, ClearBackend())) > 0.85


def test_a_median_of_networks_is_the_same_on_shares() -> None:
    given = parameters(owners=3)
    networks = shared(given)
    found = opened(given, networks, SimulatedRep4())
    wanted = as_outputs(np.median(networks, axis=0) * LARGEST)
    assert {name: values.size for name, values in found.items()} == {name: each.size for name, each in wanted.items()}
    assert max(np.abs(found[name].ravel() - wanted[name]).max() for name in wanted) < 1e-5


REFUSED: dict[str, tuple[Callable[[], Parameters], str]] = {
    "no rule": (lambda: parameters(""), "combined by median or trimmed-mean; name one"),
    "a rule for rounds": (lambda: parameters("fedavg"), "combined by median or trimmed-mean; name one"),
    "two owners": (lambda: parameters(owners=2), "nobody can tell which is the liar's"),
    "too many left out": (lambda: parameters("trimmed-mean", trim=3), "leaves out 1 to 2 at each end; got 3"),
    "no epoch": (lambda: parameters(epochs=0), "1 to 1000 epochs"),
    "too wide": (lambda: _wide(parameters(hidden=256)), "at most 10000 weights"),
}


def _wide(given: Parameters) -> Parameters:
    columns = (*(Column(f"x{number}", 0.0, 1.0) for number in range(40)), COLUMNS[-1])
    return msgspec.structs.replace(given, layout=msgspec.structs.replace(given.layout, columns=columns))


@pytest.mark.parametrize("case", REFUSED)
def test_networks_that_cannot_be_combined_are_refused(case: str) -> None:
    given, sentence = REFUSED[case]
    with pytest.raises(KoinonError) as refused:
        registry.load(perceptron.NAME, encode(given()))
    assert sentence in str(refused.value)


def test_each_engine_says_which_strategies_are_not_its_own() -> None:
    assert "leave it empty" in engine_named("rep4").refusal(perceptron.NAME, parameters(solver="rows"))
    assert engine_named("rep4").refusal(perceptron.NAME, parameters()) == ""
    assert "name the engine rep4" in engine_named("federated").refusal(perceptron.NAME, parameters("fedavg"))


def test_a_target_that_is_neither_0_nor_1_is_not_learnt() -> None:
    found, given = registry.offer(perceptron.NAME), parameters()
    rows = people()[0][0]
    rows[3, -1] = 0.5
    with pytest.raises(InvalidInput, match="the target is 0 or 1"):
        local_sums(found, given, decode_settings(found, given.settings), rows)
