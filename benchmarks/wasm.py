"""What a unit of gas costs in processor time, for everything a contract in WebAssembly can do.

Each case runs until a given amount of gas is used; the figure is nanoseconds of processor time per unit of gas, median
of ``--repeats``. Prices are made for 50, about what the EVM's arithmetic takes: a case far above that is too cheap.

    python benchmarks/wasm.py --json [--repeats 5] [--only NAME]
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from wasmtime import wat2wasm

from koinon.crypto import bls, bn254, elgamal, signature
from koinon.crypto.bn254 import GENERATOR
from koinon.crypto.hash import keccak256
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import ChainId, Gas, Height, UnixSeconds, Wei
from koinon.ledger.engine import network_engine
from koinon.ledger.evm.calls import created_address
from koinon.ledger.execution import BlockContext, Call, CallResult
from koinon.ledger.journal import Journal
from koinon.ledger.state import EMPTY_CODE_HASH, Account, account_key, encode_account

ROOT: Final = Path(__file__).resolve().parents[1]
END: Final = b"\x00\x0b\x0akoinon.end"
PERSON: Final = Address(b"\x11" * 20)
CONTEXT: Final = BlockContext(
    ChainId(1), Height(9), UnixSeconds(1), Address(bytes(20)), Hash32(bytes(32)), Gas(10**9), Wei(0), lambda _: None
)
ENGINE: Final = network_engine()
TOUCH: Final = """(local i32) (loop (i32.store (local.get 0) (i32.const 1))
    (br_if 0 (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 4096))) (i32.const 4190000))))"""
"""Makes the kernel give every page of 4 KiB of a whole memory."""


class Seeded:
    """The same bytes in every run."""

    def __init__(self) -> None:
        self._random = random.Random(7)

    def bytes(self, count: int, /) -> bytes:
        return self._random.randbytes(count)


class Ledger:
    """State in memory; ``send`` keeps what a call changed."""

    def __init__(self) -> None:
        self.state = {account_key(PERSON): encode_account(Account(0, Wei(10**24), EMPTY_CODE_HASH))}

    def send(self, to: Address | None, data: bytes, gas: int) -> CallResult:
        journal = Journal(self.state)
        journal.begin_transaction(ENGINE.warm)
        result = ENGINE.call_in(journal, Call(PERSON, to, Gas(gas), Wei(0), data, Wei(0)), CONTEXT)
        for key, entry in journal.difference().items():
            self.state[key] = entry or b""
        return result

    def deploy(self, code: bytes) -> Address:
        address = created_address(PERSON, Journal(self.state).nonce(PERSON))
        result = self.send(None, code, 100_000_000)
        assert result.succeeded, result.reason
        return address


def module(text: str) -> bytes:
    return bytes(wat2wasm(text)) + END


def looping(body: str, imports: str = "", rest: str = "", pages: int = 1) -> bytes:
    """A contract that copies its call data to memory at zero and repeats ``body`` until the gas is used up."""
    named = [line.strip().partition(" ") for line in imports.strip().splitlines()]
    declared = " ".join(f'(import "koinon" "{name}" (func ${name} {kind}))' for name, _, kind in named)
    return module(
        f"""(module {declared}
          (import "koinon" "call_data_copy" (func $data (param i32 i32 i32)))
          (import "koinon" "call_data_size" (func $size (result i32)))
          (memory (export "memory") {pages}) {rest}
          (func (export "call") (local i64 i64 i32 i32)
            (call $data (i32.const 0) (i32.const 0) (call $size))
            (local.set 0 (i64.const 0x7ffffffffffffff1)) (local.set 1 (i64.const 3))
            (loop $again {body} (br $again))))"""
    )


def host(name: str, kind: str, arguments: str) -> bytes:
    pointers = " ".join(argument if "(" in argument else f"(i32.const {argument})" for argument in arguments.split())
    call = f"(call ${name} {pointers})"
    return looping(f"(drop {call})" if "result" in kind else call, f"{name} {kind}")


def params(count: int, result: bool = True) -> str:
    return "(param" + " i32" * count + ")" + (" (result i32)" if result else "")


def instruction_cases() -> dict[str, tuple[bytes, bytes]]:
    drawn = "(i32.add (i32.mul (local.get 3) (i32.const 1664525)) (i32.const 1013904223))"
    step = f"(local.set 3 {drawn})"
    place = "(i32.and (i32.shr_u (local.get 3) (i32.const 8)) (i32.const 0x3ffff8))"
    rest = "(table 2 funcref) (elem (i32.const 0) $a $a) (func $a (param i64) (result i64) (local.get 0))"
    indirect = "(call_indirect (param i64) (result i64) (local.get 0) (i32.and (local.get 2) (i32.const 1)))"
    divide = "(local.set 0 (i64.or (i64.div_s (local.get 0) (local.get 1)) (i64.const 0x7ff0000000000000)))"
    chase = f"(local.set 3 (i32.and (i32.add (i32.load (local.get 3)) {drawn}) (i32.const 0x3ffff8)))"
    return {
        "add": (looping("(local.set 0 (i64.add (local.get 0) (local.get 1)))" * 16), b""),
        "divide": (looping(divide * 16), b""),
        "load": (looping((step + f"(local.set 0 (i64.load {place}))") * 16, pages=64), b""),
        "load_after_load": (looping(chase * 16, pages=64), b""),
        "store": (looping((step + f"(i64.store {place} (local.get 0))") * 16, pages=64), b""),
        "call": (looping("(local.set 0 (call $a (local.get 0)))" * 16, rest=rest), b""),
        "call_indirect": (looping(f"(local.set 0 {indirect})" * 16, rest=rest), b""),
        "memory_grow_refused": (looping("(drop (memory.grow (i32.const 64)))"), b""),
    }


def host_cases() -> dict[str, tuple[bytes, bytes]]:
    rng, key = Seeded(), bn254.multiply(GENERATOR, 77)
    point, other = bn254.encode_point(key), bn254.encode_point(bn254.multiply(GENERATOR, 2**200 + 9))
    scalar = (bn254.ORDER - 5).to_bytes(32)
    account, validator = signature.AccountKey.from_secret(b"\1" * 32), bls.BlsKey.from_seed(b"\2" * 32)
    digest = keccak256(b"")
    randomness = elgamal.random_scalar(rng)
    ballot = elgamal.encrypt(key, 1, randomness)
    proof = elgamal.prove_ballot(key, 1, randomness, bytes(32), rng)
    share, share_proof = elgamal.prove_share(77, ballot.first, bytes(32), rng)
    shares = point + bn254.encode_point(ballot.first) + bn254.encode_point(share) + bytes(32) + share_proof
    placed = ballot.encode() + b"".join(number.to_bytes(32) + point for number in (1, 2))
    vector = json.loads((ROOT / "tests" / "crypto" / "groth16_cubic.json").read_text())
    groth16_key, groth16_proof = bytes.fromhex(vector["key"]), bytes.fromhex(vector["proof"])
    size = len(groth16_key)
    second = groth16_key[64:192]
    key_bytes = validator.public_key
    return {
        "crossing": (host("height", "(result i64)", ""), b""),
        "call_data_copy_32": (looping("(call $data (i32.const 0) (i32.const 0) (i32.const 32))"), b""),
        "call_data_copy_64k": (looping("(call $data (i32.const 0) (i32.const 0) (i32.const 65536))"), b""),
        "storage_read_warm": (host("storage_read", params(2, False), "0 32"), b""),
        "storage_write_warm": (host("storage_write", params(2, False), "0 32"), b""),
        "log": (host("log", params(4, False), "0 32 32 4"), b""),
        "keccak256": (host("keccak256", params(3, False), "0 32 64"), b""),
        "keccak256_16k": (host("keccak256", params(3, False), "0 16384 0"), b""),
        "sha256_16k": (host("sha256", params(3, False), "0 16384 0"), b""),
        "blake3_16k": (host("blake3", params(3, False), "0 16384 0"), b""),
        "recover": (host("recover", params(3), "0 32 128"), digest + account.sign_digest(digest)),
        "bls_verify": (host("bls_verify", params(4), "0 48 32 80"), key_bytes + digest + validator.sign(digest)),
        "bn254_add": (host("bn254_add", params(3), "0 64 128"), point + other),
        "bn254_multiply": (host("bn254_multiply", params(3), "0 64 128"), point + scalar),
        "bn254_pairing_1": (host("bn254_pairing", params(2), "0 1"), point + second),
        "bn254_pairing_4": (host("bn254_pairing", params(2), "0 4"), (point + second) * 4),
        "elgamal_add": (host("elgamal_add", params(3), "0 128 256"), (point + other) * 2),
        "elgamal_scale": (host("elgamal_scale", params(3), "0 128 256"), point + other + scalar),
        "elgamal_ballot": (
            host("elgamal_ballot", params(4), "0 64 192 224"), point + ballot.encode() + bytes(32) + proof,
        ),
        "elgamal_share": (host("elgamal_share", params(5), "0 64 128 192 224"), shares),
        "elgamal_open_2": (host("elgamal_open", params(4), "0 128 2 512"), placed),
        "groth16_verify": (
            host("groth16_verify", params(5), f"0 {size} {size} {size + 256} 1"),
            groth16_key + groth16_proof + (35).to_bytes(32),
        ),
    }  # fmt: skip


def deployment_cases() -> dict[str, bytes]:
    """Modules made to compile slowly; deployed once each, so every repeat differs in a constant."""
    many = "".join(f"(func (param i64) (result i64) (i64.add (local.get 0) (i64.const {n})))" for n in range(1_900))
    sets = "".join(f"(local.set {n} (i64.add (local.get {n}) (local.get {n * 7 % 250})))" for n in range(250))
    values = "(local " + "i64 " * 250 + ")"
    loops = "(loop (br_if 0 (i32.wrap_i64 (local.get 0))))" * 2_000
    nested = "(loop " * 31 + sets + "(br_if 0 (i32.const 0)))" * 31
    return {
        "many_functions": many,
        "empty_functions": "(func)" * 2_040,
        "loops_over_locals": f"(func {values} {loops} {sets})",
        "nested_loops_over_locals": f"(func {values} {nested})",
        "indirect_calls": "(table 9 funcref) (func " + "(call_indirect (i32.const 1))" * 4_000 + ")",
        "divisions": "(func (local i64) " + "(local.set 0 (i64.div_s (local.get 0) (local.get 0)))" * 2_300 + ")",
        "host_calls": "(func " + "(call $h)" * 8_000 + ")",
    }


def per_gas(work: Callable[[], CallResult]) -> float:
    """Nanoseconds of processor time for each unit of gas."""
    begin = time.process_time()
    result = work()
    return (time.process_time() - begin) * 1e9 / result.gas_used


def measure(repeats: int, only: str | None) -> dict[str, float]:
    results: dict[str, float] = {}
    ledger = Ledger()

    def wanted(name: str) -> bool:
        return only is None or name == only

    for name, (code, data) in {**instruction_cases(), **host_cases()}.items():
        if wanted(name):
            address = ledger.deploy(code)
            ledger.send(address, data, 300_000)
            runs = [per_gas(lambda to=address, data=data: ledger.send(to, data, 4_000_000)) for _ in range(repeats)]
            results[f"{name}_ns_per_gas"] = round(statistics.median(runs), 1)
    for name, text in deployment_cases().items():
        if wanted(name):
            codes = [
                module(
                    f'(module (import "koinon" "height" (func $host (result i64))) (memory (export "memory") 1)'
                    f'(func $h (drop (i64.const {n}))) (func (export "call")) {text})'
                )
                for n in range(repeats)
            ]
            runs = [per_gas(lambda code=code: ledger.send(None, code, 200_000_000)) for code in codes]
            results[f"deploy_{name}_ns_per_gas"] = round(statistics.median(runs), 1)
    kind = "call (param i64 i32 i32 i32 i32) (result i32)"
    again = "(drop (call $call (i64.const 1000000) (i32.const 0) (i32.const 32) (i32.const 0) (i32.const 0)))"
    caller = ledger.deploy(looping(again, kind))
    for name, pages, body in (("entry", 1, ""), ("entry_touching_all_memory", 64, TOUCH)):
        if wanted(name):
            callee = ledger.deploy(module(f'(module (memory (export "memory") {pages}) (func (export "call") {body}))'))
            ledger.send(caller, callee, 300_000)
            runs = [per_gas(lambda data=callee: ledger.send(caller, data, 4_000_000)) for _ in range(repeats)]
            results[f"{name}_ns_per_gas"] = round(statistics.median(runs), 1)
    if wanted("token"):
        results |= token_transfer(ledger, repeats)
    return results


def token_transfer(ledger: Ledger, repeats: int) -> dict[str, float]:
    """A transfer of the example token, with the transaction's 21,000 gas."""
    artefact = json.loads((ROOT / "contracts" / "wasm" / "artifacts" / "Token.json").read_text())
    code = bytes.fromhex(artefact["bytecode"][2:])
    begin = time.process_time()
    token = ledger.deploy(code + (10**24).to_bytes(32))
    deployed = time.process_time() - begin
    data = keccak256(b"transfer(address,uint256)")[:4] + bytes(12) + b"\5" * 20 + (1).to_bytes(32)
    ledger.send(token, data, 1_000_000)
    runs, result = [], None
    for _ in range(repeats):
        begin = time.process_time()
        for _ in range(100):
            result = ledger.send(token, data, 1_000_000)
        runs.append((time.process_time() - begin) / 100)
    assert result is not None
    return {
        "token_deployment_ms": round(deployed * 1e3, 1),
        "token_transfer_us": round(statistics.median(runs) * 1e6, 1),
        "token_transfer_gas": result.gas_used,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each case (default 5)")
    parser.add_argument("--only", help="one case by name, such as divide or token")
    arguments = parser.parse_args()
    results = measure(arguments.repeats, arguments.only)
    print(json.dumps(results) if arguments.json else "\n".join(f"{name:44} {value}" for name, value in results.items()))


if __name__ == "__main__":
    main()
