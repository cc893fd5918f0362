"""A product of matrices in a child, and matrices as bytes: words of 64 bits, big endian, in two's complement, by rows.

Sums are modulo 2⁶⁴, here and in the contract that charges a wrong one; for numbers so small that nothing wraps, which
``privacy.encrypted.freivalds`` sees to, they are the integers' sums.
"""

import math
from typing import Final

import numpy as np

from koinon.kernel.codec import Record, decode, encode
from koinon.kernel.effects import Rng
from koinon.kernel.errors import InvalidInput
from koinon.kernel.quantities import Seconds
from koinon.worker import Channel, Limits, Worker

MOST_ROWS: Final = 65_536
MOST_COLUMNS: Final = 4_096
MOST_WORDS: Final = 1 << 22
"""Of one matrix: 32 MiB."""
MOST_PRODUCTS: Final = 1 << 33
"""Of single numbers; some ten seconds."""
_SALT_WORDS: Final = 2
_MOST_BYTES: Final = 2 * 8 * MOST_WORDS + 1024
LIMITS: Final = Limits(memory_bytes=2 * 1024**3, cpu_seconds=120, wall_seconds=Seconds(600.0), frame_bytes=_MOST_BYTES)


class Factors(Record, frozen=True):
    """What a child is to multiply: (rows, inner) by (inner, columns)."""

    rows: int
    inner: int
    columns: int
    left: bytes
    right: bytes


class Product(Record, frozen=True):
    """(rows, columns)."""

    words: bytes


def check_sizes(rows: int, inner: int, columns: int) -> None:
    """Raises InvalidInput where the matrices are empty or larger than anybody multiplies for others."""
    if not (1 <= rows <= MOST_ROWS and 1 <= inner <= MOST_COLUMNS and 1 <= columns <= MOST_COLUMNS):
        raise InvalidInput(
            f"a left matrix has 1 to {MOST_ROWS} rows, and both have 1 to {MOST_COLUMNS} columns; got {rows} × {inner}"
            f" by {inner} × {columns}"
        )
    if max(rows * inner, inner * columns, rows * columns) > MOST_WORDS or rows * inner * columns > MOST_PRODUCTS:
        raise InvalidInput(
            f"{rows} × {inner} by {inner} × {columns} is too large: a matrix has {MOST_WORDS} numbers at most, and"
            f" {MOST_PRODUCTS} products of two are made; cut the left matrix by rows"
        )


def to_words(matrix: np.ndarray) -> bytes:
    """An int64 matrix row by row."""
    return np.ascontiguousarray(matrix).astype(">i8").tobytes()


def from_words(words: bytes, rows: int, columns: int) -> np.ndarray:
    """An int64 matrix (rows, columns). Raises InvalidInput for another number of words."""
    if len(words) != 8 * rows * columns:
        raise InvalidInput(f"a matrix of {rows} × {columns} takes {8 * rows * columns} bytes; {len(words)} came")
    return np.frombuffer(words, ">i8").astype(np.int64).reshape(rows, columns)


def salted(left: np.ndarray, right: np.ndarray, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    """Matrices whose product has the wanted one in its first columns, and 128 random bits in every row and column.

    Commitments to matrices are seen by everybody. Without this, whoever has one of two matrices that add up to a third
    could try guesses of the third against the commitment to the other, or to its product:

        | left  r  0 |   | right  0 |     | left · right  r |
                       · |   0    1 |  =
                         |   s    0 |
    """
    rows, inner, columns = left.shape[0], left.shape[1], right.shape[1]
    wide = np.zeros((rows, inner + 2 * _SALT_WORDS), np.int64)
    wide[:, :inner], wide[:, inner:-_SALT_WORDS] = left, random_words((rows, _SALT_WORDS), rng)
    tall = np.zeros((inner + 2 * _SALT_WORDS, columns + _SALT_WORDS), np.int64)
    tall[:inner, :columns], tall[-_SALT_WORDS:, :] = right, random_words((_SALT_WORDS, columns + _SALT_WORDS), rng)
    tall[inner:-_SALT_WORDS, columns:] = np.eye(_SALT_WORDS, dtype=np.int64)
    return wide, tall


def unsalted(product: np.ndarray) -> np.ndarray:
    """The product that was wanted."""
    return product[:, :-_SALT_WORDS]


def hidden(matrix: np.ndarray, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    """Two int64 matrices that add up to this one modulo 2⁶⁴; each alone is uniformly random, whatever this one is."""
    mask = random_words(matrix.shape, rng)
    return mask, matrix - mask


def random_words(shape: tuple[int, ...], rng: Rng) -> np.ndarray:
    """Uniform int64."""
    return np.frombuffer(rng.bytes(8 * math.prod(shape)), "<i8").astype(np.int64).reshape(shape)


async def multiply(factors: Factors, limits: Limits = LIMITS) -> bytes:
    """The product's words, computed in a child.

    Raises:
        InvalidInput: sizes that do not fit, or too large.
        Unavailable: the child ran out of memory or time; nothing else is harmed.
    """
    check_sizes(factors.rows, factors.inner, factors.columns)
    async with Worker.start("koinon.privacy.multiplication:main", limits) as worker:
        await worker.send(encode(factors))
        return decode(Product, await worker.receive(), limit=_MOST_BYTES).words


def main(channel: Channel) -> None:
    """The child."""
    factors = decode(Factors, channel.receive(), limit=_MOST_BYTES)
    left = from_words(factors.left, factors.rows, factors.inner)
    right = from_words(factors.right, factors.inner, factors.columns)
    channel.send(encode(Product(to_words(left @ right))))
