"""Contracts in WebAssembly: what they can do, what stops them, and that gas is the same everywhere."""

import gc
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_wasm import CONTEXT, OTHER, PERSON, PLENTY, Ledger, contract, module

from koinon.crypto.hash import keccak256
from koinon.kernel.quantities import Wei
from koinon.ledger.state import Account, account_key, code_key, encode_account
from koinon.ledger.wasm import limits
from koinon.ledger.wasm.machine import HOST_TYPES, host_calls
from koinon.ledger.wasm.native import Compiler
from koinon.ledger.wasm.rewrite import rewritten
from koinon.ledger.wasm.scan import scan
from koinon.ledger.wasm.storehouse import Storehouse

COUNTER = module(
    """
    (module
      (import "koinon" "storage_read" (func $read (param i32 i32)))
      (import "koinon" "storage_write" (func $write (param i32 i32)))
      (import "koinon" "finish" (func $finish (param i32 i32)))
      (import "koinon" "call_data_copy" (func $data (param i32 i32 i32)))
      (memory (export "memory") 1)
      (func (export "deploy")
        (call $data (i32.const 32) (i32.const 0) (i32.const 32))
        (call $write (i32.const 0) (i32.const 32)))
      (func (export "call")
        (call $read (i32.const 0) (i32.const 32))
        (i32.store8 (i32.const 63) (i32.add (i32.load8_u (i32.const 63)) (i32.const 1)))
        (call $write (i32.const 0) (i32.const 32))
        (call $finish (i32.const 32) (i32.const 32))))
    """
)


def test_a_module_is_deployed_with_arguments_and_keeps_state() -> None:
    ledger = Ledger()
    counter = ledger.deploy(COUNTER + (41).to_bytes(32, "big"))
    assert ledger.code(counter) == COUNTER, "the code is the module without the arguments"
    assert ledger.send(counter).output == (42).to_bytes(32, "big")
    assert ledger.send(counter).output == (43).to_bytes(32, "big")


def test_a_module_without_constructor_takes_neither_arguments_nor_money() -> None:
    plain = contract("")
    for data, value in ((plain + b"\0", 0), (plain, 1)):
        ledger = Ledger()
        before = dict(ledger.state)
        result = ledger.send(None, data, value=value)
        assert (result.succeeded, result.reason) == (False, "Revert")
        assert changed(ledger, before) == {"nonce"}


def changed(ledger: Ledger, before: dict[bytes, bytes]) -> set[str]:
    """What differs from ``before``; every transaction counts up its sender's nonce."""
    keys = {key for key in before.keys() | ledger.state.keys() if before.get(key) != ledger.state.get(key)}
    return {"nonce" if key == b"a" + PERSON else key.hex() for key in keys}


# Hostile code at work: the call fails, takes its gas, changes nothing

WRITE = "storage_write (param i32 i32)"
DIRTY = "(i32.store8 (i32.const 63) (i32.const 1)) (call $storage_write (i32.const 0) (i32.const 32))"
RECURSION = "(func $deep (param i64) (result i64) (i64.add (call $deep (local.get 0)) (i64.const 1)))"
MANY_LOCALS = "(local " + "i64 " * 250 + ")"
WIDE = (
    f"(func $wide (param i64) (result i64) {MANY_LOCALS}"
    + "".join(f"(local.set {number} (i64.add (local.get 0) (i64.const {number})))" for number in range(1, 251))
    + "(local.set 0 (call $wide (local.get 0)))"
    + "".join(f"(local.set 0 (i64.xor (local.get 0) (local.get {number})))" for number in range(1, 251))
    + "(local.get 0))"
)
OPERANDS = (
    "(func $many (param i64) (result i64)"
    + "".join(f"(i64.mul (local.get 0) (i64.load (i32.const {number})))" for number in range(1_000))
    + "(call $many (local.get 0))"
    + "(i64.add)" * 1_000
    + ")"
)
INDIRECT = "(table 1 funcref) (elem (i32.const 0) $loop) (func $loop (call_indirect (i32.const 0)))"


@pytest.mark.parametrize(
    ("body", "rest", "reason"),
    [
        ("(unreachable)", "", "Trap"),
        ("(loop (br 0))", "", "OutOfGas"),
        ("(loop (drop (memory.grow (i32.const 1))) (br 0))", "", "OutOfGas"),
        ("(drop (call $deep (i64.const 1)))", RECURSION, "TooManyCalls"),
        ("(drop (call $wide (i64.const 1)))", WIDE, "TooManyCalls"),
        ("(drop (call $many (i64.const 1)))", OPERANDS, "TooManyCalls"),
        ("(call $loop)", INDIRECT, "TooManyCalls"),
        ("(drop (i32.load (i32.const 65536)))", "", "Trap"),
        ("(drop (i32.load offset=4294967295 (i32.const 4294967295)))", "", "Trap"),
        ("(drop (i32.div_u (i32.const 1) (i32.const 0)))", "", "Trap"),
        ("(drop (i32.div_s (i32.const 0x80000000) (i32.const -1)))", "", "Trap"),
        ("(call_indirect (i32.const 1))", "(table 1 funcref)", "Trap"),
        ("(call_indirect (i32.const 0))", "(table 1 funcref)", "Trap"),
        ("(call $storage_write (i32.const 65505) (i32.const 0))", "", "Trap"),
        ("(call $storage_write (i32.const -1) (i32.const -1))", "", "Trap"),
    ],
)
def test_hostile_code_fails_takes_its_gas_and_changes_nothing(body: str, rest: str, reason: str) -> None:
    ledger = Ledger()
    address = ledger.deploy(contract(DIRTY + body, WRITE, rest))
    before = dict(ledger.state)
    result = ledger.send(address, gas=3_000_000)
    assert (result.succeeded, result.reason, result.gas_used) == (False, reason, 3_000_000)
    assert changed(ledger, before) == {"nonce"}
    assert ledger.send(address, gas=3_000_000).gas_used == 3_000_000, "and again the same"


@pytest.mark.parametrize("rest", [RECURSION, WIDE, OPERANDS])
def test_deep_calls_are_counted_out_on_the_smallest_stack_too(rest: str) -> None:
    """On a thread with one megabyte, where the native stack would end first if the count were too generous."""
    name = rest[len("(func ") :].split()[0]
    ledger = Ledger()
    address = ledger.deploy(contract(f"(drop (call {name} (i64.const 1)))", rest=rest))
    reasons: list[str] = []
    usual = threading.stack_size(1 << 20)
    try:
        thread = threading.Thread(target=lambda: reasons.append(ledger.send(address).reason))
        thread.start()
    finally:
        threading.stack_size(usual)
    thread.join()
    assert reasons == ["TooManyCalls"]


def test_a_constructor_that_fails_leaves_no_contract() -> None:
    ledger = Ledger()
    before = dict(ledger.state)
    text = '(module (memory (export "memory") 1) (func (export "call")) (func (export "deploy") (loop (br 0))))'
    result = ledger.send(None, module(text), gas=2_000_000)
    assert (result.succeeded, result.reason, result.gas_used) == (False, "OutOfGas", 2_000_000)
    assert changed(ledger, before) == {"nonce"}


def test_memory_grows_to_its_limit_and_is_paid_for() -> None:
    ledger = Ledger()
    grow = (
        "(local i32) (loop (local.set 0 (memory.grow (i32.const {}))) (br_if 0 (i32.ne (local.get 0) (i32.const -1))))"
    )
    store = "(i32.store (i32.const 0) (memory.size)) (call $finish (i32.const 0) (i32.const 4))"
    slow = ledger.deploy(contract(grow.format(1) + store, "finish (param i32 i32)"))
    result = ledger.send(slow)
    assert result.output == limits.MOST_PAGES.to_bytes(4, "little")
    assert result.gas_used > limits.PAGE_GAS * limits.MOST_PAGES
    little = ledger.deploy(contract(grow.format(1) + store, "finish (param i32 i32)", memory="1 3"))
    assert ledger.send(little).output == (3).to_bytes(4, "little")
    for pages in (limits.MOST_PAGES, 65_536, 2**32 - 1):
        bomb = ledger.deploy(contract(grow.format(pages) + store, "finish (param i32 i32)"))
        assert ledger.send(bomb).output == (1).to_bytes(4, "little"), "refused whole, without a charge for it"
        assert ledger.send(bomb).gas_used < result.gas_used


def test_a_static_call_changes_nothing() -> None:
    """The writer works when called, and fails with all its gas when called statically."""
    ledger = Ledger()
    writer = ledger.deploy(contract(DIRTY, WRITE))
    through = (
        "(call $call_data_copy (i32.const 0) (i32.const 0) (i32.const 20))"
        "(i32.store8 (i32.const 100) ({} (i64.const 100000) (i32.const 0) {} (i32.const 0) (i32.const 0)))"
        "(call $finish (i32.const 100) (i32.const 1))"
    )
    imports = "finish (param i32 i32)\ncall_data_copy (param i32 i32 i32)\n"
    static = ledger.deploy(
        contract(
            through.format("call $static_call", ""),
            imports + "static_call (param i64 i32 i32 i32) (result i32)",
        )
    )
    plain = ledger.deploy(
        contract(
            through.format("call $call", "(i32.const 32)"),
            imports + "call (param i64 i32 i32 i32 i32) (result i32)",
        )
    )
    before = dict(ledger.state)
    refused = ledger.send(static, writer)
    assert refused.output == b"\0"
    assert refused.gas_used > 100_000
    assert changed(ledger, before) == {"nonce"}
    assert ledger.send(plain, writer).output == b"\1"
    assert len(changed(ledger, before)) == 2


def test_frames_nest_to_their_limit_and_the_call_beyond_gives_its_gas_back() -> None:
    """A contract that calls itself and returns how deep it came."""
    ledger = Ledger()
    text = """
        (call $address (i32.const 0))
        (drop (call $call (call $gas_left) (i32.const 0) (i32.const 32) (i32.const 0) (i32.const 0)))
        (if (call $return_data_size) (then (call $return_data_copy (i32.const 64) (i32.const 0) (i32.const 1))))
        (i32.store8 (i32.const 64) (i32.add (i32.load8_u (i32.const 64)) (i32.const 1)))
        (call $finish (i32.const 64) (i32.const 1))
    """
    imports = """address (param i32)
        gas_left (result i64)
        call (param i64 i32 i32 i32 i32) (result i32)
        return_data_size (result i32)
        return_data_copy (param i32 i32 i32)
        finish (param i32 i32)"""
    result = ledger.send(ledger.deploy(contract(text, imports)))
    assert result.output == bytes([limits.DEEPEST_ENTRY])
    assert result.gas_used < 500_000


@pytest.mark.parametrize(
    ("name", "kind", "arguments", "expected"),
    [
        ("caller", "(param i32)", "", PERSON),
        ("origin", "(param i32)", "", PERSON),
        ("beneficiary", "(param i32)", "", CONTEXT.beneficiary),
        ("mix", "(param i32)", "", CONTEXT.mix),
        ("value", "(param i32)", "", (5).to_bytes(32, "big")),
        ("gas_price", "(param i32)", "", bytes(32)),
        ("base_fee", "(param i32)", "", bytes(32)),
        ("block_hash", "(param i64 i32)", "(i64.const 6)", (6).to_bytes(32, "big")),
        ("block_hash", "(param i64 i32)", "(i64.const 7)", bytes(32)),
    ],
)
def test_a_contract_sees_its_call_and_block(name: str, kind: str, arguments: str, expected: bytes) -> None:
    ledger = Ledger()
    body = f"(call ${name} {arguments} (i32.const 0)) (call $finish (i32.const 0) (i32.const {len(expected)}))"
    address = ledger.deploy(contract(body, f"{name} {kind}\nfinish (param i32 i32)"))
    assert ledger.send(address, value=5).output == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("height", 7), ("timestamp", 1_000), ("chain_id", 1_337), ("gas_limit", 10**9)],
)
def test_a_contract_sees_numbers_of_its_block(name: str, expected: int) -> None:
    ledger = Ledger()
    body = f"(i64.store (i32.const 0) (call ${name})) (call $finish (i32.const 0) (i32.const 8))"
    address = ledger.deploy(contract(body, f"{name} (result i64)\nfinish (param i32 i32)"))
    assert ledger.send(address).output == expected.to_bytes(8, "little")


def test_logs_have_topics_and_data_and_at_most_four_topics() -> None:
    ledger = Ledger()
    imports = "log (param i32 i32 i32 i32)\ncall_data_copy (param i32 i32 i32)"
    body = "(call $call_data_copy (i32.const 0) (i32.const 0) (i32.const 160))"
    body += "(call $log (i32.const 0) (i32.const 3) (i32.const 32) (i32.const {}))"
    data = b"abc".ljust(32, b"\0") + b"".join(bytes([number]) * 32 for number in range(1, 5))
    result = ledger.send(address := ledger.deploy(contract(body.format(4), imports)), data)
    assert [(log.address, log.topics, log.data) for log in result.logs] == [
        (address, tuple(bytes([number]) * 32 for number in range(1, 5)), b"abc")
    ]
    assert not ledger.send(ledger.deploy(contract(body.format(5), imports)), data).succeeded


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 1_000])
def test_hashes_are_the_known_ones(size: int) -> None:
    ledger = Ledger()
    imports = "keccak256 (param i32 i32 i32)\ncall_data_copy (param i32 i32 i32)\ncall_data_size (result i32)\n"
    body = "(call $call_data_copy (i32.const 0) (i32.const 0) (call $call_data_size))"
    body += "(call $keccak256 (i32.const 0) (call $call_data_size) (i32.const 2000))"
    body += "(call $finish (i32.const 2000) (i32.const 32))"
    data = bytes(range(256)) * 4
    assert ledger.send(
        ledger.deploy(contract(body, imports + "finish (param i32 i32)")), data[:size]
    ).output == keccak256(data[:size])


def test_a_genesis_that_holds_no_module_where_it_says_so_harms_nobody() -> None:
    ledger = Ledger()
    code = b"\0asm of another kind"
    entry = encode_account(Account(1, Wei(0), keccak256(code)))
    ledger.state |= {account_key(OTHER): entry, code_key(keccak256(code)): code}
    result = ledger.send(OTHER, gas=100_000)
    assert (result.succeeded, result.reason, result.gas_used) == (False, "InvalidCode", 100_000)


def test_threads_do_not_mix_up_their_calls() -> None:
    """Eight at once, of which half trap: each gets its own answer and its own gas."""
    ledger = Ledger()
    counter = ledger.deploy(COUNTER + bytes(32))
    trap = ledger.deploy(contract("(unreachable)"))
    alone = [Ledger(dict(ledger.state)).send(to, gas=100_000) for to in (counter, trap)]

    def run(number: int) -> bool:
        to = (counter, trap)[number % 2]
        return all(Ledger(dict(ledger.state)).send(to, gas=100_000) == alone[number % 2] for _ in range(20))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(run, range(8)))


def test_memory_is_given_back_when_a_call_ends() -> None:
    """Without the garbage collector's help: a block has room for hundreds of calls that fill four megabytes each."""
    touch = """(local i32) (loop (i32.store (local.get 0) (i32.const 1))
        (br_if 0 (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 4096))) (i32.const 4190000))))"""
    ledger = Ledger()
    ends = [
        ledger.deploy(contract(touch + end, "finish (param i32 i32)", memory="64"))
        for end in ("", "(unreachable)", "(call $finish (i32.const 0) (i32.const 1))")
    ]
    process = psutil.Process()
    gc.disable()
    try:
        for address in ends:
            ledger.send(address)
        before = process.memory_info().rss
        for _ in range(20):
            for address in ends:
                ledger.send(address)
        assert process.memory_info().rss - before < 16 << 20
    finally:
        gc.enable()


# Gas


@settings(max_examples=20)
@given(st.binary(max_size=64), st.integers(60_000, 200_000))
def test_the_same_call_takes_the_same_gas(data: bytes, gas: int) -> None:
    ledger = Ledger()
    address = ledger.deploy(COUNTER + bytes(32))
    results = [Ledger(dict(ledger.state)).send(address, data, gas=gas) for _ in range(2)]
    assert results[0] == results[1]


def test_gas_is_what_it_was() -> None:
    """Fuel is counted by wasmtime and is part of consensus: these numbers change with a fork and not otherwise."""
    assert gas_of_a_tour() == [202434, 47810, 96406, 60081, 93030, 48927, 105360, 25000000]


def test_a_fresh_process_takes_the_same_gas() -> None:
    here = Path(__file__).parent
    fresh = subprocess.run(
        [sys.executable, "-c", "import test_ledger_wasm; print(test_ledger_wasm.gas_of_a_tour())"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(here.parents[1] / "src"), str(here)])},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert fresh.stdout.strip() == str(gas_of_a_tour())


def gas_of_a_tour() -> list[int]:
    """Gas of a deployment and of calls that loop, grow, recurse and trap."""
    ledger = Ledger()
    loops = (
        "(local i64) (loop (br_if 0 (i64.ne (i64.const 99999) (local.tee 0 (i64.add (local.get 0) (i64.const 1))))))"
    )
    used = []
    for code in (
        COUNTER + bytes(32),
        contract(loops),
        contract("(drop (memory.grow (i32.const 7)))" * 3),
        contract("(drop (call $deep (i64.const 1)))", rest=RECURSION),
    ):
        used.append(ledger.send(None, code).gas_used)
        used.append(ledger.send(ledger.deploy(code)).gas_used)
    return used


def test_a_call_without_enough_gas_fails_at_every_amount() -> None:
    """Gas runs out somewhere in the crossing, in storage, in the module; the state never changes."""
    ledger = Ledger()
    address = ledger.deploy(COUNTER + bytes(32))
    needed = Ledger(dict(ledger.state)).send(address).gas_used
    for gas in range(21_000, needed, 97):
        attempt = Ledger(dict(ledger.state))
        result = attempt.send(address, gas=gas)
        assert (result.succeeded, result.reason, result.gas_used) == (False, "OutOfGas", gas)
        assert changed(attempt, ledger.state) == {"nonce"}
    assert needed < PLENTY


# Compiled modules


def test_modules_that_no_longer_fit_in_memory_come_back_from_disk() -> None:
    compiler = Counting(host_calls())
    binaries = [rewritten(scan(contract(f"(drop (i32.const {n}))"), HOST_TYPES)).binary for n in range(4)]
    names = [keccak256(binary) for binary in binaries]
    size = len(bytes(compiler.compile(binaries[0]).serialize()))
    kept = Storehouse(compiler, memory_bytes=2 * size, disk_bytes=3 * size + size // 2)
    for name, binary in zip(names, binaries, strict=True):
        kept.add(name, binary)
    # Memory holds the last two, the disk the first three: each that comes back drives another out.
    assert [kept.get(name) is not None for name in names] == [True, True, True, False]
    assert compiler.restored == 3


class Counting(Compiler):
    """Counts what it restores."""

    restored = 0

    def restore(self, image: bytes) -> wasmtime.Module:
        self.restored += 1
        return super().restore(image)
