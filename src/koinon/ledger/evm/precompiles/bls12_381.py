"""0x0b to 0x11: the curve BLS12-381, its groups, pairing check and maps from the field (EIP-2537).

A coordinate takes 64 bytes, of which the first 16 are zeros. Additions take any point of the curve, everything else
points of the subgroup only.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from py_arkworks_bls12381 import GT, G1Point, G2Point, Scalar

from koinon.ledger.precompile import Precompile, PrecompileFailure

_PADDING: Final = bytes(16)
_COORDINATE_BYTES: Final = 64
_SCALAR_BYTES: Final = 32
_G1_BYTES: Final = 128
_G2_BYTES: Final = 256
_PAIR_BYTES: Final = _G1_BYTES + _G2_BYTES
_FIELD: Final = int(
    "1a0111ea397fe69a4b1ba7b6434bacd764774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab", 16
)

_G1_DISCOUNTS: Final = (
    1000, 949, 848, 797, 764, 750, 738, 728, 719, 712, 705, 698, 692, 687, 682, 677, 673, 669, 665, 661, 658, 654, 651,
    648, 645, 642, 640, 637, 635, 632, 630, 627, 625, 623, 621, 619, 617, 615, 613, 611, 609, 608, 606, 604, 603, 601,
    599, 598, 596, 595, 593, 592, 591, 589, 588, 586, 585, 584, 582, 581, 580, 579, 577, 576, 575, 574, 573, 572, 570,
    569, 568, 567, 566, 565, 564, 563, 562, 561, 560, 559, 558, 557, 556, 555, 554, 553, 552, 551, 550, 549, 548, 547,
    547, 546, 545, 544, 543, 542, 541, 540, 540, 539, 538, 537, 536, 536, 535, 534, 533, 532, 532, 531, 530, 529, 528,
    528, 527, 526, 525, 525, 524, 523, 522, 522, 521, 520, 520, 519,
)  # fmt: skip
_G2_DISCOUNTS: Final = (
    1000, 1000, 923, 884, 855, 832, 812, 796, 782, 770, 759, 749, 740, 732, 724, 717, 711, 704, 699, 693, 688, 683, 679,
    674, 670, 666, 663, 659, 655, 652, 649, 646, 643, 640, 637, 634, 632, 629, 627, 624, 622, 620, 618, 615, 613, 611,
    609, 607, 606, 604, 602, 600, 598, 597, 595, 593, 592, 590, 589, 587, 586, 584, 583, 582, 580, 579, 578, 576, 575,
    574, 573, 571, 570, 569, 568, 567, 566, 565, 563, 562, 561, 560, 559, 558, 557, 556, 555, 554, 553, 552, 552, 551,
    550, 549, 548, 547, 546, 545, 545, 544, 543, 542, 541, 541, 540, 539, 538, 537, 537, 536, 535, 535, 534, 533, 532,
    532, 531, 530, 530, 529, 528, 528, 527, 526, 526, 525, 524, 524,
)  # fmt: skip
"""Thousandths of the price of one multiplication, by number of pairs; the last holds for all above 128."""


def _msm_gas(data: bytes, pair_bytes: int, one: int, discounts: Sequence[int]) -> int:
    pairs = len(data) // pair_bytes
    return pairs * one * discounts[min(pairs, len(discounts)) - 1] // 1000 if pairs else 0


def _coordinates(data: bytes) -> list[int]:
    """The field elements, 64 bytes each."""
    found = []
    for at in range(0, len(data), _COORDINATE_BYTES):
        value = int.from_bytes(data[at : at + _COORDINATE_BYTES])
        if value >= _FIELD:
            raise PrecompileFailure("a coordinate is not below the field's modulus")
        found.append(value)
    return found


def _flat(coordinates: Sequence[int]) -> bytes:
    """48 bytes for each, as the library takes them."""
    return b"".join(coordinate.to_bytes(48) for coordinate in coordinates)


def _g1(data: bytes, in_subgroup: bool) -> Any:
    x, y = _coordinates(data)
    if not x and not y:
        return G1Point.identity()
    if (y * y - x * x * x - 4) % _FIELD:
        raise PrecompileFailure("a point is not on the curve")
    return _checked(G1Point.from_xy_bytes_unchecked_be(_flat((x, y))), in_subgroup)


def _g2(data: bytes, in_subgroup: bool) -> Any:
    x0, x1, y0, y1 = _coordinates(data)
    if not any((x0, x1, y0, y1)):
        return G2Point.identity()
    # y² = x³ + 4 (1 + u) with u² = −1, real and imaginary part.
    square0, square1 = x0 * x0 - x1 * x1, 2 * x0 * x1
    cube0, cube1 = square0 * x0 - square1 * x1, square0 * x1 + square1 * x0
    if (y0 * y0 - y1 * y1 - cube0 - 4) % _FIELD or (2 * y0 * y1 - cube1 - 4) % _FIELD:
        raise PrecompileFailure("a point is not on the twisted curve")
    return _checked(G2Point.from_xy_bytes_unchecked_be(_flat((x0, x1, y0, y1))), in_subgroup)


def _checked(point: Any, in_subgroup: bool) -> Any:
    if in_subgroup and not point.is_in_subgroup():
        raise PrecompileFailure("a point is not in the subgroup")
    return point


def _encoded(point: Any) -> bytes:
    flat: bytes = bytes(point.to_xy_bytes_be())
    return b"".join(_PADDING + flat[at : at + 48] for at in range(0, len(flat), 48))


def _add(data: bytes, size: int, decode: Callable[[bytes, bool], Any]) -> bytes:
    if len(data) != 2 * size:
        raise PrecompileFailure(f"an addition takes {2 * size} bytes; got {len(data)}")
    return _encoded(decode(data[:size], False) + decode(data[size:], False))


def _msm(data: bytes, size: int, decode: Callable[[bytes, bool], Any], group: Any) -> bytes:
    pair = size + _SCALAR_BYTES
    if not data or len(data) % pair:
        raise PrecompileFailure(f"point and scalar take {pair} bytes; got {len(data)}")
    points = [decode(data[at : at + size], True) for at in range(0, len(data), pair)]
    scalars = [Scalar.from_be_bytes_mod_order(data[at + size : at + pair]) for at in range(0, len(data), pair)]
    return _encoded(group.multiexp_unchecked(points, scalars))


def _pairing(data: bytes) -> bytes:
    if not data or len(data) % _PAIR_BYTES:
        raise PrecompileFailure(f"a pair takes {_PAIR_BYTES} bytes; got {len(data)}")
    starts = range(0, len(data), _PAIR_BYTES)
    left = [_g1(data[at : at + _G1_BYTES], True) for at in starts]
    right = [_g2(data[at + _G1_BYTES : at + _PAIR_BYTES], True) for at in starts]
    return int(GT.pairing_check(left, right)).to_bytes(32)


def _map_to_g1(data: bytes) -> bytes:
    if len(data) != _COORDINATE_BYTES:
        raise PrecompileFailure(f"a field element takes {_COORDINATE_BYTES} bytes; got {len(data)}")
    return _encoded(G1Point.map_from_fp_be(_flat(_coordinates(data))))


def _map_to_g2(data: bytes) -> bytes:
    if len(data) != 2 * _COORDINATE_BYTES:
        raise PrecompileFailure(f"an element of the extension takes {2 * _COORDINATE_BYTES} bytes; got {len(data)}")
    return _encoded(G2Point.map_from_fp2_be(_flat(_coordinates(data))))


G1_ADD: Final = Precompile(lambda _data: 375, partial(_add, size=_G1_BYTES, decode=_g1))
G1_MSM: Final = Precompile(
    lambda data: _msm_gas(data, _G1_BYTES + _SCALAR_BYTES, 12_000, _G1_DISCOUNTS),
    partial(_msm, size=_G1_BYTES, decode=_g1, group=G1Point),
)
G2_ADD: Final = Precompile(lambda _data: 600, partial(_add, size=_G2_BYTES, decode=_g2))
G2_MSM: Final = Precompile(
    lambda data: _msm_gas(data, _G2_BYTES + _SCALAR_BYTES, 22_500, _G2_DISCOUNTS),
    partial(_msm, size=_G2_BYTES, decode=_g2, group=G2Point),
)
PAIRING: Final = Precompile(lambda data: 32_600 * (len(data) // _PAIR_BYTES) + 37_700, _pairing)
MAP_FP_TO_G1: Final = Precompile(lambda _data: 5_500, _map_to_g1)
MAP_FP2_TO_G2: Final = Precompile(lambda _data: 23_800, _map_to_g2)
