"""One validator's processor: raw signed transactions in, final state on disk out; anvil on the same transfers beside.

    python benchmarks/ledger.py --json
    python benchmarks/ledger.py --only transfers,erc20 --repeats 5

Every figure is per second of processor time (user and system, all threads), because the machine may be shared: rates on
an idle core are that or better. ``transfers`` and ``erc20`` include reading, sender recovery, admission to the pool,
execution, the state's commitment, the write before voting and the durable final write (``benchmarks/ledger_work.py``);
voting and the network are not in them. ``recovery_share`` is what libsecp256k1 alone takes of it: the floor. Runs of
ours and of anvil take turns; figures are medians. ``sustained`` is four validators in four processes, voting and the
network included, with their load generator on the same cores (``benchmarks/sustained.py``); of its figures
``transfers_per_second`` alone is by the clock on the wall.
"""

import argparse
import http.client
import json
import os
import platform
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import psutil
from ledger_work import (
    CHAIN_ID,
    LOOP_CODE,
    Checked,
    Prepared,
    account,
    forget_senders,
    genesis,
    prepare,
    token_transfers,
    transfers,
)
from sustained import sustained

from koinon.crypto.hash import keccak256
from koinon.kernel.ids import ZERO_ADDRESS, Address, Hash32
from koinon.kernel.quantities import Gas, Height, UnixSeconds, Wei
from koinon.ledger.engine import network_engine
from koinon.ledger.execution import BlockContext, Call
from koinon.ledger.state import (
    EMPTY_CODE_HASH,
    Account,
    FinalState,
    Overlay,
    account_key,
    code_key,
    encode_account,
)
from koinon.ledger.transaction import read_transaction
from koinon.store.keyvalue import LmdbStore

ACCOUNTS: Final = 1_000
EACH: Final = 4
PER_BLOCK: Final = 1_000
MANY: Final = 1_000_000
LOOP_GAS: Final = 20_000_000
ANVIL_BATCH: Final = 100
WINDOW_SECONDS: Final = 8.0
SECTIONS: Final = ("transfers", "erc20", "anvil", "arithmetic", "accounts", "sustained")


def per_cpu_second(prepared: Prepared) -> float:
    """Transactions of one fresh validator for a second of processor time."""
    forget_senders()
    with tempfile.TemporaryDirectory() as folder:
        checked = Checked(prepared, Path(folder))
        try:
            cpu, _ = checked.run()
        finally:
            checked.close()
    return prepared.transactions / cpu


def recovery_seconds(prepared: Prepared) -> float:
    """Processor time that ``secp256k1_ecdsa_recover`` alone takes for one of the transactions."""
    from coincurve._libsecp256k1 import ffi, lib
    from coincurve.context import GLOBAL_CONTEXT

    context, key = GLOBAL_CONTEXT.ctx, ffi.new("secp256k1_pubkey *")
    work = []
    for raw in prepared.blocks[prepared.setup].transactions[:500]:
        read = read_transaction(raw)
        parsed = ffi.new("secp256k1_ecdsa_recoverable_signature *")
        lib.secp256k1_ecdsa_recoverable_signature_parse_compact(context, parsed, read.signature, read.parity)
        work.append((parsed, read.digest))
    begin = time.process_time()
    for parsed, digest in work:
        lib.secp256k1_ecdsa_recover(context, key, parsed, digest)
    return (time.process_time() - begin) / len(work)


def arithmetic() -> float:
    """Million gas of a loop of arithmetic for a second of processor time."""
    engine, code_hash, contract = network_engine(), keccak256(LOOP_CODE), Address(b"\x10" * 20)
    entries = {
        account_key(contract): encode_account(Account(1, Wei(0), code_hash)),
        code_key(code_hash): LOOP_CODE,
    }

    class State:
        def get(self, key: bytes, /) -> bytes | None:
            return entries.get(key)

    context = BlockContext(
        CHAIN_ID, Height(1), UnixSeconds(1), ZERO_ADDRESS, Hash32(bytes(32)), Gas(LOOP_GAS), Wei(0), lambda _: None
    )
    call = Call(ZERO_ADDRESS, contract, Gas(LOOP_GAS), Wei(0), b"", Wei(0))
    begin = time.process_time()
    result = engine.call(call, context, State())
    assert result.gas_used == LOOP_GAS, "the loop runs until its gas is used up"
    return LOOP_GAS / (time.process_time() - begin) / 1e6


def accounts_child(folder: Path) -> None:
    """Write a million accounts as a thousand blocks would, and print what they take."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    store = LmdbStore.open(folder, 16 << 30)
    state = FinalState(store, Height(0))
    begin = time.process_time()
    for block in range(MANY // 1_000):
        changes = {
            account_key(keccak256(b"%d" % (block * 1_000 + each))[12:]): encode_account(
                Account(each, Wei(10**18 + each), EMPTY_CODE_HASH)
            )
            for each in range(1_000)
        }
        state.write([(Height(block + 1), Overlay.over(state, state.accumulator, changes))], {}, ())
    spent = time.process_time() - begin
    store.close()
    size = sum(file.stat().st_blocks * 512 for file in folder.iterdir())
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {"file_mib": size / 2**20, "resident_mib": resident / 1024, "resident_before_mib": before / 1024}
    print(json.dumps({**{name: round(value, 1) for name, value in found.items()}, "cpu_seconds": round(spent, 1)}))


def many_accounts() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--child", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


# anvil


def anvil_program() -> Path | None:
    modules = Path(__file__).parent.parent / "contracts" / "node_modules"
    return next(iter(sorted(modules.glob("@foundry-rs/anvil-*/bin/anvil*"))), None)


def _connected(port: int) -> http.client.HTTPConnection:
    for _ in range(600):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        try:
            connection.connect()
        except OSError:
            time.sleep(0.1)
            continue
        return connection
    raise SystemExit("anvil does not answer")


def anvil_per_cpu_second(prepared: Prepared) -> float:
    """Of the same transfers, offered in batches of 100 and mined at the end, what anvil does."""
    program = anvil_program()
    assert program is not None, "the section is left out without the npm packages"
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    command = [
        str(program), "--silent", "--host", "127.0.0.1", "--port", str(port), "--chain-id", str(CHAIN_ID),
        "--no-mining", "--gas-limit", "1000000000", "--accounts", "1",
    ]  # fmt: skip
    with subprocess.Popen(command) as process:
        try:
            connection = _connected(port)

            def ask(requests: list[tuple[str, list[Any]]]) -> list[Any]:
                body = [
                    {"jsonrpc": "2.0", "id": number, "method": method, "params": parameters}
                    for number, (method, parameters) in enumerate(requests)
                ]
                connection.request("POST", "/", json.dumps(body), {"Content-Type": "application/json"})
                answers = json.loads(connection.getresponse().read())
                wrong = [answer["error"] for answer in answers if "error" in answer]
                if wrong:
                    raise SystemExit(f"anvil refused: {wrong[0]}")
                return [answer["result"] for answer in answers]

            addresses = ["0x" + account(number).address.hex() for number in range(ACCOUNTS)]
            ask([("anvil_setBalance", [address, hex(10**24)]) for address in addresses])
            raws = ["0x" + raw.hex() for block in prepared.blocks for raw in block.transactions]
            seen = psutil.Process(process.pid)
            before = sum(seen.cpu_times()[:2])
            for start in range(0, len(raws), ANVIL_BATCH):
                ask([("eth_sendRawTransaction", [raw]) for raw in raws[start : start + ANVIL_BATCH]])
            ask([("evm_mine", [])])
            counts = ask([("eth_getTransactionCount", [address, "latest"]) for address in addresses])
            if sum(int(count, 16) for count in counts) != len(raws):
                raise SystemExit("anvil did not mine all of them")
            return len(raws) / (sum(seen.cpu_times()[:2]) - before)
        finally:
            process.terminate()


def measured(sections: set[str], repeats: int) -> dict[str, Any]:
    results: dict[str, Any] = {
        "machine": f"{os.cpu_count()} CPUs, {platform.machine()}, Python {platform.python_version()}",
        "load_at_start": round(os.getloadavg()[0], 1),
        "repeats": repeats,
    }
    turns: dict[str, Callable[[], float]] = {}
    if sections & {"transfers", "anvil"}:
        plain = prepare(genesis(ACCOUNTS), [], transfers(ACCOUNTS, EACH), PER_BLOCK)
        turns["recovery_floor_us"] = lambda: recovery_seconds(plain) * 1e6
    if "transfers" in sections:
        turns["transfers_per_cpu_second"] = lambda: per_cpu_second(plain)
    if "anvil" in sections and anvil_program() is not None:
        turns["anvil_transfers_per_cpu_second"] = lambda: anvil_per_cpu_second(plain)
    if "erc20" in sections:
        token = prepare(genesis(ACCOUNTS), *token_transfers(ACCOUNTS, EACH), PER_BLOCK)
        turns["erc20_transfers_per_cpu_second"] = lambda: per_cpu_second(token)
    if "arithmetic" in sections:
        turns["arithmetic_mgas_per_cpu_second"] = arithmetic
    values: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(repeats):
        for name, turn in turns.items():
            values[name].append(turn())
    results.update({name: round(statistics.median(found), 1) for name, found in values.items()})
    if "transfers" in sections:
        share = results["recovery_floor_us"] * results["transfers_per_cpu_second"] / 1e6
        results["recovery_share_of_transfers"] = round(share, 3)
    if "accounts" in sections:
        results["million_accounts"] = many_accounts()
    if "sustained" in sections:
        results["sustained"] = sustained(repeats, WINDOW_SECONDS)
    results["load_at_end"] = round(os.getloadavg()[0], 1)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"some of {', '.join(SECTIONS)}")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        accounts_child(options.child)
        return
    results = measured(set(options.only.split(",")), options.repeats)
    if options.json:
        print(json.dumps(results))
    else:
        for name, value in results.items():
            print(f"{name:36} {value}")


if __name__ == "__main__":
    main()
