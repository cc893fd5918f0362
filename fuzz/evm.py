"""Random transactions on random states, ours against Ethereum's executable specification: gas, status, state, logs.

    python fuzz/evm.py --oracle .venv-oracle/bin/python [--seed N] [--trials N] [--json]

``make oracle`` sets up the environment that ``--oracle`` names. Transactions are signed and of every type: legacy with
and without EIP-155, with access list, with fee market, with blobs; both sides read them from the same bytes. Code is
random but meant to do something: instructions find operands, memory stays small, jumps mostly go to a JUMPDEST, calls
mostly to an account that is there. Every case runs interpreted, compiled, and as a node would. A difference is shrunk
and printed as a case; exit code 1.
"""

import argparse
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from koinon.crypto.hash import keccak256
from koinon.crypto.signature import AccountKey
from koinon.kernel.errors import Forged, MalformedMessage, Refused
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import ChainId, Gas, Height, UnixSeconds, Wei
from koinon.ledger import rlp
from koinon.ledger.evm.engine import EvmEngine
from koinon.ledger.evm.opcodes import OPCODES
from koinon.ledger.evm.program import ProgramCache
from koinon.ledger.evm.transition import blob_base_fee
from koinon.ledger.execution import BlockContext
from koinon.ledger.state import (
    EMPTY_CODE_HASH,
    Account,
    account_key,
    code_key,
    decode_account,
    encode_account,
    slot_key,
)
from koinon.ledger.transaction import parse_transaction

KEY = AccountKey.from_secret(b"\x33" * 32)
SENDER = KEY.address
CONTRACTS = [bytes([number]) * 20 for number in (0x11, 0x12, 0x13)]
COINBASE = b"\xcc" * 20
# Point evaluation is held to the official vectors and to py_ecc.
PRECOMPILES = [number.to_bytes(20, "big") for number in range(1, 10)]
BASE_FEE = 10
KINDS = ["legacy", "unprotected", "access list", "fee market", "blob"]

Case = dict[str, Any]


# Cases

_WORDS = st.one_of(
    st.integers(0, 40),
    st.sampled_from([2**256 - 1, 2**255, 2**255 - 1, 2**128, 2**64, 2**32, 1000, 255, 256, 31, 32, 33]),
    st.integers(0, 2**256 - 1),
)
_SMALL = st.sampled_from([0, 0, 1, 31, 32, 33, 64, 100, 500])
_SLOTS = st.integers(0, 3)
_ACCOUNTS = st.sampled_from([*CONTRACTS, *CONTRACTS, SENDER, COINBASE, b"\x77" * 20, *PRECOMPILES])
_ADDRESSES = _ACCOUNTS.map(lambda address: int.from_bytes(address, "big"))
_CALL_GAS = st.sampled_from([0, 700, 3_000, 30_000, 2**40])
_MEMORY = {"MLOAD", "MSTORE", "MSTORE8", "KECCAK256", "RETURN", "REVERT", "CALLDATACOPY", "CODECOPY", "RETURNDATACOPY",
           "MCOPY", "LOG0", "LOG1", "LOG2", "LOG3", "LOG4", "CREATE", "CREATE2", "EXTCODECOPY"}  # fmt: skip
_ADDRESSED = {"BALANCE", "EXTCODESIZE", "EXTCODECOPY", "EXTCODEHASH", "SELFDESTRUCT"}
_CALLS = {"CALL", "CALLCODE", "DELEGATECALL", "STATICCALL"}
_PLAIN = [opcode for opcode in OPCODES if "raise" not in opcode.effect and not 0x60 <= opcode.number <= 0x7F]


def push(value: int) -> bytes:
    """The shortest PUSH of a number."""
    size = max((value.bit_length() + 7) // 8, 1)
    return bytes([0x5F + size]) + value.to_bytes(size, "big")


def _operand(name: str, place: int) -> st.SearchStrategy[int]:
    """What an instruction finds at a place of the stack, 0 the top."""
    if name in _CALLS:
        wide = name in ("CALL", "CALLCODE")
        choices = [
            _CALL_GAS,
            _ADDRESSES,
            *([st.sampled_from([0, 0, 1, 7])] if wide else []),
            _SMALL,
            _SMALL,
            _SMALL,
            _SMALL,
        ]
        return choices[place]
    if name in _ADDRESSED and place == 0:
        return _ADDRESSES
    if name in ("SLOAD", "SSTORE", "TLOAD", "TSTORE") and place == 0:
        return _SLOTS
    if name == "SSTORE":
        return st.integers(0, 2)
    if name in ("CREATE", "CREATE2") and place == 0:
        return st.sampled_from([0, 0, 1])
    return _SMALL if name in _MEMORY else _WORDS


@st.composite
def _instruction(draw: st.DrawFn) -> bytes:
    """An instruction, mostly with its operands before it; a result is mostly kept, in memory or in a slot."""
    opcode = draw(st.sampled_from(_PLAIN))
    if opcode.name in ("JUMP", "JUMPI", "STOP", "RETURN", "REVERT", "SELFDESTRUCT") and draw(st.integers(0, 5)):
        return b"\x5b"
    body = bytes([opcode.number])
    if opcode.pops and draw(st.integers(0, 9)):
        body = b"".join(push(draw(_operand(opcode.name, place))) for place in reversed(range(opcode.pops))) + body
    if opcode.pushes and draw(st.booleans()):
        body += push(draw(_SLOTS)) + b"\x55" if draw(st.booleans()) else push(draw(_SMALL)) + b"\x52"
    return body


@st.composite
def _code(draw: st.DrawFn) -> bytes:
    parts = draw(st.lists(_instruction(), min_size=1, max_size=14))
    code = b""
    for part in parts:
        if draw(st.integers(0, 7)) == 0:
            # Forward over a piece of the code, if a condition holds; backward jumps end by running out of gas.
            code += push(draw(_SMALL)) + b"\x61" + (len(code) + 5 + len(part) + 8).to_bytes(2, "big") + b"\x57"
        code += part + b"\x5b"
    if draw(st.integers(0, 3)) == 0:
        code += bytes.fromhex("60206000f3")
    return code


@st.composite
def _looped(draw: st.DrawFn) -> bytes:
    """A body run some times, so that it becomes hot: the count is kept at the end of memory."""
    body = draw(_code())
    count = draw(st.integers(2, 100))
    head = push(count) + bytes.fromhex("610400525b")
    tail = bytes.fromhex("6001610400510380610400526100") + bytes([len(head) - 1]) + b"\x57"
    return head + body + tail


_BLOB = b"\1" + b"\x55" * 31
_BLOBS = st.sampled_from([[_BLOB]] * 4 + [[_BLOB] * 2, [_BLOB] * 6, [_BLOB] * 7, [], [_BLOB, bytes(32)]])
"""Hashes of blobs: mostly as many as a block takes; sometimes none, one too many, or one of another version."""
_CODES = st.one_of(_code(), _code(), _looped())


@st.composite
def cases(draw: st.DrawFn, kind: str) -> Case:
    """A state of three contracts and a sender, and a transaction of one of ``KINDS``."""
    pre = {
        contract.hex(): {
            "nonce": "1",
            "balance": f"{draw(st.integers(0, 5)):x}",
            "code": draw(_CODES).hex(),
            "storage": {f"{slot:x}": f"{draw(st.integers(1, 2)):x}" for slot in draw(st.sets(_SLOTS))},
        }
        for contract in CONTRACTS
    }
    pre[SENDER.hex()] = {"nonce": "0", "balance": f"{10**18:x}", "code": "", "storage": {}}
    to = draw(st.sampled_from([CONTRACTS[0], CONTRACTS[0], CONTRACTS[0], b"", PRECOMPILES[3]]))
    lists = st.lists(st.tuples(_ACCOUNTS.map(bytes.hex), st.lists(_SLOTS.map(hex), max_size=2)), max_size=2)
    return {
        "pre": pre,
        "block": {
            "coinbase": COINBASE.hex(), "number": "7", "base_fee": f"{BASE_FEE:x}", "time": "3e8", "mix": "5",
            "excess_blob_gas": f"{draw(st.sampled_from([0, 0, 5_000_000, 30_000_000])):x}",
        },
        "transaction": {
            "kind": kind,
            "nonce": f"{draw(st.sampled_from([0] * 19 + [1])):x}",
            "to": to.hex(),
            "gas": f"{draw(st.sampled_from([21_000, 30_000, 60_000, 100_000, 250_000, 250_000])):x}",
            "fee": f"{draw(st.sampled_from([BASE_FEE, 20, 20, 5])):x}",
            "tip": f"{draw(st.sampled_from([0, 1, 5])):x}",
            "value": f"{draw(st.sampled_from([0, 0, 1, 10**18])):x}",
            "data": (draw(_CODES) if not to else draw(st.binary(max_size=70))).hex(),
            "access_list": draw(lists),
            "blob_fee": f"{draw(st.sampled_from([10**6, 10**6, 10**6, 1])):x}",
            "blobs": [blob.hex() for blob in draw(_BLOBS)],
        },
    }  # fmt: skip


def raw_transaction(fields: Mapping[str, Any]) -> bytes:
    """The transaction signed by ``KEY``, as it travels (EIP-155, 2718, 2930, 1559, 4844)."""
    kind = fields["kind"]
    fee = int(fields["fee"], 16)
    content: list[Any] = [
        int(fields["gas"], 16), bytes.fromhex(fields["to"]), int(fields["value"], 16), bytes.fromhex(fields["data"])
    ]  # fmt: skip
    nonce = int(fields["nonce"], 16)
    if kind in ("legacy", "unprotected"):
        content = [nonce, fee, *content]
        protection = [1, 0, 0] if kind == "legacy" else []
        r, s, parity = _signature(rlp.encode([*content, *protection]))
        return rlp.encode([*content, parity + (37 if protection else 27), r, s])
    number = KINDS.index(kind) - 1
    fees = [fee] if number == 1 else [int(fields["tip"], 16), fee]
    accesses = [
        [bytes.fromhex(to), [int(slot, 16).to_bytes(32, "big") for slot in slots]]
        for to, slots in fields["access_list"]
    ]
    content = [1, nonce, *fees, *content, accesses]
    if number == 3:
        content += [int(fields["blob_fee"], 16), [bytes.fromhex(blob) for blob in fields["blobs"]]]
    r, s, parity = _signature(bytes([number]) + rlp.encode(content))
    return bytes([number]) + rlp.encode([*content, parity, r, s])


def _signature(signed: bytes) -> tuple[int, int, int]:
    """r, s and the parity."""
    made = KEY.sign_digest(keccak256(signed))
    return int.from_bytes(made[:32], "big"), int.from_bytes(made[32:64], "big"), made[64] - 27


# Ours


class _View:
    def __init__(self, content: Mapping[bytes, bytes]) -> None:
        self.content = dict(content)

    def get(self, key: bytes, /) -> bytes | None:
        return self.content.get(key)


def _state(pre: Mapping[str, Any]) -> dict[bytes, bytes]:
    content: dict[bytes, bytes] = {}
    for text, account in pre.items():
        address, code = bytes.fromhex(text), bytes.fromhex(account["code"])
        code_hash = keccak256(code) if code else EMPTY_CODE_HASH
        content[account_key(address)] = encode_account(
            Account(int(account["nonce"], 16), Wei(int(account["balance"], 16)), code_hash)
        )
        if code:
            content[code_key(code_hash)] = code
        for slot, value in account["storage"].items():
            content[slot_key(address, int(slot, 16))] = bytes([int(value, 16)])
    return content


def _dump(content: Mapping[bytes, bytes]) -> dict[str, Any]:
    post: dict[str, Any] = {}
    for key, entry in content.items():
        if key[:1] == b"a":
            account = decode_account(entry)
            code = content.get(code_key(account.code_hash), b"")
            post.setdefault(key[1:].hex(), {"storage": {}}).update(
                nonce=f"{account.nonce:x}", balance=f"{account.balance:x}", code=code.hex()
            )
        elif key[:1] == b"s":
            slots = post.setdefault(key[1:21].hex(), {"storage": {}})["storage"]
            slots[f"{int.from_bytes(key[21:], 'big'):x}"] = f"{int.from_bytes(entry, 'big'):x}"
    return post


def _block_hash(height: int) -> Hash32:
    """The oracle's hashes of earlier blocks."""
    return Hash32(bytes([height]) * 32)


def ours(case: Case, engine: EvmEngine) -> dict[str, Any]:
    """What our engine makes of a case, in the oracle's terms."""
    block = case["block"]
    context = BlockContext(
        ChainId(1), Height(int(block["number"], 16)), UnixSeconds(int(block["time"], 16)),
        Address(bytes.fromhex(block["coinbase"])), Hash32(int(block["mix"], 16).to_bytes(32, "big")), Gas(30_000_000),
        Wei(int(block["base_fee"], 16)), _block_hash, blob_base_fee(int(block["excess_blob_gas"], 16)),
    )  # fmt: skip
    content = _state(case["pre"])
    execution = engine.begin(context, _View(content))
    try:
        receipt = execution.apply(parse_transaction(bytes.fromhex(case["raw"])))
    except (Refused, MalformedMessage, Forged) as refusal:
        return {"refused": str(refusal)}
    for key, value in execution.difference().items():
        if value is None:
            del content[key]
        else:
            content[key] = value
    return {
        "status": receipt.status,
        "logs": [[log.address.hex(), [topic.hex() for topic in log.topics], log.data.hex()] for log in receipt.logs],
        "gas": f"{receipt.gas_used:x}",
        "post": _dump(content),
    }


# Both


@dataclass
class Oracle:
    """The specification's process."""

    process: subprocess.Popen[str]

    @classmethod
    def start(cls, python: str) -> Self:
        script = Path(__file__).with_name("evm_oracle.py")
        return cls(subprocess.Popen([python, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))

    def answer(self, case: Case) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(case) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the oracle died on {json.dumps(case)}"
        told: dict[str, Any] = json.loads(line)
        return told

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


@dataclass
class Tally:
    """What the cases came to: a fuzzer all of whose cases fail finds nothing.

    Attributes:
        kinds: of each type of transaction, how many were executed.
    """

    cases: int = 0
    succeeded: int = 0
    failed: int = 0
    refused: int = 0
    kinds: Counter[str] = field(default_factory=Counter)


def fuzz(oracle: Oracle, first: int, trials: int) -> Tally:
    """Compare ``trials`` cases, as many of every type of transaction.

    Raises:
        AssertionError: the engines differ; the case is shrunk and stands in the message.
    """
    engines = {"interpreted": EvmEngine(programs=ProgramCache(hot=10**9)),
               "compiled": EvmEngine(programs=ProgramCache(hot=0)), "mixed": EvmEngine()}  # fmt: skip
    tally = Tally()

    def compare(drawn: Case) -> None:
        case = {**drawn, "raw": raw_transaction(drawn["transaction"]).hex()}
        expected = oracle.answer(case)
        tally.cases += 1
        tally.refused += "refused" in expected
        tally.succeeded += expected.get("status") == 1
        tally.failed += expected.get("status") == 0
        tally.kinds[case["transaction"]["kind"]] += "refused" not in expected
        for name, engine in engines.items():
            found = ours(case, engine)
            same = ("refused" in found) == ("refused" in expected) if "refused" in expected else found == expected
            assert same, f"{name} differs on {json.dumps(case)}\nfound    {found}\nexpected {expected}"

    some = settings(
        max_examples=-(-trials // len(KINDS)), deadline=None, database=None, phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    # One series for each type: a single one would hardly leave the type that it began with.
    for kind in KINDS:
        seed(first)(some(given(cases(kind))(compare)))()
    return tally


def command(documentation: str | None, trials: int, compare: Callable[[Oracle, int, int], object]) -> int:
    """A command that compares something with the specification; returns the exit code.

    Args:
        trials: how many where the command line does not say.
        compare: takes the specification, the seed and the number of trials; gives a tally that JSON can hold.
    """
    parser = argparse.ArgumentParser(description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--oracle", required=True, help="Python of the environment that has ethereum-execution")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--trials", type=int, default=trials)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    oracle = Oracle.start(options.oracle)
    try:
        tally = compare(oracle, options.seed, options.trials)
    except AssertionError as difference:
        print(difference, file=sys.stderr)
        return 1
    finally:
        oracle.close()
    print(json.dumps(tally) if options.json else f"{tally}: no difference")
    return 0


if __name__ == "__main__":
    sys.exit(command(__doc__, 200, lambda oracle, first, trials: vars(fuzz(oracle, first, trials))))
