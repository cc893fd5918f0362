"""A ledger of one block after the other in memory, for tests of contracts in both machines."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

from eth_abi.abi import decode, encode
from wasmtime import wat2wasm

from koinon.crypto.hash import keccak256
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import ChainId, Gas, Height, UnixSeconds, Wei
from koinon.ledger.engine import network_engine
from koinon.ledger.evm.calls import created_address
from koinon.ledger.evm.tracing import Tracer
from koinon.ledger.execution import BlockContext, Call, CallResult
from koinon.ledger.journal import Journal
from koinon.ledger.state import EMPTY_CODE_HASH, Account, account_key, encode_account

ENGINE = network_engine()
PERSON = Address(b"\x11" * 20)
OTHER = Address(b"\x12" * 20)
END = b"\x00\x0b\x0akoinon.end"
PLENTY = Gas(25_000_000)
CONTEXT = BlockContext(
    ChainId(1337), Height(7), UnixSeconds(1_000), Address(b"\x22" * 20), Hash32(b"\x33" * 32), Gas(10**9), Wei(0),
    lambda number: Hash32(number.to_bytes(32, "big")),
)  # fmt: skip


def module(text: str) -> bytes:
    """A deployable module from its text form."""
    return bytes(wat2wasm(text)) + END


def contract(body: str, imports: str = "", rest: str = "", memory: str = "1") -> bytes:
    """A module whose ``call`` has this body; ``imports`` are names and types, one to a line."""
    lines = [line.strip().partition(" ") for line in imports.strip().splitlines()]
    declared = " ".join(f'(import "koinon" "{name}" (func ${name} {kind}))' for name, _, kind in lines)
    return module(f'(module {declared} (memory (export "memory") {memory}) {rest} (func (export "call") {body}))')


@dataclass
class Ledger:
    """State and a way to change it; every call is a transaction of its own, in a block at Unix second ``now``."""

    state: dict[bytes, bytes] = field(
        default_factory=lambda: {
            account_key(who): encode_account(Account(0, Wei(10**24), EMPTY_CODE_HASH)) for who in (PERSON, OTHER)
        }
    )

    now: int = CONTEXT.timestamp

    def send(
        self,
        to: Address | None,
        data: bytes = b"",
        *,
        gas: int = PLENTY,
        value: int = 0,
        sender: Address = PERSON,
        tracer: Tracer | None = None,
    ) -> CallResult:
        """Run a call and keep what it changed."""
        journal = Journal(self.state)
        journal.begin_transaction(ENGINE.warm)
        context = replace(CONTEXT, timestamp=UnixSeconds(self.now))
        result = ENGINE.call_in(journal, Call(sender, to, Gas(gas), Wei(value), data, Wei(0)), context, tracer)
        journal.end_transaction()
        for key, entry in journal.difference().items():
            if entry is None:
                self.state.pop(key, None)
            else:
                self.state[key] = entry
        return result

    def deploy(self, data: bytes, *, gas: int = PLENTY, value: int = 0) -> Address:
        """Deploy creation data that must succeed."""
        address = created_address(PERSON, Journal(self.state).nonce(PERSON))
        result = self.send(None, data, gas=gas, value=value)
        assert result.succeeded, result.reason
        return address

    def balance(self, address: Address) -> int:
        return Journal(self.state).balance(address)

    def code(self, address: Address) -> bytes:
        return Journal(self.state).code(address)


def calldata(signature: str, *arguments: object) -> bytes:
    """Call data of the Solidity ABI."""
    types = signature[signature.index("(") + 1 : -1]
    return keccak256(signature.encode())[:4] + encode(types.split(",") if types else [], arguments)


def decoded(types: str, output: bytes) -> tuple[object, ...]:
    return tuple(decode(types.split(","), output))


def artefact(path: Path) -> bytes:
    """Creation code of a compiled contract."""
    return bytes.fromhex(json.loads(path.read_text())["bytecode"].removeprefix("0x"))
