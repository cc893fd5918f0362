"""The instructions a contract may use: those of WebAssembly 1.0 on 32- and 64-bit integers, and sign extension.

What is not in the table does not exist here: floats, vectors, threads, references, bulk memory, saturating conversions,
tail calls, exceptions.
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final


class Immediate(Enum):
    """What follows an opcode."""

    NOTHING = auto()
    BLOCK_TYPE = auto()
    LABEL = auto()
    LABELS = auto()
    FUNCTION = auto()
    TYPE_AND_TABLE = auto()
    LOCAL = auto()
    GLOBAL = auto()
    MEMORY_ARGUMENT = auto()
    MEMORY = auto()
    NUMBER_32 = auto()
    NUMBER_64 = auto()


@dataclass(frozen=True, slots=True)
class Instruction:
    """One row of the table.

    Attributes:
        pops: operands taken; for calls and control instructions the scanner knows better.
        pushes: results left.
    """

    name: str
    immediate: Immediate
    pops: int
    pushes: int


UNREACHABLE: Final = 0x00
BLOCK: Final = 0x02
LOOP: Final = 0x03
IF: Final = 0x04
ELSE: Final = 0x05
END: Final = 0x0B
BRANCH: Final = 0x0C
BRANCH_TABLE: Final = 0x0E
RETURN: Final = 0x0F
CALL: Final = 0x10
CALL_INDIRECT: Final = 0x11
GLOBAL_GET: Final = 0x23
GLOBAL_SET: Final = 0x24
MEMORY_GROW: Final = 0x40
I32_CONST: Final = 0x41
I64_CONST: Final = 0x42
I32_LT_S: Final = 0x48
I32_ADD: Final = 0x6A
I32_SUB: Final = 0x6B

I32: Final = 0x7F
I64: Final = 0x7E
FUNCTION_REFERENCE: Final = 0x70
NO_RESULT: Final = 0x40

_CONTROL: Final = {
    UNREACHABLE: Instruction("unreachable", Immediate.NOTHING, 0, 0),
    0x01: Instruction("nop", Immediate.NOTHING, 0, 0),
    BLOCK: Instruction("block", Immediate.BLOCK_TYPE, 0, 0),
    LOOP: Instruction("loop", Immediate.BLOCK_TYPE, 0, 0),
    IF: Instruction("if", Immediate.BLOCK_TYPE, 1, 0),
    ELSE: Instruction("else", Immediate.NOTHING, 0, 0),
    END: Instruction("end", Immediate.NOTHING, 0, 0),
    BRANCH: Instruction("br", Immediate.LABEL, 0, 0),
    0x0D: Instruction("br_if", Immediate.LABEL, 1, 0),
    BRANCH_TABLE: Instruction("br_table", Immediate.LABELS, 1, 0),
    RETURN: Instruction("return", Immediate.NOTHING, 0, 0),
    CALL: Instruction("call", Immediate.FUNCTION, 0, 0),
    CALL_INDIRECT: Instruction("call_indirect", Immediate.TYPE_AND_TABLE, 1, 0),
    0x1A: Instruction("drop", Immediate.NOTHING, 1, 0),
    0x1B: Instruction("select", Immediate.NOTHING, 3, 1),
    0x20: Instruction("local.get", Immediate.LOCAL, 0, 1),
    0x21: Instruction("local.set", Immediate.LOCAL, 1, 0),
    0x22: Instruction("local.tee", Immediate.LOCAL, 1, 1),
    GLOBAL_GET: Instruction("global.get", Immediate.GLOBAL, 0, 1),
    GLOBAL_SET: Instruction("global.set", Immediate.GLOBAL, 1, 0),
    0x3F: Instruction("memory.size", Immediate.MEMORY, 0, 1),
    MEMORY_GROW: Instruction("memory.grow", Immediate.MEMORY, 1, 1),
    I32_CONST: Instruction("i32.const", Immediate.NUMBER_32, 0, 1),
    I64_CONST: Instruction("i64.const", Immediate.NUMBER_64, 0, 1),
}
_LOADS: Final = {
    opcode: Instruction(name, Immediate.MEMORY_ARGUMENT, 1, 1)
    for opcode, name in {
        0x28: "i32.load", 0x29: "i64.load", 0x2C: "i32.load8_s", 0x2D: "i32.load8_u", 0x2E: "i32.load16_s",
        0x2F: "i32.load16_u", 0x30: "i64.load8_s", 0x31: "i64.load8_u", 0x32: "i64.load16_s", 0x33: "i64.load16_u",
        0x34: "i64.load32_s", 0x35: "i64.load32_u",
    }.items()
}  # fmt: skip
_STORES: Final = {
    opcode: Instruction(name, Immediate.MEMORY_ARGUMENT, 2, 0)
    for opcode, name in {
        0x36: "i32.store", 0x37: "i64.store", 0x3A: "i32.store8", 0x3B: "i32.store16", 0x3C: "i64.store8",
        0x3D: "i64.store16", 0x3E: "i64.store32",
    }.items()
}  # fmt: skip
_COMPARISONS: Final = ("eq", "ne", "lt_s", "lt_u", "gt_s", "gt_u", "le_s", "le_u", "ge_s", "ge_u")
_COUNTS: Final = ("clz", "ctz", "popcnt")
_ARITHMETIC: Final = (
    "add", "sub", "mul", "div_s", "div_u", "rem_s", "rem_u",
    "and", "or", "xor", "shl", "shr_s", "shr_u", "rotl", "rotr",
)  # fmt: skip
_CONVERSIONS: Final = {
    0xA7: "i32.wrap_i64",
    0xAC: "i64.extend_i32_s",
    0xAD: "i64.extend_i32_u",
    0xC0: "i32.extend8_s",
    0xC1: "i32.extend16_s",
    0xC2: "i64.extend8_s",
    0xC3: "i64.extend16_s",
    0xC4: "i64.extend32_s",
}


def _numeric() -> dict[int, Instruction]:
    """Tests, comparisons, counts, arithmetic of both widths, and conversions between them."""
    table: dict[int, Instruction] = {}
    for width, zero, first_comparison, first_count in (("i32", 0x45, 0x46, 0x67), ("i64", 0x50, 0x51, 0x79)):
        table[zero] = Instruction(f"{width}.eqz", Immediate.NOTHING, 1, 1)
        for offset, name in enumerate(_COMPARISONS):
            table[first_comparison + offset] = Instruction(f"{width}.{name}", Immediate.NOTHING, 2, 1)
        for offset, name in enumerate(_COUNTS):
            table[first_count + offset] = Instruction(f"{width}.{name}", Immediate.NOTHING, 1, 1)
        for offset, name in enumerate(_ARITHMETIC):
            table[first_count + len(_COUNTS) + offset] = Instruction(f"{width}.{name}", Immediate.NOTHING, 2, 1)
    for opcode, name in _CONVERSIONS.items():
        table[opcode] = Instruction(name, Immediate.NOTHING, 1, 1)
    return table


INSTRUCTIONS: Final = {**_CONTROL, **_LOADS, **_STORES, **_numeric()}
