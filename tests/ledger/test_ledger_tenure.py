"""Validators that change: real nodes over real connections, one Giskard after the other."""

import asyncio
import dataclasses
import json
import time
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner
from eth_account import Account as Wallet
from eth_account.signers.local import LocalAccount
from ledger_network import CHAIN_ID, Keys, open_staked_network, sign
from msgspec.structs import replace

from koinon.cli.finality import verify_finality
from koinon.contracts.contract import interface
from koinon.kernel.codec import decode, encode
from koinon.kernel.errors import Forged, InvalidInput, MalformedMessage, Unavailable
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import BlockIndex, Height, View
from koinon.ledger.chain import Chain
from koinon.ledger.consensus import Heard
from koinon.ledger.epochs import Epochs
from koinon.ledger.finality import verify_epochs
from koinon.ledger.giskard.certificates import vote_message
from koinon.ledger.rpc.koinon import epoch_end
from koinon.ledger.staking.contract import STAKING
from koinon.ledger.staking.precompiles import registration_proof
from koinon.ledger.staking.profiles import PROFILES
from koinon.ledger.staking.words import selector
from koinon.ledger.transaction import parse_transaction
from koinon.ledger.types import PrepareVote, Validator, ValidatorSet
from koinon.ledger.validator import Validator as Node
from koinon.ledger.validator import ValidatorConfig
from koinon.net.transport import Transport
from koinon.wire.ledger import EpochEnd

DEV = PROFILES["dev"]


async def make_blocks(network: list[Node], rich: LocalAccount, nonce: int, until: int) -> int:
    """Send transfers one after the other until everybody has the block at ``until``; the next nonce."""
    while network[0].chain.final_height < until:
        network[nonce % 3].submit(sign(rich, nonce, to="0x" + "11" * 20, value=1))
        nonce += 1
        height = network[0].chain.final_height
        await asyncio.wait_for(network[0].wait_final(height + 1), 120)
    for node in network:
        await asyncio.wait_for(node.wait_final(until), 120)
    return nonce


async def test_epochs_follow_one_another(tmp_path: Path, rich: LocalAccount) -> None:
    async with open_staked_network(4, 4, tmp_path, rich, DEV) as network:
        others = asyncio.create_task(network[0].wait_for_others_than(network[0].chain.validators))
        await make_blocks(network, rich, 0, 45)
        await asyncio.wait_for(others, 120)
        assert {node.consensus.state.configuration.epoch for node in network} == {2}
        chain = network[0].chain
        last, first = chain.header_at(20), chain.header_at(21)
        assert (last.epoch, first.epoch, first.view, first.index) == (0, 1, 1, 0)
        assert chain.header_at(19).next_validators == chain.header_at(19).validators
        assert last.next_validators == first.validators == chain.set_of(1).hash
        assert len({node.chain.header_at(45).state_root for node in network}) == 1
        check_ends(chain)
        check_command(tmp_path, chain)
        await join_late(tmp_path / "late", chain)


def check_command(folder: Path, chain: Chain) -> None:
    """``koinon verify-finality`` with genesis, a proof from epoch 2 and what leads there."""
    genesis, proof, ends = folder / "genesis", folder / "proof", folder / "ends"
    genesis.write_bytes(encode(chain.genesis))
    proof.write_bytes(encode(chain.finality_proof(41)))
    ends.write_text(json.dumps({"result": ["0x" + encode(epoch_end(chain, epoch)).hex() for epoch in range(2)]}))
    asked = [str(proof), "--genesis", str(genesis), "--json"]
    told = CliRunner().invoke(verify_finality, [*asked, "--epochs", str(ends)])
    assert (told.exit_code, json.loads(told.output)["height"]) == (0, 41), told.output
    untold = CliRunner().invoke(verify_finality, asked)
    assert isinstance(untold.exception, InvalidInput)
    assert "the block is of epoch 2" in str(untold.exception)
    ends.write_text("[1]")
    garbled = CliRunner().invoke(verify_finality, [*asked, "--epochs", str(ends)])
    assert isinstance(garbled.exception, MalformedMessage)


async def join_late(folder: Path, chain: Chain) -> None:
    """A node that was never there follows three epochs and the last blocks of a chain on which nothing happens."""
    keys = Keys.of(7)
    async with (
        Transport.open(keys.node, "127.0.0.1", 0) as transport,
        Node.open(ValidatorConfig(), keys.bls, transport, keys.node.node_id, folder, chain.genesis) as late,
    ):
        goal = chain.final_height
        header = await asyncio.wait_for(late.wait_final(goal), 60)
        assert header == chain.header_at(goal)
        assert late.consensus.state.configuration.position is None
        assert late.chain.set_of(2).hash == chain.set_of(2).hash


def check_ends(chain: Chain) -> None:
    """A stranger who knows genesis follows the sets; nothing edited leads anywhere."""
    first = chain.genesis.validator_set()
    ends = [epoch_end(chain, epoch) for epoch in range(2)]
    assert verify_epochs(first, ends)[-1].hash == chain.set_of(2).hash
    with pytest.raises(Unavailable, match="has not ended"):
        epoch_end(chain, 2)
    turned = ValidatorSet(tuple(reversed(first.members)))
    members = decode(tuple[Validator, ...], ends[0].members)
    cases: list[tuple[ValidatorSet, list[EpochEnd], str]] = [
        (first, ends[1:], "names another validator set|end of epoch 0"),
        (first, [ends[0], ends[0]], "names another validator set|end of epoch 1"),
        (first, [EpochEnd(chain.finality_proof(19), encode(first.members))], "not its last block"),
        (first, [replace(ends[0], members=encode(members[1:]))], "end of epoch 0"),
        (first, [replace(ends[0], members=encode(members[:1] * 2))], "end of epoch 0"),
        (turned, ends, "names another validator set"),
    ]
    for validators, given, reason in cases:
        with pytest.raises(Forged, match=reason):
            verify_epochs(validators, given)


def call_staking(number: int, nonce: int, function: str, *arguments: object, value: int = 0) -> bytes:
    """A transaction of a node's account that calls the staking contract."""
    wallet = Wallet.from_key(Keys.of(number).account.secret)
    data = interface("Staking").encode_call(function, *arguments)
    return sign(wallet, nonce, to="0x" + STAKING.hex(), gas=1_500_000, value=value, data=data)


def registration(number: int) -> tuple[object, ...]:
    keys = Keys.of(number)
    key = keys.bls.public_key
    proof = registration_proof(CHAIN_ID, keys.account.address, keys.node, key, keys.bls.prove_possession())
    return keys.node.node_id, key[:32], key[32:], proof, 1_000


def seated_nodes(node: Node, epoch: int | None = None) -> set[int]:
    """Numbers of the nodes that validate in an epoch, by default now."""
    ids = {Keys.of(number).node.node_id: number for number in range(8)}
    validators = node.chain.validators if epoch is None else node.chain.set_of(epoch)
    return {ids[member.node_id] for member in validators.members}


async def test_candidates_are_elected_and_who_signs_twice_is_slashed_and_leaves(
    tmp_path: Path, rich: LocalAccount
) -> None:
    """Four founders, two newcomers. Validator 3 signs two votes for one place; nobody tells the others to report it."""
    quick = replace(DEV.parameters, epochs=Epochs(10, 4, seats=4, least=1, alternates=16, open=True))
    kind = dataclasses.replace(DEV, parameters=quick)
    async with open_staked_network(4, 6, tmp_path, rich, kind) as network:
        for newcomer in (4, 5):
            network[0].submit(call_staking(newcomer, 0, "register", *registration(newcomer), value=2_000 * 10**18))
        nonce = await make_blocks(network, rich, 0, 32)
        before = seated_nodes(network[0])
        # On a busy machine the one elected first may have missed its turn, and so lost its seat again already.
        once = seated_nodes(network[0], 2) | seated_nodes(network[0], 3)
        assert once & {4, 5}, "an alternate of the second era has been elected"
        assert len(before) == 4
        offender = min(before & {0, 1, 2, 3})
        await sign_twice(network, offender)
        reports = await wait_for_slashing(network, Keys.of(offender).account.address)
        assert reports == 1, "one report is enough"
        nonce = await make_blocks(network, rich, nonce, 52)
        assert offender not in seated_nodes(network[0])
        assert len({node.chain.header_at(52).state_root for node in network}) == 1


async def sign_twice(network: list[Node], offender: int) -> None:
    """Votes of one validator for two blocks at one place ahead of everybody, sent to all others."""
    state = network[offender].consensus.state
    position = state.configuration.position
    assert position is not None
    place = (state.configuration.epoch, View(state.view + 1), BlockIndex(0), Height(state.final_header.height + 6))
    keys = Keys.of(offender)
    for block in (Hash32(b"\x01" * 32), Hash32(b"\x02" * 32)):
        signature = keys.bls.sign(vote_message(CHAIN_ID, *place, block))
        vote = PrepareVote(*place, block, position, signature)
        for other in network:
            if other is not network[offender]:
                other._lane.put(Heard(keys.node.node_id, vote, time.monotonic()))


async def wait_for_slashing(network: list[Node], account: Address) -> int:
    """Until some report is final; how many reports of it blocks hold."""
    start = network[0].chain.final_height
    async with asyncio.timeout(120):
        while True:
            height = network[0].chain.final_height
            blocks = [network[0].chain.block_at(number) for number in range(start, height + 1)]
            sent = [raw for block in blocks for raw in block.transactions]
            reports = [raw for raw in sent if parse_transaction(raw).data[:4] == selector("report(uint32,bytes)")]
            if reports:
                return len(reports)
            await network[0].wait_final(height + 1)


async def test_epochs_end_on_a_chain_where_nothing_happens(tmp_path: Path, rich: LocalAccount) -> None:
    """Or else what is frozen for some eras would stay frozen until somebody paid for all their blocks."""
    beating = replace(DEV.parameters, epochs=Epochs(10, 4, seats=4, least=1, alternates=16, open=True, heartbeat=1))
    kind = dataclasses.replace(DEV, parameters=beating)
    async with asyncio.timeout(300), open_staked_network(4, 4, tmp_path, rich, kind) as network:
        for node in network:
            await node.wait_final(11)
        chain = network[0].chain
        blocks = [chain.block_at(height) for height in range(1, 12)]
        assert not any(block.transactions for block in blocks)
        gaps = [child.header.timestamp - parent.header.timestamp for parent, child in pairwise(blocks)]
        assert sum(gaps) >= 2, "a block a second and its successors, not as many as can be made"
        assert len({node.chain.header_at(11).state_root for node in network}) == 1
