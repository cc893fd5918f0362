"""The EVM itself: hostile code, both execution paths, tracing, system calls, threads."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from koinon.crypto.hash import keccak256
from koinon.kernel.ids import ZERO_HASH, Address
from koinon.kernel.quantities import ChainId, Gas, Height, UnixSeconds, Wei
from koinon.ledger.evm import program
from koinon.ledger.evm.engine import EvmEngine
from koinon.ledger.evm.frame import Frame, Message, Outcome
from koinon.ledger.evm.opcodes import OPCODES, Opcode
from koinon.ledger.evm.program import HOT, ProgramCache
from koinon.ledger.execution import BlockContext, Call, CallResult
from koinon.ledger.journal import Journal
from koinon.ledger.state import (
    EMPTY_CODE_HASH,
    Account,
    account_key,
    code_key,
    encode_account,
    slot_key,
)
from koinon.ledger.transaction import Transaction

CONTRACT, OTHER, SENDER = (Address(bytes([number]) * 20) for number in (0x11, 0x22, 0x33))
COINBASE = Address(b"\xcc" * 20)
CHAIN = ChainId(5)
GAS = Gas(1_000_000)
CONTEXT = BlockContext(
    CHAIN, Height(7), UnixSeconds(1_000), COINBASE, ZERO_HASH, Gas(30_000_000), Wei(10), lambda _: ZERO_HASH
)  # fmt: skip
RETURN_TOP = "5f5260205ff3"
"""MSTORE at 0, RETURN 32 bytes."""


class View:
    """A state view over a dictionary."""

    def __init__(self, content: Mapping[bytes, bytes]) -> None:
        self.content = dict(content)

    def get(self, key: bytes, /) -> bytes | None:
        return self.content.get(key)


def state(codes: Mapping[Address, bytes], balance: int = 10**18) -> View:
    content = {account_key(SENDER): encode_account(Account(0, Wei(balance), EMPTY_CODE_HASH))}
    for address, code in codes.items():
        content[account_key(address)] = encode_account(Account(1, Wei(1_000), keccak256(code)))
        content[code_key(keccak256(code))] = code
    return View(content)


def call(engine: EvmEngine, code: bytes, gas: int = GAS, data: bytes = b"", **options: Any) -> CallResult:
    request = Call(SENDER, CONTRACT, Gas(gas), Wei(0), data, Wei(0))
    return engine.call(request, CONTEXT, state({CONTRACT: code}), **options)


def transaction(to: Address | None, data: bytes = b"", gas: int = GAS, value: int = 0) -> Transaction:
    return Transaction(
        b"", ZERO_HASH, SENDER, 2, CHAIN, 0, Wei(1), Wei(20), Gas(gas), to, Wei(value), data, (), 0, 0, 0
    )


COLD, HOT_ENGINE = (EvmEngine(programs=ProgramCache(hot=hot)) for hot in (10**9, 0))

HUGE = "6001609f1b"
"""PUSH1 1, PUSH1 159, SHL."""
HOSTILE = {
    "endless loop": ("5b5f56", "OutOfGas"),
    "jump into push data": ("600456605b00", "InvalidJump"),
    "jump behind the end": ("61ffff56", "InvalidJump"),
    "jump to 2^256 - 1": ("5f1956", "InvalidJump"),
    "conditional jump nowhere": ("6001607757", "InvalidJump"),
    "memory bomb by MSTORE": ("5f" + HUGE + "52", "OutOfGas"),
    "memory bomb by MLOAD": (HUGE + "51", "OutOfGas"),
    "memory bomb by MSTORE8": ("5f" + HUGE + "53", "OutOfGas"),
    "memory bomb by KECCAK256": (HUGE + "5f20", "OutOfGas"),
    "memory bomb by CALLDATACOPY": (HUGE + "5f5f37", "OutOfGas"),
    "memory bomb by MCOPY": (HUGE + "5f5f5e", "OutOfGas"),
    "memory bomb by RETURN": (HUGE + "5ff3", "OutOfGas"),
    "memory bomb by LOG0": (HUGE + "5fa0", "OutOfGas"),
    "memory bomb by CREATE": (HUGE + "5f5ff0", "OutOfGas"),
    "memory bomb by CALL's output": (HUGE + "5f5f5f5f305af1", "OutOfGas"),
    "memory grown step by step": ("5b5951505f56", "OutOfGas"),
    "too few items": ("01", "StackFault"),
    "too few items for SWAP16": ("5f" * 16 + "9f", "StackFault"),
    "too many items": ("5f" * 1025, "StackFault"),
    "too many items in a loop": ("5b5f5f56", "StackFault"),
    "no instruction": ("0c", "InvalidOpcode"),
    "INVALID": ("fe", "InvalidOpcode"),
    "returned data that is not there": ("60015f5f3e", "ReturnDataOutOfBounds"),
    "creation code over the limit": ("61c0015f5ff0", "OutOfGas"),
    "EXP without the gas": ("5f195f190a" * 100, "OutOfGas"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("engine", [COLD, HOT_ENGINE], ids=["interpreted", "compiled"])
def test_hostile_code_takes_the_gas_and_nothing_else(name: str, engine: EvmEngine) -> None:
    text, reason = HOSTILE[name]
    view = state({CONTRACT: bytes.fromhex(text)})
    block = engine.begin(CONTEXT, view)
    receipt = block.apply(transaction(CONTRACT, gas=150_000, value=1))
    assert (receipt.status, receipt.gas_used, receipt.logs) == (0, 150_000, ())
    assert set(block.difference()) == {account_key(SENDER), account_key(COINBASE)}
    assert call(engine, bytes.fromhex(text), 150_000).reason == reason


CHANGES = {
    "SSTORE": "5f5f55",
    "TSTORE": "5f5f5d",
    "LOG0": "5f5fa0",
    "CREATE": "5f5f5ff0",
    "CREATE2": "5f5f5f5ff5",
    "SELFDESTRUCT": "5fff",
    "CALL with value": "5f5f5f5f6001305af1",
}


@pytest.mark.parametrize("name", CHANGES)
def test_nothing_changes_inside_a_static_call(name: str) -> None:
    # The outer contract returns whether its STATICCALL of the inner one succeeded.
    outer = bytes.fromhex("5f5f5f5f73" + OTHER.hex() + "61fffffa" + RETURN_TOP)
    for code, allowed in ((CHANGES[name], 0), ("00", 1)):
        view = state({CONTRACT: outer, OTHER: bytes.fromhex(code)})
        result = COLD.call(Call(SENDER, CONTRACT, GAS, Wei(0), b"", Wei(0)), CONTEXT, view)
        assert int.from_bytes(result.output) == allowed


@pytest.mark.parametrize("engine", [COLD, HOT_ENGINE], ids=["interpreted", "compiled"])
def test_calls_nest_1024_deep_without_nesting_python(engine: EvmEngine) -> None:
    # Calls itself with all its gas, adds one to what the inner call returned and returns it.
    code = bytes.fromhex("60205f5f5f5f305af1505f5160010160005260205ff3")
    result = call(engine, code, 10**12)
    assert (result.succeeded, int.from_bytes(result.output)) == (True, 1025)
    # With little gas a 64th is kept at every level, and the depth ends where the gas does.
    assert 1 < int.from_bytes(call(engine, code, 100_000).output) < 200


def test_a_creation_that_fails_leaves_only_the_nonce() -> None:
    # Creation code: "too long" returns 24,577 zeros; "reserved" returns 0xef.
    for code in ("6160015ff3", "60ef5f5360015ff3", "fe"):
        block = COLD.begin(CONTEXT, state({}))
        receipt = block.apply(transaction(None, bytes.fromhex(code)))
        assert (receipt.status, receipt.gas_used, receipt.contract) == (0, GAS, None)
        assert set(block.difference()) == {account_key(SENDER), account_key(COINBASE)}


def test_a_contract_that_is_created_and_destroyed_at_once_leaves_nothing() -> None:
    # SSTORE(0, 1), then SELFDESTRUCT to the caller, in creation code (EIP-6780).
    block = COLD.begin(CONTEXT, state({}))
    receipt = block.apply(transaction(None, bytes.fromhex("60015f5533ff"), value=5))
    assert receipt.status == 1
    assert set(block.difference()) == {account_key(SENDER), account_key(COINBASE)}


# Both execution paths from one table

_PLAIN = [opcode for opcode in OPCODES if opcode.name not in ("JUMP", "JUMPI") and "raise" not in opcode.effect]
_PUSHES = st.integers(0, 2**256 - 1).map(lambda value: b"\x7f" + value.to_bytes(32))
_SMALL = st.integers(0, 255).map(lambda value: bytes([0x60, value]))
_ANY = st.sampled_from(_PLAIN).map(lambda opcode: bytes([opcode.number]) + bytes(opcode.immediate))
_STEPS = st.lists(st.one_of(_SMALL, _SMALL, _PUSHES, _ANY), max_size=60).map(b"".join)


def _outcome(engine: EvmEngine, code: bytes) -> tuple[CallResult, Mapping[bytes, bytes | None]]:
    journal = Journal(state({CONTRACT: code, OTHER: bytes.fromhex("60015f5560206000f3")}))
    journal.begin_transaction(engine.warm)
    result = engine.call_in(journal, Call(SENDER, CONTRACT, Gas(200_000), Wei(3), b"data" * 9, Wei(0)), CONTEXT)
    return result, journal.difference()


@settings(max_examples=150, deadline=None)
@given(_STEPS, st.booleans())
def test_compiled_code_does_what_interpreted_code_does(steps: bytes, repeated: bool) -> None:
    # In the loop the block runs cold, becomes hot and is compiled in one call.
    prelude = bytes.fromhex("6003600a6020604060606080") + bytes.fromhex("601e") if repeated else b""
    code = prelude + b"\x5b" + steps + (b"\x5f\x50" + bytes([0x60, len(prelude), 0x56]) if repeated else b"\x00")
    expected = _outcome(COLD, code)
    assert _outcome(HOT_ENGINE, code) == expected
    assert _outcome(EvmEngine(), code) == expected


def test_many_threads_share_an_engine() -> None:
    engine = EvmEngine(programs=ProgramCache(largest=200))
    # Counts down from the call data, 600 times a fresh loop in each of several contracts.
    codes = [bytes.fromhex(f"5f355b60{number:02x}50600190038060035700") for number in range(8)]
    expected = [call(COLD, code, data=(300).to_bytes(32)) for code in codes]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda code: call(engine, code, data=(300).to_bytes(32)), codes * 6))
    assert results == expected * 6


def test_new_contracts_buy_no_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    defined = program.defined

    def counted(source: str, name: str, names: dict[str, Any]) -> Any:
        compiled.append(name)
        return defined(source, name, names)

    monkeypatch.setattr(program, "defined", counted)
    engine = EvmEngine()
    for number in range(40):
        for _ in range(HOT):
            call(engine, bytes.fromhex(f"61{number:04x}5000"))
    assert not any(name.startswith("block") for name in compiled)
    call(engine, bytes.fromhex("6100275000"))
    assert sum(name.startswith("block") for name in compiled) == 1


# Watching


class Recorder:
    """A tracer that keeps what it is told."""

    wants_steps = True
    wants_memory = False

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def enter(self, message: Message) -> None:
        self.events.append(("enter", message.kind.value, message.depth))

    def pause(self) -> None:
        pass

    def step(
        self, frame: Frame, position: int, opcode: Opcode, gas: int, cost: int, stack: list[int], memory: bytes
    ) -> None:
        self.events.append(("step", position, opcode.name, gas, cost, len(stack)))

    def destroy(self, address: Address, beneficiary: Address, value: int) -> None:
        self.events.append(("destroy", address, value))

    def leave(self, message: Message, outcome: Outcome) -> None:
        self.events.append(("leave", message.kind.value, outcome.succeeded, outcome.gas_left))


def test_a_tracer_sees_every_call_and_instruction_and_changes_nothing() -> None:
    # SSTORE(0, 7); CALL the identity precompile; SELFDESTRUCT to the caller.
    code = bytes.fromhex("60075f555f5f5f5f5f600461fffff15033ff")
    recorder = Recorder()
    watched = call(COLD, code, tracer=recorder)
    assert watched == call(COLD, code)
    assert [event[:2] for event in recorder.events if event[0] != "step"] == [
        ("enter", "CALL"), ("enter", "CALL"), ("leave", "CALL"), ("destroy", CONTRACT), ("leave", "CALL")
    ]  # fmt: skip
    steps = [event for event in recorder.events if event[0] == "step"]
    assert [step[2] for step in steps] == [
        "PUSH1", "PUSH0", "SSTORE", *["PUSH0"] * 5, "PUSH1", "PUSH2", "CALL", "POP", "CALLER", "SELFDESTRUCT"
    ]  # fmt: skip
    gas = [step[3] for step in steps]
    spent = [step[4] for step in steps]
    following = [*gas[1:], recorder.events[-1][3]]
    returned = 65_535 - 15
    assert [before - cost for before, cost in zip(gas, spent, strict=True)] == [
        left - (returned if step[2] == "CALL" else 0) for left, step in zip(following, steps, strict=True)
    ]


def test_a_system_call_costs_nobody_anything() -> None:
    # Stores the caller at slot 0; reverts where there is call data.
    code = bytes.fromhex("335f5536600857005b5f5ffd")
    block = COLD.begin(CONTEXT, state({CONTRACT: code}))
    refused = block.system_call(CONTRACT, b"x", GAS, Wei(5))
    assert (refused.succeeded, refused.reason, block.difference()) == (False, "Revert", {})
    done = block.system_call(CONTRACT, b"", GAS, Wei(5))
    assert done.succeeded
    difference = block.difference()
    assert set(difference) == {account_key(CONTRACT), slot_key(CONTRACT, 0)}
    assert difference[slot_key(CONTRACT, 0)] == bytes.fromhex("ff" * 19 + "fe")
    assert block.apply(transaction(OTHER, gas=21_000, value=1)).cumulative_gas == 21_000


# The journal's difference is exact

_ADDRESSES = st.sampled_from([CONTRACT, OTHER, SENDER])
_OPERATION = st.one_of(
    st.tuples(st.just("balance"), _ADDRESSES, st.integers(0, 3)),
    st.tuples(st.just("nonce"), _ADDRESSES, st.integers(0, 2)),
    st.tuples(st.just("code"), _ADDRESSES, st.sampled_from([b"", b"a", b"b"])),
    st.tuples(st.just("slot"), _ADDRESSES, st.tuples(st.integers(0, 2), st.integers(0, 2))),
    st.tuples(st.just("read"), _ADDRESSES, st.integers(0, 2)),
    st.tuples(st.sampled_from(["checkpoint", "revert", "transaction"]), st.none(), st.none()),
)


@settings(deadline=None)
@given(st.lists(_OPERATION, max_size=30))
def test_the_difference_is_what_changed_and_nothing_else(operations: list[tuple[str, Any, Any]]) -> None:
    view = state({CONTRACT: b"a"}, balance=3)
    view.content[slot_key(CONTRACT, 1)] = b"\1"
    journal = Journal(view)
    journal.begin_transaction({})
    model: dict[Any, Any] = {}
    saved: list[tuple[Any, dict[Any, Any]]] = []
    for what, address, value in operations:
        if what == "checkpoint":
            saved.append((journal.checkpoint(), dict(model)))
        elif what == "revert" and saved:
            checkpoint, model = saved.pop()
            journal.revert(checkpoint)
        elif what == "transaction":
            journal.end_transaction()
            journal.begin_transaction({})
            saved = []
        elif what == "read":
            journal.slot(journal.storage(address), value)
            journal.balance(address)
        elif what == "slot":
            journal.set_slot(journal.storage(address), *value)
            model["slot", address, value[0]] = value[1]
        elif what in ("balance", "nonce", "code"):
            getattr(journal, f"set_{what}")(address, value)
            model[what, address] = value
    expected = dict(view.content)
    for address in (CONTRACT, OTHER, SENDER):
        before = Journal(view).account(address)
        code = model.get(("code", address))
        account = Account(
            model.get(("nonce", address), before.nonce),
            Wei(model.get(("balance", address), before.balance)),
            before.code_hash if code is None else keccak256(code),
        )
        expected.pop(account_key(address), None)
        if not account.is_empty:
            expected[account_key(address)] = encode_account(account)
        if code:
            expected.setdefault(code_key(keccak256(code)), code)
    for key, value in model.items():
        if key[0] == "slot":
            expected.pop(slot_key(key[1], key[2]), None)
            if value:
                expected[slot_key(key[1], key[2])] = bytes([value])
    difference = journal.difference()
    assert all(view.get(key) != value for key, value in difference.items())
    after = {**view.content, **difference}
    assert {key: value for key, value in after.items() if value is not None} == expected


@given(
    st.sampled_from([SENDER, OTHER, COINBASE]),
    st.sampled_from([SENDER, OTHER, COINBASE]),
    st.integers(0, 2),
    st.integers(0, 2),
    st.booleans(),
)
def test_a_plain_transfer_does_what_a_run_would(
    to: Address, beneficiary: Address, value: int, tip: int, with_blob: bool
) -> None:
    sent = structs.replace(transaction(to, value=value), maximum_tip=Wei(tip))
    if with_blob:
        sent = structs.replace(sent, kind=3, maximum_blob_fee=5, blob_hashes=(b"\1" + bytes(31),))
    context = replace(CONTEXT, beneficiary=beneficiary, blob_base_fee=3)
    blocks = [COLD.begin(context, state({})) for _ in range(2)]
    # What is watched always runs as a call.
    receipts = [blocks[0].apply(sent), blocks[1].apply(sent, Recorder())]
    assert receipts[0] == receipts[1]
    assert blocks[0].difference() == blocks[1].difference()


@given(st.lists(st.sampled_from([0x00, 0x5B, 0x5B, 0x60, 0x61, 0x6A, 0x7E, 0x7F]) | st.integers(0, 255)).map(bytes))
def test_destinations_are_what_a_walk_over_the_code_finds(code: bytes) -> None:
    found, position = set(), 0
    while position < len(code):
        if code[position] == 0x5B:
            found.add(position)
        position += 1 + OPCODES[code[position]].immediate
    prepared = program.Program(code)
    assert {at for at in range(len(code) + 40) if prepared.is_destination(at)} == found


def test_the_cache_of_programs_is_bounded() -> None:
    cache = ProgramCache(largest=500, hot=0)
    engine = EvmEngine(programs=cache)
    codes = [bytes.fromhex(f"60{number:02x}50" * 20 + "00") for number in range(30)]
    results = {code: call(engine, code) for code in codes}
    assert 1 <= len(cache) < 10
    assert all(call(engine, code) == result for code, result in results.items())
