"""Contracts that are part of the machine: what an engine needs to know of each.

Those of our networks start at 0x0000…0400, far above any that Ethereum may still define.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from koinon.kernel.ids import Address

NETWORK_PRECOMPILES: Final = 0x0400
"""The first address of ours."""


class PrecompileFailure(Exception):
    """A precompiled contract refuses its input: the call fails and takes all gas it was given."""


@dataclass(frozen=True)
class Precompile:
    """A pure function that contracts can call at a fixed address.

    Attributes:
        gas: price of an input; asked first, so it must be cheap for any input.
        run: the output for an input; raises PrecompileFailure. Never asked where the gas does not suffice.
    """

    gas: Callable[[bytes], int]
    run: Callable[[bytes], bytes]


def precompile_address(number: int) -> Address:
    """The address that is a small number."""
    return Address(number.to_bytes(20, "big"))
