"""A model cut into parts of which each is a model of its own, so that who computes one sees no other.

    division = divided(model, 4, name_of)
    division.together([part.model.in_the_clear(rows[:, part.columns]) for part in division.parts])    the model's answer

What is cut are, of several layers, the units of the last hidden one: a part has their weights to both sides, and its
numbers are added to the others'. A single layer is cut by its outputs, or by its inputs where it has fewer outputs than
there are parts: then a part takes some columns of the rows only. The last layer's bias and the link are kept back.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.encrypted.models import EncryptedModel, Layer, Link, layer, linked
from koinon.privacy.encrypted.replication import is_enough


@dataclass(frozen=True)
class Part:
    """One part.

    Attributes:
        name: what questions call its model.
        model: what whoever has this part evaluates.
        columns: of the rows, which it takes.
        outputs: of the whole model, to which its numbers are added.
    """

    name: str
    model: EncryptedModel
    columns: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Division:
    """All parts, and what stays with whoever cut the model.

    Attributes:
        bias: of the last layer, (outputs,).
        link: after it.
    """

    parts: tuple[Part, ...]
    features: int
    bias: tuple[float, ...]
    link: Link

    @property
    def depth(self) -> int:
        """Products one after the other; all parts have the same."""
        return self.parts[0].model.depth

    def together(self, answers: Sequence[np.ndarray]) -> np.ndarray:
        """The model's answer (n, outputs) from those of the parts, in their order: (n, outputs of the part) each."""
        total = np.tile(np.asarray(self.bias), (len(answers[0]), 1))
        for part, answer in zip(self.parts, answers, strict=True):
            total[:, list(part.outputs)] += answer
        return linked(total, self.link)


def whole(model: EncryptedModel, name_of: Callable[[EncryptedModel], str]) -> Division:
    """The model as its only part, but for its link. Raises InvalidInput."""
    model.check()
    part = _part(model.layers, _all(model.features), _all(model.outputs), name_of)
    return Division((part,), model.features, (0.0,) * model.outputs, model.link)


def most_parts(model: EncryptedModel) -> int:
    """Into how many parts the model can be cut."""
    if len(model.layers) > 1:
        return len(model.layers[-2].bias)
    return max(model.outputs, model.features)


def parts_for(model: EncryptedModel, split: str, workers: int, agree: int) -> int:
    """Into how many parts work for so many workers cuts the model: as many, if it can be.

    Args:
        split: ``rows`` for none, or ``model``.
        agree: how many have to say the same about each part.

    Raises:
        InvalidInput: it cannot be cut, or workers are too few for each to miss a part.
    """
    model.check()
    if split == "rows":
        return 1
    if split != "model":
        raise InvalidInput("work is split by rows or by model")
    parts = min(workers, most_parts(model))
    if most_parts(model) < 2:
        raise InvalidInput("a model of one input and one output cannot be cut into parts; split the rows")
    if parts < 2 or not is_enough(workers, agree, parts):
        raise InvalidInput(
            f"{workers} workers are too few for none of them to see the whole model where {agree} have to agree on each"
            f" of {parts} parts; name more, two more than have to agree if one may lie"
        )
    return parts


def divided(model: EncryptedModel, count: int, name_of: Callable[[EncryptedModel], str]) -> Division:
    """The model in ``count`` parts of about the same size.

    Args:
        name_of: what questions call a part's model.

    Raises:
        InvalidInput: it cannot be cut into so many, or into fewer than two.
    """
    model.check()
    if not 2 <= count <= most_parts(model):
        raise InvalidInput(f"this model cannot be cut into {count} parts; it has {most_parts(model)} at most")
    last = model.layers[-1]
    weights, none = np.asarray(last.weights), np.zeros(model.outputs)
    every_column, every_output = _all(model.features), _all(model.outputs)
    parts = []
    for units in np.array_split(np.arange(_divisible(model, count)), count):
        some = tuple(units.tolist())
        if len(model.layers) > 1:
            layers = (*model.layers[:-2], _some(model.layers[-2], units), layer(weights[:, units], none))
            parts.append(_part(layers, every_column, every_output, name_of))
        elif model.outputs >= count:
            parts.append(_part((layer(weights[units], none[units]),), every_column, some, name_of))
        else:
            parts.append(_part((layer(weights[:, units], none),), some, every_output, name_of))
    return Division(tuple(parts), model.features, last.bias, model.link)


def _divisible(model: EncryptedModel, count: int) -> int:
    """How many units, outputs or inputs there are to be cut."""
    if len(model.layers) > 1:
        return len(model.layers[-2].bias)
    return model.outputs if model.outputs >= count else model.features


def _part(
    layers: tuple[Layer, ...],
    columns: tuple[int, ...],
    outputs: tuple[int, ...],
    name_of: Callable[[EncryptedModel], str],
) -> Part:
    model = EncryptedModel(layers, Link.IDENTITY)
    return Part(name_of(model), model, columns, outputs)


def _some(whole_layer: Layer, units: np.ndarray) -> Layer:
    weights, bias = np.asarray(whole_layer.weights), np.asarray(whole_layer.bias)
    return layer(weights[units], bias[units], square=whole_layer.square)


def _all(size: int) -> tuple[int, ...]:
    return tuple(range(size))
