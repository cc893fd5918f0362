"""The pairing-friendly curve BN254 (alt_bn128) as the EVM's precompiles 6 to 8 know it (EIP-196, EIP-197).

Points of the first group are pairs of integers, ``(0, 0)`` the identity. Addition is plain Python, faster than handing
points over; multiplication and pairing are arkworks' through zksnake. Nothing here takes constant time: secrets belong
on a machine whose timing nobody else measures.
"""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from koinon.kernel.errors import InvalidInput

if TYPE_CHECKING:
    from types import ModuleType

FIELD: Final = 0x30644E72E131A029B85045B68181585D97816A916871CA8D3C208C16D87CFD47
ORDER: Final = 0x30644E72E131A029B85045B68181585D2833E84879B9709143E1F593F0000001
G1_BYTES: Final = 64
G2_BYTES: Final = 128
PAIR_BYTES: Final = G1_BYTES + G2_BYTES

Point = tuple[int, int]
"""A point of the first group: affine coordinates, or ``IDENTITY``."""

IDENTITY: Final[Point] = (0, 0)
GENERATOR: Final[Point] = (1, 2)

# 3 / (9 + u), the constant of the twist's equation y² = x³ + 3 / (9 + u)
_TWIST: Final = (
    0x2B149D40CEB8AAAE81BE18991BE06AC3B5B4C5E559DBEFA33267E6DC24A138E5,
    0x009713B03AF0FED4CD2CAFADEED8FDF4A74FA084E52D1852E4A2BD0685C315D2,
)
_POSITIVE, _NEGATIVE, _INFINITY = 0x00, 0x80, 0x40


@cache
def _engine() -> "ModuleType":
    # Late: only who pairs or multiplies pays for loading it.
    from zksnake._algebra import ec_bn254

    engine: ModuleType = ec_bn254
    return engine


def decode_point(encoded: bytes) -> Point:
    """A point of the first group from 64 bytes, x and y with the big end first.

    Raises:
        InvalidInput: another length, a coordinate that is no field element, or no point of the curve.
    """
    if len(encoded) != G1_BYTES:
        raise InvalidInput(f"a point of BN254 takes {G1_BYTES} bytes; got {len(encoded)}")
    x, y = int.from_bytes(encoded[:32], "big"), int.from_bytes(encoded[32:], "big")
    if x >= FIELD or y >= FIELD:
        raise InvalidInput("a coordinate of a BN254 point is not below the field's modulus")
    if (x or y) and (y * y - x * x * x - 3) % FIELD:
        raise InvalidInput("the point is not on BN254")
    return x, y


def encode_point(point: Point) -> bytes:
    """64 bytes: x and y with the big end first."""
    return point[0].to_bytes(32, "big") + point[1].to_bytes(32, "big")


def negate(point: Point) -> Point:
    return point[0], -point[1] % FIELD


def add(left: Point, right: Point) -> Point:
    """The sum of two points of the curve."""
    if left == IDENTITY:
        return right
    if right == IDENTITY:
        return left
    (x, y), (other_x, other_y) = left, right
    if x == other_x:
        if y != other_y or y == 0:
            return IDENTITY
        slope = 3 * x * x * pow(2 * y, -1, FIELD)
    else:
        slope = (other_y - y) * pow(other_x - x, -1, FIELD)
    sum_x = (slope * slope - x - other_x) % FIELD
    return sum_x, (slope * (x - sum_x) - y) % FIELD


def subtract(left: Point, right: Point) -> Point:
    return add(left, negate(right))


def multiply(point: Point, scalar: int) -> Point:
    """``scalar`` times a point of the curve; the scalar is taken modulo the order and may be negative."""
    scalar %= ORDER
    if point == IDENTITY or not scalar:
        return IDENTITY
    product = _engine().PointG1(*point) * scalar
    return int(product.x), int(product.y)


def pairing_is_one(pairs: Sequence[tuple[Point, bytes]]) -> bool:
    """Whether the product of the pairings of first points with encoded second ones is one (EIP-197).

    A second point takes 128 bytes: the imaginary part of x, its real part, the same of y, big end first.

    Raises:
        InvalidInput: a second point is not on the twist or not in the subgroup.
    """
    engine = _engine()
    first, second = [], []
    for point, encoded in pairs:
        decoded = _second_point(encoded)
        # A pairing with the identity on either side is one, but the other side must be valid all the same.
        if point != IDENTITY and decoded is not None:
            first.append(engine.PointG1(*point))
            second.append(decoded)
    if not first:
        return True
    return bool(engine.multi_pairing(first, second) == engine.multi_pairing([], []))


def _second_point(encoded: bytes) -> Any:
    """The engine's point, None for the identity. The engine checks the subgroup when it decompresses."""
    if len(encoded) != G2_BYTES:
        raise InvalidInput(f"a second point of BN254 takes {G2_BYTES} bytes; got {len(encoded)}")
    x_1, x_0, y_1, y_0 = (int.from_bytes(encoded[place : place + 32], "big") for place in range(0, G2_BYTES, 32))
    if max(x_0, x_1, y_0, y_1) >= FIELD:
        raise InvalidInput("a coordinate of a second BN254 point is not below the field's modulus")
    if not (x_0 or x_1 or y_0 or y_1):
        return None
    if not _is_on_twist((x_0, x_1), (y_0, y_1)):
        raise InvalidInput("a second point is not on the twist of BN254")
    # arkworks calls the larger of y and −y negative, comparing imaginary parts first.
    opposite = (-y_1 % FIELD, -y_0 % FIELD)
    flag = _NEGATIVE if (y_1, y_0) > opposite else _POSITIVE
    compressed = bytearray(x_0.to_bytes(32, "little") + x_1.to_bytes(32, "little"))
    compressed[63] |= flag
    try:
        return _engine().PointG2.from_bytes(bytes(compressed))
    except ValueError:
        raise InvalidInput("a second point is not in the subgroup that BN254 pairs with") from None


def _is_on_twist(x: Point, y: Point) -> bool:
    square = _field_product(x, x)
    cube = _field_product(square, x)
    left = _field_product(y, y)
    return (left[0] - cube[0] - _TWIST[0]) % FIELD == 0 and (left[1] - cube[1] - _TWIST[1]) % FIELD == 0


def _field_product(left: Point, right: Point) -> Point:
    """Product in the quadratic extension, real part first."""
    return (left[0] * right[0] - left[1] * right[1]) % FIELD, (left[0] * right[1] + left[1] * right[0]) % FIELD
