"""Messages with something changed: what a liar, a fuzzer or a bad disk sends."""

import random
from collections.abc import Callable
from typing import Any, Final

from msgspec.structs import fields, replace

from koinon.kernel.codec import Record
from koinon.kernel.ids import Hash32
from koinon.wire.consensus import ConsensusMessage

_LARGEST: Final = 2**62


def broken(draw: random.Random, message: ConsensusMessage) -> ConsensusMessage:
    """The message with one value somewhere inside it changed; still of the right types."""
    return _changed(draw, message)  # type: ignore[no-any-return]  # a changed record is of the same type


def _changed(draw: random.Random, value: Any) -> Any:
    if isinstance(value, Record):
        name = draw.choice(fields(value)).name
        return replace(value, **{name: _changed(draw, getattr(value, name))})
    if isinstance(value, tuple):
        return _changed_tuple(draw, value)
    change = _CHANGES.get(type(value))
    return value if change is None else change(draw, value)


def _changed_tuple(draw: random.Random, value: tuple[Any, ...]) -> tuple[Any, ...]:
    if not value:
        return value
    place = draw.randrange(len(value))
    kind = draw.randrange(3)
    if kind == 0 and len(value) > 1:
        return (*value[:place], *value[place + 1 :])
    if kind == 1 and len(value) < 8:
        return (*value, value[place])
    return (*value[:place], _changed(draw, value[place]), *value[place + 1 :])


def _changed_number(draw: random.Random, value: int) -> int:
    return max(0, draw.choice((value - 1, value + 1, value + 2, 0, 1, 2 * value, _LARGEST)))


def _changed_bytes(draw: random.Random, value: bytes) -> bytes:
    if not value:
        return b"\x00"
    if len(value) == 32:
        return Hash32(draw.randbytes(32))
    place = draw.randrange(len(value))
    return draw.choice(
        (
            value[:place] + bytes([value[place] ^ (1 << draw.randrange(8))]) + value[place + 1 :],
            value[:-1] or b"\x00",
            value + b"\x00",
            b"\x00",
        )
    )


def _absent(_draw: random.Random, _value: None) -> None:
    return None


_CHANGES: Final[dict[type, Callable[[random.Random, Any], Any]]] = {
    int: _changed_number,
    bytes: _changed_bytes,
    type(None): _absent,
}
