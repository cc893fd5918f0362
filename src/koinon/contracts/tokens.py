"""Amounts of the payment token as people write them, and as the chain counts them."""

import re
from typing import Final

from koinon.kernel.errors import InvalidInput
from koinon.kernel.quantities import TOKEN_DECIMALS, TOKEN_UNIT, TokenAmount

_AMOUNT: Final = re.compile(r"(\d{1,60})(?:\.(\d+))?", re.ASCII)


def parse_amount(text: str) -> TokenAmount:
    """``"12.5"`` as smallest units. No sign, exponent, separator or more than six decimals: nothing is rounded.

    Raises:
        InvalidInput: anything else.
    """
    match = _AMOUNT.fullmatch(text)
    decimals = (match.group(2) or "") if match else ""
    if match is None or len(decimals) > TOKEN_DECIMALS:
        raise InvalidInput(
            f"an amount is digits with at most {TOKEN_DECIMALS} decimals, such as 12.5; got {text[:80]!r}"
        )
    return TokenAmount(int(match.group(1)) * TOKEN_UNIT + int(decimals.ljust(TOKEN_DECIMALS, "0")))


def format_amount(amount: TokenAmount | int) -> str:
    """Smallest units as a person reads them, without trailing zeros: 12500000 is ``"12.5"``."""
    whole, rest = divmod(abs(amount), TOKEN_UNIT)
    sign = "-" if amount < 0 else ""
    decimals = f"{rest:0{TOKEN_DECIMALS}}".rstrip("0")
    return f"{sign}{whole}.{decimals}" if decimals else f"{sign}{whole}"
