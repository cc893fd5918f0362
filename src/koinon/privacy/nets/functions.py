"""Networks as JAX functions of their weights and rows: perceptron, convolutions, gated recurrent units.

Each is ``forward(weights, rows) → logits``, made together with the weights that training starts from. They are ordinary
JAX functions: they run in the clear, under ``koinon.privacy.run``, and in ``Network``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from koinon.kernel.errors import InvalidInput

Weights = dict[str, np.ndarray]
Forward = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Architecture:
    """Attributes:
    forward: (weights, (n, features) rows) → (n, outputs) logits.
    features: numbers in a row.
    outputs: classes, or 1 for regression.
    start: a seed → weights to start from; public, they tell nothing about rows.
    """

    forward: Forward
    features: int
    outputs: int
    start: Callable[[int], Weights]


def perceptron(features: int, hidden: Sequence[int], outputs: int) -> Architecture:
    """Dense layers with rectifiers between them."""
    sizes = _checked([features, *hidden, outputs])

    def forward(weights: Any, rows: Any) -> Any:
        for layer in range(len(sizes) - 2):
            rows = jax.nn.relu(rows @ weights[f"dense {layer}"] + weights[f"bias {layer}"])
        last = len(sizes) - 2
        return rows @ weights[f"dense {last}"] + weights[f"bias {last}"]

    def start(seed: int) -> Weights:
        random = np.random.default_rng(seed)
        weights: Weights = {}
        for layer, (size, following) in enumerate(pairwise(sizes)):
            weights[f"dense {layer}"] = _drawn(random, size, (size, following))
            weights[f"bias {layer}"] = np.zeros(following)
        return weights

    return Architecture(forward, features, outputs, start)


def convolutional(
    image: tuple[int, int, int], filters: Sequence[int], outputs: int, *, window: int = 3
) -> Architecture:
    """Convolutions with rectifiers, each halved by taking the largest of 2 × 2; then one dense layer.

    Args:
        image: height, width and channels; a row holds the image in this order.
        filters: of each convolution.
        window: side of each filter.
    """
    height, width, channels = _checked(image)
    _checked([*filters, outputs, window])
    layers = len(filters)
    sides = []
    for _ in filters:
        height, width = (height - window + 1) // 2, (width - window + 1) // 2
        sides.append((height, width))
    if min(height, width) < 1:
        raise InvalidInput(f"an image of {image} is too small for {layers} convolutions with windows of {window}")
    flat = height * width * ([channels, *filters][-1])

    def forward(weights: Any, rows: Any) -> Any:
        maps = rows.reshape(-1, *image)
        for layer, (high, wide) in enumerate(sides):
            taps = weights[f"filters {layer}"]
            maps = jax.lax.conv_general_dilated(maps, taps, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
            maps = jax.nn.relu(maps + weights[f"bias {layer}"])[:, : 2 * high, : 2 * wide]
            maps = maps.reshape(-1, high, 2, wide, 2, maps.shape[-1]).max((2, 4))
        return maps.reshape(-1, flat) @ weights["dense"] + weights["bias"]

    def start(seed: int) -> Weights:
        random = np.random.default_rng(seed)
        weights: Weights = {}
        for layer, (before, after) in enumerate(zip([channels, *filters[:-1]], filters, strict=True)):
            weights[f"filters {layer}"] = _drawn(random, window * window * before, (window, window, before, after))
            weights[f"bias {layer}"] = np.zeros(after)
        return weights | {"dense": _drawn(random, flat, (flat, outputs)), "bias": np.zeros(outputs)}

    return Architecture(forward, prod(image), outputs, start)


def recurrent(steps: int, width: int, hidden: int, outputs: int) -> Architecture:
    """Gated recurrent units over a sequence, then one dense layer (K. Cho et al., EMNLP 2014, section 2.3).

    Args:
        steps: length of the sequence; a row holds its steps one after the other.
        width: numbers in a step.
    """
    _checked([steps, width, hidden, outputs])

    def forward(weights: Any, rows: Any) -> Any:
        sequence = rows.reshape(-1, steps, width).transpose(1, 0, 2)

        def step(state: Any, numbers: Any) -> Any:
            both = jnp.concatenate([numbers, state], 1)
            gates = jax.nn.sigmoid(both @ weights["gates"] + weights["gate bias"])
            reset, update = gates[:, :hidden], gates[:, hidden:]
            proposed = jnp.tanh(jnp.concatenate([numbers, reset * state], 1) @ weights["state"] + weights["state bias"])
            return update * state + (1 - update) * proposed, None

        state, _ = jax.lax.scan(step, jnp.zeros((sequence.shape[1], hidden)), sequence)
        return state @ weights["dense"] + weights["bias"]

    def start(seed: int) -> Weights:
        random = np.random.default_rng(seed)
        return {
            "gates": _drawn(random, width + hidden, (width + hidden, 2 * hidden)),
            "gate bias": np.zeros(2 * hidden),
            "state": _drawn(random, width + hidden, (width + hidden, hidden)),
            "state bias": np.zeros(hidden),
            "dense": _drawn(random, hidden, (hidden, outputs)),
            "bias": np.zeros(outputs),
        }

    return Architecture(forward, steps * width, outputs, start)


def _drawn(random: np.random.Generator, incoming: int, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform with variance 2 / incoming: what keeps signals behind rectifiers from fading (He et al., ICCV 2015)."""
    reach = (6.0 / incoming) ** 0.5
    return random.uniform(-reach, reach, shape)


def _checked(sizes: Sequence[int]) -> Sequence[int]:
    if any(not 1 <= size <= 1 << 16 for size in sizes):
        raise InvalidInput(f"layers have 1 to 65536 units; got {list(sizes)}")
    return sizes
