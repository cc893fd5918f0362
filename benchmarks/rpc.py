"""What a request costs the node's processor: one development chain as a process, asked over HTTP and WebSocket.

    python benchmarks/rpc.py --json

Figures are requests per second of the node's processor time, medians of the repeats; the client's own time is not in
them. ``single`` is one request at a time on one connection, ``batch`` a hundred in one body.
"""

import argparse
import asyncio
import json
import statistics
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import httpx
import psutil

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "ledger"))
from eth_account import Account as Wallet
from ledger_development import Development, development_process
from ledger_network import COUNTER_CREATION, sign
from ledger_rpc import open_socket

BATCH: Final = 100
BULK: Final = 5
"""So many times more in batches, which are over too soon for the system's processor clock (10 ms)."""
STRANGER: Final = "0x" + "00" * 18 + "4242"


def request(number: int, method: str, parameters: list[Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": parameters}


async def measure(node: psutil.Process, count: int, work: Callable[[], Awaitable[None]]) -> float:
    """Requests per second of the node's processor time."""
    before = sum(node.cpu_times()[:2])
    await work()
    return count / max(1e-9, sum(node.cpu_times()[:2]) - before)


async def repeat(development: Development, requests: int) -> dict[str, float]:
    """One round of everything."""
    node = psutil.Process(development.process.pid)
    first, key = next(iter(development.keys.items()))
    figures: dict[str, float] = {}
    async with httpx.AsyncClient(base_url=development.url, timeout=120) as client:

        async def ask(body: Any) -> Any:
            answer = (await client.post("/", json=body)).json()
            assert "error" not in (answer[0] if isinstance(answer, list) else answer), answer
            return answer

        deployed = (
            await ask(request(1, "eth_sendTransaction", [{"from": first, "data": "0x" + COUNTER_CREATION.hex()}]))
        )["result"]
        counter = (await ask(request(1, "eth_getTransactionReceipt", [deployed])))["result"]["contractAddress"]
        plain: list[tuple[str, str, list[Any]]] = [
            ("eth_chainId", "eth_chainId", []),
            ("eth_getBalance", "eth_getBalance", [first, "latest"]),
            ("eth_getBlockByNumber", "eth_getBlockByNumber", ["latest", False]),
            ("eth_call", "eth_call", [{"to": counter}, "latest"]),
        ]
        for name, method, parameters in plain:

            async def singles(method: str = method, parameters: list[Any] = parameters) -> None:
                for number in range(requests):
                    await ask(request(number, method, parameters))

            async def batches(method: str = method, parameters: list[Any] = parameters) -> None:
                for _ in range(BULK * requests // BATCH):
                    await ask([request(number, method, parameters) for number in range(BATCH)])

            figures[f"{name} single"] = await measure(node, requests, singles)
            figures[f"{name} batch"] = await measure(node, BULK * requests // BATCH * BATCH, batches)
        await ask(request(1, "evm_setAutomine", [False]))
        nonce = int((await ask(request(1, "eth_getTransactionCount", [first, "latest"])))["result"], 16)
        wallet = Wallet.from_key(key)
        raws = ["0x" + sign(wallet, nonce + number, STRANGER).hex() for number in range(2 * BATCH)]

        async def send() -> None:
            for start in range(0, len(raws), BATCH):
                part = raws[start : start + BATCH]
                await ask([request(number, "eth_sendRawTransaction", [raw]) for number, raw in enumerate(part)])

        figures["eth_sendRawTransaction batch"] = await measure(node, len(raws), send)
        await ask(request(1, "evm_mine", []))
        await ask(request(1, "evm_setAutomine", [True]))
    async with open_socket(development.url) as socket:

        async def over_socket() -> None:
            for _ in range(requests):
                await socket.result("eth_chainId")

        figures["eth_chainId WebSocket"] = await measure(node, requests, over_socket)
    return figures


async def main(repeats: int, requests: int, as_json: bool) -> None:
    with development_process() as development:
        await repeat(development, BATCH)  # what is compiled or cached the first time
        rounds = [await repeat(development, requests) for _ in range(repeats)]
    medians = {name: round(statistics.median(one[name] for one in rounds)) for name in rounds[0]}
    spread = {
        name: [round(min(one[name] for one in rounds)), round(max(one[name] for one in rounds))] for name in rounds[0]
    }
    report = {
        "unit": "requests per processor second of the node",
        "repeats": repeats,
        "median": medians,
        "range": spread,
    }
    if as_json:
        print(json.dumps(report, indent=2))
        return
    for name, value in medians.items():
        print(f"{name:32} {value:>9,}  {spread[name]}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    asyncio.run(main(given.repeats, given.requests, given.json))
