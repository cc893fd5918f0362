"""Networks trained where rows lie, as studies name them: FedAvg, FedProx and FedAdam."""

from typing import Any

import msgspec
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from test_privacy_programs import cancer

from koinon.kernel.codec import encode
from koinon.kernel.errors import InvalidInput
from koinon.privacy.backend import PlainInput
from koinon.privacy.engines import Network, engine_named
from koinon.privacy.federated import averaging, training
from koinon.privacy.federated.local import LocalFederated
from koinon.privacy.programs import perceptron, registry
from koinon.privacy.programs.offer import Layout, Parameters, settings_from
from koinon.privacy.rep4.adversary import SeededRng
from koinon.wire.committee import Column

NAME = perceptron.NAME


def given(**settings: Any) -> Parameters:
    parts, _ = cancer(1)
    whole = np.concatenate(parts)[:, :-1]
    ranges = zip(whole.mean(0) - 3 * whole.std(0), whole.mean(0) + 3 * whole.std(0), strict=True)
    columns = (
        *(Column(f"x{number}", *map(float, each)) for number, each in enumerate(ranges)),
        Column("ill", 0.0, 1.0),
    )
    layout = Layout(tuple(len(part) for part in parts), columns, columns[-1].name)
    found = settings_from(perceptron.OFFER, {"hidden": 6, "epochs": 20, "rate": 0.3, **settings})
    return Parameters(layout, found, perceptron.OUTPUTS)


def inside(parts: list[np.ndarray], parameters: Parameters) -> list[np.ndarray]:
    """Rows cut at their columns' ranges."""
    low, high = np.array([(column.low, column.high) for column in parameters.layout.columns]).T
    return [np.clip(part, low, high) for part in parts]


def trained(parameters: Parameters) -> dict[str, np.ndarray]:
    program = registry.load(NAME, encode(parameters))
    inputs = [PlainInput(parameters.layout.columns, part) for part in inside(cancer(1)[0], parameters)]
    return dict(LocalFederated().run(program, inputs, SeededRng(b"averages")).outputs)


def area(outputs: dict[str, np.ndarray], parameters: Parameters) -> float:
    """Of the network that was opened, on rows that nobody trained on."""
    _, held = cancer(1)
    columns = parameters.layout.columns[:-1]
    middle, half = np.array([((c.low + c.high) / 2, (c.high - c.low) / 2) for c in columns]).T
    rows = (held[:, :-1] - middle) / half
    active = np.maximum(rows @ outputs["hidden"] + outputs["hidden_bias"], 0.0)
    return float(roc_auc_score(held[:, -1], (active @ outputs["output"] + outputs["output_bias"])[:, 0]))


STRATEGIES: dict[str, dict[str, Any]] = {
    "fedavg": {},
    "fedprox": {"strategy": "fedprox", "proximal": 0.1, "rounds": 10},
    "fedadam": {"strategy": "fedadam"},
}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_owners_average_a_network_that_tells_classes_apart(strategy: str) -> None:
    parameters = given(**STRATEGIES[strategy])
    outputs = trained(parameters)
    shapes = dict(registry.load(NAME, encode(parameters)).output)
    assert {name: each.shape for name, each in outputs.items()} == shapes
    assert area(outputs, parameters) > 0.98


def test_the_outputs_are_the_network_that_owners_trained() -> None:
    """Its probability is that of the softmax over two classes."""
    parameters = given()
    plan = averaging.averaging_plan(parameters)
    model = training.model_of(plan)
    weights = np.random.default_rng(1).normal(size=model.size)
    rows = np.random.default_rng(2).uniform(-1.0, 1.0, (20, 30))
    outputs = averaging.averaged_outputs(weights, plan, parameters.layout)
    active = np.maximum(rows @ outputs["hidden"] + outputs["hidden_bias"], 0.0)
    chances = 1 / (1 + np.exp(-(active @ outputs["output"] + outputs["output_bias"])[:, 0]))
    assert np.allclose(chances, model.predict(weights, rows)[:, 1])


def test_strategies_are_different_trainings() -> None:
    plans = [averaging.averaging_plan(given(**settings)) for settings in STRATEGIES.values()]
    assert len({(plan.server, plan.local, plan.rounds) for plan in plans}) == len(plans)
    studies = [given(**settings) for settings in STRATEGIES.values()]
    offer = engine_named("federated")
    costs = [offer.cost(registry.load(NAME, encode(one)), one, Network()) for one in studies]
    # Before every round but the first, members vouch for its model.
    assert [each.rounds for each in costs[:2]] == [6 * 20 - 1, 6 * 10 - 1]


REFUSED: dict[str, tuple[Parameters, str]] = {
    "an unknown strategy": (given(strategy="median"), "combined by fedavg, fedprox or fedadam"),
    "fedprox without its weight": (given(strategy="fedprox"), "proximal from above 0"),
    "a weight without fedprox": (given(proximal=0.5), "no other strategy"),
    "more rounds than epochs": (given(rounds=21), "an epoch or more"),
    "negative rounds": (given(rounds=-1), "rounds are 0"),
    "too many rounds": (given(epochs=900), "1 to 200 rounds"),
    "half a network": (msgspec.structs.replace(given(), outputs=("hidden",)), "open all of it"),
    "noise": (msgspec.structs.replace(given(), epsilon=1.0), "noisy-network/1"),
    "no unit": (given(hidden=0), "hidden units"),
    "no rate": (given(rate=0.0), "rate above 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_owners_cannot_average_is_refused(case: str) -> None:
    parameters, sentence = REFUSED[case]
    assert sentence in engine_named("federated").refusal(NAME, parameters)


def test_a_strategy_is_for_owners_who_train_apart() -> None:
    assert "leave it empty" in engine_named("rep4").refusal(NAME, given(strategy="fedadam"))
    assert engine_named("rep4").refusal(NAME, given()) == ""
    with pytest.raises(InvalidInput, match="combined by"):
        registry.load(NAME, encode(given(strategy="median")))
