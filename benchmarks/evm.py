"""The EVM alone, in CPU time: transfers, loops, calls, compilation, and what gas buys in each precompile.

    python benchmarks/evm.py [--json] [--runs N]

Every figure is the median of N runs of process CPU time, in one thread; a run takes long enough for the clock. Blocks
hold transactions whose senders are known: neither signatures nor storage on disk are part of it.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from koinon.crypto.hash import keccak256
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import ChainId, Gas, Height, UnixSeconds, Wei
from koinon.ledger.evm.engine import EvmEngine
from koinon.ledger.evm.precompiles import bls12_381_precompiles
from koinon.ledger.evm.program import ProgramCache
from koinon.ledger.execution import BlockContext, Call
from koinon.ledger.precompile import Precompile
from koinon.ledger.state import EMPTY_CODE_HASH, Account, account_key, code_key, encode_account, slot_key
from koinon.ledger.transaction import Transaction

TOKEN = Address(b"\x70" * 20)
SENDER = Address(b"\xaa" * 20)
CONTEXT = BlockContext(
    ChainId(1),
    Height(1),
    UnixSeconds(1_000),
    Address(b"\xcc" * 20),
    Hash32(bytes(32)),
    Gas(2**40),
    Wei(7),
    lambda _: None,
)


class View:
    """A state view over a dictionary."""

    def __init__(self, content: dict[bytes, bytes]) -> None:
        self.content = content

    def get(self, key: bytes, /) -> bytes | None:
        return self.content.get(key)


def transaction(nonce: int, to: Address, data: bytes = b"", gas: int = 100_000) -> Transaction:
    """A transaction of the sender, as if its signature had been recovered."""
    return Transaction(
        b"", Hash32(nonce.to_bytes(32)), SENDER, 2, ChainId(1), nonce, Wei(1), Wei(100), Gas(gas), to,
        Wei(0 if data else 1), data, (), 0, 0, 0,
    )  # fmt: skip


def account(balance: int = 0, code: bytes = b"") -> bytes:
    code_hash = keccak256(code) if code else EMPTY_CODE_HASH
    return encode_account(Account(1 if code else 0, Wei(balance), code_hash))


def cpu(run: Callable[[], object]) -> float:
    """Seconds of CPU that one run takes."""
    started = time.process_time()
    run()
    return time.process_time() - started


def median(runs: int, run: Callable[[], object]) -> float:
    return statistics.median(cpu(run) for _ in range(runs))


def token_state() -> dict[bytes, bytes]:
    """The suite's token (OpenZeppelin ERC-20), deployed by its own creation code, all of it the sender's."""
    path = Path(__file__).resolve().parents[1] / "src/koinon/contracts/artifacts/Token.json"
    artefact = json.loads(path.read_text())
    code = bytes.fromhex(artefact["runtime"].removeprefix("0x"))
    balance = keccak256(bytes(12) + SENDER + bytes(32))
    return {
        account_key(SENDER): account(10**24),
        account_key(TOKEN): account(code=code),
        code_key(keccak256(code)): code,
        slot_key(TOKEN, int.from_bytes(balance)): (10**24).to_bytes(10),
    }


def transfers(engine: EvmEngine, count: int) -> Callable[[], object]:
    view = View({account_key(SENDER): account(10**24)})
    batch = [transaction(number, Address((10**6 + number).to_bytes(20)), gas=21_000) for number in range(count)]
    return lambda: _apply(engine, view, batch)


def token_transfers(engine: EvmEngine, count: int) -> Callable[[], object]:
    view = View(token_state())
    batch = [
        transaction(number, TOKEN, bytes.fromhex("a9059cbb") + (10**6 + number).to_bytes(32) + (1).to_bytes(32))
        for number in range(count)
    ]
    return lambda: _apply(engine, view, batch)


def _apply(engine: EvmEngine, view: View, batch: list[Transaction]) -> None:
    block = engine.begin(CONTEXT, view)
    receipts = [block.apply(one) for one in batch]
    assert all(receipt.status for receipt in receipts), "every transaction of the benchmark succeeds"
    block.difference()


def call(engine: EvmEngine, code: bytes, gas: int = 10**9) -> Callable[[], int]:
    view = View({account_key(TOKEN): account(code=code), code_key(keccak256(code)): code})

    def run() -> int:
        result = engine.call(Call(SENDER, TOKEN, Gas(gas), Wei(0), b"", Wei(0)), CONTEXT, view)
        assert result.succeeded, result.reason
        return result.gas_used

    return run


def megagas(runs: int, run: Callable[[], int]) -> float:
    run()
    gas = run()
    return round(gas / median(runs, run) / 1e6, 1)


def compilation(runs: int) -> dict[str, float]:
    """Microseconds for each instruction: interpreting it once, decoding included and not, and compiling it."""
    body = bytes.fromhex("600160020160031860041b50") * 30
    code = body + b"\x00"
    count = 30 * 8 + 1
    view = View({account_key(TOKEN): account(code=code), code_key(keccak256(code)): code})
    request = Call(SENDER, TOKEN, Gas(10**6), Wei(0), b"", Wei(0))

    def first(hot: int) -> float:
        engine = EvmEngine(programs=ProgramCache(hot=hot))
        return cpu(lambda: engine.call(request, CONTEXT, view))

    warm = EvmEngine(programs=ProgramCache(hot=sys.maxsize))
    interpreted = median(runs, lambda: [warm.call(request, CONTEXT, view) for _ in range(100)]) / 100
    return {
        "interpret": round(interpreted / count * 1e6, 2),
        "decode_and_interpret": round(statistics.median(first(sys.maxsize) for _ in range(runs)) / count * 1e6, 2),
        "compile_and_run": round(statistics.median(first(0) for _ in range(runs)) / count * 1e6, 2),
    }


def _precompile_inputs() -> dict[str, tuple[int, bytes]]:
    """A costly input for each, by name, with its address."""
    one = (1).to_bytes(32) + (2).to_bytes(32)
    g2 = bytes.fromhex(
        "198e9393920d483a7260bfb731fb5d25f1aa493335a9e71297e485b7aef312c21800deef121f1e76426a00665e5c4479674322d4f75edadd46debd5cd992f6ed"
        "090689d0585ff075ec9e99ad690c3395bc4b313370b38ef355acdadcd122975b12c85ea5db8c6deb4aab71808dcb408fe3d1e7690c43d37b4ce6cc0166fa7daa"
    )
    g1 = (
        bytes(16)
        + bytes.fromhex(
            "17f1d3a73197d7942695638c4fa9ac0fc3688c4f9774b905a14e3a3f171bac586c55e83ff97a1aeffb3af00adb22c6bb"
        )
        + bytes(16)
        + bytes.fromhex(
            "08b3f481e3aaa0f1a09e30ed741d8ae4fcf5e095d5d00af600db18cb2c04b3edd03cc744a2888ae40caa232946c5e7e1"
        )
    )
    g2_bls = b"".join(
        bytes(16) + bytes.fromhex(part)
        for part in (
            "024aa2b2f08f0a91260805272dc51051c6e47ad4fa403b02b4510b647ae3d1770bac0326a805bbefd48056c8c121bdb8",
            "13e02b6052719f607dacd3a088274f65596bd0d09920b61ab5da61bbdc7f5049334cf11213945d57e5ac7d055d042b7e",
            "0ce5d527727d6e118cc9cdc6da2e351aadfd9baa8cbdd3a76d429a695160d12c923ac9cc3baca289e193548608b82801",
            "0606c4a02ea734cc32acd2b02bc28b99cb3e287e85a763af267492ab572e99ab3f370d275cec1da1aaa9075ff05f79be",
        )
    )
    large = (2**2048 - 1).to_bytes(256)
    scalar = b"\xff" * 32
    sizes = b"".join(size.to_bytes(32) for size in (256, 256, 256))
    small = b"".join(size.to_bytes(32) for size in (32, 32, 32))
    element = bytes(16) + (12345).to_bytes(48)
    return {
        "ecrecover": (1, keccak256(b"") + (27).to_bytes(32) + (2).to_bytes(32) + (3).to_bytes(32)),
        "sha256": (2, bytes(32_000)),
        "ripemd160": (3, bytes(32_000)),
        "identity": (4, bytes(32_000)),
        "modexp_2048": (5, sizes + large + large + large[:-1] + b"\xfd"),
        "modexp_256": (5, small + scalar + scalar + scalar[:-1] + b"\xfd"),
        "bn254_add": (6, one + bytes.fromhex(
            "030644e72e131a029b85045b68181585d97816a916871ca8d3c208c16d87cfd315ed738c0e0a7c92e7845f96b2ae9c0a68a6a449e3538fc7ff3ebf7a5a18a2c4"
        )),
        "bn254_multiply": (7, one + scalar),
        "bn254_pairing_2": (8, (one + g2) * 2),
        "blake2f": (9, (100_000).to_bytes(4) + bytes(208) + b"\1"),
        "point_evaluation": (10, _point_evaluation()),
        "bls_g1_add": (11, g1 + g1),
        "bls_g1_msm_1": (12, g1 + scalar),
        "bls_g1_msm_16": (12, (g1 + scalar) * 16),
        "bls_g2_add": (13, g2_bls + g2_bls),
        "bls_g2_msm_1": (14, g2_bls + scalar),
        "bls_pairing_2": (15, (g1 + g2_bls) * 2),
        "bls_map_g1": (16, element),
        "bls_map_g2": (17, element * 2),
    }  # fmt: skip


def _point_evaluation() -> bytes:
    """The constant polynomial 0: commitment and proof are infinity, its value is 0 everywhere."""
    import hashlib

    infinity = b"\xc0" + bytes(47)
    return b"\1" + hashlib.sha256(infinity).digest()[1:] + (5).to_bytes(32) + bytes(32) + infinity * 2


def precompiles(runs: int) -> dict[str, dict[str, float]]:
    """Microseconds and Mgas for each second of CPU."""
    engine = EvmEngine(bls12_381_precompiles())
    figures = {}
    for name, (number, data) in _precompile_inputs().items():
        precompile: Precompile = engine.precompiles[Address(number.to_bytes(20))]
        gas = precompile.gas(data)
        precompile.run(data)
        count = max(int(0.02 / max(cpu(lambda: precompile.run(data)), 1e-6)), 1)  # noqa: B023
        seconds = median(runs, lambda: [precompile.run(data) for _ in range(count)]) / count  # noqa: B023
        figures[name] = {"microseconds": round(seconds * 1e6, 1), "mgas_per_second": round(gas / seconds / 1e6, 1)}
    return figures


def measure(runs: int) -> dict[str, Any]:
    """All figures."""
    engine = EvmEngine()
    plain, token = transfers(engine, 2_000), token_transfers(engine, 500)
    plain()
    token()
    loop = bytes.fromhex("620186a05b808002600701600318506001900380600457" + "00")
    calls = bytes.fromhex("6103e85b5f5f5f5f60045afa50600190038060035700")
    return {
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "runs": runs,
        "transfer_microseconds": round(median(runs, plain) / 2_000 * 1e6, 2),
        "erc20_transfer_microseconds": round(median(runs, token) / 500 * 1e6, 1),
        "loop_mgas_per_second": megagas(runs, call(engine, loop)),
        "loop_interpreted_mgas_per_second": megagas(
            runs, call(EvmEngine(programs=ProgramCache(hot=sys.maxsize)), loop)
        ),
        "calls_mgas_per_second": megagas(runs, call(engine, calls)),
        "microseconds_per_instruction": compilation(runs),
        "precompiles": precompiles(runs),
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    figures = measure(options.runs)
    if options.json:
        print(json.dumps(figures))
        return
    for name, figure in figures.items():
        print(f"{name}: {figure}")


if __name__ == "__main__":
    main()
