"""Four validators as four processes; one is killed without warning and comes back."""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from eth_account.signers.local import LocalAccount
from ledger_network import make_genesis, sign

import koinon
from koinon.kernel.codec import encode
from koinon.net.listening import free_ports

ENOUGH_SECONDS = 180
SOURCES = str(Path(koinon.__file__).parent.parent)
PROGRAM = Path(__file__).with_name("ledger_process.py")
STRANGER = "0x" + "00" * 19 + "99"


class Fleet:
    """The four processes."""

    def __init__(self, folder: Path, rich: LocalAccount) -> None:
        ports = free_ports(8)
        self.rpc_ports = ports[4:]
        self.folder = folder
        self.genesis = folder / "genesis"
        self.genesis.write_bytes(encode(make_genesis(4, rich, ports[:4])))
        self.processes: dict[int, asyncio.subprocess.Process] = {}
        self.extra: tuple[str, ...] = ()
        self.client = httpx.AsyncClient(timeout=ENOUGH_SECONDS)

    async def start(self, number: int) -> None:
        log = (self.folder / f"{number}.log").open("ab")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(PROGRAM),
            str(number),
            str(self.genesis),
            str(self.folder / str(number)),
            str(self.rpc_ports[number]),
            *self.extra,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            env={**os.environ, "PYTHONPATH": SOURCES},
        )
        log.close()
        self.processes[number] = process
        assert process.stdout is not None
        line = await process.stdout.readline()
        assert line == b"ready\n", (self.folder / f"{number}.log").read_text()

    async def kill(self, number: int) -> None:
        self.processes[number].kill()
        await self.processes[number].wait()

    async def stop(self) -> None:
        """Kill all that run."""
        for number, process in self.processes.items():
            if process.returncode is None:
                await self.kill(number)

    async def call(self, number: int, method: str, *parameters: Any) -> Any:
        answer = await self.client.post(
            f"http://127.0.0.1:{self.rpc_ports[number]}/",
            json={"jsonrpc": "2.0", "id": 1, "method": method, "params": list(parameters)},
        )
        return answer.json()

    async def receipt(self, number: int, transaction: str) -> dict[str, Any]:
        """Ask until the transaction is final at this validator."""
        while True:
            answer = await self.call(number, "eth_getTransactionReceipt", transaction)
            if answer["result"] is not None:
                return answer["result"]  # type: ignore[no-any-return]

    async def send(self, number: int, raw: bytes) -> str:
        return str((await self.call(number, "eth_sendRawTransaction", "0x" + raw.hex()))["result"])


@asynccontextmanager
async def fleet_of_four(folder: Path, rich: LocalAccount) -> Any:
    async with AsyncExitStack() as stack:
        fleet = Fleet(folder, rich)
        stack.push_async_callback(fleet.client.aclose)
        try:
            await asyncio.gather(*(fleet.start(number) for number in range(4)))
            yield fleet
        finally:
            await fleet.stop()


@pytest.fixture
def nonces() -> Iterator[int]:
    return iter(range(10_000))


async def test_survives_kill_and_loses_nothing(tmp_path: Path, rich: LocalAccount, nonces: Iterator[int]) -> None:
    async with asyncio.timeout(ENOUGH_SECONDS), fleet_of_four(tmp_path, rich) as fleet:
        final: list[tuple[str, str]] = []

        async def transfer(at: int) -> None:
            sent = await fleet.send(at, sign(rich, next(nonces), STRANGER, value=1))
            final.append((sent, (await fleet.receipt(at, sent))["blockHash"]))

        for number in range(4):
            await transfer(number)
        for victim in (1, 2):
            await fleet.kill(victim)
            for _ in range(6):
                await transfer(0)
            await fleet.start(victim)
            await transfer(victim)
        for sent, block in final:
            for number in range(4):
                assert (await fleet.receipt(number, sent))["blockHash"] == block
        balances = {(await fleet.call(n, "eth_getBalance", STRANGER, "latest"))["result"] for n in range(4)}
        assert balances == {hex(len(final))}
        logs = [(tmp_path / f"{number}.log").read_text() for number in range(4)]
        assert not any("contradiction" in log or "Traceback" in log or "halts" in log for log in logs)


async def test_survives_the_death_of_all(tmp_path: Path, rich: LocalAccount, nonces: Iterator[int]) -> None:
    async with asyncio.timeout(ENOUGH_SECONDS), fleet_of_four(tmp_path, rich) as fleet:
        before = await fleet.send(0, sign(rich, next(nonces), STRANGER, value=1))
        block = (await fleet.receipt(0, before))["blockHash"]
        await fleet.send(0, sign(rich, next(nonces), STRANGER, value=1))
        await asyncio.gather(*(fleet.kill(number) for number in range(4)))
        await asyncio.gather(*(fleet.start(number) for number in range(4)))
        assert (await fleet.receipt(3, before))["blockHash"] == block
        count = int((await fleet.call(0, "eth_getTransactionCount", rich.address, "pending"))["result"], 16)
        after = await fleet.send(2, sign(rich, count, STRANGER, value=1))
        assert (await fleet.receipt(3, after))["status"] == "0x1"
