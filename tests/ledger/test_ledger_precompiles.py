"""The precompiled contracts of BLS12-381 and point evaluation against py_ecc, EIP-2537's vectors and c-kzg-4844, and
what each refuses."""

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ckzg
import eth_account
import pytest
from py_ecc.bls.hash_to_curve import clear_cofactor_G1, map_to_curve_G1
from py_ecc.optimized_bls12_381 import FQ, G1, G2, add, curve_order, field_modulus, multiply, neg, normalize

from koinon.ledger.evm.precompiles import bls12_381 as bls
from koinon.ledger.evm.precompiles import bls12_381_precompiles, bn254, cancun_precompiles, hashing, modexp
from koinon.ledger.evm.precompiles.point_evaluation import FIELD_ELEMENTS, POINT_EVALUATION, SCALAR_MODULUS, TAU_G2
from koinon.ledger.precompile import Precompile, PrecompileFailure, precompile_address

_TAU_G1 = bytes.fromhex(
    "ad3eb50121139aa34db1d545093ac9374ab7bca2c0f3bf28e27c8dcd8fc7cb42d25926fc0c97b336e9f0fb35e5a04c81"
)
"""[τ]₁ of the trusted setup, the commitment to the polynomial X."""


VECTORS = json.loads((Path(__file__).parent / "evm_vectors" / "eip-2537-sample.json").read_text())
SAYS = {
    "invalid input length": "bytes; got",
    "invalid fp.Element encoding": "not below the field's modulus",
    "invalid field element top bytes": "not below the field's modulus",
    "invalid point: not on curve": "not on the",
    "g1 point is not in the correct subgroup": "not in the subgroup",
}
SETUP = Path(eth_account.__file__).parent / "typed_transactions" / "blob_transactions" / "kzg_trusted_setup.txt"
"""The ceremony's output as c-kzg-4844 reads it: two counts, then points in G1 by Lagrange's basis, G2, G1 by powers."""


def first(point: object) -> bytes:
    x, y = normalize(point)
    return int(x).to_bytes(64) + int(y).to_bytes(64)


def second(point: object) -> bytes:
    x, y = normalize(point)
    return b"".join(int(part).to_bytes(64) for part in (*x.coeffs, *y.coeffs))


def scalar(number: int) -> bytes:
    return number.to_bytes(32)


def outside_the_subgroup() -> bytes:
    """The curve's point with the least x; the subgroup is a 2^125th of the curve."""
    for x in range(1, 50):
        square = (x**3 + 4) % field_modulus
        y = pow(square, (field_modulus + 1) // 4, field_modulus)
        if y * y % field_modulus == square:
            return x.to_bytes(64) + y.to_bytes(64)
    raise AssertionError("half of all x belong to a point")


def test_groups_of_bls12_381() -> None:
    numbers = random.Random(7)
    m, n, k = (numbers.randrange(1, curve_order) for _ in range(3))
    a, b = multiply(G1, m), multiply(G1, n)
    assert bls.G1_ADD.run(first(a) + first(b)) == first(add(a, b))
    assert bls.G1_ADD.run(first(a) + first(neg(a))) == bytes(128)
    assert bls.G1_ADD.run(first(a) + bytes(128)) == first(a)
    product = add(multiply(a, k), multiply(b, m))
    assert bls.G1_MSM.run(first(a) + scalar(k) + first(b) + scalar(m)) == first(product)
    c, d = multiply(G2, m), multiply(G2, n)
    assert bls.G2_ADD.run(second(c) + second(d)) == second(add(c, d))
    assert bls.G2_MSM.run(second(c) + scalar(k + curve_order)) == second(multiply(c, k))
    assert bls.MAP_FP_TO_G1.run(k.to_bytes(64)) == first(clear_cofactor_G1(map_to_curve_G1(FQ(k))))
    assert any(bls.MAP_FP2_TO_G2.run(k.to_bytes(64) + m.to_bytes(64)))
    one = first(multiply(G1, m)) + second(d) + first(multiply(G1, -m * n % curve_order)) + second(G2)
    assert bls.PAIRING.run(one) == scalar(1)
    assert bls.PAIRING.run(first(a) + second(d)) == scalar(0)
    assert bls.PAIRING.run(bytes(128) + second(d)) == scalar(1)


@pytest.mark.parametrize("number", VECTORS)
def test_vectors_of_eip_2537(number: str) -> None:
    contract = bls12_381_precompiles()[precompile_address(int(number, 16))]
    for vector in VECTORS[number]:
        data = bytes.fromhex(vector["Input"])
        if "Expected" in vector:
            assert contract.run(data).hex() == vector["Expected"], vector["Name"]
        else:
            with pytest.raises(PrecompileFailure, match=SAYS[vector["ExpectedError"]]):
                contract.run(data)


def test_additions_take_points_outside_the_subgroup_and_nothing_else_does() -> None:
    stray = outside_the_subgroup()
    assert bls.G1_ADD.run(stray + bytes(128)) == stray
    for refusing, data in ((bls.G1_MSM, stray + scalar(1)), (bls.PAIRING, stray + second(G2))):
        with pytest.raises(PrecompileFailure, match="not in the subgroup"):
            refusing.run(data)


def test_prices_of_eip_2537() -> None:
    assert [bls.G1_MSM.gas(bytes(160 * pairs)) for pairs in (0, 1, 2, 128, 129)] == [
        0, 12_000, 22_776, 797_184, 803_412
    ]  # fmt: skip
    assert [bls.G2_MSM.gas(bytes(288 * pairs)) for pairs in (1, 3)] == [22_500, 62_302]
    assert bls.PAIRING.gas(bytes(384 * 2)) == 102_900


def _evaluation(commitment: bytes, z: int, y: int, proof: bytes) -> bytes:
    versioned = b"\1" + hashlib.sha256(commitment).digest()[1:]
    return versioned + scalar(z) + scalar(y) + commitment + proof


def test_point_evaluation_of_the_polynomial_x() -> None:
    # X − z divided by X − z is 1: the proof is the generator, whatever z is, and the value is z.
    generator = bytes.fromhex(
        "97f1d3a73197d7942695638c4fa9ac0fc3688c4f9774b905a14e3a3f171bac586c55e83ff97a1aeffb3af00adb22c6bb"
    )
    answer = scalar(FIELD_ELEMENTS) + scalar(SCALAR_MODULUS)
    for z in (0, 5, SCALAR_MODULUS - 1):
        assert POINT_EVALUATION.run(_evaluation(_TAU_G1, z, z, generator)) == answer
    good = _evaluation(_TAU_G1, 5, 5, generator)
    bad = {
        "does not hold": _evaluation(_TAU_G1, 5, 6, generator),
        "scalar field": _evaluation(_TAU_G1, 5, SCALAR_MODULUS, generator),
        "no point of the group": _evaluation(_TAU_G1, 5, 5, b"\xff" * 48),
        "takes 192 bytes": good + b"\0",
        "not the commitment's": b"\2" + good[1:],
    }
    for says, data in bad.items():
        with pytest.raises(PrecompileFailure, match=says):
            POINT_EVALUATION.run(data)


@pytest.fixture(scope="module")
def setup() -> Any:
    return ckzg.load_trusted_setup(str(SETUP), 0)


def test_the_point_is_that_of_the_trusted_setup() -> None:
    lines = SETUP.read_text().split()
    assert [int(count) for count in lines[:2]] == [FIELD_ELEMENTS, 65]
    assert TAU_G2.hex() == lines[2 + FIELD_ELEMENTS + 1]
    assert _TAU_G1.hex() == lines[2 + FIELD_ELEMENTS + 65 + 1]


@pytest.mark.long  # reading the setup alone takes seconds
def test_point_evaluation_is_that_of_c_kzg_on_a_sample(setup: Any) -> None:
    numbers = random.Random(11)
    for _ in range(3):
        blob = b"".join(scalar(numbers.randrange(SCALAR_MODULUS)) for _ in range(FIELD_ELEMENTS))
        z = numbers.randrange(SCALAR_MODULUS)
        commitment = ckzg.blob_to_kzg_commitment(blob, setup)
        proof, value = ckzg.compute_kzg_proof(blob, scalar(z), setup)
        y = int.from_bytes(value)
        assert POINT_EVALUATION.run(_evaluation(commitment, z, y, proof))
        for wrong in (
            _evaluation(commitment, z, (y + 1) % SCALAR_MODULUS, proof),
            _evaluation(commitment, (z + 1) % SCALAR_MODULUS, y, proof),
            _evaluation(proof, z, y, commitment),
        ):
            with pytest.raises(PrecompileFailure, match="does not hold"):
                POINT_EVALUATION.run(wrong)


REFUSED: dict[str, tuple[Precompile, Callable[[], bytes]]] = {
    "an addition takes 256 bytes": (bls.G1_ADD, lambda: bytes(255)),
    "not on the curve": (bls.G1_ADD, lambda: (1).to_bytes(64) + (1).to_bytes(64) + bytes(128)),
    "field's modulus": (bls.G1_ADD, lambda: field_modulus.to_bytes(64) + bytes(192)),
    "not below the field's": (bls.MAP_FP_TO_G1, lambda: b"\1" + bytes(63)),
    "field element takes 64": (bls.MAP_FP_TO_G1, lambda: bytes(65)),
    "not on the twisted curve": (bls.G2_ADD, lambda: (1).to_bytes(64) * 4 + bytes(256)),
    "point and scalar take 160": (bls.G1_MSM, lambda: b""),
    "point and scalar take 288": (bls.G2_MSM, lambda: bytes(289)),
    "a pair takes 384": (bls.PAIRING, lambda: b""),
    "not on BN254": (bn254.ADD, lambda: scalar(1) + scalar(1)),
    "not below the field": (bn254.MULTIPLY, lambda: b"\xff" * 64),
    "the pairs have 192 bytes": (bn254.PAIRING, lambda: bytes(191)),
    "not on the twist": (bn254.PAIRING, lambda: scalar(1) + scalar(2) + scalar(1) * 4),
    "takes 213 bytes": (hashing.BLAKE2F, lambda: bytes(212)),
    "0 or 1": (hashing.BLAKE2F, lambda: bytes(212) + b"\2"),
}


@pytest.mark.parametrize("says", REFUSED)
def test_what_a_precompile_refuses(says: str) -> None:
    precompile, data = REFUSED[says]
    with pytest.raises(PrecompileFailure, match=says):
        precompile.run(data())


def test_modular_powers_of_sizes_that_are_not_there() -> None:
    huge = (2**200).to_bytes(32)
    assert modexp.MODEXP.gas(huge * 3) > 2**400
    # No modulus: nothing to compute, whatever the exponent's size.
    nothing = bytes(32) + huge + bytes(32)
    assert (modexp.MODEXP.gas(nothing), modexp.MODEXP.run(nothing)) == (200, b"")
    assert modexp.MODEXP.run(scalar(1) + scalar(1) + scalar(2) + b"\3\2") == b"\0\0"
    assert modexp.MODEXP.run(scalar(1) + scalar(1) + scalar(1) + b"\3\2\7") == b"\2"


def test_addresses() -> None:
    assert set(cancun_precompiles()) == {precompile_address(number) for number in range(1, 11)}
    assert set(bls12_381_precompiles()) == {precompile_address(number) for number in range(11, 18)}
