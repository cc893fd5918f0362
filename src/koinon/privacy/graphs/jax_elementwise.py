"""JAX's elementwise primitives on secrets: one table, from the parts that hold the rules."""

from typing import Final

import numpy as np

from koinon.privacy.graphs.jax_approximations import APPROXIMATIONS
from koinon.privacy.graphs.jax_arithmetic import ARITHMETIC
from koinon.privacy.graphs.jax_order import ORDER
from koinon.privacy.graphs.jax_values import (
    Hidden,
    Rule,
    Step,
    Value,
)


def _same(_step: Step, x: Hidden) -> Value:
    return x


def _all_finite(_step: Step, x: Hidden) -> Value:
    return np.ones(x.shape, np.bool_)


ELEMENTWISE: Final[dict[str, Rule]] = {
    "copy": _same,
    "is_finite": _all_finite,
    "optimization_barrier": lambda _step, *operands: operands,
    "reduce_precision": _same,
    "stop_gradient": _same,
    **APPROXIMATIONS,
    **ARITHMETIC,
    **ORDER,
}
