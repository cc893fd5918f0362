"""Exact matrix products modulo 2⁶⁴ on a device that JAX drives: split into ``ring``'s limbs, multiplied, added there.

The sums are the same integers below 2⁵³, so float64 is exact on any device that follows IEEE 754, in whatever order it
adds. A device is used only where ``KOINON_ACCELERATOR`` names one, and only for products that are worth the way there.
"""

import os
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.rep4.ring import BLOCK_TERMS, LIMB_BITS

if TYPE_CHECKING:
    import jax

SETTING: Final = "KOINON_ACCELERATOR"
"""Environment: ``gpu`` or ``cpu``, as JAX names its platforms; unset or empty for NumPy alone."""


class Accelerator:
    """One device. Products wait for their result; nothing stays there between calls."""

    __slots__ = ("_device", "_product")

    def __init__(self, device: "jax.Device") -> None:
        import jax

        self._device = device
        self._product = jax.jit(_product)

    def product(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """The (m, n) product modulo 2⁶⁴ of (m, k) and (k, n) words."""
        import jax

        missing = -left.shape[1] % BLOCK_TERMS
        first = np.pad(left.view(np.int64), ((0, 0), (0, missing)))
        second = np.pad(right.view(np.int64), ((0, missing), (0, 0)))
        with jax.enable_x64(True):
            placed = (jax.device_put(each, self._device) for each in (first, second))
            return np.asarray(self._product(*placed)).view(np.uint64)


def accelerator() -> Accelerator | None:
    """The device that the environment names, if it names one.

    Raises:
        InvalidInput: JAX is not installed, or sees no such device.
    """
    name = os.environ.get(SETTING, "")
    return _opened(name) if name else None


@cache
def _opened(name: str) -> Accelerator:
    try:
        import jax

        devices = jax.devices(name)
    except ImportError:
        raise InvalidInput(f"{SETTING}={name} needs JAX; install koinon[jax], or unset it") from None
    except RuntimeError:
        raise InvalidInput(f"{SETTING}={name}, but JAX sees no such device; unset it, or install JAX for it") from None
    return Accelerator(devices[0])


def _product(left: Any, right: Any) -> Any:
    """int64 (m, b·1024) and (b·1024, n), block by block."""
    import jax
    import jax.numpy as jnp

    rows, columns = left.shape[0], right.shape[1]
    blocks = left.shape[1] // BLOCK_TERMS
    lefts = left.reshape(rows, blocks, BLOCK_TERMS).transpose(1, 0, 2)
    rights = right.reshape(blocks, BLOCK_TERMS, columns)

    def add(total: Any, block: Any) -> tuple[Any, None]:
        first, second = (_limbs(each) for each in block)
        for weight in range(3):
            # At most three products of 2⁴²: with 1,024 terms below 2⁵⁴, so each is made an integer before it is added.
            for k in range(weight + 1):
                part = jnp.matmul(first[k], second[weight - k], precision=jax.lax.Precision.HIGHEST)
                total = total + (part.astype(jnp.int64) << (LIMB_BITS * weight))
        return total, None

    total, _ = jax.lax.scan(add, jnp.zeros((rows, columns), jnp.int64), (lefts, rights))
    return total


def _limbs(words: Any) -> list[Any]:
    """Low, middle and top limb as float64; see ``ring.balanced_limbs``."""
    import jax.numpy as jnp

    above, limbs = 64 - LIMB_BITS, []
    for _ in range(2):
        limb = (words << above) >> above
        words = (words - limb) >> LIMB_BITS
        limbs.append(limb.astype(jnp.float64))
    return [*limbs, words.astype(jnp.float64)]
