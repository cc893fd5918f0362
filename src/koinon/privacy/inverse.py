"""The inverse of a secret matrix whose eigenvalues are public to lie in [1/κ, 1], by scaled Newton–Schulz steps.

V ← αV (2 − HV), with the factor α of each step chosen so that small eigenvalues of HV grow almost fourfold and none
leaves (0, 1] (lemma LR-INVERSE). HV is not computed anew: it is multiplied by the same α (2 − HV), so that both
products share their two rounds. Rounding errors of HV are not corrected by later steps; they grow no faster than V,
so that V is right to κ units in the last place of H, as its own rounding would make it anyway.
"""

from collections.abc import Generator
from math import ceil, log2
from typing import Final

import numpy as np

from koinon.privacy.secret import HEADROOM_BITS, Claim, Product, Secret, multiply, public, together

SLACK: Final = 1.25
"""On the norm of every V, for roundings."""
_LEMMA: Final = "LR-INVERSE"


def quarters(smallest: float) -> int:
    """The largest factor α, in quarters, with α ≤ 2 / (1 + smallest): eigenvalues in (0, 1] stay there."""
    return int(8 / (1 + smallest))


def widest_bits(condition: float) -> int:
    """The most fraction bits of H that leave room for every product below."""
    return (HEADROOM_BITS - 2 - ceil(log2(2 * SLACK * condition))) // 2


def inverse(scaled: Secret, condition: float) -> Generator[None, None, Secret]:
    """V ≤ H⁻¹ with HV ≥ 0.99, (p, p): two rounds for every fourfold of κ, and about six.

    Args:
        scaled: H · quarters(1/κ) / 4, (p, p), with at most ``widest_bits(κ)`` fraction bits.
        condition: κ.

    Returns:
        With the fraction bits of H; no entry is above SLACK · κ.
    """
    bits, identity = scaled.fraction_bits, np.eye(scaled.shape[0])
    smallest, factor = 1 / condition, quarters(1 / condition)
    product, found = scaled, public(scaled.machine, identity * (factor / 4), bits)
    while smallest < 0.99:
        smallest *= factor / 4 * (2 - smallest * factor / 4)
        factor = quarters(smallest) if smallest < 0.99 else 4
        rest = (-product + identity * 2.0).within(Claim(_LEMMA, 2.01)).times(factor).halved(2)
        claim = Claim(_LEMMA, factor / 4 * SLACK * condition)
        found, product = yield from together(
            multiply(found, rest, kind=Product.MATRIX, fraction_bits=bits, claim=claim),
            multiply(product, rest, kind=Product.MATRIX, fraction_bits=bits, claim=Claim(_LEMMA, 2.01)),
        )
    return found.within(Claim(_LEMMA, SLACK * condition))
