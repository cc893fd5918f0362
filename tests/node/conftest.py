"""Nodes around the contracts' test chain, whose modules live beside the contracts' own tests."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "contracts"))

from contracts_chain import EvmChain
from contracts_world import World, fresh_world
from node_market_world import Network, open_network


@pytest.fixture
def built() -> tuple[EvmChain, World]:
    """Made outside of any event loop: building it runs one."""
    return fresh_world()


@pytest.fixture
async def network(built: tuple[EvmChain, World], tmp_path: Path) -> AsyncIterator[Network]:
    """No node yet; the suite is deployed, everybody is funded, eight providers are staked."""
    async with open_network(*built, tmp_path) as opened:
        yield opened
