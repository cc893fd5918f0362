"""Validators whose addresses stand nowhere in public find one another by what each announces, sealed to the others."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from eth_account.signers.local import LocalAccount
from ledger_network import Keys, final_place, make_genesis, sign
from msgspec.structs import replace

from koinon.crypto.hpke import HpkeKey
from koinon.crypto.signature import NodeKey
from koinon.kernel.codec import encode
from koinon.kernel.errors import Unavailable
from koinon.kernel.quantities import UnixSeconds
from koinon.ledger.validator import Validator, ValidatorConfig
from koinon.net.discovery import Directory, RecordTable
from koinon.net.hidden import hide, reveal
from koinon.net.transport import Transport
from koinon.node import announcing
from koinon.node.announcing import Confided, keep_announced
from koinon.node.context import SystemClock
from koinon.node.home import NodeKeys
from koinon.node.roles.validator import confided, find_hidden
from koinon.wire.discovery import Find, NodeClaim, NodeRecord

STRANGER = "0x" + "00" * 19 + "99"
HOST = "127.0.0.1"


class Noticed(RecordTable):
    """What a keeper holds, and every record in the order it came."""

    def __init__(self) -> None:
        super().__init__(admit=lambda _: self.open)
        self.open = True
        self.came: asyncio.Queue[NodeRecord] = asyncio.Queue()
        self.refused = asyncio.Event()

    def add(self, record: NodeRecord, now: UnixSeconds) -> bool:
        if not self.open:
            self.refused.set()
        is_news = super().add(record, now)
        if is_news:
            self.came.put_nowait(record)
        return is_news


@dataclass
class Member:
    """A node that announces itself to one keeper."""

    keys: NodeKeys
    transport: Transport
    directory: Directory

    def claim(self) -> NodeClaim:
        now = time.time_ns()
        expiry = UnixSeconds(now // 10**9 + 3600)
        account, key = self.keys.account.address, self.keys.sealing.public_key
        return NodeClaim(self.keys.node.node_id, account, "", 0, ("validator",), key, now, expiry)


@asynccontextmanager
async def open_members(count: int) -> AsyncIterator[tuple[Noticed, list[Member]]]:
    table = Noticed()
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(Transport.open(NodeKey.from_seed(b"\xaa" * 32)))
        Directory(hub, SystemClock(), (), table).serve()
        members = []
        for number in range(count):
            made = Keys.of(number)
            keys = NodeKeys(made.node, made.account, HpkeKey.from_seed(bytes([number + 50]) * 32))
            transport = await stack.enter_async_context(Transport.open(keys.node))
            members.append(Member(keys, transport, Directory(transport, SystemClock(), (hub.endpoint,))))
        yield table, members


@asynccontextmanager
async def announced(member: Member, confide: announcing.Confide) -> AsyncIterator[None]:
    """The loop that every node runs, while the context is open."""
    task = asyncio.create_task(keep_announced(member.directory, member.keys, member.claim, confide))
    try:
        yield
        assert not task.done(), "nothing ends the announcements"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_hidden_validators_find_one_another(
    tmp_path: Path, rich: LocalAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first to announce itself cannot know the others' keys yet: it must do so again, and they must look again."""
    monkeypatch.setattr(announcing, "INCOMPLETE_SECONDS", 0.1)
    genesis = make_genesis(4, rich)
    genesis = replace(genesis, validators=tuple(replace(one, host="", port=0) for one in genesis.validators))
    async with asyncio.timeout(120), AsyncExitStack() as stack:
        table, members = await stack.enter_async_context(open_members(4))
        validators = []
        for number, member in enumerate(members):
            opening = Validator.open(
                ValidatorConfig(rpc_port=None),
                *(Keys.of(number).bls, member.transport, member.keys.node.node_id, tmp_path / str(number), genesis),
                find=partial(find_hidden, member.directory, member.keys.sealing),
            )
            validator = await stack.enter_async_context(opening)
            validators.append(validator)
            confide = partial(confided, member.directory, validator, HOST, member.transport.endpoint.port)
            await stack.enter_async_context(announced(member, confide))
        sent = validators[0].submit(sign(rich, 0, STRANGER, value=1))
        for validator in validators:
            await final_place(validator, sent.hash)
        records = table.find(Find(), UnixSeconds(int(time.time())))
    assert len(records) == 4
    assert all(len(record.claim.sealed) == 3 for record in records)
    assert not [record for record in records if HOST.encode() in encode(record)]


async def test_who_must_know_from_now_on_is_told_at_once() -> None:
    """The loop would wait for twenty minutes otherwise."""
    readers = [HpkeKey.from_seed(bytes([number]) * 32) for number in (1, 2)]
    told, elected = [readers[0]], asyncio.Event()

    async def confide(claim: NodeClaim) -> Confided:
        outdated = elected.wait if len(told) == 1 else asyncio.Event().wait
        return Confided(hide(claim, HOST, 7311, [reader.public_key for reader in told]), True, outdated)

    async with asyncio.timeout(120), open_members(1) as (table, (member,)), announced(member, confide):
        first = await table.came.get()
        with pytest.raises(Unavailable, match="has not told this node yet"):
            reveal(first, readers[1])
        told.append(readers[1])
        elected.set()
        second = await table.came.get()
        assert reveal(second, readers[0]) == reveal(second, readers[1])
        assert second.claim.sequence > first.claim.sequence


async def test_a_record_that_no_keeper_takes_is_offered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcing, "RETRY_SECONDS", 0.05)

    async def confide(claim: NodeClaim) -> Confided:
        return Confided(hide(claim, HOST, 7311, []), True, asyncio.Event().wait)

    async with asyncio.timeout(120), open_members(1) as (table, (member,)):
        table.open = False
        async with announced(member, confide):
            await table.refused.wait()
            table.open = True
            assert (await table.came.get()).claim.node_id == member.keys.node.node_id


async def test_a_record_learned_too_early_is_asked_for_again() -> None:
    """What is known is given out for thirty seconds; a record not sealed to this node yet is of no use to it."""
    async with asyncio.timeout(120), open_members(2) as (_, (hidden, reader)):
        node_id, key = hidden.keys.node.node_id, reader.keys.sealing

        async def tell(*readers: bytes) -> None:
            claim = hide(hidden.claim(), HOST, 7311, readers)
            await hidden.directory.announce(announcing.sign_record(hidden.keys.node, hidden.keys.account, claim))

        await tell()
        with pytest.raises(Unavailable):
            await find_hidden(reader.directory, key, node_id)
        await tell(key.public_key)
        assert (await find_hidden(reader.directory, key, node_id)).port == 7311
