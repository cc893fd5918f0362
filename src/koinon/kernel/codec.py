"""One encoding for everything that is stored, signed or sent: MessagePack of array-like msgspec structs.

A struct is encoded as an array of its fields in order, so a value has exactly one encoding and can be signed or hashed
as it is. Decoding is strict and bounded: a decoded value, encoded again, must give the same bytes, so that two byte
strings never stand for one message.
"""

from typing import Final, TypeVar

import msgspec

from koinon.kernel.errors import MalformedMessage

MAXIMUM_MESSAGE_BYTES: Final = 16 * 1024 * 1024

_T = TypeVar("_T")
_encoder: Final = msgspec.msgpack.Encoder()
_decoders: dict[object, msgspec.msgpack.Decoder[object]] = {}


class Record(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Base of everything that crosses a process or is hashed: frozen, positional, nothing extra accepted."""


def encode(value: object) -> bytes:
    """Encode a Record (or a plain value of ints, bytes, strings, lists) as MessagePack."""
    return _encoder.encode(value)


def decode(kind: type[_T], data: bytes | memoryview, *, limit: int = MAXIMUM_MESSAGE_BYTES) -> _T:
    """Decode ``data`` as one ``kind``.

    Raises:
        MalformedMessage: longer than ``limit`` bytes, not MessagePack, not this type, or not the canonical encoding.
    """
    name = getattr(kind, "__name__", str(kind))
    if len(data) > limit:
        raise MalformedMessage(f"{name} of {len(data)} bytes is longer than the {limit} allowed")
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.msgpack.Decoder(kind)
    try:
        value = decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise MalformedMessage(f"not a {name}: {problem}") from None
    if _encoder.encode(value) != data:
        raise MalformedMessage(f"not the canonical encoding of a {name}")
    return value  # type: ignore[return-value]  # the cache is keyed by the very type the decoder was built for
