"""Recursive length prefix (Ethereum yellow paper, appendix B): strict decoding, plain encoding."""

from collections.abc import Sequence
from typing import Final

from koinon.kernel.errors import MalformedMessage

Item = bytes | list["Item"]
_DEEPEST: Final = 4


def encode(item: "bytes | int | Sequence[object]") -> bytes:
    """Encode bytes, a non-negative integer (big-endian, no leading zeros) or a sequence of these."""
    if isinstance(item, int):
        item = item.to_bytes((item.bit_length() + 7) // 8, "big")
    if isinstance(item, bytes | bytearray):
        if len(item) == 1 and item[0] < 0x80:
            return bytes(item)
        return _prefix(0x80, len(item)) + item
    assert isinstance(item, Sequence)
    payload = b"".join(encode(part) for part in item)  # type: ignore[arg-type]  # parts are items again
    return _prefix(0xC0, len(payload)) + payload


def list_of(payload: bytes) -> bytes:
    """A list whose items are encoded already."""
    return _prefix(0xC0, len(payload)) + payload


def _prefix(offset: int, length: int) -> bytes:
    if length < 56:
        return bytes([offset + length])
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([offset + 55 + len(size)]) + size


def decode(data: bytes) -> Item:
    """Decode exactly one item.

    Raises:
        MalformedMessage: not RLP, not canonical, nested deeper than a transaction can be, or followed by more bytes.
    """
    item, end = _decode_at(data, 0, 0)
    if end != len(data):
        raise MalformedMessage(f"{len(data) - end} bytes follow the RLP item")
    return item


def fields(data: bytes, at: int, count: int) -> tuple[list[Item], list[int]]:
    """The items of the list of ``count`` that fills ``data`` from ``at`` on, and where each begins and the last ends.

    What a transaction is: written out for its short strings, which recursion would take three times as long over.

    Raises:
        MalformedMessage: as ``decode``, or another number of items.
    """
    if at >= len(data) or data[at] < 0xC0:
        raise MalformedMessage(f"a transaction of this type is a list of {count} fields")
    position, end = _extent(data, at, data[at] - 0xC0)
    if end != len(data):
        raise MalformedMessage(f"{len(data) - end} bytes follow the RLP item")
    items: list[Item] = []
    begins: list[int] = []
    while position < end and len(items) < count:
        begins.append(position)
        first = data[position]
        if first < 0x80:
            items.append(data[position : position + 1])
            position += 1
        elif first <= 0xB7:
            start, position = position + 1, position + first - 0x7F
            if first == 0x81 and position <= end and data[start] < 0x80:
                raise MalformedMessage("an RLP byte below 0x80 must stand for itself")
            items.append(data[start:position])
        elif first == 0xC0:
            items.append([])
            position += 1
        else:
            item, position = _decode_at(data, position, 1)
            items.append(item)
    if position > end:
        raise MalformedMessage("the RLP item ends too early")
    if position < end or len(items) != count:
        raise MalformedMessage(f"a transaction of this type is a list of {count} fields")
    begins.append(end)
    return items, begins


def _decode_at(data: bytes, at: int, depth: int) -> tuple[Item, int]:
    if at >= len(data):
        raise MalformedMessage("the RLP item ends too early")
    first = data[at]
    if first < 0x80:
        return data[at : at + 1], at + 1
    is_list = first >= 0xC0
    offset = 0xC0 if is_list else 0x80
    start, end = _extent(data, at, first - offset)
    if not is_list:
        if end - start == 1 and data[start] < 0x80:
            raise MalformedMessage("an RLP byte below 0x80 must stand for itself")
        return data[start:end], end
    if depth >= _DEEPEST:
        raise MalformedMessage("the RLP item is nested too deeply")
    items: list[Item] = []
    position = start
    while position < end:
        item, position = _decode_at(data, position, depth + 1)
        items.append(item)
    if position != end:
        raise MalformedMessage("an RLP list is longer than its length says")
    return items, end


def _extent(data: bytes, at: int, code: int) -> tuple[int, int]:
    """Where the payload of the item at ``at`` starts and ends."""
    if code < 56:
        start, length = at + 1, code
    else:
        size = code - 55
        start = at + 1 + size
        digits = data[at + 1 : start]
        if len(digits) != size or digits[0] == 0:
            raise MalformedMessage("an RLP length is cut short or has a leading zero")
        length = int.from_bytes(digits, "big")
        if length < 56:
            raise MalformedMessage("an RLP length below 56 must use the short form")
    if start + length > len(data):
        raise MalformedMessage("the RLP item ends too early")
    return start, start + length
