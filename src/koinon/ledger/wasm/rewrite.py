"""Rewriting a scanned module so that its calls are counted and its memory's growth is paid for.

Every function first takes its slots from a counter, an added global, and traps if none are left; it gives them back at
its one end. For that its instructions stand in an added block: ``return`` becomes a branch to that block's end, and
branches to the function's own end lead there already. ``memory.grow`` becomes a call of an added import. Added things
stand behind the module's own, whose indices are checked here, so that no instruction can reach them.

The method is that of Parity's ``wasm-instrument`` (stack limiter), with the counting in the callee instead of around
each call, which needs no thunks for indirect calls.
"""

from dataclasses import dataclass
from typing import Final

from koinon.ledger.wasm import instructions as op
from koinon.ledger.wasm.binary import InvalidModule, Reader, signed, sized, unsigned, vector
from koinon.ledger.wasm.instructions import INSTRUCTIONS, Immediate
from koinon.ledger.wasm.limits import (
    COMPILE_FUNCTION_GAS,
    COMPILE_MERGE_GAS,
    DEEPEST_LOOP,
    DEEPEST_NESTING,
    FRAME_SLOTS,
    MAGIC,
    MERGED_OPERANDS,
    MOST_LOCALS,
    STACK_SLOTS,
)
from koinon.ledger.wasm.scan import HOST_MODULE, VERSION, FunctionType, Module

GROW_MEMORY: Final = "memory.grow"
"""Name of the added import. No module can import it itself: the host's table does not hold it."""

SLOTS_LEFT: Final = "slots left"
GROW_MEMORY_TYPE: Final = FunctionType(bytes([op.I32]), bytes([op.I32]))
_FUNCTION_KIND: Final = b"\x00"
_MEMORY_KIND: Final = b"\x02"
_GLOBAL_KIND: Final = b"\x03"


@dataclass(slots=True)
class _Label:
    """Attributes: opcode that opened it; height of the operands below it; results it leaves."""

    opcode: int
    base: int
    results: int
    unreachable: bool = False


@dataclass(frozen=True)
class Rewritten:
    """Attributes: the binary to compile; gas for compiling it, beyond what its bytes pay for."""

    binary: bytes
    compile_gas: int


@dataclass(frozen=True)
class _Body:
    """Attributes: locals and instructions, rewritten; places where paths meet, times values that may meet there."""

    content: bytes
    merges: int


def rewritten(module: Module) -> Rewritten:
    """The module with the counter and the paid growth.

    Raises:
        InvalidModule: an instruction that contracts cannot have, or an index or operand that is not there.
    """
    grow_type = len(module.types)
    types = [_function_type(entry) for entry in [*module.types, GROW_MEMORY_TYPE]]
    imports = [_import(entry.name, entry.type_index) for entry in module.imports] + [_import(GROW_MEMORY, grow_type)]
    exports = [
        sized(name.encode()) + _FUNCTION_KIND + unsigned(_shifted(module, function))
        for name, function in module.functions_exported.items()
    ]
    exports.append(sized(b"memory") + _MEMORY_KIND + unsigned(0))
    exports.append(sized(SLOTS_LEFT.encode()) + _GLOBAL_KIND + unsigned(len(module.globals)))
    assert module.memory is not None, "the scanner wants a memory"
    bodies = [_body(module, number) for number in range(len(module.bodies))]
    sections = [
        (1, vector(types)),
        (2, vector(imports)),
        (3, vector([unsigned(index) for index in module.functions])),
        (4, vector([] if module.table is None else [bytes([op.FUNCTION_REFERENCE]) + _limits(module.table)])),
        (5, vector([_limits(module.memory)])),
        (6, vector([*(_global(g.value_type, g.mutable, g.initial) for g in module.globals), _COUNTER])),
        (7, vector(exports)),
        (9, vector([_offset(s.offset) + _indices(module, s.functions) for s in module.elements])),
        (10, vector([sized(body.content) for body in bodies])),
        (11, vector([_offset(segment.offset) + sized(segment.data) for segment in module.data])),
    ]
    return Rewritten(
        binary=MAGIC + VERSION + b"".join(bytes([number]) + sized(content) for number, content in sections),
        compile_gas=COMPILE_FUNCTION_GAS * len(bodies) + COMPILE_MERGE_GAS * sum(body.merges for body in bodies),
    )


def _function_type(entry: FunctionType) -> bytes:
    return b"\x60" + sized(entry.parameters) + sized(entry.results)


def _import(name: str, type_index: int) -> bytes:
    return sized(HOST_MODULE) + sized(name.encode()) + _FUNCTION_KIND + unsigned(type_index)


def _limits(limits: tuple[int, int]) -> bytes:
    return b"\x01" + unsigned(limits[0]) + unsigned(limits[1])


def _global(value_type: int, mutable: bool, initial: int) -> bytes:
    constant = op.I32_CONST if value_type == op.I32 else op.I64_CONST
    return bytes([value_type, mutable, constant]) + signed(initial) + bytes([op.END])


_COUNTER: Final = _global(op.I32, True, STACK_SLOTS)


def _offset(offset: int) -> bytes:
    return b"\x00" + bytes([op.I32_CONST]) + signed(offset) + bytes([op.END])


def _indices(module: Module, functions: tuple[int, ...]) -> bytes:
    return vector([unsigned(_shifted(module, function)) for function in functions])


def _shifted(module: Module, function: int) -> int:
    """Where a function stands behind the added import."""
    return function if function < len(module.imports) else function + 1


def _body(module: Module, number: int) -> _Body:
    kind = module.types[module.functions[number]]
    reader = module.bodies[number]
    declared, local_count = _locals(reader, len(kind.parameters))
    code, height, blocks = _expression(module, reader, kind, local_count)
    reader.close(f"the body of function {len(module.imports) + number}")
    counter = unsigned(len(module.globals))
    slots = signed(local_count + height + FRAME_SLOTS)
    get, put = bytes([op.GLOBAL_GET]) + counter, bytes([op.GLOBAL_SET]) + counter
    constant = bytes([op.I32_CONST]) + slots
    enter = (
        get + constant + bytes([op.I32_SUB]) + put + get + bytes([op.I32_CONST, 0, op.I32_LT_S, op.IF, op.NO_RESULT])
    )
    enter += bytes([op.UNREACHABLE, op.END, op.BLOCK]) + (kind.results or bytes([op.NO_RESULT]))
    leave = get + constant + bytes([op.I32_ADD]) + put + bytes([op.END])
    return _Body(declared + enter + code + leave, blocks * (local_count + MERGED_OPERANDS))


def _locals(reader: Reader, parameters: int) -> tuple[bytes, int]:
    """The declaration of locals, and how many there are with the parameters."""
    groups = []
    total = parameters
    for _ in range(reader.count("groups of locals in a function", MOST_LOCALS)):
        size, kind = reader.unsigned(), reader.byte()
        total += size
        if total > MOST_LOCALS:
            raise InvalidModule(f"a function may have {MOST_LOCALS} parameters and locals; one has more")
        if kind not in (op.I32, op.I64):
            raise InvalidModule(f"values are i32 or i64; there is a type 0x{kind:02x} at byte {reader.position - 1}")
        groups.append(unsigned(size) + bytes([kind]))
    return vector(groups), total


def _expression(module: Module, reader: Reader, kind: FunctionType, local_count: int) -> tuple[bytes, int, int]:
    """The instructions rewritten, with the last ``end``; how many operands they hold at most; how many blocks."""
    labels = [_Label(op.BLOCK, 0, len(kind.results))]
    output = bytearray()
    height = highest = loops = blocks = 0
    while labels:
        start = reader.position
        opcode = reader.byte()
        instruction = INSTRUCTIONS.get(opcode)
        if instruction is None:
            raise InvalidModule(f"instruction 0x{opcode:02x} at byte {start} is none that contracts can have")
        immediate = instruction.immediate
        label = labels[-1]
        pops, pushes = instruction.pops, instruction.pushes
        replaced: bytes | None = None
        leaves = opcode in (op.UNREACHABLE, op.BRANCH, op.BRANCH_TABLE, op.RETURN)
        opened: _Label | None = None
        if immediate is Immediate.NOTHING:
            if opcode == op.RETURN:
                replaced = bytes([op.BRANCH]) + unsigned(len(labels) - 1)
            elif opcode in (op.END, op.ELSE):
                if opcode == op.ELSE and label.opcode != op.IF:
                    raise InvalidModule(f"there is an 'else' without an 'if' at byte {start}")
                height, label.unreachable = label.base, False
                if opcode == op.ELSE:
                    label.opcode = op.ELSE
                else:
                    labels.pop()
                    loops -= label.opcode == op.LOOP
                    pushes = label.results
        elif immediate is Immediate.LOCAL:
            if reader.unsigned() >= local_count:
                raise InvalidModule(f"the local that byte {start} uses does not exist")
        elif immediate is Immediate.NUMBER_32:
            reader.signed(32)
        elif immediate is Immediate.NUMBER_64:
            reader.signed(64)
        elif immediate is Immediate.MEMORY_ARGUMENT:
            if reader.unsigned() > 3:
                raise InvalidModule(f"the alignment at byte {start} is more than eight bytes")
            reader.unsigned()
        elif immediate is Immediate.FUNCTION:
            function = reader.unsigned()
            called = module.type_of(function)
            pops, pushes = len(called.parameters), len(called.results)
            replaced = bytes([op.CALL]) + unsigned(_shifted(module, function))
        elif immediate is Immediate.GLOBAL:
            if reader.unsigned() >= len(module.globals):
                raise InvalidModule(f"the global that byte {start} uses does not exist")
        elif immediate is Immediate.BLOCK_TYPE:
            opened = _Label(opcode, 0, _results(reader))
        elif immediate is Immediate.LABEL:
            _check_label(reader.unsigned(), labels, start)
        elif immediate is Immediate.LABELS:
            for _ in range(reader.count("labels in a branch table", reader.end) + 1):
                _check_label(reader.unsigned(), labels, start)
        elif immediate is Immediate.TYPE_AND_TABLE:
            index, table = reader.unsigned(), reader.byte()
            if index >= len(module.types) or table != 0 or module.table is None:
                raise InvalidModule(f"the indirect call at byte {start} has a type or a table that does not exist")
            pops += len(module.types[index].parameters)
            pushes = len(module.types[index].results)
        else:
            assert immediate is Immediate.MEMORY, "every immediate has its case"
            if reader.byte() != 0:
                raise InvalidModule(f"the memory that byte {start} uses does not exist")
            if opcode == op.MEMORY_GROW:
                replaced = bytes([op.CALL]) + unsigned(len(module.imports))
        height = _lowered(height, pops, label, start) + pushes
        if height > highest:
            highest = height
        if leaves:
            height, label.unreachable = label.base, True
        if opened is not None:
            opened.base = height
            labels.append(opened)
            blocks += 1
            loops += opcode == op.LOOP
            if len(labels) > DEEPEST_NESTING or loops > DEEPEST_LOOP:
                raise InvalidModule(
                    f"blocks nest at most {DEEPEST_NESTING} deep and loops {DEEPEST_LOOP}; more do at byte {start}"
                )
        output += reader.data[start : reader.position] if replaced is None else replaced
    return bytes(output), highest, blocks


def _lowered(height: int, pops: int, label: _Label, start: int) -> int:
    """The height with ``pops`` operands taken off; behind a branch there are as many as anybody wants."""
    if height - pops >= label.base:
        return height - pops
    if label.unreachable:
        return label.base
    raise InvalidModule(f"the instruction at byte {start} takes operands that are not there")


def _results(reader: Reader) -> int:
    kind = reader.byte()
    if kind not in (op.NO_RESULT, op.I32, op.I64):
        raise InvalidModule(
            f"a block gives nothing, i32 or i64; there is a type 0x{kind:02x} at byte {reader.position - 1}"
        )
    return int(kind != op.NO_RESULT)


def _check_label(index: int, labels: list[_Label], start: int) -> None:
    if index >= len(labels):
        raise InvalidModule(f"the branch at byte {start} leads to a block that does not exist")
