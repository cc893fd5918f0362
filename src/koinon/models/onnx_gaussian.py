"""Two Gaussian classes with independent columns as an ONNX model, and the check that both give the same answers.

The graph reads as the formula does; the squares are of distances from the classes' means, so that nothing large is
subtracted from something large::

    features [N, d] --Sub centre--> --Mul scale--> [-1, 1] --Sub mean0--> --Mul itself--> --Gemm weights0, bias--> near0
                                                           --Sub mean1--> --Mul itself--> --Gemm weights1-------> near1
    near0 - near1 --Sigmoid--> --Squeeze--> probability [N]
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from koinon.kernel.errors import Forged, InvalidInput
from koinon.models.onnx_export import (
    INPUT_NAME,
    OUTPUT_NAME,
    LogisticParameters,
    edge_rows,
    model_of,
)

FloatArray = NDArray[np.float64]

TOLERANCE: Final = 1e-3
"""Largest allowed difference of two probabilities; a score is a sum of squares that may reach thousands."""


@dataclass(frozen=True, eq=False)
class GaussianParameters:
    """Naive Bayes over columns scaled by their public ranges to [-1, 1].

    Attributes:
        low, high: float64 (d,), public column ranges in original units, ``low < high``.
        priors: (2,) shares of class 0 and 1, above 0.
        means, variances: (2, d) of the classes' scaled columns; variances above 0.
    """

    low: FloatArray
    high: FloatArray
    priors: FloatArray
    means: FloatArray
    variances: FloatArray

    @property
    def bias(self) -> float:
        """What the score of class 1 has before any column is looked at."""
        return float(
            np.log(self.priors[1] / self.priors[0]) + 0.5 * np.log(self.variances[0] / self.variances[1]).sum()
        )

    def probability(self, features: FloatArray) -> FloatArray:
        """The reference answer in float64: features (N, d) in original units to probabilities (N,) of class 1."""
        scaled = (np.asarray(features, np.float64) - (self.high + self.low) / 2) * (2 / (self.high - self.low))
        near = [((scaled - self.means[code]) ** 2 / (2 * self.variances[code])).sum(1) for code in (0, 1)]
        score = near[0] - near[1] + self.bias
        small = np.exp(-np.abs(score))
        return np.asarray(np.where(score >= 0, 1 / (1 + small), small / (1 + small)), np.float64)


def check_parameters(parameters: GaussianParameters) -> None:
    """Refuse parameters that are no model. Raises InvalidInput."""
    width = len(parameters.low)
    shapes = (parameters.high.shape, parameters.means.shape, parameters.variances.shape, parameters.priors.shape)
    if not width or shapes != ((width,), (2, width), (2, width), (2,)):
        raise InvalidInput("ranges, priors, means and variances of two classes must belong to the same columns")
    everything = np.concatenate([part.ravel() for part in (parameters.low, parameters.high, parameters.means)])
    if not np.isfinite(everything).all() or not (parameters.low < parameters.high).all():
        raise InvalidInput("ranges and means must be finite, with low below high")
    if not ((parameters.variances > 1e-6).all() and (parameters.priors > 0).all()):
        raise InvalidInput(
            "variances and both classes' shares must be above 0; a class of fewer people than the study's least is not"
            " opened"
        )
    if np.abs(everything).max() > 1e30 or not np.isfinite(parameters.variances).all():
        raise InvalidInput("ranges, means and variances must fit 32-bit numbers; rescale the columns")


def export_gaussian(parameters: GaussianParameters) -> bytes:
    """ONNX bytes of the model: ``features`` float32 [N, d] in original units to ``probability`` float32 [N].

    Raises:
        InvalidInput: the parameters are no model.
    """
    check_parameters(parameters)
    from onnx import TensorProto, helper, numpy_helper

    width = len(parameters.low)
    weights = (1 / (2 * parameters.variances)).astype(np.float32)
    constants: dict[str, NDArray[Any]] = {
        "centre": ((parameters.high + parameters.low) / 2).astype(np.float32),
        "scale": (2 / (parameters.high - parameters.low)).astype(np.float32),
        "mean0": parameters.means[0].astype(np.float32),
        "mean1": parameters.means[1].astype(np.float32),
        "weights0": weights[0].reshape(width, 1),
        "weights1": weights[1].reshape(width, 1),
        "bias": np.array([parameters.bias], np.float32),
        "none": np.zeros(1, np.float32),
        "column": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Sub", [INPUT_NAME, "centre"], ["centred"], name="centre_columns"),
        helper.make_node("Mul", ["centred", "scale"], ["scaled"], name="scale_columns"),
    ]
    for code, bias in ((0, "bias"), (1, "none")):
        nodes += [
            helper.make_node("Sub", ["scaled", f"mean{code}"], [f"apart{code}"], name=f"distance_{code}"),
            helper.make_node("Mul", [f"apart{code}", f"apart{code}"], [f"square{code}"], name=f"square_{code}"),
            helper.make_node("Gemm", [f"square{code}", f"weights{code}", bias], [f"near{code}"], name=f"weigh_{code}"),
        ]
    nodes += [
        helper.make_node("Sub", ["near0", "near1"], ["score"], name="compare_classes"),
        helper.make_node("Sigmoid", ["score"], ["probability_column"], name="to_probability"),
        helper.make_node("Squeeze", ["probability_column", "column"], [OUTPUT_NAME], name="to_vector"),
    ]
    graph = helper.make_graph(
        nodes,
        "naive_bayes",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, ["N", width])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["N"])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return model_of(graph)


def check_equal_gaussian(onnx_bytes: bytes, parameters: GaussianParameters, seed: int = 0) -> float:
    """Run our own exported model beside the float64 formula on random and edge rows.

    Only for bytes that we made ourselves: they are loaded in this process, without a sandbox.

    Returns:
        The largest absolute difference of probabilities seen.

    Raises:
        Forged: the two differ by more than ``TOLERANCE`` on some row.
    """
    from koinon.models.runtime import open_session

    slopes = parameters.means[1] - parameters.means[0]
    corners = LogisticParameters(parameters.low, parameters.high, slopes, 0.0)
    rows = edge_rows(corners, np.random.default_rng(seed)).astype(np.float32)
    (answers,) = open_session(onnx_bytes).run([OUTPUT_NAME], {INPUT_NAME: rows})
    expected = parameters.probability(rows.astype(np.float64))
    worst = float(np.abs(np.asarray(answers) - expected).max())
    if not worst <= TOLERANCE:
        raise Forged(f"the exported model differs from the trained one by {worst:.3g}, more than {TOLERANCE:.3g}")
    return worst
