"""Classic models of the domain ``ai.onnx.ml``, and what frameworks put around networks."""

from typing import Any, Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy import arrays, ordering
from koinon.privacy.graphs.onnx_operands import Attributes, Operands, Operator, public

_FLOATS: Final = (1, 10, 11, 16)
_BOOLEAN: Final = 9
"""Numbers of ONNX's element types: 32-, 16- and 64-bit floats and bfloat16; bool."""
_LARGEST_LEAST: Final = 2.0**-12
"""Rows are scaled by their size, where it is at least this."""


def _scaler(operands: Operands, attributes: Attributes, _version: int) -> Any:
    return (operands[0] - np.array(attributes["offset"])).times(np.array(attributes["scale"]))


def _linear_regressor(operands: Operands, attributes: Attributes, _version: int) -> Any:
    targets = attributes.get("targets", 1)
    if attributes.get("post_transform", b"NONE") != b"NONE":
        raise InvalidInput("a linear regressor runs on secrets without a transform behind it")
    coefficients = np.array(attributes["coefficients"]).reshape(targets, -1)
    return operands[0] @ coefficients.T + np.array(attributes.get("intercepts", [0.0] * targets))


def _linear_classifier(operands: Operands, attributes: Attributes, _version: int) -> Any:
    """(labels, scores): labels as whole numbers; a model that names its classes in words has none to give."""
    names = attributes.get("classlabels_ints")
    if not names:
        raise InvalidInput("a linear classifier runs on secrets with classes that are whole numbers, not words")
    x = operands[0]
    coefficients = np.array(attributes["coefficients"]).reshape(-1, x.shape[1])
    if len(coefficients) != len(names):
        raise InvalidInput("a linear classifier runs on secrets with one row of coefficients for each class")
    logits = x @ coefficients.T + np.array(attributes.get("intercepts", [0.0] * len(names)))
    transform = attributes.get("post_transform", b"NONE")
    functions = {b"NONE": lambda each: each, b"LOGISTIC": arrays.sigmoid, b"SOFTMAX": arrays.softmax}
    if transform not in functions:
        raise InvalidInput(f"scores of secret rows are not transformed by {transform.decode()}")
    places = ordering.index_of_largest(logits)
    plain = np.array(names, np.int64)
    labels = places if (plain == np.arange(len(plain))).all() else ordering.looked_up(places, plain.astype(np.float64))
    return labels, functions[transform](logits)


def _normaliser(operands: Operands, attributes: Attributes, _version: int) -> Any:
    x, norm = operands[0], attributes.get("norm", b"MAX")
    if norm == b"L1":
        size = abs(x).sum(1)
    elif norm == b"L2":
        size = arrays.square_root((x * x).sum(1), _LARGEST_LEAST**2)
    else:
        raise InvalidInput("secret rows are scaled by their sum or by the root of their squares")
    return x * arrays.reciprocal(size, _LARGEST_LEAST).reshape(-1, 1)


def _cast(operands: Operands, attributes: Attributes, _version: int) -> Any:
    x, to = operands[0], attributes["to"]
    if to == _BOOLEAN and not x.is_bit:
        return x != 0.0
    if to not in (*_FLOATS, _BOOLEAN) and x.precision:
        raise InvalidInput("secret fractions are not rounded to whole or coarser numbers; leave the cast out")
    return x


def _dropout(operands: Operands, _attributes: Attributes, _version: int) -> Any:
    if len(operands) > 2 and operands[2] is not None and public(operands[2], "the training mode").any():
        raise InvalidInput("dropout runs on secrets as in inference, where it drops nothing")
    return operands[0]


MODELS: Final[dict[str, Operator]] = {
    "Cast": _cast,
    "Dropout": _dropout,
    "ai.onnx.ml.LinearClassifier": _linear_classifier,
    "ai.onnx.ml.LinearRegressor": _linear_regressor,
    "ai.onnx.ml.Normalizer": _normaliser,
    "ai.onnx.ml.Scaler": _scaler,
}
