"""Binaries that are no contracts: each is refused with one clear sentence, whole, and the process goes on."""

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ledger_wasm import END, PERSON, Ledger, contract, module

from koinon.ledger.evm.calls import created_address
from koinon.ledger.wasm import limits
from koinon.ledger.wasm.binary import InvalidModule, Reader, signed, sized, unsigned, vector
from koinon.ledger.wasm.machine import HOST_TYPES
from koinon.ledger.wasm.rewrite import rewritten
from koinon.ledger.wasm.scan import scan

HEAD = b"\0asm\1\0\0\0"


def section(number: int, content: bytes) -> bytes:
    return bytes([number]) + sized(content)


def code(body: bytes, declared: bytes = b"\0") -> bytes:
    """A code section of one function."""
    return section(10, vector([sized(declared + body)]))


TYPES = section(1, vector([b"\x60\0\0"]))
FUNCTIONS = section(3, vector([b"\0"]))
MEMORY = section(5, vector([b"\0\1"]))
EXPORTS = section(7, vector([b"\6memory\2\0", b"\4call\0\0"]))
CODE = code(b"\x0b")
PLAIN = HEAD + TYPES + FUNCTIONS + MEMORY + EXPORTS + CODE + END


def built(**changed: bytes) -> bytes:
    """``PLAIN`` with sections replaced by name."""
    parts = {
        "types": TYPES, "imports": b"", "functions": FUNCTIONS, "tables": b"", "memory": MEMORY, "globals": b"",
        "exports": EXPORTS, "start": b"", "elements": b"", "code": CODE, "data": b"", "end": END,
    }  # fmt: skip
    return HEAD + b"".join({**parts, **changed}.values())


def text(source: str) -> bytes:
    """A contract with this text in it, which the assembler may accept where the scanner does not."""
    return module(f'(module (memory (export "memory") 1) (func (export "call")) {source})')


def imported(place: str, name: str, what: str) -> bytes:
    """A contract that imports this."""
    return module(f'(module (import "{place}" "{name}" {what}) (memory (export "memory") 1) (func (export "call")))')


REFUSED = {
    "nothing": (b"\0asm", "ends early|bytes are announced"),
    "another version": (b"\0asm\2\0\0\0" + PLAIN[8:], "version 1"),
    "no end marker": (PLAIN[: -len(END)], "ends early"),
    "cut off": (PLAIN[:-1], "announced"),
    "an end marker with content": (PLAIN[: -len(END)] + section(0, sized(b"koinon.end") + b"x"), "too many"),
    "larger than a module may be": (
        built(data=section(0, sized(b"pad") + bytes(limits.LARGEST_MODULE))), "announced|bytes",
    ),
    "an unknown section": (built(data=section(13, b"\0")), "section 13"),
    "a data count": (built(data=section(12, b"\0")), "section 12"),
    "a section twice": (built(functions=FUNCTIONS * 2), "twice"),
    "sections out of order": (built(types=b"", imports=MEMORY + TYPES), "order"),
    "an empty section": (built(types=b"\1\0"), "ends early"),
    "a section longer than the module": (HEAD + b"\1\xff\xff\xff\xff\x0f", "announced"),
    "a section with bytes behind it": (built(types=section(1, vector([b"\x60\0\0"]) + b"\0")), "too many"),
    "a number of six bytes": (HEAD + b"\1\x80\x80\x80\x80\x80\0", "five bytes"),
    "a number above 32 bits": (HEAD + b"\1\xff\xff\xff\xff\x7f", "32 bits"),
    "a name of ten million bytes": (built(imports=section(2, b"\1" + unsigned(10_000_000))), "name may have"),
    "a million types": (built(types=section(1, unsigned(1_000_000))), "types"),
    "four thousand million functions": (built(functions=section(3, unsigned(2**32 - 1))), "functions"),
    "a type that is no function": (built(types=section(1, vector([b"\x5f\0\0"]))), "functions have types"),
    "two results": (built(types=section(1, vector([b"\x60\0\2\x7f\x7f"]))), "results"),
    "a float parameter": (built(types=section(1, vector([b"\x60\1\x7d\0", b"\x60\0\0"]))), "i32 or i64"),
    "a vector parameter": (built(types=section(1, vector([b"\x60\1\x7b\0", b"\x60\0\0"]))), "i32 or i64"),
    "a reference parameter": (built(types=section(1, vector([b"\x60\1\x70\0", b"\x60\0\0"]))), "i32 or i64"),
    "a type that does not exist": (built(functions=section(3, vector([b"\7"]))), "type 7"),
    "an unknown import": (imported("koinon", "print", "(func)"), "no function 'print'"),
    "an import of another module": (imported("env", "caller", "(func (param i32))"), "module 'koinon'"),
    "an import of the hidden function": (
        imported("koinon", "memory.grow", "(func (param i32) (result i32))"), "no function",
    ),
    "an import of another type": (imported("koinon", "caller", "(func (param i64))"), "another type"),
    "an imported memory": (imported("koinon", "caller", "(memory 1)"), "module 'koinon'"),
    "an imported global": (imported("koinon", "caller", "(global i32)"), "module 'koinon'"),
    "no memory": (built(memory=b""), "memory"),
    "two memories": (built(memory=section(5, vector([b"\0\1", b"\0\1"]))), "memories"),
    "a memory that starts too large": (built(memory=section(5, vector([b"\0\x41"]))), "65 units"),
    "a shared memory": (built(memory=section(5, vector([b"\3\1\1"]))), "shared"),
    "a memory of 64 bits": (built(memory=section(5, vector([b"\4\1"]))), "64-bit"),
    "a memory larger at the start than ever": (built(memory=section(5, vector([b"\1\2\1"]))), "2 units"),
    "a huge table": (text("(table 1025 funcref)"), "1025 units"),
    "a table of references": (text("(table 1 externref)"), "functions and nothing else"),
    "two tables": (text("(table 1 funcref) (table 1 funcref)"), "tables"),
    "a float global": (text("(global f64 (f64.const 1))"), "i32 or i64"),
    "a global of another kind": (built(globals=section(6, vector([b"\x7f\0\x42\0\x0b"]))), "another kind"),
    "a global that is neither constant nor variable": (
        built(globals=section(6, vector([b"\x7f\2\x41\0\x0b"]))), "neither",
    ),
    "a global from a global": (text("(global i32 (i32.const 1)) (global i32 (global.get 0))"), "another kind"),
    "a constant that is computed": (
        built(globals=section(6, vector([b"\x7f\0\x41\1\x41\1\x6a\x0b"]))), "one constant",
    ),
    "no exported call": (built(exports=section(7, vector([b"\6memory\2\0"]))), "exports a function 'call'"),
    "no exported memory": (built(exports=section(7, vector([b"\4call\0\0"]))), "exports its memory"),
    "an export twice": (
        built(exports=section(7, vector([b"\6memory\2\0", b"\4call\0\0", b"\4call\0\0"]))), "same name",
    ),
    "an exported global": (text('(global (export "g") i32 (i32.const 1))'), "exports functions"),
    "an exported table": (text('(table (export "t") 1 funcref)'), "exports functions"),
    "an exported function that does not exist": (
        built(exports=section(7, vector([b"\6memory\2\0", b"\4call\0\7"]))), "function 7",
    ),
    "a call that takes something": (
        module('(module (memory (export "memory") 1) (func (export "call") (param i32)))'), "takes parameters",
    ),
    "a constructor that gives something": (
        text('(func (export "deploy") (result i32) (i32.const 1))'), "takes parameters or gives",
    ),
    "a start function": (text("(func $s) (start $s)"), "start function"),
    "elements outside the table": (text("(table 1 funcref) (func $f) (elem (i32.const 1) $f)"), "outside the table"),
    "elements at a negative place": (text("(table 1 funcref) (func $f) (elem (i32.const -1) $f)"), "outside the table"),
    "elements without a table": (built(elements=section(9, vector([b"\0\x41\0\x0b\1\0"]))), "outside the table"),
    "passive elements": (text("(table 1 funcref) (func $f) (elem func $f)"), "plain kind"),
    "data outside the memory": (text('(data (i32.const 65535) "ab")'), "outside the memory"),
    "data at a negative place": (text('(data (i32.const -1) "ab")'), "outside the memory"),
    "passive data": (text('(data "ab")'), "plain kind|section 12"),
    "a body too few": (built(code=section(10, vector([]))), "0 have a body"),
    "a body too many": (built(code=section(10, vector([sized(b"\0\x0b")] * 2))), "2 have a body"),
    "a body without end": (built(code=code(b"\1")), "ends early"),
    "a body with bytes behind its end": (built(code=code(b"\x0b\1")), "too many"),
    "a million locals": (built(code=code(b"\x0b", b"\1" + unsigned(1_000_000) + b"\x7f")), "parameters and locals"),
    "many groups of locals": (built(code=code(b"\x0b", unsigned(2**31))), "groups of locals"),
    "float locals": (built(code=code(b"\x0b", b"\1\1\x7c")), "i32 or i64"),
    "float arithmetic": (text("(func (drop (f32.add (f32.const 1) (f32.const 2))))"), "instruction 0x43"),
    "a float load": (text("(func (drop (f64.load (i32.const 0))))"), "instruction 0x2b"),
    "a conversion from a float": (text("(func (drop (i32.reinterpret_f32 (f32.const 1))))"), "instruction 0x43"),
    "a saturating conversion": (built(code=code(b"\xfc\0\x0b")), "instruction 0xfc"),
    "bulk memory": (text("(func (memory.fill (i32.const 0) (i32.const 0) (i32.const 9)))"), "instruction 0xfc"),
    "a vector": (text("(func (drop (v128.const i64x2 1 2)))"), "instruction 0xfd"),
    "an atomic": (built(code=code(b"\xfe\x03\0\x0b")), "instruction 0xfe"),
    "a tail call": (text("(func $f (return_call $f))"), "instruction 0x12"),
    "a reference": (text("(func (drop (ref.null func)))"), "instruction 0xd0"),
    "a typed select": (
        text("(func (drop (select (result i32) (i32.const 1) (i32.const 2) (i32.const 3))))"), "instruction 0x1c",
    ),
    "a block of many results": (
        text("(func (block (result i32 i32) (i32.const 1) (i32.const 2)) (drop) (drop))"), "results in a type",
    ),
    "a call of a function that does not exist": (built(code=code(b"\x10\1\x0b")), "function 1"),
    "a read of the counter": (built(code=code(b"\x23\0\x1a\x0b")), "global"),
    "a write of the counter": (built(code=code(b"\x41\0\x24\0\x0b")), "global"),
    "a local that does not exist": (built(code=code(b"\x20\0\x1a\x0b")), "local"),
    "a branch to nowhere": (built(code=code(b"\x0c\1\x0b")), "branch"),
    "a branch table that never ends": (built(code=code(b"\x41\0\x0e\xff\xff\xff\xff\x0f\x0b")), "labels"),
    "an indirect call without a table": (built(code=code(b"\x41\0\x11\0\0\x0b")), "table that does not exist"),
    "another memory": (built(code=code(b"\x3f\1\x1a\x0b")), "memory"),
    "an else without if": (built(code=code(b"\x05\x0b")), "without an 'if'"),
    "operands that are not there": (built(code=code(b"\x1a\x0b")), "not there"),
    "a constant of eleven bytes": (built(code=code(b"\x42" + b"\x80" * 10 + b"\0\x1a\x0b")), "longer than"),
    "a constant above 32 bits": (built(code=code(b"\x41\xff\xff\xff\xff\x3f\x1a\x0b")), "more than 32 bits"),
    "too much alignment": (built(code=code(b"\x41\0\x29\4\0\x1a\x0b")), "alignment"),
    "deep nesting": (built(code=code(b"\x02\x40" * 300 + b"\x0b" * 301)), "nest at most"),
    "deep loops": (built(code=code(b"\x03\x40" * 33 + b"\x0b" * 34)), "nest at most"),
    "types that do not fit": (built(code=code(b"\x42\0\x41\0\x6a\x1a\x0b")), "does not compile"),
    "a result that is missing": (
        built(types=section(1, vector([b"\x60\0\0", b"\x60\0\1\x7f"])), functions=section(3, vector([b"\0", b"\1"])),
              code=section(10, vector([sized(b"\0\x0b")] * 2))), "does not compile",
    ),
}  # fmt: skip


def test_the_plain_module_is_accepted() -> None:
    """Otherwise every refusal below could have another reason."""
    assert rewritten(scan(PLAIN, HOST_TYPES)).binary
    Ledger().deploy(PLAIN)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_contract_is_refused_and_leaves_no_trace(name: str) -> None:
    binary, reason = REFUSED[name]
    if reason != "does not compile":
        with pytest.raises(InvalidModule, match=reason):
            rewritten(scan(binary, HOST_TYPES))
    ledger = Ledger()
    before = dict(ledger.state)
    result = ledger.send(None, binary[:49_000], gas=15_000_000)
    assert (result.succeeded, result.reason, result.gas_used) == (False, "InvalidCode", 15_000_000)
    assert {key for key in ledger.state if ledger.state[key] != before.get(key)} == {b"a" + PERSON}
    ledger.deploy(PLAIN)


def test_a_module_without_gas_for_its_compilation_is_not_compiled() -> None:
    body = "".join(f"(local.set 0 (i64.add (local.get 0) (i64.const {number})))" for number in range(2_000))
    binary = contract("(local i64) " + body)
    ledger = Ledger()
    for gas in (1_000_000, 3_000_000):
        result = ledger.send(None, binary, gas=gas)
        assert (result.succeeded, result.reason) == (False, "OutOfGas")
    assert ledger.send(None, binary).succeeded


# Fuzzing: the scanner refuses or the compiler decides, whatever the bytes

SEEDS = [
    PLAIN,
    contract("(unreachable)"),
    contract("(call_indirect (i32.const 0))", rest="(table 1 funcref) (func $f) (elem (i32.const 0) $f)"),
    contract(
        "(local i64) (block (loop (br_table 0 1 (i32.wrap_i64 (local.tee 0 (i64.const 5))))))",
        rest='(global (mut i64) (i64.const 3)) (data (i32.const 9) "abc")',
    ),
]


def try_module(binary: bytes) -> bool:
    """Whether the scanner accepts it; nothing but a refusal may come out of it otherwise."""
    try:
        prepared = rewritten(scan(binary, HOST_TYPES))
    except InvalidModule:
        return False
    assert prepared.compile_gas >= limits.COMPILE_FUNCTION_GAS
    return True


@settings(max_examples=300)
@given(st.binary(max_size=200))
@example(b"")
def test_any_bytes_are_refused_or_read(data: bytes) -> None:
    try_module(data)
    try_module(HEAD + data)


@settings(max_examples=300)
@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=6))
def test_changed_modules_are_refused_or_deployed_without_harm(seed: bytes, changes: list[tuple[int, int]]) -> None:
    binary = bytearray(seed)
    for place, byte in changes:
        binary[place % len(binary)] = byte
    if try_module(bytes(binary)) and binary[:4] == b"\0asm":
        ledger = Ledger()
        result = ledger.send(None, bytes(binary), gas=4_000_000)
        assert result.reason in ("", "InvalidCode", "OutOfGas", "Revert")
        if result.succeeded:
            called = ledger.send(created_address(PERSON, 0), gas=300_000)
            assert called.reason in ("", "OutOfGas", "Trap", "TooManyCalls")


@settings(max_examples=200)
@given(st.integers(0, 2**32 - 1), st.integers(-(2**63), 2**63 - 1))
def test_numbers_are_read_as_they_are_written(small: int, large: int) -> None:
    assert Reader(unsigned(small), 0, len(unsigned(small))).unsigned() == small
    assert Reader(signed(large), 0, len(signed(large))).signed(64) == large


@pytest.mark.long
def test_a_sample_of_a_hundred_thousand_changed_modules() -> None:
    """The same with plain random changes and a fixed seed; every one is refused or read."""
    source = random.Random(4)
    accepted = 0
    for _ in range(100_000):
        binary = bytearray(source.choice(SEEDS))
        for _ in range(source.randrange(1, 5)):
            kind, place = source.randrange(3), source.randrange(8, len(binary))
            if kind == 0:
                binary[place] = source.randrange(256)
            elif kind == 1:
                del binary[place]
            else:
                binary.insert(place, source.randrange(256))
        accepted += try_module(bytes(binary))
    assert 0 < accepted < 100_000
