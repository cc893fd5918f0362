"""The base fee: what each unit of gas costs at least, burnt, and how it moves from block to block (EIP-1559).

A block that used more than half of its gas limit makes the next one dearer, one that used less makes it cheaper, by at
most one part in eight. It never falls below the base fee of genesis, so that an idle private network stays as cheap as
its founders agreed.
"""

from typing import Final

from koinon.kernel.quantities import Wei
from koinon.ledger.types import Header

ELASTICITY: Final = 2
"""A block may use this many times the gas that keeps the base fee where it is."""
CHANGE_DENOMINATOR: Final = 8
_LARGEST: Final = Wei(2**62)
"""What a header can carry; about 250 full blocks in a row above the usual base fee."""


def next_base_fee(parent: Header, floor: Wei) -> Wei:
    """Wei per gas in a child of ``parent``; ``floor`` is the base fee of genesis."""
    target = max(1, parent.gas_limit // ELASTICITY)
    fee = parent.base_fee
    if parent.gas_used > target:
        fee = Wei(fee + max(1, fee * (parent.gas_used - target) // target // CHANGE_DENOMINATOR))
    elif parent.gas_used < target:
        fee = Wei(fee - fee * (target - parent.gas_used) // target // CHANGE_DENOMINATOR)
    return min(max(floor, fee), _LARGEST)
