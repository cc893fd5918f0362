"""Answers of a model for rows that nobody else sees, behind one call whatever protects them.

``Predictor`` is that call. ``SharedPredictor`` answers with four parties: the model's weights and the rows are both
shared, no party sees either, and only the answers are opened; here all four are in this process, and
``answering.RemotePredictor`` asks four nodes that keep the weights as shares. ``encrypted.service.EncryptedPredictor``
answers with a model in the clear on encrypted rows. What a caller learns is the answers; of many, a model can be
approximated.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf, log2, prod
from typing import TYPE_CHECKING, Final, Protocol, Self

import numpy as np

from koinon.crypto.random import SystemRng
from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray
from koinon.privacy.backend import Backend, PlainInput, Program
from koinon.privacy.computation import LOCAL, Revealed, program, reveal
from koinon.privacy.graphs.onnx_model import evaluate_model
from koinon.privacy.rep4.simulation import SimulatedRep4
from koinon.wire.committee import Column
from koinon.wire.inference import SharedWeight

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

FRACTION_BITS: Final = 22
NUMBERS: Final = (Column("number", -1.0, 1.0),)
"""The one column in which weights and rows are shared."""

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
class SharedGraph:
    """An ONNX graph whose weights are shared: what is public about it.

    Attributes:
        model: without the shared numbers, with one input and one output used.
        places: the shared initialisers in the order of ``SharedModel.weights``.
    """

    model: "ModelProto"
    places: tuple[SharedWeight, ...]

    @classmethod
    def of_bytes(cls, graph: bytes, places: Sequence[SharedWeight]) -> Self:
        """Raises InvalidInput for what is no ONNX graph that takes these weights and one input."""
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # no stubs among our packages
        from onnx import load_from_string

        try:
            model = load_from_string(graph)
        except (DecodeError, RecursionError):
            raise InvalidInput("the shared model's graph is not ONNX") from None
        names = {each.name for each in places}
        if len(names) != len(places) or names & {each.name for each in model.graph.initializer}:
            raise InvalidInput("the shared model's graph holds a weight twice")
        if not all(each.shape and min(each.shape) > 0 and 0 < each.reach < inf for each in places):
            raise InvalidInput("a shared weight has numbers, and a finite bound above 0")
        _input_of(model)
        return cls(model, tuple(places))

    @property
    def numbers(self) -> int:
        """How many numbers are shared."""
        return sum(prod(each.shape) for each in self.places)

    @property
    def row(self) -> tuple[int, ...]:
        """Shape of one row: that of the input without its first axis. Raises InvalidInput where it is not fixed."""
        sizes = [axis.dim_value for axis in _input_of(self.model).type.tensor_type.shape.dim]
        if len(sizes) < 2 or min(sizes[1:]) < 1:
            raise InvalidInput("a model that nodes keep as shares declares the shape of its rows; export it with one")
        return tuple(sizes[1:])

    def answer(self, weights: SecretArray, rows: SecretArray) -> SecretArray:
        """The first output for rows of the input's shape, with weights (k,) from −1 to 1."""
        tensors, start = {}, 0
        for each in self.places:
            size = prod(each.shape)
            tensors[each.name] = weights[start : start + size].reshape(*each.shape).times(each.reach)
            start += size
        given = {_input_of(self.model).name: rows, **tensors}
        found = evaluate_model(self._declaring(tensors), given)[self.model.graph.output[0].name]
        assert isinstance(found, SecretArray)
        return found

    def program(self, rows: tuple[int, ...], largest: float, fraction_bits: int = FRACTION_BITS) -> Program:
        """What four parties run on the weights (k, 1) and rows of shape ``rows`` as one column, divided by ``largest``.

        Raises:
            InvalidInput: the graph does not run on such rows.
        """

        def compute(weights: SecretArray, asked: SecretArray) -> Revealed:
            return reveal(answer=self.answer(weights.reshape(-1), asked.reshape(*rows).times(largest)))

        return program(LOCAL, compute, [(self.numbers, 1), (prod(rows), 1)], NUMBERS, fraction_bits)

    def _declaring(self, tensors: Mapping[str, SecretArray]) -> "ModelProto":
        """The graph with its shared weights among the inputs, which is how they are given."""
        from onnx import ModelProto, helper

        model = ModelProto()
        model.CopyFrom(self.model)
        model.graph.input.extend(helper.make_empty_tensor_value_info(name) for name in tensors)
        return model


@dataclass(frozen=True)
class SharedModel:
    """A model whose weights are shared.

    Attributes:
        graph: what is public.
        weights: every shared number, one initialiser after the other, each divided by its reach.
    """

    graph: SharedGraph
    weights: np.ndarray

    @classmethod
    def of(cls, model: "ModelProto") -> Self:
        """Raises InvalidInput for a model without weights that can be shared, or with several inputs."""
        from onnx import ModelProto, numpy_helper

        users: dict[str, set[str]] = {}
        for node in model.graph.node:
            for name in node.input:
                users.setdefault(name, set()).add(node.op_type)
        tensors = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
        shared = {n: t for n, t in tensors.items() if t.dtype.kind == "f" and users.get(n, {""}) <= _SHARED_BY}
        if not shared:
            raise InvalidInput("the model has no weights that can be shared; ask it in the clear")
        if not all(np.isfinite(tensor).all() and tensor.size for tensor in shared.values()):
            raise InvalidInput("the model has weights that are not finite, or none where it declares some")
        places, parts = [], []
        for name, tensor in shared.items():
            reach = 2.0 ** ceil(log2(max(float(np.abs(tensor).max()), 2.0**-10)))
            places.append(SharedWeight(name, tensor.shape, reach))
            parts.append(tensor.astype(np.float64).ravel() / reach)
        public = ModelProto()
        public.CopyFrom(model)
        for kept in (public.graph.initializer, public.graph.input):
            for each in [each for each in kept if each.name in shared]:
                kept.remove(each)
        _input_of(public)
        return cls(SharedGraph(public, tuple(places)), np.concatenate(parts))


def _input_of(model: "ModelProto") -> "ValueInfoProto":
    stored = {each.name for each in model.graph.initializer}
    inputs: list[ValueInfoProto] = [each for each in model.graph.input if each.name not in stored]
    if len(inputs) != 1 or not model.graph.output:
        raise InvalidInput("a shared model answers one input")
    return inputs[0]


def reach_of(largest: float) -> float:
    """The power of two that rows up to ``largest`` in size are divided by. Raises InvalidInput unless it is finite."""
    if not 0 < largest < inf:
        raise InvalidInput(f"rows need a largest number above 0; got {largest:g}")
    return float(2.0 ** ceil(log2(largest)))


def checked_rows(rows: np.ndarray, largest: float) -> np.ndarray:
    """Rows as float64. Raises InvalidInput for numbers that are not finite or larger than ``largest``, and for none."""
    values = np.asarray(rows, np.float64)
    if not values.size or not np.isfinite(values).all() or np.abs(values).max() > largest:
        raise InvalidInput(f"this model takes rows of numbers up to {largest:g} in size")
    return values


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
    fraction_bits: int = FRACTION_BITS

    async def predict(self, rows: np.ndarray) -> np.ndarray:
        """See ``Predictor.predict``; takes rows of any shape the model's input has.

        Raises:
            InvalidInput: numbers that are not finite or too large, or a shape that the model does not take.
            Refused: the model could overflow on some rows.
            ProtocolAbort: a party deviated.
        """
        values, scale = checked_rows(rows, self.largest), reach_of(self.largest)
        made = self.model.graph.program(values.shape, scale, self.fraction_bits)
        owners = [PlainInput(NUMBERS, part.reshape(-1, 1)) for part in (self.model.weights, values / scale)]
        engine = self.engine or SimulatedRep4()
        found = await asyncio.to_thread(engine.run, made, owners, SystemRng())
        answers: np.ndarray = found.outputs["answer"]
        return answers
