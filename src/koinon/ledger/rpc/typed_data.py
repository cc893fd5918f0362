"""EIP-712: the digest that an account signs for a typed structure, as wallets compute it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from koinon.crypto.hash import keccak256
from koinon.kernel.errors import InvalidInput
from koinon.kernel.ids import Hash32
from koinon.ledger.rpc import readers
from koinon.ledger.rpc.table import Json

_ARRAY: Final = re.compile(r"(.+)\[(\d*)\]")
_ATOM: Final = re.compile(r"(uint|int)(\d+)|bytes(\d+)|address|bool|string|bytes")
_MOST_TYPES: Final = 64
_MOST_FIELDS: Final = 64
_DEEPEST: Final = 16

Types = Mapping[str, Sequence[tuple[str, str]]]
"""Fields of each structure: name and type."""


def typed_digest(value: Json, name: str) -> Hash32:
    """keccak256(0x1901 || domain separator || hash of the message). Raises InvalidInput, naming what is wrong."""
    fields = readers.table(value, name)
    types = _types(fields.get("types"))
    primary = readers.text(fields.get("primaryType"), "primaryType")
    domain = readers.table(fields.get("domain"), "domain")
    separator = _hash_structure("EIP712Domain", domain, types, 0)
    if primary == "EIP712Domain":
        return keccak256(b"\x19\x01" + separator)
    message = readers.table(fields.get("message"), "message")
    return keccak256(b"\x19\x01" + separator + _hash_structure(primary, message, types, 0))


def _types(value: Json) -> Types:
    entries = readers.table(value, "types")
    if len(entries) > _MOST_TYPES:
        raise InvalidInput(f"typed data has at most {_MOST_TYPES} types")
    types: dict[str, Sequence[tuple[str, str]]] = {}
    for name, members in entries.items():
        rows = [readers.table(member, f"a member of {name}") for member in readers.items(members, name, _MOST_FIELDS)]
        types[name] = [(readers.text(row.get("name"), "name"), readers.text(row.get("type"), "type")) for row in rows]
    if "EIP712Domain" not in types:
        raise InvalidInput("types must define EIP712Domain")
    return types


def _encode_type(name: str, types: Types) -> bytes:
    """A structure's signature followed by those it refers to, in order of name."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current in found or current not in types:
            continue
        found.add(current)
        waiting += [_element(kind) for _, kind in types[current]]
    ordered = [name, *sorted(found - {name})]
    return "".join(f"{one}({','.join(f'{kind} {member}' for member, kind in types[one])})" for one in ordered).encode()


def _element(kind: str) -> str:
    while (array := _ARRAY.fullmatch(kind)) is not None:
        kind = array[1]
    return kind


def _hash_structure(name: str, value: Mapping[str, Json], types: Types, depth: int) -> Hash32:
    if depth > _DEEPEST:
        raise InvalidInput(f"typed data nests at most {_DEEPEST} deep")
    if name not in types:
        raise InvalidInput(f"types does not define {name[:80]!r}")
    encoded = [keccak256(_encode_type(name, types))]
    for member, kind in types[name]:
        if member not in value:
            raise InvalidInput(f"{name} has no value for {member[:80]!r}")
        encoded.append(_word(kind, value[member], types, depth))
    return keccak256(b"".join(encoded))


def _word(kind: str, value: Json, types: Types, depth: int) -> Hash32:
    """The 32 bytes that stand for a value in its structure."""
    array = _ARRAY.fullmatch(kind)
    if array is not None:
        if not isinstance(value, list):
            raise InvalidInput(f"a value of type {kind[:80]} is a list")
        if array[2] and len(value) != int(array[2]):
            raise InvalidInput(f"Expected {array[2]} items for array type {kind}, got {len(value)} items")
        if depth > _DEEPEST:
            raise InvalidInput(f"typed data nests at most {_DEEPEST} deep")
        return keccak256(b"".join(_word(array[1], entry, types, depth + 1) for entry in value))
    if kind in types:
        return _hash_structure(kind, readers.table(value, kind), types, depth + 1)
    if _ATOM.fullmatch(kind) is None:
        raise InvalidInput(f"there is no type {kind[:80]!r}")
    return Hash32(_atom(kind, value))


def _atom(kind: str, value: Any) -> bytes:
    if kind == "string":
        return keccak256(readers.text(value, "a string").encode())
    if kind == "bytes":
        return keccak256(readers.data(value, "bytes"))
    if kind == "bool":
        return int(readers.boolean(value, "a bool")).to_bytes(32, "big")
    if kind == "address":
        return bytes(12) + readers.address(value, "an address")
    if kind.startswith("bytes"):
        length, raw = int(kind[5:]), readers.data(value, kind)
        if not 1 <= length <= 32 or len(raw) != length:
            raise InvalidInput(f"a value of type {kind} has that many bytes, 1 to 32; got {len(raw)}")
        return raw.ljust(32, b"\x00")
    return _integer(kind, value)


def _integer(kind: str, value: Json) -> bytes:
    signed = kind.startswith("int")
    bits = int(kind.removeprefix("u")[3:])
    if isinstance(value, str):
        try:
            value = int(value, 16 if value.lower().startswith(("0x", "-0x")) else 10)
        except ValueError:
            raise InvalidInput(f"a value of type {kind} is a number; got {readers.shown(value)}") from None
    lowest, highest = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    if bits % 8 or not 8 <= bits <= 256 or isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInput(f"a value of type {kind} is an integer; got {readers.shown(value)}")
    if not lowest <= value <= highest:
        raise InvalidInput(f"the value is out of the range of {kind}")
    return value.to_bytes(32, "big", signed=signed)
