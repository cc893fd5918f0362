"""Contract ABI: between our dataclasses and the EVM's words.

A struct or event of Solidity is a frozen dataclass with the same fields in the same order, in snake case. Values are
``Address`` and ``Hash32`` bytes, ints, tuples; a field annotated ``str`` whose ABI type is ``bytes32`` is short text.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import IntEnum
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args, get_origin, get_type_hints

from koinon.contracts.artifacts import Artifact
from koinon.crypto.hash import keccak256
from koinon.kernel.errors import InvalidInput, MalformedMessage
from koinon.kernel.ids import Address, Hash32

if TYPE_CHECKING:
    from eth_abi.codec import ABICodec

ARRAY: Final = re.compile(r"^(.*)\[(\d*)\]$")

T = TypeVar("T")
Entry = Mapping[str, Any]


@cache
def _codec() -> "ABICodec":
    # Late: eth-abi takes about 100 ms to load, and a node without business on the chain never needs it.
    from eth_abi.abi import default_codec

    return default_codec


@dataclass(frozen=True, slots=True)
class Method:
    """One function, event or error of an ABI."""

    name: str
    signature: str
    inputs: tuple[Entry, ...]
    outputs: tuple[Entry, ...]

    @property
    def hash(self) -> Hash32:
        """Keccak-256 of the signature: topic of an event."""
        return keccak256(self.signature.encode())

    @property
    def selector(self) -> bytes:
        """First four bytes of the hash."""
        return self.hash[:4]


class Interface:
    """The functions, events and errors of one artefact, by name.

    Overloaded functions are listed by their full signature only.
    """

    def __init__(self, artifact: Artifact) -> None:
        self.name = artifact.name
        self.functions: dict[str, Method] = {}
        self.events: dict[str, Method] = {}
        self.errors: dict[bytes, Method] = {}
        self.constructor: tuple[Entry, ...] = ()
        names = [entry.get("name") for entry in artifact.abi if entry["type"] == "function"]
        for entry in artifact.abi:
            if entry["type"] == "constructor":
                self.constructor = tuple(entry["inputs"])
                continue
            method = _method(entry)
            if entry["type"] == "function":
                key = method.name if names.count(method.name) == 1 else method.signature
                self.functions[key] = method
            elif entry["type"] == "event":
                self.events[method.name] = method
            else:
                self.errors[method.selector] = method

    def encode_call(self, function: str, *arguments: object) -> bytes:
        """Selector and arguments. Raises InvalidInput where an argument does not fit its type."""
        method = self.functions[function]
        return method.selector + encode(method.inputs, arguments, f"{self.name}.{function}")


def _method(entry: Entry) -> Method:
    inputs = tuple(entry.get("inputs", ()))
    signature = f"{entry['name']}({','.join(map(type_name, inputs))})"
    return Method(entry["name"], signature, inputs, tuple(entry.get("outputs", ())))


def type_name(entry: Entry) -> str:
    """Canonical type of a parameter: structs as tuples."""
    kind: str = entry["type"]
    if not kind.startswith("tuple"):
        return kind
    return f"({','.join(map(type_name, entry['components']))}){kind[5:]}"


def snake_case(name: str) -> str:
    """``resultParty`` to ``result_party``; leading underscores fall."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip("_")).lower()


# ------------------------------------------------------------------------------------------------ encoding


def encode(parameters: Sequence[Entry], values: Sequence[object], what: str) -> bytes:
    """ABI-encode ``values``. Raises InvalidInput naming ``what`` and the parameter that does not fit."""
    from eth_abi.exceptions import EncodingError

    if len(values) != len(parameters):
        raise InvalidInput(f"{what} takes {len(parameters)} arguments; got {len(values)}")
    plain = [_to_plain(entry, value, what) for entry, value in zip(parameters, values, strict=True)]
    for entry, value in zip(parameters, plain, strict=True):
        if not _codec().is_encodable(type_name(entry), value):
            raise InvalidInput(
                f"{what}: {entry['name'] or 'an argument'} is no {type_name(entry)} of the allowed range"
            )
    try:
        return _codec().encode([type_name(entry) for entry in parameters], plain)
    except EncodingError as problem:
        raise InvalidInput(f"{what}: {problem}") from None


def _to_plain(entry: Entry, value: object, what: str) -> object:
    kind: str = entry["type"]
    array = ARRAY.match(kind)
    if array is not None:
        if not isinstance(value, list | tuple):
            raise InvalidInput(f"{what}: {entry['name']} must be a list or tuple")
        inner = {**entry, "type": array.group(1)}
        return [_to_plain(inner, item, what) for item in value]
    if kind == "tuple":
        if not is_dataclass(value) or len(fields(value)) != len(entry["components"]):
            raise InvalidInput(f"{what}: {entry['name']} must be the dataclass of that struct")
        return tuple(
            _to_plain(component, getattr(value, field.name), what)
            for component, field in zip(entry["components"], fields(value), strict=True)
        )
    if kind == "bytes32" and isinstance(value, str):
        return text_to_word(value)
    if kind == "address" and not (isinstance(value, bytes) and len(value) == 20):
        raise InvalidInput(f"{what}: {entry['name']} must be an address of 20 bytes")
    if isinstance(value, IntEnum):
        return int(value)
    return value


def text_to_word(text: str) -> bytes:
    """Short ASCII text as a 32-byte word. Raises InvalidInput above 32 bytes, or where it is not ASCII."""
    if not text.isascii() or len(text) > 32:
        raise InvalidInput(f"a name on the chain is at most 32 ASCII letters; got {text[:80]!r}")
    return text.encode().ljust(32, b"\0")


# ------------------------------------------------------------------------------------------------ decoding


def decode(parameters: Sequence[Entry], data: bytes, what: str) -> list[Any]:
    """ABI-decode to ints, bytes, strings, tuples and (for structs) tuples of them.

    Raises:
        MalformedMessage: the bytes are not an encoding of these types.
    """
    from eth_abi.exceptions import DecodingError

    try:
        values = _codec().decode([type_name(entry) for entry in parameters], data)
    except (DecodingError, OverflowError, UnicodeDecodeError) as problem:
        raise MalformedMessage(f"{what} answered bytes of another form: {problem}") from None
    return [_from_plain(entry, value) for entry, value in zip(parameters, values, strict=True)]


def _from_plain(entry: Entry, value: Any) -> Any:
    kind: str = entry["type"]
    array = ARRAY.match(kind)
    if array is not None:
        inner = {**entry, "type": array.group(1)}
        return tuple(_from_plain(inner, item) for item in value)
    if kind == "tuple":
        pairs = zip(entry["components"], value, strict=True)
        return tuple(_from_plain(component, item) for component, item in pairs)
    if kind == "address":
        return Address(bytes.fromhex(value[2:]))
    return value


def build(kind: type[T] | Any, value: Any) -> T:
    """Make a ``kind`` — dataclass, enum, tuple of them, text, or a plain type — of a decoded value."""
    origin = get_origin(kind)
    if origin is tuple:
        item = get_args(kind)[0]
        return tuple(build(item, entry) for entry in value)  # type: ignore[return-value]
    plain = getattr(kind, "__supertype__", kind)
    if plain is str and isinstance(value, bytes):
        return value.rstrip(b"\0").decode("ascii", "replace")  # type: ignore[return-value]
    if not isinstance(plain, type):
        return value  # type: ignore[no-any-return]
    if is_dataclass(plain):
        hints = _hints(plain)
        return plain(*(build(hint, item) for hint, item in zip(hints, value, strict=True)))  # type: ignore[return-value]
    if issubclass(plain, IntEnum):
        return plain(value)  # type: ignore[return-value]
    return value  # type: ignore[no-any-return]


@cache
def _hints(kind: type) -> tuple[Any, ...]:
    hints = get_type_hints(kind)
    return tuple(hints[field.name] for field in fields(kind))
