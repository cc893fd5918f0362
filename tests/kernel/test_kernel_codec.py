"""One value, one encoding: whatever decodes encodes back to the same bytes, and everything else is refused whole."""

from typing import Annotated

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from koinon.kernel.codec import MAXIMUM_MESSAGE_BYTES, Record, decode, encode
from koinon.kernel.errors import MalformedMessage


class Leaf(Record, frozen=True):
    number: int
    data: bytes
    text: str
    flag: bool
    perhaps: bytes | None


class Tree(Record, frozen=True):
    leaves: tuple[Leaf, ...]
    weight: float
    small: Annotated[int, Meta(ge=0, le=255)]


class Nest(Record, frozen=True):
    inner: "Nest | None"


LEAVES = st.builds(
    Leaf, st.integers(-(2**63), 2**64 - 1), st.binary(), st.text(), st.booleans(), st.none() | st.binary()
)
TREES = st.builds(Tree, st.lists(LEAVES, max_size=4).map(tuple), st.floats(allow_nan=False), st.integers(0, 255))


@given(TREES)
def test_a_value_comes_back_and_has_one_encoding(tree: Tree) -> None:
    data = encode(tree)
    assert decode(Tree, data) == tree
    assert decode(Tree, memoryview(data)) == tree
    assert encode(decode(Tree, data)) == data


@given(TREES, TREES)
def test_different_values_have_different_encodings(one: Tree, other: Tree) -> None:
    if one != other:
        assert encode(one) != encode(other)


@given(st.binary(max_size=100))
def test_bytes_that_decode_are_canonical(data: bytes) -> None:
    for kind in (Leaf, Tree, Nest):
        try:
            value = decode(kind, data)
        except MalformedMessage:
            continue
        assert encode(value) == data


GOOD = encode(Leaf(7, b"d", "t", True, None))  # 95 07 c4 01 64 a1 74 c3 c0


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "empty"),
        (b"\xc1", "a byte MessagePack never uses"),
        (GOOD[:-1], "truncated"),
        (GOOD + b"\xc0", "a trailing value"),
        (b"\x96" + GOOD[1:] + b"\xc0", "a field too many"),
        (b"\x94" + GOOD[1:-1], "a field too few"),
        (b"\x95\xcc\x07" + GOOD[2:], "a number in two bytes where one does"),
        (b"\x95\xd3" + (7).to_bytes(8, "big") + GOOD[2:], "a number in eight bytes"),
        (b"\x95\x07\xc5\x00\x01d" + GOOD[5:], "a length in two bytes where one does"),
        (b"\xdc\x00\x05" + GOOD[1:], "an array header in three bytes where one does"),
        (b"\x95\x07\xa1d" + GOOD[5:], "text where bytes are due"),
        (b"\x95\xca\x40\xe0\x00\x00" + GOOD[2:], "a float where a number is due"),
        (b"\x95\xc3" + GOOD[2:], "a truth where a number is due"),
        (b"\x95\x07\xc4\x01d\xa1\xff\xc3\xc0", "text that is no UTF-8"),
        (b"\x85" + GOOD[1:], "a map"),
        (b"\xc7\x05\x01" + GOOD[1:6], "an extension"),
        (b"\x95\x07\xc6\xff\xff\xff\xff", "a length beyond the end"),
        (b"\xdd\xff\xff\xff\xff", "an array of four thousand million"),
    ],
)
def test_everything_else_is_malformed(data: bytes, why: str) -> None:
    with pytest.raises(MalformedMessage):
        decode(Leaf, data)
    assert decode(Leaf, GOOD).number == 7, why


def test_ranges_are_checked_on_reading() -> None:
    for small in (-1, 256):
        with pytest.raises(MalformedMessage, match="not a Tree"):
            decode(Tree, encode(Tree((), 0.0, small)))


def test_an_integer_does_not_stand_for_a_float() -> None:
    one = encode(Tree((), 1.0, 0))
    assert one[2] == 0xCB
    with pytest.raises(MalformedMessage, match="canonical"):
        decode(Tree, one[:2] + b"\x01" + one[11:])


def test_nesting_without_end_is_malformed_and_not_a_crash() -> None:
    with pytest.raises(MalformedMessage):
        decode(Nest, b"\x91" * 1_000_000 + b"\xc0")
    shallow = Nest(Nest(Nest(None)))
    assert decode(Nest, encode(shallow)) == shallow


def test_a_limit_is_kept_before_anything_is_read() -> None:
    assert decode(bytes, encode(bytes(98)), limit=100) == bytes(98)
    with pytest.raises(MalformedMessage, match="101 bytes is longer than the 100 allowed"):
        decode(bytes, bytes(101), limit=100)
    with pytest.raises(MalformedMessage, match=str(MAXIMUM_MESSAGE_BYTES)):
        decode(bytes, bytes(MAXIMUM_MESSAGE_BYTES + 1))


def test_records_cannot_be_changed() -> None:
    leaf = decode(Leaf, GOOD)
    with pytest.raises(AttributeError):
        leaf.number = 8  # type: ignore[misc]
    assert msgspec.structs.replace(leaf, number=8).number == 8
