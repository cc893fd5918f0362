"""Answers of a model for rows that nobody else sees, behind one call whatever protects them.

``Predictor`` is that call. ``SharedPredictor`` answers with four parties: the model's weights and the rows are both
shared, no party sees either, and only the answers are opened. ``encrypted.service.EncryptedPredictor`` answers with a
model in the clear on encrypted rows. What a caller learns is the answers; of many, a model can be approximated.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, log2, prod
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray
from koinon.privacy.backend import Backend, PlainInput
from koinon.privacy.computation import Revealed, reveal, run
from koinon.privacy.graphs.onnx_model import evaluate_model
from koinon.wire.committee import Column

if TYPE_CHECKING:
    from onnx import ModelProto

_SHARED_BY: Final = frozenset({"Add", "Conv", "Gemm", "MatMul"})
"""Operators whose weights may be secret; others take theirs in public, as the graph itself is."""


class Predictor(Protocol):
    """Asks a model about rows that it does not see."""

    async def predict(self, rows: np.ndarray) -> np.ndarray:
        """(n, outputs) answers for (n, features) rows.

        Raises:
            InvalidInput: rows that do not fit the model.
        """
        ...


@dataclass(frozen=True)
class SharedModel:
    """An ONNX model whose weights are shared. The graph and its shapes are public.

    Attributes:
        model: with one input and one output used.
        weights: every shared number, one initialiser after the other, each divided by its reach.
        places: where each shared initialiser stands in ``weights``, its shape, and its reach: the public power of two
            that none of its numbers is above in size.
    """

    model: "ModelProto"
    weights: np.ndarray
    places: Mapping[str, tuple[int, tuple[int, ...], float]]

    @classmethod
    def of(cls, model: "ModelProto") -> "SharedModel":
        """Raises InvalidInput for a model without weights that can be shared, or with several inputs."""
        from onnx import numpy_helper

        users: dict[str, set[str]] = {}
        for node in model.graph.node:
            for name in node.input:
                users.setdefault(name, set()).add(node.op_type)
        tensors = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
        shared = {n: t for n, t in tensors.items() if t.dtype.kind == "f" and users.get(n, {""}) <= _SHARED_BY}
        if not shared:
            raise InvalidInput("the model has no weights that can be shared; ask it in the clear")
        if len([each for each in model.graph.input if each.name not in tensors]) != 1:
            raise InvalidInput("a shared model answers one input")
        if not all(np.isfinite(tensor).all() and tensor.size for tensor in shared.values()):
            raise InvalidInput("the model has weights that are not finite, or none where it declares some")
        places, parts, start = {}, [], 0
        for name, tensor in shared.items():
            reach = 2.0 ** ceil(log2(max(float(np.abs(tensor).max()), 2.0**-10)))
            places[name] = (start, tensor.shape, reach)
            parts.append(tensor.astype(np.float64).ravel() / reach)
            start += tensor.size
        return cls(model, np.concatenate(parts), places)

    def answer(self, weights: SecretArray, rows: SecretArray) -> SecretArray:
        """The first output for rows of the input's shape, with weights (k,) from −1 to 1."""
        tensors = {
            name: weights[start : start + prod(shape)].reshape(*shape).times(reach)
            for name, (start, shape, reach) in self.places.items()
        }
        stored = {each.name for each in self.model.graph.initializer}
        name = next(each.name for each in self.model.graph.input if each.name not in stored)
        found = evaluate_model(self.model, {name: rows, **tensors})[self.model.graph.output[0].name]
        assert isinstance(found, SecretArray)
        return found


@dataclass(frozen=True)
class SharedPredictor:
    """Four parties answer; without an engine they are all in this process.

    Attributes:
        model: shared anew for every question, so that no share is used twice.
        largest: public; rows with larger numbers are refused.
    """

    model: SharedModel
    largest: float = 1.0
    engine: Backend | None = None
    fraction_bits: int = 22

    async def predict(self, rows: np.ndarray) -> np.ndarray:
        """See ``Predictor.predict``; takes rows of any shape the model's input has.

        Raises:
            InvalidInput: numbers that are not finite or too large, or a shape that the model does not take.
            Refused: the model could overflow on some rows.
            ProtocolAbort: a party deviated.
        """
        values = np.asarray(rows, np.float64)
        if not values.size or not np.isfinite(values).all() or np.abs(values).max() > self.largest:
            raise InvalidInput(f"this model takes rows of numbers up to {self.largest:g} in size")
        column = (Column("number", -1.0, 1.0),)
        scale = 2.0 ** ceil(log2(self.largest))
        owners = [PlainInput(column, part.reshape(-1, 1)) for part in (self.model.weights, values / scale)]

        def compute(weights: SecretArray, asked: SecretArray) -> Revealed:
            return reveal(answer=self.model.answer(weights.reshape(-1), asked.reshape(*values.shape).times(scale)))

        found = await asyncio.to_thread(run, compute, owners, self.engine, self.fraction_bits)
        answers: np.ndarray = found.outputs["answer"]
        return answers
