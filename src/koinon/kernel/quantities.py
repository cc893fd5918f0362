"""Sized, typed quantities, so that a height is never passed where a view is meant."""

from typing import Final, NewType

ChainId = NewType("ChainId", int)
Height = NewType("Height", int)
"""Number of a block; genesis is 0."""
Epoch = NewType("Epoch", int)
"""Span of heights that one validator set signs."""
View = NewType("View", int)
"""Term of one proposer within an epoch; starts at 0."""
BlockIndex = NewType("BlockIndex", int)
"""Position of a block within its view; starts at 0."""

Wei = NewType("Wei", int)
Gas = NewType("Gas", int)
TokenAmount = NewType("TokenAmount", int)
"""Smallest units of the payment token (six decimals)."""
BasisPoints = NewType("BasisPoints", int)
"""Share of a sum in 1/10,000."""
PartsPerMillion = NewType("PartsPerMillion", int)
"""A ratio or score on the chain, in 1/1,000,000."""

Seconds = NewType("Seconds", float)
Milliseconds = NewType("Milliseconds", int)
UnixSeconds = NewType("UnixSeconds", int)
"""Seconds since 1970-01-01T00:00:00Z."""

Epsilon = NewType("Epsilon", float)
"""Differential-privacy loss."""

TOKEN_DECIMALS: Final = 6
TOKEN_UNIT: Final = TokenAmount(10**TOKEN_DECIMALS)
ONE_MILLION: Final = PartsPerMillion(1_000_000)
ALL_BASIS_POINTS: Final = BasisPoints(10_000)
