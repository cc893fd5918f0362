"""``koinon node start --dev``: a chain in one process, and what it tells the developer."""

import asyncio
import logging
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from koinon.cli.console import console, print_json
from koinon.crypto.signature import AccountKey
from koinon.kernel.ids import Address
from koinon.kernel.quantities import ChainId


def run_development(
    host: str, port: int, chain_id: int, folder: Path | None, block_seconds: float | None, as_json: bool
) -> None:
    """Run until Ctrl-C. Raises KoinonError where it cannot start."""
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    running = _run(host, port, ChainId(chain_id), folder, block_seconds, as_json)
    try:
        import uvloop
    except ImportError:  # the standard loop does the same, slower
        asyncio.run(running)
    else:
        uvloop.run(running)


async def _run(
    host: str, port: int, chain_id: ChainId, folder: Path | None, block_seconds: float | None, as_json: bool
) -> None:
    from koinon.ledger.development import DevelopmentChain, wallet
    from koinon.ledger.rpc.development import serve_development

    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    async with DevelopmentChain.open(chain_id, folder) as development:
        if block_seconds is not None:
            development.mines_at_once = False
            development.mine_every(block_seconds)
        async with serve_development(development, host, port) as url:
            _announce(url, development.chain.genesis.chain_id, development.chain.final_height, wallet(), as_json)
            await stopping.wait()


def _announce(url: str, chain_id: int, height: int, keys: Mapping[Address, AccountKey], as_json: bool) -> None:
    from koinon.ledger.development import BALANCE, MNEMONIC

    accounts = [{"address": "0x" + address.hex(), "key": "0x" + key.secret.hex()} for address, key in keys.items()]
    facts: dict[str, Any] = {
        "rpc": url,
        "websocket": url.replace("http://", "ws://"),
        "chain_id": chain_id,
        "height": height,
        "mnemonic": MNEMONIC,
        "balance": str(BALANCE),
        "accounts": accounts,
    }
    if as_json:
        print_json(facts)
        sys.stdout.flush()
        return
    console.print("a development chain: one process, instant final blocks, keys that everybody knows")
    console.print("never send anything of value to these accounts\n")
    for number, account in enumerate(accounts):
        console.print(f"  ({number}) {account['address']}  key {account['key']}")
    console.print(f"\n  each owns {BALANCE // 10**18:,} coins; mnemonic: {MNEMONIC}")
    console.print(f"  chain id {chain_id}, block {height}")
    console.print(f"\nlistening on {url} (HTTP and WebSocket); Ctrl-C stops it")
