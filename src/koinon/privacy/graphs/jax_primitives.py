"""Which of JAX's primitives run on secrets: one table, from the parts that hold the rules."""

from typing import Final

from koinon.privacy.graphs.jax_control import CONTROL
from koinon.privacy.graphs.jax_elementwise import ELEMENTWISE
from koinon.privacy.graphs.jax_layout import LAYOUT
from koinon.privacy.graphs.jax_products import PRODUCTS
from koinon.privacy.graphs.jax_reductions import REDUCTIONS
from koinon.privacy.graphs.jax_values import Rule

PRIMITIVES: Final[dict[str, Rule]] = {**CONTROL, **ELEMENTWISE, **LAYOUT, **PRODUCTS, **REDUCTIONS}


def supported_primitives() -> tuple[str, ...]:
    """Names of the primitives that run on secret operands. On public operands, all of JAX's do."""
    return tuple(sorted(PRIMITIVES))
