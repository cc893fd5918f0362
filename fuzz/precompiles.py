"""Random calls of the precompiled contracts of BLS12-381 and of point evaluation, against Ethereum's specification.

    python fuzz/precompiles.py --oracle .venv-oracle/bin/python [--seed N] [--trials N] [--json]

Points are in the subgroup, at infinity, on the curve but outside the subgroup, off the curve, or written with
coordinates that are not below the modulus; scalars go beyond the group's order; inputs lose, gain or change bytes; the
gas offered is plenty, exactly the price, or one less. A difference is shrunk and printed as a case; exit code 1.
"""

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from evm import Oracle, command
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from py_arkworks_bls12381 import G1Point, G2Point, Scalar

from koinon.kernel.ids import ZERO_ADDRESS, ZERO_HASH
from koinon.kernel.quantities import ChainId, Gas, Height, UnixSeconds, Wei
from koinon.ledger.evm.engine import EvmEngine
from koinon.ledger.evm.precompiles import bls12_381_precompiles, cancun_precompiles
from koinon.ledger.execution import BlockContext, Call
from koinon.ledger.precompile import precompile_address
from koinon.ledger.transaction import Transaction

ORDER: Final = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
FIELD: Final = int(
    "1a0111ea397fe69a4b1ba7b6434bacd764774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab", 16
)
PLENTY: Final = 10**7
_TAU_G1: Final = bytes.fromhex(
    "ad3eb50121139aa34db1d545093ac9374ab7bca2c0f3bf28e27c8dcd8fc7cb42d25926fc0c97b336e9f0fb35e5a04c81"
)
"""[τ]₁ of the trusted setup of EIP-4844: the commitment to the polynomial X."""

Case = dict[str, str]
_Point = tuple[int, ...]
"""Coordinates: two in G1; four, real parts before imaginary ones, in G2."""


# Points


def _coordinates(point: Any) -> _Point:
    flat = bytes(point.to_xy_bytes_be())
    return tuple(int.from_bytes(flat[at : at + 48], "big") for at in range(0, len(flat), 48))


def _root(square: int) -> int | None:
    """A square root modulo p, which is 3 modulo 4."""
    root = pow(square, (FIELD + 1) // 4, FIELD)
    return root if root * root % FIELD == square % FIELD else None


def _stray_first() -> _Point:
    """The point of the curve with the least x; its order is no divisor of the subgroup's."""
    return next((x, y) for x in range(1, 50) if (y := _root(x**3 + 4)) is not None)


def _stray_second() -> _Point:
    """A point of the twisted curve with x in the base field: y² = (x³ + 4) + 4u."""
    for x in range(50):
        real = x**3 + 4
        norm = _root(real * real + 16)
        for half in () if norm is None else ((real + norm) * pow(2, -1, FIELD), (real - norm) * pow(2, -1, FIELD)):
            y = _root(half)
            if y:
                return x, 0, y, 2 * pow(y, -1, FIELD) % FIELD
    raise AssertionError("half of all x belong to a point")


_GROUPS: Final[tuple[tuple[Any, _Point], ...]] = ((G1Point, _stray_first()), (G2Point, _stray_second()))


@st.composite
def _points(draw: st.DrawFn, second: bool) -> bytes:
    """A point as the contracts take it, mostly a good one."""
    group, stray = _GROUPS[second]
    good = _coordinates(group() * Scalar(draw(st.integers(1, 2**64))))
    infinity = (0,) * len(good)
    kind = draw(st.sampled_from(["good"] * 12 + ["infinity", "infinity", "stray", "off", "large", "swapped"]))
    chosen = {"infinity": infinity, "stray": stray, "swapped": good[::-1]}.get(kind, good)
    if kind == "off":
        chosen = (*good[:-1], (good[-1] + 1) % FIELD)
    if kind == "large":
        place = draw(st.integers(0, len(good) - 1))
        chosen = tuple(value + FIELD * (at == place) for at, value in enumerate(good))
    return b"".join(value.to_bytes(64, "big") for value in chosen)


_SCALARS: Final = st.one_of(
    st.sampled_from([0, 1, 2, ORDER - 1, ORDER, ORDER + 1, 2**256 - 1]), st.integers(0, 2**256 - 1)
).map(lambda number: number.to_bytes(32, "big"))
_ELEMENTS: Final = st.one_of(
    st.integers(0, FIELD - 1), st.sampled_from([0, 1, FIELD - 1, FIELD, 2**381, 2**512 - 1])
).map(lambda number: number.to_bytes(64, "big"))


# What the contracts are given


@st.composite
def _products(draw: st.DrawFn, second: bool) -> bytes:
    """Points with scalars. Rarely so many that the discount ends, at infinity, because the specification is slow."""
    if draw(st.integers(0, 9)) == 0:
        return bytes(288 if second else 160) * draw(st.sampled_from([2, 3, 127, 128, 129]))
    pairs = draw(st.lists(st.tuples(_points(second), _SCALARS), min_size=0, max_size=3))
    return b"".join(point + scalar for point, scalar in pairs)


@st.composite
def _pairs(draw: st.DrawFn) -> bytes:
    """Pairs of points whose product of pairings is one if nothing is wrong with them, or is not."""
    if draw(st.booleans()):
        return b"".join(draw(st.lists(st.tuples(_points(False), _points(True)).map(b"".join), max_size=2)))
    m, n = draw(st.integers(1, 2**64)), draw(st.integers(1, 2**64))
    apart = draw(st.integers(0, 1))
    points = (
        _coordinates(G1Point() * Scalar(m)) + _coordinates(G2Point() * Scalar(n)),
        _coordinates(G1Point() * Scalar((-m * n + apart) % ORDER)) + _coordinates(G2Point()),
    )
    return b"".join(value.to_bytes(64, "big") for point in points for value in point)


@st.composite
def _evaluations(draw: st.DrawFn) -> bytes:
    """That X has the value y at z: the proof is the generator, whatever z is, and holds if y is z."""
    z = draw(st.integers(0, ORDER - 1))
    y = draw(st.sampled_from([z, z, (z + 1) % ORDER, ORDER]))
    commitment = draw(st.sampled_from([_TAU_G1, _TAU_G1, bytes(48), b"\xc0" + bytes(47)]))
    proof = draw(st.sampled_from([bytes(G1Point().to_compressed_bytes()), _TAU_G1, b"\xff" * 48]))
    versioned = draw(st.sampled_from([1, 1, 1, 2])).to_bytes(1, "big") + hashlib.sha256(commitment).digest()[1:]
    return versioned + z.to_bytes(32, "big") + y.to_bytes(32, "big") + commitment + proof


def _two(points: Callable[[], st.SearchStrategy[bytes]]) -> st.SearchStrategy[bytes]:
    return st.tuples(points(), points()).map(b"".join)


INPUTS: Final[dict[int, st.SearchStrategy[bytes]]] = {
    0x0A: _evaluations(),
    0x0B: _two(lambda: _points(False)),
    0x0C: _products(False),
    0x0D: _two(lambda: _points(True)),
    0x0E: _products(True),
    0x0F: _pairs(),
    0x10: _ELEMENTS,
    0x11: st.tuples(_ELEMENTS, _ELEMENTS).map(b"".join),
}


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A call of one of the contracts."""
    number = draw(st.sampled_from(sorted(INPUTS)))
    data = draw(INPUTS[number])
    change = draw(st.sampled_from([*["none"] * 9, "shorter", "longer", "bit"]))
    if change == "shorter":
        data = data[:-1]
    elif change == "longer":
        data += b"\0"
    elif change == "bit" and data:
        place = draw(st.integers(0, 8 * len(data) - 1))
        data = (int.from_bytes(data, "big") ^ 1 << place).to_bytes(len(data), "big")
    price = _CONTRACTS[precompile_address(number)].gas(data)
    gas = draw(st.sampled_from([PLENTY, PLENTY, price, max(price - 1, 0)]))
    return {"precompile": precompile_address(number).hex(), "gas": f"{gas:x}", "data": data.hex()}


# Both


_CONTRACTS: Final = {**cancun_precompiles(), **bls12_381_precompiles()}
_CONTEXT: Final = BlockContext(
    ChainId(1), Height(1), UnixSeconds(1), ZERO_ADDRESS, ZERO_HASH, Gas(10**9), Wei(0), lambda _: None
)


class _Nothing:
    """The state before anything was."""

    def get(self, _key: bytes, /) -> bytes | None:
        return None


def ours(case: Case, engine: EvmEngine) -> dict[str, Any]:
    """What a call of the contract does on our engine, in the oracle's terms."""
    address, data = precompile_address(int(case["precompile"], 16)), bytes.fromhex(case["data"])
    shape = Transaction(
        b"", ZERO_HASH, ZERO_ADDRESS, 2, None, 0, Wei(0), Wei(0), Gas(0), address, Wei(0), data, (), 0, 0, 0
    )
    intrinsic = shape.intrinsic_gas
    call = Call(ZERO_ADDRESS, address, Gas(intrinsic + int(case["gas"], 16)), Wei(0), data, Wei(0))
    result = engine.call(call, _CONTEXT, _Nothing())
    if not result.succeeded:
        assert result.gas_used == call.gas, f"a failure takes all gas: {json.dumps(case)}"
        return {"failed": True}
    return {"output": result.output.hex(), "gas": f"{result.gas_used - intrinsic:x}"}


def fuzz(oracle: Oracle, first: int, trials: int) -> dict[str, Counter[str]]:
    """Compare ``trials`` calls; how many of each contract succeeded and failed.

    Raises:
        AssertionError: the two differ; the case is shrunk and stands in the message.
    """
    engine = EvmEngine(bls12_381_precompiles())
    tally = {"succeeded": Counter[str](), "failed": Counter[str]()}

    @seed(first)
    @settings(
        max_examples=trials, deadline=None, database=None, phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(cases())
    def compare(case: Case) -> None:
        expected, found = oracle.answer(case), ours(case, engine)
        tally["failed" if "failed" in expected else "succeeded"]["0x" + case["precompile"][-2:]] += 1
        assert found == expected, f"they differ on {json.dumps(case)}\nfound    {found}\nexpected {expected}"

    compare()
    return tally


if __name__ == "__main__":
    sys.exit(command(__doc__, 100, fuzz))
