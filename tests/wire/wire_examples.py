"""One fixed example of every message, made from the types of its fields, and the record of those ever released.

``PYTHONPATH=src python tests/wire/wire_examples.py`` adds messages that have no record yet. It never changes a recorded
one: a released message keeps its number, its bytes and its answers for ever; something else is another message. The
line of a message that no release has shipped yet may be deleted and made anew.
"""

import importlib
import json
import pkgutil
from enum import Enum
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import inspect

import koinon.wire
from koinon.kernel.codec import encode
from koinon.wire import catalogue
from koinon.wire.catalogue import Message

RECORD: Final = Path(__file__).with_name("golden.json")


def released() -> dict[int, type[Message]]:
    """Every message of the package by number; tests of other rooms may define their own beside them."""
    for module in pkgutil.iter_modules(koinon.wire.__path__, "koinon.wire."):
        importlib.import_module(module.name)
    return {number: kind for number, kind in catalogue.messages().items() if kind.__module__.startswith("koinon.")}


def example(kind: type[Message]) -> Message:
    """The same value for the same type, always; every optional field is set, every list has two items."""
    return _value(inspect.type_info(kind), kind.__name__)  # type: ignore[no-any-return]


def description(number: int, kind: type[Message]) -> dict[str, Any]:
    """What may never change about a message."""
    answers = sorted(answer.__name__ for answer in released().values() if catalogue.may_answer(kind, answer))
    return {
        "name": kind.__name__,
        "fields": [field.encode_name for field in msgspec.structs.fields(kind)],
        "answers": [name for name in answers if name != "Failure"],
        "limit": catalogue.limit_of(number),
        "bytes": encode(example(kind)).hex(),
    }


def recorded() -> dict[int, dict[str, Any]]:
    """The record, by number."""
    return {int(number, 16): entry for number, entry in json.loads(RECORD.read_text()).items()}


def _value(info: Any, name: str) -> Any:
    match info:
        case inspect.StructType():
            return info.cls(*(_value(field.type, field.name) for field in info.fields))
        case inspect.UnionType():
            return next(_value(part, name) for part in info.types if not isinstance(part, inspect.NoneType))
        case inspect.Metadata():
            return _value(info.type, name)
        case inspect.BoolType():
            return True
        case inspect.IntType():
            low = info.ge if info.ge is not None else (info.gt + 1 if info.gt is not None else 0)
            high = info.le if info.le is not None else 2**63 - 1
            return min(high, low + sum(name.encode()))
        case inspect.FloatType():
            return max(0.5, info.ge or 0.0)
        case inspect.StrType():
            return _sized(name, info, "x")
        case inspect.BytesType():
            return _sized(name.encode(), info, b"\xa5")
        case inspect.VarTupleType():
            return tuple(_items(info, name))
        case inspect.ListType():
            return _items(info, name)
        case inspect.TupleType():
            return tuple(_value(item, f"{name}{index}") for index, item in enumerate(info.item_types))
        case inspect.DictType():
            return {_value(info.key_type, name): _value(info.value_type, name)}
        case inspect.EnumType():
            first: Enum = next(iter(info.cls))
            return first
        case inspect.LiteralType():
            return info.values[0]
    raise TypeError(f"{name}: messages hold no {info}")


def _items(info: Any, name: str) -> list[Any]:
    count = min(max(2, info.min_length or 0), 2 if info.max_length is None else info.max_length)
    return [_value(info.item_type, f"{name}{index}") for index in range(count)]


def _sized(text: Any, info: Any, filler: Any) -> Any:
    shortest, longest = info.min_length or 0, info.max_length
    return (text + filler * max(0, shortest - len(text)))[:longest]


def main() -> None:
    """Record what is not recorded yet."""
    record = recorded() if RECORD.exists() else {}
    for number, kind in released().items():
        record.setdefault(number, description(number, kind))
    lines = (f'  "{number:#06x}": {json.dumps(entry)}' for number, entry in sorted(record.items()))
    RECORD.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
