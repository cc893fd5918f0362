"""Four validators in this process that made a few blocks, and what one of them answers to koinon_finality."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import httpx
from eth_account import Account as Wallet

from koinon.kernel.codec import encode

sys.path.append(str(Path(__file__).parents[1] / "ledger"))
from ledger_network import open_network, sign  # the ledger's tests keep the network

STRANGER = "0x" + "00" * 19 + "99"


def four_validators_to_height(folder: Path, height: int) -> tuple[dict[str, Any], Path]:
    """The answer for the block at ``height``, and the genesis file."""
    return asyncio.run(_make(folder, height))


async def _make(folder: Path, height: int) -> tuple[dict[str, Any], Path]:
    rich = Wallet.from_key(b"\x77" * 32)
    async with open_network(4, folder, rich) as validators:
        for nonce in range(height):
            validators[0].submit(sign(rich, nonce, STRANGER, value=1))
            await validators[0].wait_final(nonce + 1)
        url = validators[1].rpc_url
        assert url is not None
        await validators[1].wait_final(height)
        async with httpx.AsyncClient() as client:
            asked = {"jsonrpc": "2.0", "id": 1, "method": "koinon_finality", "params": [hex(height)]}
            answer = (await client.post(url, json=asked)).json()
        file = folder / "genesis"
        file.write_bytes(encode(validators[0].chain.genesis))
        return answer["result"], file
