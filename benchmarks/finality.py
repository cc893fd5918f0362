"""Four validators in four processes on loopback: time to finality, throughput, and what idling costs.

    python benchmarks/finality.py --json

Latency runs from sending a transaction to one validator's RPC until that validator holds it as final, one transaction
at a time. Throughput offers plain transfers from several accounts at a fixed rate. Idle is processor time of all four
while nothing is sent.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import httpx
import psutil

from koinon.crypto.bls import BlsKey
from koinon.crypto.hash import keccak256
from koinon.crypto.signature import AccountKey, NodeKey
from koinon.kernel.codec import decode, encode
from koinon.kernel.ids import Address
from koinon.kernel.quantities import ChainId, UnixSeconds, Wei
from koinon.ledger import rlp
from koinon.ledger.genesis import Genesis, GenesisValidator, funded
from koinon.ledger.validator import Validator, ValidatorConfig
from koinon.net.transport import Transport

VALIDATORS: Final = 4
CHAIN_ID: Final = ChainId(31337)
SENDERS: Final = 20
STRANGER: Final = Address(bytes(19) + b"\x99")
FEE: Final = 10**9
FIRST_PORT: Final = 24_600


def account(number: int) -> AccountKey:
    return AccountKey.from_secret((number + 1).to_bytes(32, "big"))


def transfer(key: AccountKey, nonce: int) -> bytes:
    """A signed type-2 transfer of one wei."""
    fields: list[Any] = [CHAIN_ID, nonce, 0, FEE, 21_000, STRANGER, 1, b"", []]
    signature = key.sign_digest(keccak256(b"\x02" + rlp.encode(fields)))
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    return b"\x02" + rlp.encode([*fields, signature[64] - 27, r, s])


def keys(number: int) -> tuple[NodeKey, BlsKey]:
    seed = bytes([number + 1]) * 32
    return NodeKey.from_seed(seed), BlsKey.from_seed(seed)


def genesis() -> Genesis:
    members = [keys(number) for number in range(VALIDATORS)]
    return Genesis(
        chain_id=CHAIN_ID,
        timestamp=UnixSeconds(int(time.time())),
        validators=tuple(
            GenesisValidator(
                node.node_id, account(number).address, bls.public_key, bls.prove_possession(), "127.0.0.1",
                FIRST_PORT + number,
            )
            for number, (node, bls) in enumerate(members)
        ),
        accounts=tuple(funded(account(number).address, Wei(10**24)) for number in range(SENDERS)),
    )  # fmt: skip


async def validate(number: int, folder: Path) -> None:
    """What each child process does."""
    node, bls = keys(number)
    first = decode(Genesis, await asyncio.to_thread((folder / "genesis").read_bytes))
    config = ValidatorConfig(rpc_port=FIRST_PORT + VALIDATORS + number)
    async with (
        Transport.open(node, "127.0.0.1", FIRST_PORT + number) as transport,
        Validator.open(config, bls, transport, node.node_id, folder / str(number), first),
    ):
        print("ready", flush=True)
        await asyncio.Event().wait()


class Rpc:
    def __init__(self, number: int) -> None:
        self.client = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{FIRST_PORT + VALIDATORS + number}", timeout=60, trust_env=False
        )

    async def ask(self, method: str, *parameters: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
        answer = (await self.client.post("/", json=body)).json()
        if "error" in answer:
            raise RuntimeError(answer["error"]["message"])
        return answer["result"]

    async def settle(self, raw: bytes) -> float:
        """Seconds until this validator holds the transaction as final."""
        begin = time.perf_counter()
        height = int(await self.ask("eth_blockNumber"), 16)
        name = await self.ask("eth_sendRawTransaction", "0x" + raw.hex())
        while await self.ask("eth_getTransactionReceipt", name) is None:
            height = int(await self.ask("koinon_waitForBlock", hex(height + 1), 30), 16)
        return time.perf_counter() - begin


def cpu(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


async def measure(processes: list[psutil.Process], count: int, rate: int, seconds: float) -> dict[str, float]:
    rpcs = [Rpc(number) for number in range(VALIDATORS)]
    sender, results = account(0), {}
    await rpcs[0].settle(transfer(sender, 0))
    before = cpu(processes)
    times = sorted([await rpcs[nonce % VALIDATORS].settle(transfer(sender, nonce)) for nonce in range(1, count + 1)])
    results["finality_p50_ms"] = round(statistics.median(times) * 1e3, 1)
    results["finality_p99_ms"] = round(times[int(len(times) * 0.99) - 1] * 1e3, 1)
    results["cpu_ms_per_lone_transaction_all_nodes"] = round((cpu(processes) - before) / count * 1e3, 1)
    before, begin = cpu(processes), time.perf_counter()
    await asyncio.sleep(seconds)
    results["idle_percent_of_one_core_all_nodes"] = round(
        (cpu(processes) - before) / (time.perf_counter() - begin) * 100, 2
    )
    results |= await offer(rpcs, processes, rate, seconds)
    results["resident_mib_largest"] = round(max(process.memory_info().rss for process in processes) / 2**20, 1)
    for rpc in rpcs:
        await rpc.client.aclose()
    return results


async def offer(rpcs: list[Rpc], processes: list[psutil.Process], rate: int, seconds: float) -> dict[str, float]:
    """Offer ``rate`` transfers a second, whether or not they are taken up, and watch the blocks they end up in."""
    per_sender = min(int(rate * seconds) // (SENDERS - 1), 60)
    raws = [transfer(account(number), nonce) for nonce in range(per_sender) for number in range(1, SENDERS)]
    sent: dict[str, float] = {}
    late: list[float] = []
    height = int(await rpcs[0].ask("eth_blockNumber"), 16)
    before, begin = cpu(processes), time.perf_counter()

    async def send(position: int, raw: bytes) -> None:
        await asyncio.sleep(max(0.0, begin + position / rate - time.perf_counter()))
        sent["0x" + keccak256(raw).hex()] = time.perf_counter()
        await rpcs[position % VALIDATORS].ask("eth_sendRawTransaction", "0x" + raw.hex())

    sending = asyncio.gather(*(send(position, raw) for position, raw in enumerate(raws)))
    while len(late) < len(raws):
        newest = int(await rpcs[0].ask("koinon_waitForBlock", hex(height + 1), 30), 16)
        now = time.perf_counter()
        for number in range(height + 1, newest + 1):
            block = await rpcs[0].ask("eth_getBlockByNumber", hex(number), False)
            late.extend(now - sent[name] for name in block["transactions"])
        height = newest
    spent = time.perf_counter() - begin
    await sending
    return {
        "offered_per_second": rate,
        "finalised_per_second": round(len(raws) / spent, 1),
        "loaded_finality_p50_ms": round(statistics.median(late) * 1e3, 1),
        "loaded_finality_p99_ms": round(sorted(late)[int(len(late) * 0.99) - 1] * 1e3, 1),
        "cpu_ms_per_transaction_all_nodes": round((cpu(processes) - before) / len(raws) * 1e3, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--count", type=int, default=100, help="transactions for the latency")
    parser.add_argument("--rate", type=int, default=100, help="transactions per second offered")
    parser.add_argument("--seconds", type=float, default=10.0, help="of idling and of load")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        asyncio.run(validate(options.child, options.folder))
        return
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "genesis").write_bytes(encode(genesis()))
        children = []
        for number in range(VALIDATORS):
            command = [sys.executable, __file__, "--child", str(number), "--folder", str(folder)]
            child = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
            stack.callback(child.kill)
            children.append(child)
        for child in children:
            assert child.stdout is not None
            if child.stdout.readline() != b"ready\n":
                raise SystemExit("a validator did not start; are the ports from 24600 on free?")
        processes = [psutil.Process(child.pid) for child in children]
        results = asyncio.run(measure(processes, options.count, options.rate, options.seconds))
    if options.json:
        print(json.dumps(results))
    else:
        for name, value in results.items():
            print(f"{name:45} {value}")


if __name__ == "__main__":
    main()
