"""A real node in a process of its own: a home, ``koinon node start``, its monitor, its end."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

import koinon
from koinon.contracts.transactions import Transaction
from koinon.crypto.random import SystemRng
from koinon.crypto.signature import AccountKey
from koinon.kernel.codec import decode, encode
from koinon.kernel.errors import Unavailable
from koinon.kernel.ids import Address, to_hex
from koinon.kernel.quantities import Gas, UnixSeconds, Wei
from koinon.ledger.genesis import Genesis
from koinon.net.listening import free_ports
from koinon.node.config import ChainConfig, NodeConfig, write_config
from koinon.node.create import create_node
from koinon.node.genesis import local_genesis
from koinon.node.home import Home
from koinon.node.operator import Operator

SOURCES = str(Path(koinon.__file__).parent.parent)
ENOUGH_SECONDS = 120


def lone_validator(folder: Path) -> Home:
    """The home of the only validator of a chain of its own."""
    home = Home(folder / "lone")
    port, rpc_port = free_ports(2)
    config = NodeConfig(
        name="lone",
        roles=("validator",),
        host="127.0.0.1",
        port=port,
        rpc_port=rpc_port,
        service_port=0,
        operator="lone",
        bootstrap=(),
        chain=ChainConfig((f"http://127.0.0.1:{rpc_port}",), 0, ()),
        allow_faults=False,
        monitor_port=0,
    )
    identity = create_node(home, config, SystemRng())
    genesis = local_genesis([identity], [identity.account], UnixSeconds(int(time.time())))
    home.genesis.write_bytes(encode(genesis))
    write_config(home.config, replace(config, chain=replace(config.chain, chain_id=int(genesis.chain_id))))
    return home


@dataclass
class NodeProcess:
    """A node that runs; ``log`` is everything it wrote to standard error."""

    home: Home
    process: asyncio.subprocess.Process
    log: Path
    monitor: str

    async def get(self, path: str, **headers: str) -> httpx.Response:
        async with httpx.AsyncClient() as client:
            return await client.get(self.monitor + path, headers=headers)

    async def pay(self, nonce: int) -> str:
        """Send a transfer from the node's own account; its hash."""
        secrets = self.home.secrets()
        key = AccountKey.from_secret(secrets.account_secret)
        chain_id = decode(Genesis, self.home.genesis.read_bytes()).chain_id
        to = Address(b"\x99" * 20)
        signed = Transaction(chain_id, nonce, Wei(10**9), Wei(10**10), Gas(21_000), to, Wei(1), b"").sign(key)
        return str(await self.rpc("eth_sendRawTransaction", to_hex(signed.raw)))

    async def receipt(self, transaction: str) -> dict[str, Any]:
        """Of a transaction, once it is final."""
        height = 1
        while (found := await self.rpc("eth_getTransactionReceipt", transaction)) is None:
            height = 1 + int(await self.rpc("koinon_waitForBlock", hex(height), 2), 16)
        return dict(found)

    async def rpc(self, method: str, *parameters: Any) -> Any:
        config_line = next(line for line in self.home.config.read_text().splitlines() if line.startswith("rpc_port"))
        port = config_line.split()[2]
        async with httpx.AsyncClient(timeout=ENOUGH_SECONDS) as client:
            asked = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(parameters)}
            return (await client.post(f"http://127.0.0.1:{port}/", json=asked)).json()["result"]


@asynccontextmanager
async def started(home: Home, *options: str) -> AsyncIterator[NodeProcess]:
    """Start the node of a home and wait until it answers its operator; killed in the end if it still runs."""
    log = home.path / "stderr.log"
    with log.open("ab") as target:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "koinon.cli.main", "node", "start", "--home", str(home.path), *options),
            stderr=target,
            env={**os.environ, "PYTHONPATH": SOURCES},
        )
    try:
        async with asyncio.timeout(ENOUGH_SECONDS):
            status = await _first_status(home, process, log)
        yield NodeProcess(home, process, log, status["monitor"])
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def run_to_its_end(home: Home) -> subprocess.CompletedProcess[str]:
    """Start the node of a home that must not come up; what it said, and how it ended."""
    return subprocess.run(
        [sys.executable, "-m", "koinon.cli.main", "node", "start", "--home", str(home.path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=ENOUGH_SECONDS,
        env={**os.environ, "PYTHONPATH": SOURCES},
    )


async def _first_status(home: Home, process: asyncio.subprocess.Process, log: Path) -> dict[str, Any]:
    while True:
        try:
            return await Operator(home.control).status()
        except Unavailable:  # not up yet; a socket that a killed node left behind is there all the same
            assert process.returncode is None, _words(log)
            await asyncio.sleep(0.02)


def _words(log: Path) -> str:
    return log.read_text()


def log_lines(log: Path) -> list[dict[str, Any]]:
    """Every line of a log of JSON lines."""
    return [json.loads(line) for line in log.read_text().splitlines()]
