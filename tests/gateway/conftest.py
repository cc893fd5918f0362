"""The world's story is played once on an EVM in this process; every test gets the chain as it was afterwards."""

import asyncio
import sys
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

sys.path.insert(0, str(Path(__file__).parent.parent / "contracts"))

from gateway_chain import FullChain  # stands on the suite's test chain, which the line above makes visible
from gateway_world import World

from koinon.contracts.client import ChainClient
from koinon.crypto.hash import keccak256
from koinon.crypto.signature import AccountKey
from koinon.gateway.application import create_application
from koinon.gateway.source import ChainSource


def new_world() -> tuple[FullChain, World]:
    """An empty chain with a funded company."""
    chain = FullChain()
    bank = AccountKey.from_secret(keccak256(b"bank"))
    chain.fund(bank.address)

    async def sleep(seconds: int) -> None:
        chain.sleep(seconds)
        chain.mine(1)

    async def now() -> int:
        return chain.time

    return chain, World(chain, bank, sleep, now)


@pytest.fixture(scope="session")
def played() -> tuple[FullChain, World]:
    """The whole story; do not use it but through ``chain`` and ``world``."""
    chain, world = new_world()
    asyncio.run(world.play())
    return chain, world


@pytest.fixture
def chain(played: tuple[FullChain, World]) -> FullChain:
    """The chain after the story; what a test adds is taken back."""
    return played[0].copy()


@pytest.fixture
def world(played: tuple[FullChain, World], chain: FullChain) -> World:
    """The world on this test's chain."""
    return played[1].on(chain)


@pytest.fixture
def source(chain: FullChain, world: World) -> ChainSource:
    """Pages about the world."""
    return ChainSource(ChainClient(chain), world.addresses, ledgers=world.ledgers)


@pytest_asyncio.fixture
async def browser(source: ChainSource) -> httpx.AsyncClient:
    """An HTTP client of the application, without a network."""
    transport = httpx.ASGITransport(create_application(source), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client
