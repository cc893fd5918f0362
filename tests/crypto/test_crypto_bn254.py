"""BN254 against the generator of EIP-197, the group's laws and points that are none."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koinon.crypto import bn254
from koinon.crypto.bn254 import GENERATOR, IDENTITY, ORDER
from koinon.kernel.errors import InvalidInput

# EIP-197: the generator of the second group, imaginary parts first.
SECOND = bytes.fromhex(
    "198e9393920d483a7260bfb731fb5d25f1aa493335a9e71297e485b7aef312c2"
    "1800deef121f1e76426a00665e5c4479674322d4f75edadd46debd5cd992f6ed"
    "090689d0585ff075ec9e99ad690c3395bc4b313370b38ef355acdadcd122975b"
    "12c85ea5db8c6deb4aab71808dcb408fe3d1e7690c43d37b4ce6cc0166fa7daa"
)
# On the twist with x = u, outside the subgroup of prime order.
OUTSIDE = bytes.fromhex(
    "0000000000000000000000000000000000000000000000000000000000000000"
    "0000000000000000000000000000000000000000000000000000000000000001"
    "0d1271953ed9ea0836846e70a1934187998c7f790cb4d7511b7f8da82de048a4"
    "2869111d5381f072f8e2728fdb825a51aadd70e52c9830e9ab4b871c0531f1bb"
)
scalars = st.integers(-3, 3) | st.integers(0, 2 * ORDER)


def words(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(32, "big") for number in numbers)


@settings(max_examples=30)
@given(scalars, scalars)
def test_multiplication_distributes_over_addition(left: int, right: int) -> None:
    parts = bn254.add(bn254.multiply(GENERATOR, left), bn254.multiply(GENERATOR, right))
    assert parts == bn254.multiply(GENERATOR, left + right)
    assert bn254.decode_point(bn254.encode_point(parts)) == parts


@settings(max_examples=10)
@given(st.integers(1, ORDER - 1), st.integers(1, ORDER - 1))
def test_the_pairing_is_bilinear_and_not_degenerate(left: int, right: int) -> None:
    first, second = bn254.multiply(GENERATOR, left), bn254.multiply(GENERATOR, right)
    total = bn254.negate(bn254.multiply(GENERATOR, left + right))
    assert bn254.pairing_is_one([(first, SECOND), (second, SECOND), (total, SECOND)])
    assert not bn254.pairing_is_one([(first, SECOND), (second, SECOND)]) or (left + right) % ORDER == 0


def test_pairings_with_an_identity_are_one() -> None:
    assert bn254.pairing_is_one([])
    assert bn254.pairing_is_one([(IDENTITY, SECOND), (GENERATOR, bytes(128))])


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (b"", "64 bytes"),
        (bytes(63), "64 bytes"),
        (bytes(65), "64 bytes"),
        (words(1, 3), "not on BN254"),
        (words(0, 1), "not on BN254"),
        (words(bn254.FIELD + 1, 2), "modulus"),
        (words(1, bn254.FIELD + 2), "modulus"),
        (b"\xff" * 64, "modulus"),
    ],
)
def test_what_is_no_point_is_refused(encoded: bytes, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        bn254.decode_point(encoded)


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (SECOND[:-1], "128 bytes"),
        (SECOND[32:] + SECOND[:32], "not on the twist"),
        (b"\xff" * 128, "modulus"),
        (OUTSIDE, "subgroup"),
    ],
)
def test_what_is_no_second_point_is_refused(encoded: bytes, reason: str) -> None:
    for point in (GENERATOR, IDENTITY):
        with pytest.raises(InvalidInput, match=reason):
            bn254.pairing_is_one([(point, encoded)])
