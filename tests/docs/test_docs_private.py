"""`docs/private-computation.md`: what it says can be computed on secrets can, comes to what NumPy has, and is all."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from koinon.privacy import arrays, ordering, supported_primitives
from koinon.privacy.arrays import SecretArray
from koinon.privacy.clear import ClearBackend
from koinon.privacy.computation import reveal, run, table
from koinon.privacy.graphs.onnx_model import supported_operators

PAGE = (Path(__file__).parents[2] / "docs" / "private-computation.md").read_text()
ARRAYS, JAX, ONNX = re.split(r"^## (?:Secret arrays|JAX|ONNX)$", PAGE, flags=re.MULTILINE)[1:]
ROWS = np.random.default_rng(5).normal(size=(23, 3)).round(3)
OPERATORS = {
    "__add__": "+ 1",
    "__sub__": "x -",
    "__rsub__": "2 -",
    "__neg__": "-x",
    "__mul__": "x * x",
    "__matmul__": "x @",
    "__rmatmul__": ") @ x",
    "__truediv__": "x /",
    "__rtruediv__": "1 /",
    "__pow__": "x**",
    "__abs__": "abs(",
    "__lt__": "<",
    "__gt__": ">",
    "__le__": "<=",
    "__ge__": ">=",
    "__eq__": "==",
    "__ne__": "!=",
    "__invert__": "~",
    "__and__": "&",
    "__or__": "|",
    "__xor__": "^",
    "__getitem__": "x[",
}
"""The operators of an array, and how each looks in an expression."""
TURNED = {"__radd__": "__add__", "__rmul__": "__mul__"}
"""Operators that are another with its operands turned."""
REFUSED = {"__array__", "__array_ufunc__", "__bool__", "__float__", "__index__", "__int__"}
OF_EVERY_CLASS = {"__doc__", "__hash__", "__init__", "__len__", "__module__", "__repr__", "__slots__"}


def expressions() -> Iterator[tuple[str, str]]:
    for line in ARRAYS.splitlines():
        if line.startswith("| `"):
            secret, plain = re.fullmatch(r"\| (.*?) \|(?: (.*?))? ?\|", line.replace(r"\|", "¦")).groups()  # type: ignore[union-attr]
            ours, theirs = (re.findall(r"`([^`]+)`", (each or "").replace("¦", "|")) for each in (secret, plain))
            yield from zip(ours, theirs or ours, strict=True)


EXPRESSIONS = dict(expressions())


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_of_the_page_is_what_numpy_computes(expression: str) -> None:
    names = {**vars(ordering), **vars(arrays), "np": np}

    def secretly(x: SecretArray) -> object:
        return reveal(result=eval(expression, {**names, "x": x}))

    found = run(secretly, [table(ROWS)], ClearBackend()).outputs["result"]  # type: ignore[arg-type]
    wanted = np.asarray(eval(EXPRESSIONS[expression], {"np": np, "x": ROWS}), float)
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() < 5e-4


def functions(module: ModuleType) -> set[str]:
    own = inspect.getmembers(module, lambda each: inspect.isfunction(each) and each.__module__ == module.__name__)
    return {name for name, _ in own if not name.startswith("_")}


def test_every_name_is_on_the_page() -> None:
    written = " ".join(EXPRESSIONS)
    told = set(re.findall(r"`(\w+)`", ARRAYS))
    for name in functions(arrays) | functions(ordering):
        assert name in told or re.search(rf"\b{name}\(", written), name
    for name in vars(SecretArray):
        if name.startswith("__"):
            assert name in REFUSED | OF_EVERY_CLASS or OPERATORS[TURNED.get(name, name)] in written, name
        elif not name.startswith("_"):
            assert name in told or f".{name}" in written or f"`x.{name}`" in ARRAYS, name


def test_the_lists_are_the_lists() -> None:
    assert tuple(re.findall(r"`([\w-]+)`", JAX.split("tests/privacy`.")[1])) == supported_primitives()
    assert tuple(re.findall(r"`([\w.]+)`", ONNX)) == supported_operators()
