"""Private computation: statistics, learning, joins and inference on data that nobody shows."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from koinon.privacy.graphs.jax_function import jit, run
    from koinon.privacy.graphs.jax_primitives import supported_primitives

__all__ = ["jit", "run", "supported_primitives"]


def __getattr__(name: str) -> Any:
    """Functions that need JAX (``pip install koinon[jax]``) come when they are asked for."""
    if name in ("jit", "run"):
        from koinon.privacy.graphs import jax_function

        return getattr(jax_function, name)
    if name == "supported_primitives":
        from koinon.privacy.graphs.jax_primitives import supported_primitives

        return supported_primitives
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
