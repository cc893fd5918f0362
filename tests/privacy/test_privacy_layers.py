"""Networks of layers on secret rows: their gradients beside JAX's of the same functions, and what they learn."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from koinon.privacy.arrays import SecretArray, constant_like
from koinon.privacy.clear import ClearBackend
from koinon.privacy.computation import Revealed, reveal, run, table
from koinon.privacy.learn.layers import Convolution, Dense, Layer, Pooling
from koinon.privacy.learn.networks import LayeredNetwork, Schedule, starting_weights
from koinon.privacy.learn.recurrence import Gated
from koinon.privacy.nets import functions

RANDOM = np.random.default_rng(3)
Forward = Callable[[list[Any], Any], Any]


def dense(weights: Sequence[Any], x: Any) -> Any:
    return x @ weights[0] + weights[1]


def mean_pooled(weights: list[Any], x: Any) -> Any:
    """5 × 6 images of two channels, three filters of 2 × 2, means of 2 × 2, four hidden units, three classes."""
    taps = weights[0].reshape(2, 2, 2, 3)
    order = ("NHWC", "HWIO", "NHWC")
    maps = jax.lax.conv_general_dilated(x.reshape(-1, 5, 6, 2), taps, (1, 1), "VALID", dimension_numbers=order)
    active = jax.nn.relu(maps + weights[1])[:, :4, :4].reshape(-1, 2, 2, 2, 2, 3).mean((2, 4))
    return dense(weights[4:], jax.nn.relu(dense(weights[2:4], active.reshape(len(x), -1))))


def house(architecture: functions.Architecture, names: Sequence[str]) -> Forward:
    """An architecture of the house, whose weights are named, on weights in order."""
    shapes = [architecture.start(0)[name].shape for name in names]
    return lambda weights, x: architecture.forward(
        {name: each.reshape(shape) for name, each, shape in zip(names, weights, shapes, strict=True)}, x
    )


TWO = (Convolution((10, 11, 1), 3), Convolution((4, 4, 3), 2, 2, 2), Dense(2, 3))
CASES: dict[str, tuple[tuple[Layer, ...], Forward]] = {
    "means and a hidden layer": (
        (Convolution((5, 6, 2), 3, 2, 2, Pooling.MEAN), Dense(12, 4, cut=True), Dense(4, 3)),
        mean_pooled,
    ),
    "the largest of four, one class": (
        (Convolution((6, 7, 1), 2), Dense(8, 1)),
        house(functions.convolutional((6, 7, 1), (2,), 1), ("filters 0", "bias 0", "dense", "bias")),
    ),
    "gated units": (
        (Gated(5, 2, 3), Dense(3, 3)),
        house(functions.recurrent(5, 2, 3, 3), ("gates", "gate bias", "state", "state bias", "dense", "bias")),
    ),
    "one step": (
        (Gated(1, 4, 2), Dense(2, 1)),
        house(functions.recurrent(1, 4, 2, 1), ("gates", "gate bias", "state", "state bias", "dense", "bias")),
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("numbers", [False, True], ids=["classes", "numbers"])
def test_gradients_are_those_of_jax(case: str, numbers: bool) -> None:
    layers, forward = CASES[case]
    outputs = layers[-1].outputs
    if numbers and outputs > 1:
        layers, outputs = (*layers[:-1], Dense(layers[-1].inputs, 1)), 1
        if "gated" in case:
            forward = house(
                functions.recurrent(5, 2, 3, 1), ("gates", "gate bias", "state", "state bias", "dense", "bias")
            )
    weights = [each + RANDOM.normal(0, 0.1, each.shape) for each in starting_weights(layers, 4)]
    x = RANDOM.uniform(-1, 1, (6, layers[0].inputs))
    codes = RANDOM.integers(0, max(outputs, 2), 6)
    truth = (
        RANDOM.uniform(-1, 1, (6, 1)) if numbers else codes.reshape(-1, 1) if outputs == 1 else np.eye(outputs)[codes]
    )

    def loss(current: list[Any]) -> Any:
        levels = forward(current, jnp.asarray(x))
        if numbers:
            return ((levels - truth) ** 2).sum() / 2 / len(x)
        if outputs == 1:
            return (jnp.logaddexp(0.0, levels) - truth * levels).sum() / len(x)
        return -(jax.nn.log_softmax(levels) * truth).sum() / len(x)

    wanted = jax.grad(loss)([jnp.asarray(each) for each in weights])
    network = LayeredNetwork(layers, Schedule(), numbers)

    def slopes(both: SecretArray) -> Revealed:
        made = [constant_like(both, each) for each in weights]
        found = network._slopes(made, both[:, : x.shape[1]], both[:, x.shape[1] :])
        return reveal(**{f"w{place}": each for place, each in enumerate(found)})

    everything = table(np.column_stack([x, truth]), ranges=[(-1, 1)] * (x.shape[1] + truth.shape[1]))
    found = run(slopes, [everything], ClearBackend()).outputs
    for place, each in enumerate(wanted):
        assert found[f"w{place}"].shape == each.shape
        assert np.abs(found[f"w{place}"] - np.asarray(each)).max() < 2e-3, place
