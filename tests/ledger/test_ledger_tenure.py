"""Validators that change: real nodes over real connections, one Giskard after the other."""

import asyncio
from pathlib import Path

from eth_account.signers.local import LocalAccount
from ledger_network import open_staked_network, sign

from koinon.ledger.staking.profiles import PROFILES
from koinon.ledger.validator import Validator

DEV = PROFILES["dev"]


async def make_blocks(network: list[Validator], rich: LocalAccount, nonce: int, until: int) -> int:
    """Send transfers one after the other until everybody has the block at ``until``; the next nonce."""
    while network[0].chain.final_height < until:
        network[nonce % 3].submit(sign(rich, nonce, to="0x" + "11" * 20, value=1))
        nonce += 1
        height = network[0].chain.final_height
        await asyncio.wait_for(network[0].wait_final(height + 1), 30)
    for node in network:
        await asyncio.wait_for(node.wait_final(until), 30)
    return nonce


async def test_epochs_follow_one_another(tmp_path: Path, rich: LocalAccount) -> None:
    async with open_staked_network(4, 4, tmp_path, rich, DEV) as network:
        await make_blocks(network, rich, 0, 45)
        assert {node.consensus.state.configuration.epoch for node in network} == {2}
        chain = network[0].chain
        last, first = chain.header_at(20), chain.header_at(21)
        assert (last.epoch, first.epoch, first.view, first.index) == (0, 1, 1, 0)
        assert chain.header_at(19).next_validators == chain.header_at(19).validators
        assert last.next_validators == first.validators == chain.set_of(1).hash
        assert len({node.chain.header_at(45).state_root for node in network}) == 1
