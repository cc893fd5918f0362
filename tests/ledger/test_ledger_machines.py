"""Contracts of both machines calling each other: one transaction, one revert; and the example contracts."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_wasm import OTHER, PERSON, Ledger, artefact, calldata, contract, decoded

from koinon.kernel.ids import Address
from koinon.ledger.evm.frame import Frame, Message, Outcome
from koinon.ledger.wasm import instructions as op
from koinon.ledger.wasm import limits
from koinon.ledger.wasm.machine import HOST_FUNCTIONS

ROOT = Path(__file__).resolve().parents[2]
WASM = ROOT / "contracts" / "wasm" / "artifacts"
SOLIDITY = ROOT / "tests" / "contracts" / "fixtures"
COUNTER = artefact(WASM / "Counter.json")
TOKEN = artefact(WASM / "Token.json")
RELAYS = {"wasm": artefact(WASM / "Relay.json"), "evm": artefact(SOLIDITY / "Relay.json")}
SUPPLY = 10**24


def word(number: int) -> bytes:
    return number.to_bytes(32, "big")


def relay(path: list[Address], data: bytes) -> bytes:
    """Call data that takes ``data`` along a path of relays to its last address."""
    for to in reversed(path):
        data = calldata("relay(address,bytes)", to, data)
    return data


def unwrapped(output: bytes, layers: int) -> bytes:
    for _ in range(layers):
        (inner,) = decoded("bytes", output)
        assert isinstance(inner, bytes)
        output = inner
    return output


@pytest.mark.parametrize("machines", ["wasm evm", "evm wasm", "wasm evm wasm evm", "evm wasm evm wasm evm"])
def test_calls_cross_the_machines_in_both_directions(machines: str) -> None:
    ledger = Ledger()
    path = [ledger.deploy(RELAYS[machine]) for machine in machines.split()]
    counter = ledger.deploy(COUNTER + word(41))
    result = ledger.send(path[0], relay([*path[1:], counter], calldata("next()")))
    assert result.succeeded, result.reason
    assert unwrapped(result.output, len(path)) == word(42)
    assert all(ledger.send(one, calldata("count()")).output == word(1) for one in path)
    assert [log.address for log in result.logs] == [
        one for one, machine in zip(path, machines.split(), strict=True) if machine == "evm"
    ]


@pytest.mark.parametrize("machines", ["wasm evm", "evm wasm"])
def test_a_revert_at_the_end_takes_back_both_machines_writes(machines: str) -> None:
    ledger = Ledger()
    path = [ledger.deploy(RELAYS[machine]) for machine in machines.split()]
    refusing = ledger.deploy(RELAYS["evm"])
    before = dict(ledger.state)
    result = ledger.send(path[0], relay([path[1], refusing], calldata("refuse()")), value=7)
    assert (result.succeeded, result.reason, result.logs) == (False, "Revert", ())
    assert decoded("string", result.output[4:]) == ("refused",)
    assert {key for key in ledger.state if ledger.state[key] != before.get(key)} == {b"a" + PERSON}
    assert ledger.balance(PERSON) == 10**24, "the coins came back"


def test_a_caught_failure_of_a_module_leaves_the_callers_writes() -> None:
    ledger = Ledger()
    outer = ledger.deploy(RELAYS["evm"])
    inner = ledger.deploy(RELAYS["wasm"])
    trap = ledger.deploy(contract("(unreachable)"))
    result = ledger.send(outer, calldata("attempt(address,bytes)", inner, relay([trap], b"")))
    assert result.succeeded
    assert decoded("bool,bytes", result.output) == (False, b"")
    assert ledger.send(outer, calldata("count()")).output == word(1)
    assert ledger.send(inner, calldata("count()")).output == word(0)


def test_coins_travel_through_both_machines() -> None:
    ledger = Ledger()
    wasm, evm = ledger.deploy(RELAYS["wasm"]), ledger.deploy(RELAYS["evm"])
    nobody = Address(b"\x99" * 20)
    assert ledger.send(wasm, relay([evm, nobody], b""), value=12).succeeded
    assert ledger.balance(nobody) == 12
    assert ledger.balance(wasm) == ledger.balance(evm) == 0


def test_a_delegate_call_runs_a_module_on_the_callers_storage() -> None:
    ledger = Ledger()
    evm = ledger.deploy(RELAYS["evm"])
    counter = ledger.deploy(COUNTER + word(100))
    result = ledger.send(evm, calldata("delegate(address,bytes)", counter, calldata("next()")))
    assert decoded("bytes", result.output) == (word(1),)
    assert ledger.send(evm, calldata("count()")).output == word(1), "slot zero of the relay"
    assert ledger.send(counter, calldata("value()")).output == word(100)


def test_a_solidity_contract_creates_a_module() -> None:
    ledger = Ledger()
    evm = ledger.deploy(RELAYS["evm"])
    (made,) = decoded("address", ledger.send(evm, calldata("make(bytes)", COUNTER + word(6))).output)
    assert isinstance(made, str)
    address = Address(bytes.fromhex(made[2:]))
    assert ledger.code(address) == COUNTER
    assert ledger.send(address, calldata("next()")).output == word(7)


def test_creation_code_of_the_evm_cannot_plant_a_module_that_nobody_checked() -> None:
    ledger = Ledger()
    evm = ledger.deploy(RELAYS["evm"])
    for code, planted in ((b"\x60\x00", True), (COUNTER, False), (b"\0asm", False), (b"\xef", False)):
        (made,) = decoded("address", ledger.send(evm, calldata("plant(bytes)", code)).output)
        assert (made != "0x" + 40 * "0") is planted


def test_mixed_calls_nest_as_deep_as_modules_may() -> None:
    """A path through many relays of both kinds: the modules' limit counts modules, not calls."""
    ledger = Ledger()
    wasm, evm = ledger.deploy(RELAYS["wasm"]), ledger.deploy(RELAYS["evm"])
    counter = ledger.deploy(COUNTER + word(0))
    most = [wasm, evm] * (limits.DEEPEST_ENTRY - 1)
    result = ledger.send(most[0], relay([*most[1:], counter], calldata("next()")))
    assert result.succeeded
    assert unwrapped(result.output, len(most)) == word(1)
    assert not ledger.send(
        wasm, relay([*[evm, wasm] * (limits.DEEPEST_ENTRY - 1), counter], calldata("next()"))
    ).succeeded


class Recorder:
    """A tracer that keeps who was called, and how it ended."""

    wants_steps = False
    wants_memory = False

    def __init__(self) -> None:
        self.calls: list[tuple[str, Address, bool | None]] = []

    def enter(self, message: Message) -> None:
        self.calls.append(("enter", message.address, None))

    def pause(self) -> None:
        """Nothing here takes long."""

    def step(self, frame: Frame, *_rest: object) -> None:
        raise AssertionError(f"nobody wanted the steps of {frame}")

    def destroy(self, address: Address, *_rest: object) -> None:
        raise AssertionError(f"{address.hex()} is not destroyed here")

    def leave(self, message: Message, outcome: Outcome) -> None:
        self.calls.append(("leave", message.address, outcome.succeeded))


def test_a_tracer_sees_the_calls_of_both_machines() -> None:
    ledger = Ledger()
    path = [ledger.deploy(RELAYS["wasm"]), ledger.deploy(RELAYS["evm"]), ledger.deploy(COUNTER + word(1))]
    seen = Recorder()
    ledger.send(path[0], relay(path[1:], calldata("next()")), tracer=seen)
    assert seen.calls == [("enter", one, None) for one in path] + [("leave", one, True) for one in reversed(path)]


# The token


def holdings(ledger: Ledger, token: Address) -> list[int]:
    return [int.from_bytes(ledger.send(token, calldata("balanceOf(address)", who)).output) for who in (PERSON, OTHER)]


def test_the_token_speaks_solidity() -> None:
    ledger = Ledger()
    token = ledger.deploy(TOKEN + word(SUPPLY))
    assert decoded("string", ledger.send(token, calldata("name()")).output) == ("Koinon example",)
    assert decoded("string", ledger.send(token, calldata("symbol()")).output) == ("EXA",)
    assert ledger.send(token, calldata("decimals()")).output == word(18)
    assert ledger.send(token, calldata("totalSupply()")).output == word(SUPPLY)
    sent = ledger.send(token, calldata("transfer(address,uint256)", OTHER, 5))
    assert sent.output == word(1)
    (log,) = sent.logs
    transfer = bytes.fromhex("ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef")
    assert log.topics == (transfer, bytes(12) + PERSON, bytes(12) + OTHER)
    assert log.data == word(5)
    assert holdings(ledger, token) == [SUPPLY - 5, 5]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (calldata("transfer(address,uint256)", OTHER, SUPPLY + 1), "the balance is too small"),
        (calldata("transfer(address,uint256)", OTHER, 2**256 - 1), "the balance is too small"),
        (calldata("transfer(address,uint256)", Address(bytes(20)), 1), "nothing is sent to the zero address"),
        (calldata("transferFrom(address,address,uint256)", OTHER, PERSON, 1), "the allowance is too small"),
        (calldata("transfer(address,uint256)", OTHER, 1)[:4] + b"\x01" * 64, "an address has twenty bytes"),
        (calldata("mint()"), "the token has no such function"),
        (b"", "the token has no such function"),
    ],
)
def test_the_token_refuses_with_the_reason(data: bytes, reason: str) -> None:
    ledger = Ledger()
    token = ledger.deploy(TOKEN + word(SUPPLY))
    result = ledger.send(token, data)
    assert not result.succeeded
    assert decoded("string", result.output[4:]) == (reason,)
    assert holdings(ledger, token) == [SUPPLY, 0]


@settings(max_examples=15)
@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from(["transfer", "approve", "transferFrom"]), st.integers(0, 2**256 - 1))
        | st.tuples(st.booleans(), st.sampled_from(["transfer", "approve", "transferFrom"]), st.integers(0, 900)),
        max_size=12,
    )
)
def test_the_tokens_supply_is_conserved(steps: list[tuple[bool, str, int]]) -> None:
    ledger = Ledger()
    token = ledger.deploy(TOKEN + word(1_000))
    for back, function, amount in steps:
        sender, other = (OTHER, PERSON) if back else (PERSON, OTHER)
        if function == "transferFrom":
            data = calldata("transferFrom(address,address,uint256)", other, sender, amount)
        else:
            data = calldata(f"{function}(address,uint256)", other, amount)
        ledger.send(token, data, sender=sender)
        assert sum(holdings(ledger, token)) == 1_000


def test_the_readme_names_every_function_of_the_host_with_its_type_and_price() -> None:
    def types(codes: bytes) -> str:
        return ", ".join({op.I32: "i32", op.I64: "i64"}[code] for code in codes)

    rows = [
        f"| `{name}` | {types(entry.kind.parameters)} | {types(entry.kind.results)} | {entry.gas + limits.HOST_GAS} |"
        for name, entry in HOST_FUNCTIONS.items()
    ]
    written = (ROOT / "contracts" / "wasm" / "README.md").read_text().splitlines()
    assert [line for line in written if line.startswith("| `") and line.count("|") == 5] == rows


@pytest.mark.assemblyscript
def test_the_artefacts_are_what_the_sources_give() -> None:
    run = subprocess.run(
        [sys.executable, str(ROOT / "contracts" / "wasm" / "build.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
