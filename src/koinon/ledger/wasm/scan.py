"""Reading a module whole, by rules stricter than the specification's.

A module is: the magic number, sections in the specification's order and each at most once, and the end marker. It
imports functions of the host and nothing else; has exactly one memory, exported as ``memory``; exports ``call`` and
perhaps ``deploy``, which take and give nothing; has no start function, no passive segment, no table but one of
functions. Segments lie inside what memory and table hold from the start. Other custom sections are skipped.

Types of operands are not checked here: the compiler does, on the rewritten module.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from koinon.ledger.wasm.binary import InvalidModule, Reader
from koinon.ledger.wasm.instructions import END, FUNCTION_REFERENCE, GLOBAL_GET, I32, I32_CONST, I64, I64_CONST
from koinon.ledger.wasm.limits import (
    END_MARKER,
    LARGEST_MODULE,
    LONGEST_NAME,
    MAGIC,
    MOST_ELEMENTS,
    MOST_EXPORTS,
    MOST_FUNCTIONS,
    MOST_GLOBALS,
    MOST_IMPORTS,
    MOST_PAGES,
    MOST_PARAMETERS,
    MOST_SEGMENTS,
    MOST_TYPES,
    PAGE_BYTES,
)

VERSION: Final = b"\1\0\0\0"
HOST_MODULE: Final = b"koinon"
_FUNCTION_TYPE: Final = 0x60
_FUNCTION, _TABLE, _MEMORY, _GLOBAL = range(4)
_CUSTOM: Final = 0


@dataclass(frozen=True)
class FunctionType:
    """Parameters and results by their codes in the binary; one result at most."""

    parameters: bytes
    results: bytes


@dataclass(frozen=True)
class Import:
    name: str
    type_index: int


@dataclass(frozen=True)
class Global:
    """Attributes: value type; whether it can change; the constant it starts with."""

    value_type: int
    mutable: bool
    initial: int


@dataclass(frozen=True)
class Segment:
    """Functions of the table, or bytes of the memory, from ``offset`` on."""

    offset: int
    functions: tuple[int, ...] = ()
    data: bytes = b""


@dataclass
class Module:
    """What a module holds. Function indices count the imports first, as in the binary.

    Attributes:
        size: bytes up to and with the end marker.
        table: elements at the start and at most; None without a table.
        memory: pages at the start and at most.
        bodies: where each function's locals and instructions stand.
    """

    size: int = 0
    types: list[FunctionType] = field(default_factory=list)
    imports: list[Import] = field(default_factory=list)
    functions: list[int] = field(default_factory=list)
    table: tuple[int, int] | None = None
    memory: tuple[int, int] | None = None
    globals: list[Global] = field(default_factory=list)
    functions_exported: dict[str, int] = field(default_factory=dict)
    elements: list[Segment] = field(default_factory=list)
    bodies: list[Reader] = field(default_factory=list)
    data: list[Segment] = field(default_factory=list)

    def type_of(self, function: int) -> FunctionType:
        """Raises InvalidModule if there is no such function."""
        imported = len(self.imports)
        if function < imported:
            return self.types[self.imports[function].type_index]
        if function - imported >= len(self.functions):
            raise InvalidModule(f"function {function} is used and {imported + len(self.functions)} exist")
        return self.types[self.functions[function - imported]]


def is_module(code: bytes) -> bool:
    """Whether code is for this machine: it begins as every WebAssembly binary does."""
    return code[:4] == MAGIC


def scan(code: bytes, host: Mapping[str, FunctionType]) -> Module:
    """Read the module at the beginning of ``code``; what follows its end marker is not looked at.

    Args:
        host: the functions a module may import, by name.

    Raises:
        InvalidModule: says which rule is broken, and where.
    """
    reader = Reader(bytes(code), 0, min(len(code), LARGEST_MODULE))
    if reader.take(8) != MAGIC + VERSION:
        raise InvalidModule("a module begins with the magic number and version 1")
    module = Module()
    seen = _CUSTOM
    while True:
        number = reader.byte()
        section = reader.section()
        if number == _CUSTOM:
            if _name(section) == END_MARKER:
                section.close("the end marker")
                break
            continue
        if number >= len(_SECTIONS):
            raise InvalidModule(f"section {number} is of a kind that contracts cannot have")
        if number <= seen:
            raise InvalidModule(f"section {number} comes twice or out of order")
        seen = number
        _SECTIONS[number](section, module, host)
        section.close(f"section {number}")
    module.size = reader.position
    _check(module)
    return module


def _name(reader: Reader) -> bytes:
    size = reader.unsigned()
    if size > LONGEST_NAME:
        raise InvalidModule(f"a name may have {LONGEST_NAME} bytes; one has {size}")
    return reader.take(size)


def _value_type(reader: Reader) -> int:
    kind = reader.byte()
    if kind not in (I32, I64):
        raise InvalidModule(f"values are i32 or i64; there is a type 0x{kind:02x} at byte {reader.position - 1}")
    return kind


def _limits(reader: Reader, what: str, most: int) -> tuple[int, int]:
    """The smallest and largest size; the latter is ``most`` where none is given or a larger one."""
    flags = reader.byte()
    if flags > 1:
        raise InvalidModule(f"the {what} is shared, or has 64-bit or other limits that contracts cannot have")
    smallest = reader.unsigned()
    largest = reader.unsigned() if flags else most
    if smallest > min(largest, most):
        raise InvalidModule(f"the {what} starts with {smallest} units; {min(largest, most)} are allowed")
    return smallest, min(largest, most)


def _constant(reader: Reader, kind: int) -> int:
    """A constant expression. Globals cannot be referred to: only imported ones could, and none can be imported."""
    opcode = reader.byte()
    if opcode != (I32_CONST if kind == I32 else I64_CONST):
        wrong = "a global" if opcode == GLOBAL_GET else f"instruction 0x{opcode:02x}"
        raise InvalidModule(f"a constant of another kind is needed at byte {reader.position - 1}, not {wrong}")
    value = reader.signed(32 if kind == I32 else 64)
    if reader.byte() != END:
        raise InvalidModule(f"a constant expression is one constant; there is more at byte {reader.position - 1}")
    return value


def _types(reader: Reader, module: Module, _host: Mapping[str, FunctionType]) -> None:
    for _ in range(reader.count("types", MOST_TYPES)):
        if reader.byte() != _FUNCTION_TYPE:
            raise InvalidModule(f"only functions have types; there is another at byte {reader.position - 1}")
        parameters = bytes(_value_type(reader) for _ in range(reader.count("parameters in a type", MOST_PARAMETERS)))
        results = bytes(_value_type(reader) for _ in range(reader.count("results in a type", 1)))
        module.types.append(FunctionType(parameters, results))


def _type_index(reader: Reader, module: Module) -> int:
    index = reader.unsigned()
    if index >= len(module.types):
        raise InvalidModule(f"type {index} is used and {len(module.types)} exist")
    return index


def _imports(reader: Reader, module: Module, host: Mapping[str, FunctionType]) -> None:
    for _ in range(reader.count("imports", MOST_IMPORTS)):
        place, name = _name(reader), _name(reader)
        if reader.byte() != _FUNCTION or place != HOST_MODULE:
            raise InvalidModule("a contract imports functions of the module 'koinon' and nothing else")
        index = _type_index(reader, module)
        known = name.decode("ascii", "replace")
        if known not in host:
            raise InvalidModule(f"the host has no function {known!r}")
        if module.types[index] != host[known]:
            raise InvalidModule(f"the host's function {known!r} has another type than the import gives it")
        module.imports.append(Import(known, index))


def _functions(reader: Reader, module: Module, _host: Mapping[str, FunctionType]) -> None:
    for _ in range(reader.count("functions", MOST_FUNCTIONS)):
        module.functions.append(_type_index(reader, module))


def _tables(reader: Reader, module: Module, _host: Mapping[str, FunctionType]) -> None:
    for _ in range(reader.count("tables", 1)):
        if reader.byte() != FUNCTION_REFERENCE:
            raise InvalidModule("a table holds functions and nothing else")
        module.table = _limits(reader, "table", MOST_ELEMENTS)


def _memories(reader: Reader, module: Module, _host: Mapping[str, FunctionType]) -> None:
    for _ in range(reader.count("memories", 1)):
        module.memory = _limits(reader, "memory", MOST_PAGES)


def _globals(reader: Reader, module: Module, _host: Mapping[str, FunctionType]) -> None:
    for _ in range(reader.count("globals", MOST_GLOBALS)):
        kind = _value_type(reader)
        mutable = reader.byte()
        if mutable > 1:
            raise InvalidModule(f"a global is constant or variable; byte {reader.position - 1} says neither")
        module.globals.append(Global(kind, bool(mutable), _constant(reader, kind)))


def _exports(reader: Reader, module: Module, _host: Mapping[str, FunctionType]) -> None:
    names = set[bytes]()
    for _ in range(reader.count("exports", MOST_EXPORTS)):
        name = _name(reader)
        kind, index = reader.byte(), reader.unsigned()
        if name in names:
            raise InvalidModule("two exports have the same name")
        names.add(name)
        if kind == _FUNCTION:
            module.type_of(index)
            if name in (b"call", b"deploy"):
                module.functions_exported[name.decode()] = index
        elif kind != _MEMORY or index != 0 or name != b"memory":
            raise InvalidModule("a contract exports functions, and its memory as 'memory'")
    if b"memory" not in names:
        raise InvalidModule("a contract exports its memory as 'memory'")


def _elements(reader: Reader, module: Module, _host: Mapping[str, FunctionType]) -> None:
    for _ in range(reader.count("element segments", MOST_SEGMENTS)):
        if reader.unsigned() != 0:
            raise InvalidModule("an element segment fills the table at the start and is of the plain kind")
        offset = _constant(reader, I32)
        functions = tuple(reader.unsigned() for _ in range(reader.count("elements in a segment", MOST_ELEMENTS)))
        for function in functions:
            module.type_of(function)
        if module.table is None or not 0 <= offset <= module.table[0] - len(functions):
            raise InvalidModule("an element segment lies outside the table")
        module.elements.append(Segment(offset, functions=functions))


def _code(reader: Reader, module: Module, _host: Mapping[str, FunctionType]) -> None:
    for _ in range(reader.count("function bodies", MOST_FUNCTIONS)):
        module.bodies.append(reader.section())


def _data(reader: Reader, module: Module, _host: Mapping[str, FunctionType]) -> None:
    for _ in range(reader.count("data segments", MOST_SEGMENTS)):
        if reader.unsigned() != 0:
            raise InvalidModule("a data segment fills the memory at the start and is of the plain kind")
        offset = _constant(reader, I32)
        data = reader.take(reader.unsigned())
        if module.memory is None or not 0 <= offset <= module.memory[0] * PAGE_BYTES - len(data):
            raise InvalidModule("a data segment lies outside the memory")
        module.data.append(Segment(offset, data=data))


def _start(_reader: Reader, _module: Module, _host: Mapping[str, FunctionType]) -> None:
    raise InvalidModule("a contract has no start function; what is to happen once belongs into 'deploy'")


def _unused(_reader: Reader, _module: Module, _host: Mapping[str, FunctionType]) -> None:
    raise AssertionError("custom sections are read before")


_SECTIONS: Final[tuple[Callable[[Reader, Module, Mapping[str, FunctionType]], None], ...]] = (
    _unused, _types, _imports, _functions, _tables, _memories, _globals, _exports, _start, _elements, _code, _data,
)  # fmt: skip


def _check(module: Module) -> None:
    if len(module.bodies) != len(module.functions):
        raise InvalidModule(f"{len(module.functions)} functions are declared and {len(module.bodies)} have a body")
    if module.memory is None:
        raise InvalidModule("a contract has a memory and exports it as 'memory'")
    if "call" not in module.functions_exported:
        raise InvalidModule("a contract exports a function 'call'")
    for name, function in module.functions_exported.items():
        if module.type_of(function) != FunctionType(b"", b""):
            raise InvalidModule(f"the exported function {name!r} takes parameters or gives results")
