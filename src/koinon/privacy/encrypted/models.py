"""Models that can be evaluated on encrypted inputs: affine layers with polynomials between them.

An encrypted number can be added and multiplied, and nothing else. So activations are polynomials, and what comes after
the last layer (the sigmoid of a logistic regression, the softmax of a classifier) is left to whoever decrypts.
"""

from enum import Enum
from typing import Final

import numpy as np

from koinon.kernel.codec import Record
from koinon.kernel.errors import InvalidInput
from koinon.kernel.ids import NodeId

MOST_FEATURES: Final = 1024
MOST_UNITS: Final = 1024
MOST_LAYERS: Final = 3
MOST_PRODUCTS: Final = 1 << 18
"""Products of a ciphertext and a weight in one evaluation; each takes some milliseconds."""
LARGEST_WEIGHT: Final = 2.0**20


class Link(Enum):
    """What turns the last layer's numbers into the answer, in the clear, at whoever decrypts."""

    IDENTITY = "identity"
    SIGMOID = "sigmoid"
    SOFTMAX = "softmax"


class Layer(Record, frozen=True):
    """x ↦ activation(W x + b).

    Attributes:
        weights: W, one row for each unit.
        bias: b.
        square: the activation is x²; otherwise there is none. (Gilad-Bachrach et al., "CryptoNets", ICML 2016)
    """

    weights: tuple[tuple[float, ...], ...]
    bias: tuple[float, ...]
    square: bool = False


class EncryptedModel(Record, frozen=True):
    """Layers from the inputs to the answer."""

    layers: tuple[Layer, ...]
    link: Link

    @property
    def features(self) -> int:
        return len(self.layers[0].weights[0])

    @property
    def outputs(self) -> int:
        return len(self.layers[-1].bias)

    @property
    def depth(self) -> int:
        """Products one after the other, which is what an encryption's parameters must leave room for."""
        return sum(2 if layer.square else 1 for layer in self.layers)

    def check(self) -> None:
        """Raises InvalidInput where the layers do not fit together or are too large."""
        if not 1 <= len(self.layers) <= MOST_LAYERS:
            raise InvalidInput(
                f"a model for encrypted inputs has 1 to {MOST_LAYERS} layers; this one {len(self.layers)}"
            )
        width, products = None, 0
        for number, layer in enumerate(self.layers, 1):
            sizes = {len(row) for row in layer.weights}
            if len(layer.weights) != len(layer.bias) or len(sizes) != 1 or not 1 <= len(layer.bias) <= MOST_UNITS:
                raise InvalidInput(
                    f"layer {number} needs a bias and a row of weights for each of 1 to {MOST_UNITS} units"
                )
            inputs = sizes.pop()
            if not 1 <= inputs <= MOST_FEATURES or (width is not None and inputs != width):
                raise InvalidInput(f"layer {number} takes {inputs} numbers, which is not what comes before it")
            numbers = np.abs([*np.ravel(layer.weights), *layer.bias])
            if not (np.isfinite(numbers).all() and numbers.max() <= LARGEST_WEIGHT):
                raise InvalidInput(f"layer {number} has weights that are not finite or above {LARGEST_WEIGHT:.0f}")
            width, products = len(layer.bias), products + inputs * len(layer.bias)
        if products > MOST_PRODUCTS:
            raise InvalidInput(f"the model needs {products} products on ciphertexts; at most {MOST_PRODUCTS} are done")
        if self.layers[-1].square:
            raise InvalidInput("the last layer has no activation; what follows it is the link")

    def in_the_clear(self, rows: np.ndarray) -> np.ndarray:
        """The answer on plain rows (n, features), for comparison: (n, outputs)."""
        values = np.asarray(rows, np.float64)
        for layer in self.layers:
            values = values @ np.asarray(layer.weights).T + np.asarray(layer.bias)
            values = values**2 if layer.square else values
        return linked(values, self.link)


class KeptModel(Record, frozen=True):
    """A model on a node's disk, and node ids of who may ask it; empty for everybody who can reach the node."""

    model: EncryptedModel
    callers: tuple[NodeId, ...]


def layer(weights: np.ndarray, bias: np.ndarray, *, square: bool = False) -> Layer:
    """From arrays (units, inputs) and (units,)."""
    rows = np.atleast_2d(np.asarray(weights, np.float64))
    return Layer(tuple(map(tuple, rows.tolist())), tuple(np.ravel(bias).astype(np.float64).tolist()), square)


def standardised(model: EncryptedModel, mean: np.ndarray, scale: np.ndarray) -> EncryptedModel:
    """The same model for raw inputs x where the given one takes (x − mean) / scale."""
    first = model.layers[0]
    weights = np.asarray(first.weights) / np.asarray(scale)
    bias = np.asarray(first.bias) - weights @ np.asarray(mean)
    return EncryptedModel((layer(weights, bias, square=first.square), *model.layers[1:]), model.link)


def linked(values: np.ndarray, link: Link) -> np.ndarray:
    """The link applied to (n, outputs)."""
    match link:
        case Link.SIGMOID:
            return np.asarray(1.0 / (1.0 + np.exp(-np.clip(values, -500, 500))))
        case Link.SOFTMAX:
            powers = np.exp(values - values.max(axis=1, keepdims=True))
            return np.asarray(powers / powers.sum(axis=1, keepdims=True))
        case Link.IDENTITY:
            return values
