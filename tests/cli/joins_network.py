"""A company, two owners and five providers as processes on an outside chain; run as a program, so that the nodes are
no children of a test: ``python joins_network.py up FOLDER URL`` prints the contracts, ``start FOLDER NAME`` restarts.
"""

import asyncio
import json
import sys
from pathlib import Path

from koinon.cli.demonstration import OUTSIDE_DRAW_DELAY
from koinon.contracts.client import ChainClient
from koinon.crypto.random import SystemRng
from koinon.crypto.signature import AccountKey
from koinon.kernel.ids import to_hex
from koinon.kernel.quantities import Wei
from koinon.node.create import DEFAULT_POLICY
from koinon.node.local_network import Network, Organisation, OutsideChain
from koinon.node.setup import GAS_MONEY, Chain, put_to_work, silent

ANVIL_KEY = AccountKey.from_secret(bytes.fromhex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"))
"""The first of the keys that anvil publishes in its own documentation."""
OWNERS = ("north", "south")
ORGANISATIONS = (
    Organisation("company", ("publisher",)),
    *(Organisation(name, ("data",)) for name in OWNERS),
    *(Organisation(f"provider-{number}", ("compute",)) for number in range(1, 6)),
)
POLICY = (
    DEFAULT_POLICY.replace('["logistic-regression/1"]', '["statistics/1"]')
    .replace('["coefficients", "intercept", "worth"]', '["mean", "correlation"]')
    .replace("minimum_parties = 3", "minimum_parties = 2")
    .replace('["agreed", "oblivious"]', '["psi", "oblivious"]')
)


async def up(folder: Path, url: str) -> None:
    """Make the network, start it, have the contracts deployed and the providers staked."""
    network = Network(folder)
    async with ChainClient([url], ANVIL_KEY) as client:
        outside = OutsideChain(url, await client.chain_id())
        network.create(ORGANISATIONS, SystemRng(), outside=outside, allow_faults=False)
        await client.send(network.identity("company").account, b"", Wei(40 * GAS_MONEY))
    for name in OWNERS:
        network.home(name).policy.write_text(POLICY, "utf-8")
    await network.start()
    suite = await put_to_work(network, Chain(OUTSIDE_DRAW_DELAY, GAS_MONEY), silent)
    print(json.dumps({name: to_hex(address) for name, address in suite.contracts}))


if __name__ == "__main__":
    order, place, argument = sys.argv[1:]
    asyncio.run(up(Path(place), argument) if order == "up" else Network(Path(place)).start([argument]))
