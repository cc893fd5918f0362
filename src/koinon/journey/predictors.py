"""What a program's outputs become when they are published: an ONNX model that gives the same answers.

One function for each program that makes a model; a program that is not in the table makes none.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from koinon.jobs.study import StudyFile
from koinon.journey.results import Trained
from koinon.kernel.errors import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

BINARY_CLASSIFICATION: Final = "binary-classification"


@dataclass(frozen=True)
class Predictor:
    """A model to be published.

    Attributes:
        onnx: its bytes.
        task: what it answers, as the model card names it.
        difference: largest difference between its answers and the trained formula's, as measured.
    """

    onnx: bytes
    task: str
    difference: float


def arrays_of(trained: Trained) -> dict[str, "FloatArray"]:
    """The opened outputs by name. Raises InvalidInput where one does not fill its shape."""
    import numpy as np

    found = {}
    for one in trained.outputs:
        values = np.array(one.values, np.float64)
        if any(size < 0 for size in one.shape) or values.size != int(np.prod(one.shape, dtype=np.int64)):
            raise InvalidInput(f"the output {one.name!r} does not fill its shape {one.shape}")
        found[one.name] = values.reshape(one.shape)
    return found


def makes_model(algorithm: str) -> bool:
    """Whether this program's outputs can be published as a model."""
    return algorithm in _PREDICTORS


def predictor_of(trained: Trained, study: StudyFile) -> Predictor:
    """The model of a study.

    Raises:
        InvalidInput: the algorithm makes no model, or not everything the model needs was opened.
    """
    if not makes_model(study.algorithm):
        raise InvalidInput(
            f"{study.algorithm} makes no model to be published; see its result with: koinon study result NUMBER"
        )
    return _PREDICTORS[study.algorithm](arrays_of(trained), study)


def _logistic_regression(outputs: Mapping[str, "FloatArray"], study: StudyFile) -> Predictor:
    import numpy as np

    from koinon.models.onnx_export import LogisticParameters, check_equal, export_logistic

    width = len(study.columns)
    _need(outputs, {"coefficients": (width,), "intercept": (1,)}, study)
    parameters = LogisticParameters(
        low=np.array([column.low for column in study.columns], np.float64),
        high=np.array([column.high for column in study.columns], np.float64),
        coefficients=outputs["coefficients"],
        intercept=float(outputs["intercept"][0]),
    )
    onnx = export_logistic(parameters)
    return Predictor(onnx, BINARY_CLASSIFICATION, check_equal(onnx, parameters))


def _naive_bayes(outputs: Mapping[str, "FloatArray"], study: StudyFile) -> Predictor:
    import numpy as np

    from koinon.models.onnx_gaussian import GaussianParameters, check_equal_gaussian, export_gaussian

    width = len(study.columns)
    _need(outputs, {"priors": (2,), "means": (2, width), "variances": (2, width)}, study)
    parameters = GaussianParameters(
        low=np.array([column.low for column in study.columns], np.float64),
        high=np.array([column.high for column in study.columns], np.float64),
        priors=outputs["priors"],
        means=outputs["means"],
        variances=outputs["variances"],
    )
    onnx = export_gaussian(parameters)
    return Predictor(onnx, BINARY_CLASSIFICATION, check_equal_gaussian(onnx, parameters))


def _need(outputs: Mapping[str, "FloatArray"], shapes: Mapping[str, tuple[int, ...]], study: StudyFile) -> None:
    for name, shape in shapes.items():
        if name not in outputs:
            raise InvalidInput(f"a model of {study.algorithm} needs the output {name!r}, which the study does not open")
        if outputs[name].shape != shape:
            raise InvalidInput(f"the output {name!r} has shape {outputs[name].shape} and must have {shape}")


_PREDICTORS: Final[dict[str, Callable[[Mapping[str, "FloatArray"], StudyFile], Predictor]]] = {
    "logistic-regression/1": _logistic_regression,
    "naive-bayes/1": _naive_bayes,
}
