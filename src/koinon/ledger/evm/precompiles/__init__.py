"""The contracts that are part of Ethereum: 0x01 to 0x0a of Cancun, and 0x0b to 0x11 of EIP-2537 (BLS12-381).

Each is native code behind a price in gas; ``benchmarks/evm.py`` measures what a unit of gas buys in each.
"""

from collections.abc import Mapping
from functools import cache

from koinon.kernel.ids import Address
from koinon.ledger.precompile import Precompile, precompile_address


@cache
def cancun_precompiles() -> Mapping[Address, Precompile]:
    """By address. Loads the libraries behind them."""
    from koinon.ledger.evm.precompiles import bn254, hashing, modexp, point_evaluation, recover

    return {
        precompile_address(0x01): recover.ECRECOVER,
        precompile_address(0x02): hashing.SHA256,
        precompile_address(0x03): hashing.RIPEMD160,
        precompile_address(0x04): hashing.IDENTITY,
        precompile_address(0x05): modexp.MODEXP,
        precompile_address(0x06): bn254.ADD,
        precompile_address(0x07): bn254.MULTIPLY,
        precompile_address(0x08): bn254.PAIRING,
        precompile_address(0x09): hashing.BLAKE2F,
        precompile_address(0x0A): point_evaluation.POINT_EVALUATION,
    }


@cache
def bls12_381_precompiles() -> Mapping[Address, Precompile]:
    """EIP-2537, by address. Part of our networks, not of Cancun."""
    from koinon.ledger.evm.precompiles import bls12_381

    return {
        precompile_address(0x0B): bls12_381.G1_ADD,
        precompile_address(0x0C): bls12_381.G1_MSM,
        precompile_address(0x0D): bls12_381.G2_ADD,
        precompile_address(0x0E): bls12_381.G2_MSM,
        precompile_address(0x0F): bls12_381.PAIRING,
        precompile_address(0x10): bls12_381.MAP_FP_TO_G1,
        precompile_address(0x11): bls12_381.MAP_FP2_TO_G2,
    }
