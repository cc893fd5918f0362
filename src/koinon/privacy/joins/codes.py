"""A linear code whose words differ in many places: the extended BCH code [512, 76, 172].

Bose and Ray-Chaudhuri, "On a class of error correcting binary group codes" (1960). The generator polynomial has α to
α¹⁷⁰ among its roots, α primitive in GF(2⁹), so that two words of 511 bits differ in at least 171 places; a 512th bit
makes every weight even. Orrù, Orsini and Scholl take it for private set intersection ("Actively secure 1-out-of-N OT
extension with application to private set intersection", ePrint 2016/933), there without the last bit.
"""

from functools import cache, reduce
from operator import xor
from typing import Final

import numpy as np

WIDTH: Final = 512
"""Bits of a codeword."""
WORD_BYTES: Final = WIDTH // 8
MESSAGE_BITS: Final = 76
MESSAGE_BYTES: Final = 10
"""Of a message, the lowest bit of the first byte first; the upper four bits of the last byte are zeros."""
DISTANCE: Final = 172
"""Two words of the code differ in so many places at least."""

_FIELD: Final = 0b1000010001
"""x⁹ + x⁴ + 1, which is primitive."""
_ORDER: Final = 511
_ROOTS: Final = 170


def encoded(messages: np.ndarray) -> np.ndarray:
    """The codewords of ``messages``, uint8 of shape (n, 10): uint8 of shape (n, 64). Linear over GF(2)."""
    tables = _tables()
    words = np.take(tables[0], messages[:, 0], axis=0)
    part = np.empty_like(words)
    for place in range(1, MESSAGE_BYTES):
        words ^= np.take(tables[place], messages[:, place], axis=0, out=part, mode="clip")
    return words.view(np.uint8)


def generator() -> int:
    """The generator polynomial of degree 435: the coefficient of xⁱ is bit i."""
    powers = [1]
    for _ in range(_ORDER - 1):
        twice = powers[-1] << 1
        powers.append(twice ^ _FIELD if twice >> 9 else twice)
    logarithms = {power: exponent for exponent, power in enumerate(powers)}
    product, seen = 1, set[int]()
    for first in range(1, _ROOTS + 1):
        conjugates = {first * 2**times % _ORDER for times in range(9)}
        if not conjugates & seen:
            seen |= conjugates
            product = _product(product, _with_roots(conjugates, powers, logarithms))
    return product


def _with_roots(exponents: set[int], powers: list[int], logarithms: dict[int, int]) -> int:
    """The polynomial whose roots are these powers of α. They are all conjugates of one: its coefficients are bits."""
    coefficients = [1]
    for exponent in exponents:
        shifted = [0, *coefficients]
        scaled = [powers[(logarithms[c] + exponent) % _ORDER] if c else 0 for c in coefficients] + [0]
        coefficients = [low ^ high for low, high in zip(shifted, scaled, strict=True)]
    return sum(coefficient << place for place, coefficient in enumerate(coefficients))


def _product(left: int, right: int) -> int:
    return reduce(xor, (left << place for place in range(right.bit_length()) if right >> place & 1), 0)


@cache
def _tables() -> np.ndarray:
    """For each byte of a message the words of its 256 values: uint64 of shape (10, 256, 8)."""
    polynomial = generator()
    rows = np.zeros((8 * MESSAGE_BYTES, WORD_BYTES), np.uint8)
    for bit in range(MESSAGE_BITS):
        word = polynomial << bit
        word |= (word.bit_count() & 1) << _ORDER
        rows[bit] = np.frombuffer(word.to_bytes(WORD_BYTES, "little"), np.uint8)
    tables = np.zeros((MESSAGE_BYTES, 256, WORD_BYTES // 8), np.uint64)
    for place, of_byte in enumerate(rows.view(np.uint64).reshape(MESSAGE_BYTES, 8, -1)):
        for bit, row in enumerate(of_byte):
            tables[place, 1 << bit : 2 << bit] = tables[place, : 1 << bit] ^ row
    return tables
