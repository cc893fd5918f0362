"""The world is built once; every test starts from its snapshot."""

import pytest
from contracts_chain import EvmChain
from contracts_world import World, fresh_world


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
