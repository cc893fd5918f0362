"""The world is built once; every test starts from its snapshot."""

import asyncio

import pytest
from contracts_chain import EvmChain, Snapshot
from contracts_world import World, evm_world

_built: list[tuple[EvmChain, World, Snapshot]] = []


def fresh_world() -> tuple[EvmChain, World]:
    """The world as it was built."""
    if not _built:
        chain, world = asyncio.run(evm_world())
        _built.append((chain, world, chain.snapshot()))
    chain, world, snapshot = _built[0]
    chain.restore(snapshot)
    # A new client for each test: a lock belongs to one event loop, and nonces went back in time.
    client = world.client.with_key(world.client.key)  # type: ignore[arg-type]  # the deployer has a key
    return chain, World(chain, client, world.suite.through(client))


@pytest.fixture
def chain_and_world() -> tuple[EvmChain, World]:
    """Chain and world."""
    return fresh_world()


@pytest.fixture
def chain(chain_and_world: tuple[EvmChain, World]) -> EvmChain:
    """The chain under the world."""
    return chain_and_world[0]


@pytest.fixture
def world(chain_and_world: tuple[EvmChain, World]) -> World:
    """The world."""
    return chain_and_world[1]
