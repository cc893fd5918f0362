"""A company, two owners and seven providers on an outside chain, one of whom will lie when it is drawn for a seat; run
as a program, so that the nodes are no children of a test: ``python cases_network.py FOLDER URL`` prints the contracts.
"""

import asyncio
import json
import sys
from pathlib import Path

from joins_network import ANVIL_KEY, OWNERS, POLICY

from koinon.cli.demonstration import OUTSIDE_DRAW_DELAY
from koinon.contracts.client import ChainClient
from koinon.crypto.random import SystemRng
from koinon.kernel.ids import to_hex
from koinon.kernel.quantities import Wei
from koinon.node import orders
from koinon.node.local_network import Network, Organisation, OutsideChain
from koinon.node.setup import GAS_MONEY, Chain, put_to_work, silent

PROVIDERS = tuple(f"provider-{number}" for number in range(1, 8))
"""Four for the committee, three to judge."""
LIAR_SEAT = 2
ORGANISATIONS = (
    Organisation("company", ("publisher",)),
    *(Organisation(name, ("data",)) for name in OWNERS),
    *(Organisation(name, ("compute",)) for name in PROVIDERS),
)


async def up(folder: Path, url: str) -> None:
    """Make the network, start it, have the contracts deployed and the providers staked, plan the lie."""
    network = Network(folder)
    async with ChainClient([url], ANVIL_KEY) as client:
        outside = OutsideChain(url, await client.chain_id())
        network.create(ORGANISATIONS, SystemRng(), outside=outside, allow_faults=True)
        await client.send(network.identity("company").account, b"", Wei(40 * GAS_MONEY))
    for name in OWNERS:
        network.home(name).policy.write_text(POLICY, "utf-8")
    await network.start()
    suite = await put_to_work(network, Chain(OUTSIDE_DRAW_DELAY, GAS_MONEY), silent)
    for name in PROVIDERS:
        await network.operator(name).run("fault.lie", orders.Lie(0, LIAR_SEAT), orders.Nothing, silent)
    print(json.dumps({name: to_hex(address) for name, address in suite.contracts}))


if __name__ == "__main__":
    place, address = sys.argv[1:]
    asyncio.run(up(Path(place), address))
