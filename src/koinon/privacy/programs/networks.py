"""What programs share that train networks of layers: settings, the target, what is opened and how that is shown.

The target is one of the study's columns. As a ``class`` its public range goes from 0 to the last class's code; as a
``number`` it is predicted in its own unit. A network is of use only whole, so all weights are opened as one array:
layer by layer, in rows. They may remember single people, which planted rows show where there are two classes.
"""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, Final

import numpy as np

from koinon.kernel.codec import Record
from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray, concatenate
from koinon.privacy.backend import Program
from koinon.privacy.computation import Revealed, reveal
from koinon.privacy.learn.layers import MOST_UNITS, Dense, Layer
from koinon.privacy.learn.networks import LayeredNetwork, Schedule, shapes_of
from koinon.privacy.programs.classes import classes_of, codes_of
from koinon.privacy.programs.offer import LARGEST_RESULT, Layout, Offer, ResultTable, Target, on_target
from koinon.privacy.programs.planted import unless_remembered

OUTPUTS: Final = ("weights",)
CLASS: Final = "class"
NUMBER: Final = "number"
MOST_STEPS: Final = 10_000


class NetworkSettings(Record, frozen=True):
    """Attributes:
    predicts: "class" or "number".
    epochs: how often every row comes; public, so that time tells nothing.
    batch: rows in a step.
    rate: of a step.
    seed: of the weights that training starts from and of the order of the rows.
    """

    predicts: str = CLASS
    epochs: int = 10
    batch: int = 32
    rate: float = 0.1
    seed: int = 0


def offer_of(
    name: str,
    summary: str,
    settings: type[NetworkSettings],
    layers_of: Callable[[Layout, Any], Sequence[Layer]],
    names: Callable[[Any, int, Layer], Sequence[str]],
) -> Offer:
    """What a program says that trains these layers.

    Args:
        layers_of: layout, settings → what is trained. Raises InvalidInput for settings out of range.
        names: settings, place of a layer, layer → what its arrays are called.
    """

    def program(layout: Layout, given: Any, _: tuple[str, ...]) -> Program:
        check_training(name, layout, given)
        return program_of(name, layout, given, layers_of(layout, given))

    def present(outputs: Mapping[str, np.ndarray], layout: Layout, given: Any) -> tuple[ResultTable, ...]:
        return tables_of(outputs, layers_of(layout, given), lambda place, layer: names(given, place, layer))

    return Offer(
        name=name,
        summary=f"a neural network {summary}, for classes or a number; makes a model",
        target=Target.NUMBER,
        outputs=OUTPUTS,
        settings=settings,
        build=program,
        present=present,
        judges_planted=True,
        whole_columns=whole_target,
        codes=whole_target,
    )


def check_training(name: str, layout: Layout, settings: NetworkSettings) -> None:
    """Refuse a layout or settings that no training can have. Raises InvalidInput."""
    if settings.predicts not in (CLASS, NUMBER):
        raise InvalidInput(f"{name} predicts a {CLASS!r} or a {NUMBER!r}; got {settings.predicts[:40]!r}")
    if not 0.0001 <= settings.rate <= 1.0 or not 0 <= settings.seed < 1 << 32:
        raise InvalidInput(
            f"{name} takes a rate from 0.0001 to 1 and a seed from 0 to 2^32 - 1; got {settings.rate:g} and"
            f" {settings.seed}"
        )
    if not 1 <= settings.batch <= layout.people or settings.epochs < 1:
        raise InvalidInput(f"{name} takes 1 to {layout.people} people in a step, and at least one epoch")
    if settings.epochs * (layout.people // settings.batch) > MOST_STEPS:
        raise InvalidInput(f"{name} makes at most {MOST_STEPS} steps; take larger batches or fewer epochs")


def outputs_of(name: str, layout: Layout, settings: NetworkSettings) -> int:
    """Numbers that the last layer gives. Raises InvalidInput where classes have no codes."""
    if settings.predicts == NUMBER:
        return 1
    classes = classes_of(name, layout)
    return 1 if classes == 2 else classes


def program_of(name: str, layout: Layout, settings: NetworkSettings, layers: Sequence[Layer]) -> Program:
    """The program that trains these layers.

    Raises:
        InvalidInput: they do not take the study's columns or its planted rows, or are too large to be opened.
        Refused: it could overflow.
    """
    width = len(layout.columns) - 1
    if layers[0].inputs != width:
        raise InvalidInput(f"{name} is set for rows of {layers[0].inputs} numbers; the study has {width} columns")
    if max(layer.outputs for layer in layers) > MOST_UNITS or sum(map(prod, shapes_of(layers))) > LARGEST_RESULT:
        raise InvalidInput(
            f"{name}: a layer gives at most {MOST_UNITS} numbers, and all have {LARGEST_RESULT} weights at most"
        )
    numbers = settings.predicts == NUMBER
    if layout.planted and (numbers or layers[-1].outputs > 1 or layout.place != width):
        raise InvalidInput(f"{name} is tried on planted rows where the last column is a target of two classes")
    classes = 0 if numbers else classes_of(name, layout)

    def compute(rows: SecretArray, target: SecretArray) -> Revealed:
        truth = target if numbers else codes_of(target, classes)
        schedule = Schedule(settings.epochs, settings.batch, settings.rate, settings.seed)
        fitted = LayeredNetwork(tuple(layers), schedule, numbers).fit(rows, truth)
        opened = reveal(weights=concatenate([each.reshape(-1) for each in fitted.weights]))
        return unless_remembered(opened, layout, rows, target, lambda asked: fitted.decision_function(asked)[:, 0])

    return on_target(name, layout, OUTPUTS, compute, Target.NUMBER)


def parts_of(weights: np.ndarray, layers: Sequence[Layer]) -> list[np.ndarray]:
    """Opened weights, each in its shape. Raises InvalidInput where there are more or fewer."""
    shapes = shapes_of(layers)
    sizes = [prod(shape) for shape in shapes]
    if weights.shape != (sum(sizes),):
        raise InvalidInput(f"these layers have {sum(sizes)} weights; got {weights.shape}")
    parts = np.split(weights, np.cumsum(sizes)[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def tables_of(
    outputs: Mapping[str, np.ndarray], layers: Sequence[Layer], names: Callable[[int, Layer], Sequence[str]]
) -> tuple[ResultTable, ...]:
    """A table for each array of weights, as opened: of columns in [−1, 1].

    Args:
        names: (place of a layer, layer) → what its arrays are called.
    """
    parts = iter(parts_of(outputs["weights"], layers))
    tables = []
    for place, layer in enumerate(layers):
        for name in names(place, layer):
            values = np.atleast_2d(next(parts))
            rows = tuple(f"from {number}" for number in range(1, len(values) + 1)) if len(values) > 1 else ("",)
            heads = tuple(f"unit {number}" for number in range(1, values.shape[1] + 1))
            tables.append(ResultTable(name, rows, heads, values))
    return tuple(tables)


def whole_target(layout: Layout, settings: NetworkSettings) -> tuple[str, ...]:
    """The target's name, where it holds codes."""
    return (layout.target,) if settings.predicts == CLASS else ()


def dense_after(inputs: int, hidden: int, outputs: int) -> list[Layer]:
    """The last layer, behind a hidden one if it has units."""
    between: list[Layer] = [Dense(inputs, hidden, cut=True)] if hidden else []
    return [*between, Dense(hidden or inputs, outputs)]
