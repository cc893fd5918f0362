"""Calls and events of the suite, read with the ABIs that ship with it.

Bytes on a chain are hostile: what does not decode is shown as bytes, never guessed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from koinon.contracts.abi import Entry as Parameter
from koinon.contracts.abi import Interface, Method, decode, type_name
from koinon.contracts.artifacts import artifact
from koinon.gateway.views.chain import Argument
from koinon.kernel.errors import MalformedMessage

TEXT_WORDS = frozenset({"reason", "name", "criteria"})
"""Parameters of type bytes32 that hold short ASCII text by the suite's convention."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A call or event: the contract's name, its own name, its arguments by name, and their types."""

    contract: str
    name: str
    values: Mapping[str, Any]
    kinds: Mapping[str, str]


class SuiteDecoder:
    """Decodes what concerns the contracts at ``addresses`` (``0x`` text by contract name)."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        self.names = {address.lower(): name for name, address in addresses.items()}
        self.interfaces = {name: Interface(artifact(name)) for name in addresses}
        self._functions = {
            name: {method.selector: method for method in interface.functions.values()}
            for name, interface in self.interfaces.items()
        }
        self._events = {
            name: {f"0x{method.hash.hex()}": method for method in interface.events.values()}
            for name, interface in self.interfaces.items()
        }

    def event(self, address: str, topics: list[str], data: str) -> Decoded | None:
        """The event, or None where the contract, the event or the bytes are not the suite's."""
        contract = self.names.get(address.lower())
        method = self._events.get(contract or "", {}).get(topics[0] if topics else "")
        if contract is None or method is None:
            return None
        indexed = [one for one in method.inputs if one["indexed"]]
        plain = [one for one in method.inputs if not one["indexed"]]
        if len(indexed) != len(topics) - 1:
            return None
        try:
            values = dict(zip((one["name"] for one in plain), decode(plain, _bytes(data), method.name), strict=True))
            for parameter, topic in zip(indexed, topics[1:], strict=True):
                values[parameter["name"]] = _topic(parameter, _bytes(topic))
        except (MalformedMessage, ValueError):
            return None
        return _named(contract, method, values)

    def call(self, address: str, data: str) -> Decoded | None:
        """The call, or None where the contract, the function or the bytes are not the suite's."""
        contract = self.names.get(address.lower())
        if contract is None or len(data) < 10:
            return None
        try:
            content = _bytes(data)
            method = self._functions[contract].get(content[:4])
            if method is None:
                return None
            given = decode(method.inputs, content[4:], method.name)
        except (MalformedMessage, ValueError):
            return None
        names = [parameter["name"] or f"argument {place}" for place, parameter in enumerate(method.inputs)]
        return _named(contract, method, dict(zip(names, given, strict=True)))

    def outputs(self, method: Method, answer: object) -> Any:
        """What a reading function answered: its value, or a dictionary by name for several. Raises MalformedMessage."""
        if not isinstance(answer, str):
            raise MalformedMessage(f"the chain's answer to {method.name} is not in hexadecimal")
        try:
            values = decode(method.outputs, _bytes(answer), method.name)
        except ValueError:
            raise MalformedMessage(f"the chain's answer to {method.name} is not in hexadecimal") from None
        shaped = [shape(parameter, value) for parameter, value in zip(method.outputs, values, strict=True)]
        if len(shaped) == 1:
            return shaped[0]
        return dict(zip((parameter["name"] for parameter in method.outputs), shaped, strict=True))


def arguments(decoded: Decoded) -> tuple[Argument, ...]:
    """The arguments as text, in the order of the ABI."""
    return tuple(
        Argument(name=name, kind=kind, value=write_value(decoded.values[name])) for name, kind in decoded.kinds.items()
    )


def write_value(value: Any) -> str:
    """One decoded value as text: hexadecimal for bytes, parentheses for structs and lists."""
    if isinstance(value, bytes):
        return f"0x{value.hex()}"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "(" + ", ".join(f"{name}: {write_value(one)}" for name, one in value.items()) + ")"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(write_value, value)) + "]"
    return str(value)


def _named(contract: str, method: Method, values: Mapping[str, Any]) -> Decoded:
    shaped, kinds = {}, {}
    for place, parameter in enumerate(method.inputs):
        name = parameter["name"] or f"argument {place}"
        shaped[name] = shape(parameter, values[name])
        kinds[name] = type_name(parameter)
    return Decoded(contract, method.name, shaped, kinds)


def shape(parameter: Parameter, value: Any) -> Any:
    """A decoded value as this room keeps it: ``0x`` text for bytes, dictionaries for structs, text for short text."""
    kind: str = parameter["type"]
    if kind.endswith("]"):
        inner = {**parameter, "type": kind[: kind.rindex("[")]}
        return tuple(shape(inner, one) for one in value)
    if kind == "tuple":
        return {one["name"]: shape(one, part) for one, part in zip(parameter["components"], value, strict=True)}
    if isinstance(value, bytes):
        if kind == "bytes32" and parameter["name"] in TEXT_WORDS:
            return value.rstrip(b"\0").decode("ascii", "backslashreplace")
        return f"0x{value.hex()}"
    return value


def _topic(parameter: Parameter, word: bytes) -> Any:
    dynamic = (
        parameter["type"] in ("string", "bytes") or parameter["type"].endswith("]") or parameter["type"] == "tuple"
    )
    if dynamic:
        return word  # a dynamic value is indexed by its hash; the value itself is not in the log
    return decode([parameter], word, "a topic")[0]


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))
