"""What a program's outputs become when they are published: an ONNX model that gives the same answers.

One function for each program that makes a model; a program that is not in the table makes none.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log, prod
from typing import TYPE_CHECKING, Any, Final

from koinon.jobs.study import StudyFile
from koinon.journey.results import Trained
from koinon.kernel.errors import InvalidInput
from koinon.wire.committee import Column

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from koinon.models.onnx_networks import NetworkLayer
    from koinon.privacy.learn.layers import Layer
    from koinon.privacy.programs.offer import Layout
    from koinon.privacy.programs.preparation import PreparedSettings

    FloatArray = NDArray[np.float64]

BINARY_CLASSIFICATION: Final = "binary-classification"
CLASSIFICATION: Final = "classification"
REGRESSION: Final = "regression"
_UNCUT: Final = 1e15
"""An end for numbers that are not cut."""


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


def features_of(study: StudyFile) -> tuple[Column, ...]:
    """The columns that a model of the study answers from: all but its target."""
    return tuple(column for column in study.columns if column.name != study.target)


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
    from koinon.privacy.programs import registry
    from koinon.privacy.programs.offer import decode_settings, is_prepared

    outputs = arrays_of(trained)
    settings = decode_settings(registry.offer(study.algorithm), study.settings)
    if is_prepared(settings):
        return _prepared(outputs, study, settings)
    return _PREDICTORS[study.algorithm](outputs, study)


def _prepared(outputs: Mapping[str, "FloatArray"], study: StudyFile, settings: "PreparedSettings") -> Predictor:
    """The model on prepared columns, with the work of preparing rows in front of it."""
    import msgspec
    import numpy as np

    from koinon.jobs.inputs import has_binary_target, layout
    from koinon.models.onnx_preparation import PreparationParameters, check_equal_prepared, export_prepared
    from koinon.privacy.programs.offer import PREPARATION
    from koinon.privacy.programs.preparation import in_units, inside, parts_of

    shared = layout(study, (1,) * len(study.owners))
    parts = parts_of(shared, settings)
    _need(outputs, {PREPARATION: (3, len(parts))}, study)
    beside = study.target if has_binary_target(study) else ""
    columns = tuple(column for column in inside(shared, settings).columns if column.name != beside)
    rest = {name: values for name, values in outputs.items() if name != PREPARATION}
    inner = _PREDICTORS[study.algorithm](rest, msgspec.structs.replace(study, columns=columns))
    fills, centres, factors = in_units(outputs[PREPARATION], shared, parts)
    names = [column.name for column in features_of(study)]
    places = [number for number, part in enumerate(parts) if part.column.name != study.target]
    chosen = [parts[number] for number in places]
    free = [not part.scaled and part.code is None for part in chosen]
    low, high = _ranges(study)
    parameters = PreparationParameters(
        low,
        high,
        sources=np.array([names.index(shared.columns[part.source].name) for part in chosen]),
        masks=np.array([-1 if part.mask is None else names.index(shared.columns[part.mask].name) for part in chosen]),
        fills=fills[places],
        centres=centres[places],
        factors=factors[places],
        lowest=np.where(free, -_UNCUT, [part.column.low for part in chosen]),
        highest=np.where(free, _UNCUT, [part.column.high for part in chosen]),
        codes=np.array([-1 if part.code is None else part.code for part in chosen]),
    )
    onnx = export_prepared(inner.onnx, parameters)
    return Predictor(onnx, inner.task, inner.difference + check_equal_prepared(onnx, inner.onnx, parameters))


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


def _linear_regression(outputs: Mapping[str, "FloatArray"], study: StudyFile) -> Predictor:
    unit, level = _target_units(study)
    return _line(outputs, study, unit, level, count=False)


def _poisson_regression(outputs: Mapping[str, "FloatArray"], study: StudyFile) -> Predictor:
    unit, level = _target_units(study)
    return _line(outputs, study, 1.0, log(unit + level), count=True)


def _line(
    outputs: Mapping[str, "FloatArray"], study: StudyFile, unit: float, level: float, *, count: bool
) -> Predictor:
    """``unit`` times the weighted columns, and ``level``; a count is the exponential of that."""
    from koinon.models.onnx_layers import LayerParameters, Link, check_equal_layers, export_layers
    from koinon.privacy.learn.poisson import HIGHEST

    _need(outputs, {"coefficients": (len(features_of(study)),), "intercept": (1,)}, study)
    low, high = _ranges(study)
    parameters = LayerParameters(
        low,
        high,
        weights=(unit * outputs["coefficients"].reshape(-1, 1),),
        biases=(unit * outputs["intercept"] + level,),
        link=Link.COUNT if count else Link.NUMBER,
        highest=level + HIGHEST,
    )
    onnx = export_layers(parameters)
    return Predictor(onnx, REGRESSION, check_equal_layers(onnx, parameters))


def _perceptron(outputs: Mapping[str, "FloatArray"], study: StudyFile) -> Predictor:
    from koinon.models.onnx_layers import LayerParameters, Link, check_equal_layers, export_layers
    from koinon.privacy.programs import registry
    from koinon.privacy.programs.offer import decode_settings

    units = decode_settings(registry.offer(study.algorithm), study.settings).hidden
    width = len(features_of(study))
    _need(
        outputs,
        {"hidden": (width, units), "hidden_bias": (units,), "output": (units, 1), "output_bias": (1,)},
        study,
    )
    layers = LayerParameters(
        *_ranges(study),
        weights=(outputs["hidden"], outputs["output"]),
        biases=(outputs["hidden_bias"], outputs["output_bias"]),
        link=Link.PROBABILITY,
    )
    onnx = export_layers(layers)
    return Predictor(onnx, BINARY_CLASSIFICATION, check_equal_layers(onnx, layers))


def _convolutional_network(outputs: Mapping[str, "FloatArray"], study: StudyFile) -> Predictor:
    from koinon.privacy.programs.convolutional_network import layers_of

    return _network(outputs, study, layers_of)


def _recurrent_network(outputs: Mapping[str, "FloatArray"], study: StudyFile) -> Predictor:
    from koinon.privacy.programs.recurrent_network import layers_of

    return _network(outputs, study, layers_of)


def _network(
    outputs: Mapping[str, "FloatArray"], study: StudyFile, layers_of: "Callable[[Layout, Any], list[Layer]]"
) -> Predictor:
    """The layers that were trained, with the weights that were opened."""
    from koinon.jobs.inputs import layout
    from koinon.models.onnx_layers import Link
    from koinon.models.onnx_networks import NetworkParameters, check_equal_network, export_network
    from koinon.privacy.learn.networks import shapes_of
    from koinon.privacy.programs import registry
    from koinon.privacy.programs.networks import NUMBER, parts_of
    from koinon.privacy.programs.offer import decode_settings

    settings = decode_settings(registry.offer(study.algorithm), study.settings)
    layers = layers_of(layout(study, (1,) * len(study.owners)), settings)
    _need(outputs, {"weights": (sum(prod(shape) for shape in shapes_of(layers)),)}, study)
    parts = parts_of(outputs["weights"], layers)
    low, high = _ranges(study)
    if settings.predicts == NUMBER:
        link, task, (unit, level) = Link.NUMBER, REGRESSION, _target_units(study)
    else:
        link = Link.PROBABILITY if layers[-1].outputs == 1 else Link.CLASSES
        task, unit, level = CLASSIFICATION, 1.0, 0.0
    parameters = NetworkParameters(low, high, tuple(_exported(layers, parts)), link, unit, level)
    onnx = export_network(parameters)
    return Predictor(onnx, task, check_equal_network(onnx, parameters))


def _exported(layers: "Sequence[Layer]", parts: "Sequence[FloatArray]") -> "Iterator[NetworkLayer]":
    """Each layer of a training as one of a model, with its own arrays."""
    from koinon.models.onnx_networks import ConvolutionLayer, DenseLayer, GatedLayer
    from koinon.privacy.learn.layers import TOP, Convolution, Dense, Pooling
    from koinon.privacy.learn.recurrence import Gated

    rest = iter(parts)
    for layer in layers:
        own = [next(rest) for _ in layer.shapes]
        match layer:
            case Convolution():
                largest = layer.pooling is Pooling.MAX
                yield ConvolutionLayer(layer.image, own[0], own[1], layer.window, layer.pool, largest, TOP)
            case Gated():
                yield GatedLayer(layer.length, layer.width, own[0], own[1], own[2], own[3])
            case Dense():
                yield DenseLayer(own[0], own[1], TOP if layer.cut else None)


def _noisy_network(outputs: Mapping[str, "FloatArray"], study: StudyFile) -> Predictor:
    """Weights whose last row is the bias; without hidden units, the last layer is all there is."""
    from koinon.models.onnx_layers import LayerParameters, Link, check_equal_layers, export_layers
    from koinon.privacy.programs import registry
    from koinon.privacy.programs.offer import decode_settings

    units = decode_settings(registry.offer(study.algorithm), study.settings).hidden
    width = len(features_of(study))
    hidden = (width + 1, units) if units else (1, 1)
    _need(outputs, {"hidden": hidden, "output": ((units or width) + 1,)}, study)
    layers = [outputs["hidden"]] if units else []
    layers.append(outputs["output"].reshape(-1, 1))
    parameters = LayerParameters(
        *_ranges(study),
        weights=tuple(layer[:-1] for layer in layers),
        biases=tuple(layer[-1] for layer in layers),
        link=Link.PROBABILITY,
        cut=True,
    )
    onnx = export_layers(parameters)
    return Predictor(onnx, BINARY_CLASSIFICATION, check_equal_layers(onnx, parameters))


def _multinomial_regression(outputs: Mapping[str, "FloatArray"], study: StudyFile) -> Predictor:
    from koinon.models.onnx_layers import LayerParameters, Link, check_equal_layers, export_layers

    width, (unit, level) = len(features_of(study)), _target_units(study)
    classes = round(unit + level) + 1
    _need(outputs, {"coefficients": (width, classes), "intercepts": (classes,)}, study)
    low, high = _ranges(study)
    layers = LayerParameters(low, high, (outputs["coefficients"],), (outputs["intercepts"],), Link.CLASSES)
    onnx = export_layers(layers)
    return Predictor(onnx, CLASSIFICATION, check_equal_layers(onnx, layers))


def _averaged_trees(outputs: Mapping[str, "FloatArray"], study: StudyFile) -> Predictor:
    """Trees whose leaves are shares or means; several are averaged."""
    return _trees(outputs, study, 0.0, added=False)


def _added_trees(outputs: Mapping[str, "FloatArray"], study: StudyFile) -> Predictor:
    """Trees whose leaves are added to a start: log-odds or numbers."""
    _need(outputs, {"start": (1,)}, study)
    return _trees(outputs, study, float(outputs["start"][0]), added=True)


def _trees(outputs: Mapping[str, "FloatArray"], study: StudyFile, start: float, *, added: bool) -> Predictor:
    import numpy as np

    from koinon.jobs.inputs import has_binary_target
    from koinon.models.onnx_export import OUTPUT_NAME
    from koinon.models.onnx_trees import NUMBER_NAME, TreeParameters, check_equal_trees, export_trees
    from koinon.privacy.programs import registry
    from koinon.privacy.programs.offer import decode_settings

    settings = decode_settings(registry.offer(study.algorithm), study.settings)
    trees, nodes = getattr(settings, "trees", 1), (1 << settings.depth) - 1
    _need(outputs, {"columns": (trees, nodes), "thresholds": (trees, nodes), "leaves": (trees, nodes + 1)}, study)
    low, high = _ranges(study)
    binary = has_binary_target(study)
    unit, level = (1.0, 0.0) if binary else _target_units(study)
    columns = outputs["columns"].round().astype(np.int64) - 1
    places = np.clip(columns, 0, len(low) - 1)
    parameters = TreeParameters(
        low,
        high,
        columns,
        thresholds=(high + low)[places] / 2 + outputs["thresholds"] * (high - low)[places] / 2,
        leaves=outputs["leaves"] * unit / (1 if added else trees),
        start=start * unit + level,
        log_odds=binary and added,
        name=OUTPUT_NAME if binary else NUMBER_NAME,
    )
    onnx = export_trees(parameters)
    return Predictor(onnx, BINARY_CLASSIFICATION if binary else REGRESSION, check_equal_trees(onnx, parameters))


def _ranges(study: StudyFile) -> tuple["FloatArray", "FloatArray"]:
    """Both ends (d,) of the ranges of the columns that a model answers from."""
    import numpy as np

    low, high = np.array([(column.low, column.high) for column in features_of(study)], np.float64).T
    return low, high


def _target_units(study: StudyFile) -> tuple[float, float]:
    """What 1 stands for above the middle of the target's range, and that middle."""
    target = next(column for column in study.columns if column.name == study.target)
    return (target.high - target.low) / 2, (target.high + target.low) / 2


def _need(outputs: Mapping[str, "FloatArray"], shapes: Mapping[str, tuple[int, ...]], study: StudyFile) -> None:
    for name, shape in shapes.items():
        if name not in outputs:
            raise InvalidInput(f"a model of {study.algorithm} needs the output {name!r}, which the study does not open")
        if outputs[name].shape != shape:
            raise InvalidInput(f"the output {name!r} has shape {outputs[name].shape} and must have {shape}")


_PREDICTORS: Final[dict[str, Callable[[Mapping[str, "FloatArray"], StudyFile], Predictor]]] = {
    "boosted-regression/1": _added_trees,
    "convolutional-network/1": _convolutional_network,
    "decision-tree/1": _averaged_trees,
    "gradient-boosting/1": _added_trees,
    "linear-regression/1": _linear_regression,
    "logistic-regression/1": _logistic_regression,
    "multinomial-regression/1": _multinomial_regression,
    "naive-bayes/1": _naive_bayes,
    "noisy-network/1": _noisy_network,
    "perceptron/1": _perceptron,
    "poisson-regression/1": _poisson_regression,
    "recurrent-network/1": _recurrent_network,
    "random-forest/1": _averaged_trees,
    "regression-forest/1": _averaged_trees,
    "regression-tree/1": _averaged_trees,
}
