"""Validators that change, as processes of their own, killed without warning wherever an epoch may be."""

import asyncio
import dataclasses
import random
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from eth_account.signers.local import LocalAccount
from ledger_network import Keys, make_staked_genesis, sign
from msgspec.structs import replace
from test_ledger_processes import ENOUGH_SECONDS, STRANGER, Fleet
from test_ledger_tenure import call_staking, registration

from koinon.kernel.codec import decode, encode
from koinon.ledger.epochs import Epochs
from koinon.ledger.finality import verify_epochs
from koinon.ledger.staking.profiles import PROFILES
from koinon.net.listening import free_ports
from koinon.wire.discovery import Endpoint
from koinon.wire.ledger import EpochEnd

FOUNDERS = 4
EPOCHS = Epochs(length=16, lead=5, seats=7, least=1, alternates=16, open=True)


class StakedFleet(Fleet):
    """Four founders, and others that know of one another and may be elected."""

    def __init__(self, folder: Path, rich: LocalAccount, nodes: int) -> None:
        super().__init__(folder, rich)
        ports = free_ports(2 * nodes)
        self.rpc_ports = ports[nodes:]
        kind = PROFILES["dev"]
        kind = dataclasses.replace(kind, parameters=replace(kind.parameters, epochs=EPOCHS))
        self.first = make_staked_genesis(FOUNDERS, nodes, rich, ports[:nodes], kind)
        self.genesis.write_bytes(encode(self.first))
        endpoints = tuple(Endpoint(Keys.of(n).node.node_id, "127.0.0.1", ports[n]) for n in range(nodes))
        peers = folder / "peers"
        peers.write_bytes(encode(endpoints))
        self.extra = ("", str(peers))

    async def result(self, number: int, method: str, *parameters: Any) -> Any:
        answer = await self.call(number, method, *parameters)
        assert "result" in answer, answer
        return answer["result"]

    async def height(self, number: int) -> int:
        return int(await self.result(number, "eth_blockNumber"), 16)

    async def wait(self, number: int, height: int) -> None:
        while int(await self.result(number, "koinon_waitForBlock", hex(height), 20), 16) < height:
            continue


async def disturb(folder: Path, rich: LocalAccount, nodes: int, kills: int, seed: int) -> None:
    """Elect newcomers, then kill validators around ends of epochs; the last node joins at the end."""
    chance = random.Random(seed)
    late = nodes - 1
    async with asyncio.timeout(ENOUGH_SECONDS * 3), AsyncExitStack() as stack:
        fleet = StakedFleet(folder, rich, nodes)
        stack.push_async_callback(fleet.client.aclose)
        stack.push_async_callback(fleet.stop)
        await asyncio.gather(*(fleet.start(number) for number in range(late)))
        nonce = 0

        async def transfer(at: int) -> int:
            nonlocal nonce
            sent = await fleet.send(at, sign(rich, nonce, STRANGER, value=1))
            nonce += 1
            return int((await fleet.receipt(at, sent))["blockNumber"], 16)

        for newcomer in range(FOUNDERS, late):
            raw = call_staking(newcomer, 0, "register", *registration(newcomer), value=2_000 * 10**18)
            await fleet.receipt(0, await fleet.send(0, raw))
        height = 0
        while height <= 2 * EPOCHS.length:
            height = await transfer(chance.randrange(late))
        members = (await fleet.result(0, "koinon_validators"))["members"]
        # Not all: on a busy machine one may have had no block in its turn, and must sit out for it.
        assert len(members) > FOUNDERS, "newcomers have been elected"
        for _ in range(kills):
            goal = (height // EPOCHS.length + 1) * EPOCHS.length + chance.randrange(-3, 2)
            while height < goal:
                height = await transfer(chance.randrange(late))
            victim = chance.randrange(1, late)
            raw = sign(rich, nonce, STRANGER, value=1)
            nonce += 1
            sent = await fleet.send(0, raw)
            await fleet.kill(victim)
            height = int((await fleet.receipt(0, sent))["blockNumber"], 16)
            for _ in range(chance.randrange(5)):
                height = await transfer(0)
            await fleet.start(victim)
        height = await transfer(0)
        await fleet.start(late)
        await asyncio.gather(*(fleet.wait(number, height) for number in range(nodes)))
        blocks = [await fleet.result(number, "eth_getBlockByNumber", hex(height), False) for number in range(nodes)]
        assert len({block["hash"] for block in blocks}) == 1
        await check_ends(fleet, late, height)
        logs = [(folder / f"{number}.log").read_text() for number in range(nodes)]
        assert not any("contradiction" in log or "Traceback" in log or "halts" in log for log in logs)


async def check_ends(fleet: StakedFleet, node: int, height: int) -> None:
    """A stranger with nothing but genesis follows the sets to the one that signs now."""
    epoch = (height - 1) // EPOCHS.length
    ends: list[EpochEnd] = []
    while len(ends) < epoch:
        answer = await fleet.result(node, "koinon_epochEnds", hex(len(ends)), hex(20))
        ends += [decode(EpochEnd, bytes.fromhex(entry[2:])) for entry in answer]
    validators = verify_epochs(fleet.first.validator_set(), ends[:epoch])[-1]
    found = await fleet.result(node, "koinon_validators", hex(epoch))
    assert found["hash"] == "0x" + validators.hash.hex()


@pytest.mark.long
async def test_killed_around_the_ends_of_epochs_sample(tmp_path: Path, rich: LocalAccount) -> None:
    await disturb(tmp_path, rich, nodes=6, kills=2, seed=1)


@pytest.mark.long
@pytest.mark.parametrize("seed", [2, 3, 4])
async def test_seven_validators_killed_around_the_ends_of_epochs(tmp_path: Path, rich: LocalAccount, seed: int) -> None:
    await disturb(tmp_path, rich, nodes=8, kills=10, seed=seed)
