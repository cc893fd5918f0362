"""Blobs between nodes over real connections: sources that lie, stall, forget and die."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from koinon.crypto.random import SystemRng
from koinon.crypto.signature import NodeKey
from koinon.kernel.errors import InvalidInput, MalformedMessage, Refused, Unavailable
from koinon.kernel.ids import NodeId
from koinon.net.transport import Transport
from koinon.store.blobs import Cid, DirectoryBlobs, MemoryBlobs, cid, digest_of_cid
from koinon.store.exchange import fetch_blob, fetch_object, replicate_object, serve_blobs
from koinon.store.objects import DataKey, load_object, seal_object, store_object
from koinon.wire.blobs import BlobData, BlobsHeld, GetBlob, HasBlobs, PutBlob
from koinon.wire.discovery import Endpoint

RNG = SystemRng()
KEY = DataKey(bytes(range(32)))
PLAINTEXT = bytes(range(256)) * 9000


class Nodes:
    """Honest and other nodes of one test."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack

    async def plain(self) -> Transport:
        return await self._stack.enter_async_context(Transport.open(NodeKey.generate(RNG)))

    async def honest(self, *, may_put: bool = True) -> tuple[Endpoint, MemoryBlobs]:
        node, blobs = await self.plain(), MemoryBlobs()
        serve_blobs(node.handle, blobs, may_put=lambda _peer, _size: may_put)
        return node.endpoint, blobs

    async def lying(self) -> Endpoint:
        node = await self.plain()

        async def lie(_: NodeId, __: GetBlob) -> BlobData:
            return BlobData(b"something else")

        node.handle(GetBlob, lie)
        return node.endpoint

    async def stalling(self) -> Endpoint:
        node = await self.plain()

        async def stall(_: NodeId, __: GetBlob) -> BlobData:
            await asyncio.Event().wait()
            raise AssertionError

        node.handle(GetBlob, stall)
        return node.endpoint


@pytest.fixture
async def nodes() -> AsyncIterator[Nodes]:
    async with AsyncExitStack() as stack:
        yield Nodes(stack)


def nowhere() -> Endpoint:
    return Endpoint(NodeKey.generate(RNG).node_id, "127.0.0.1", 1)


async def test_a_blob_comes_from_the_node_that_has_it(nodes: Nodes) -> None:
    here = await nodes.plain()
    empty, _ = await nodes.honest()
    full, blobs = await nodes.honest()
    name = blobs.put(b"weights")
    assert await fetch_blob(here, [full], name) == b"weights"
    assert await fetch_blob(here, [empty, nowhere(), full], name) == b"weights"


async def test_a_liar_is_passed_over_and_named_if_nobody_else_delivers(nodes: Nodes) -> None:
    here, liar = await nodes.plain(), await nodes.lying()
    full, blobs = await nodes.honest()
    name = blobs.put(b"weights")
    assert await fetch_blob(here, [liar, full], name) == b"weights"
    with pytest.raises(Unavailable) as caught:
        await fetch_blob(here, [liar, nowhere()], name)
    assert f"0x{liar.node_id.hex()[:16]}…: it sent other bytes" in str(caught.value)
    assert "cannot be reached" in str(caught.value)


async def test_a_slow_source_holds_nobody_up(nodes: Nodes) -> None:
    here, slow = await nodes.plain(), await nodes.stalling()
    full, blobs = await nodes.honest()
    name = blobs.put(b"weights")
    before = asyncio.all_tasks()
    async with asyncio.timeout(120):
        assert await fetch_blob(here, [slow, full], name, patience=0.05, timeout=60) == b"weights"
    assert {task for task in asyncio.all_tasks() - before if "ask" in repr(task.get_coro())} == set()


async def test_names_and_sources_are_checked_first(nodes: Nodes) -> None:
    here = await nodes.plain()
    with pytest.raises(InvalidInput, match="CIDv1"):
        await fetch_blob(here, [nowhere()], Cid("not a name"))
    with pytest.raises(InvalidInput, match="at least one"):
        await fetch_blob(here, [], cid(b""))


async def test_an_object_is_gathered_from_liars_and_halves(nodes: Nodes) -> None:
    here, liar = await nodes.plain(), await nodes.lying()
    sealed = seal_object(PLAINTEXT, KEY, RNG)
    one, first_half = await nodes.honest()
    other, second_half = await nodes.honest()
    name = store_object(first_half, sealed)
    for chunk in sealed.chunks:
        second_half.put(chunk)
    first_half.delete(cid(sealed.chunks[2]))
    second_half.delete(cid(sealed.chunks[0]))
    local = MemoryBlobs()
    assert await fetch_object(here, [liar, one, other], name, local) == sealed.manifest
    assert load_object(local, name, KEY) == PLAINTEXT
    assert await fetch_object(here, [nowhere()], name, local) == sealed.manifest, "all of it is here already"


async def test_a_damaged_local_copy_is_fetched_again(nodes: Nodes, tmp_path_factory: pytest.TempPathFactory) -> None:
    here = await nodes.plain()
    source, blobs = await nodes.honest()
    sealed = seal_object(PLAINTEXT, KEY, RNG)
    name = store_object(blobs, sealed)
    folder = tmp_path_factory.mktemp("blobs")
    local = DirectoryBlobs(folder)
    store_object(local, sealed)
    damaged = cid(sealed.chunks[1])
    (folder / damaged[-2:] / damaged).write_bytes(b"rot")
    await fetch_object(here, [source], name, local)
    assert load_object(local, name, KEY) == PLAINTEXT


async def test_what_cannot_be_fetched_is_said_and_a_manifest_must_be_one(nodes: Nodes) -> None:
    here = await nodes.plain()
    source, blobs = await nodes.honest()
    sealed = seal_object(PLAINTEXT, KEY, RNG)
    name = store_object(blobs, sealed)
    blobs.delete(cid(sealed.chunks[1]))
    with pytest.raises(Unavailable, match=cid(sealed.chunks[1])):
        await fetch_object(here, [source], name, MemoryBlobs())
    with pytest.raises(MalformedMessage):
        await fetch_object(here, [source], blobs.put(b"no manifest"), MemoryBlobs())


async def test_an_object_is_replicated_until_enough_nodes_hold_all_of_it(nodes: Nodes) -> None:
    here, local = await nodes.plain(), MemoryBlobs()
    name = store_object(local, seal_object(PLAINTEXT, KEY, RNG))
    (first, kept), (second, also_kept), (third, spared) = [await nodes.honest() for _ in range(3)]
    unwilling, _ = await nodes.honest(may_put=False)
    holders = await replicate_object(here, [nowhere(), unwilling, first, second, third], name, local, 2)
    assert holders == (first, second)
    assert load_object(kept, name, KEY) == load_object(also_kept, name, KEY) == PLAINTEXT
    assert not spared.has(name)
    assert await replicate_object(here, [first], name, local, 1) == (first,), "what is there is not sent again"


async def test_too_few_copies_are_an_error_that_says_why(nodes: Nodes) -> None:
    here, local = await nodes.plain(), MemoryBlobs()
    name = store_object(local, seal_object(b"small", KEY, RNG))
    willing, kept = await nodes.honest()
    unwilling, _ = await nodes.honest(may_put=False)
    with pytest.raises(Unavailable, match=r"has 1 of 2 copies.*keeps no blob of"):
        await replicate_object(here, [willing, unwilling], name, local, 2)
    assert kept.has(name)


async def test_a_node_that_only_says_it_keeps_blobs_is_no_copy(nodes: Nodes) -> None:
    here, boaster, local = await nodes.plain(), await nodes.plain(), MemoryBlobs()
    name = store_object(local, seal_object(b"small", KEY, RNG))

    async def take(_: NodeId, __: PutBlob) -> None:
        return None

    async def deny(_: NodeId, message: HasBlobs) -> BlobsHeld:
        return BlobsHeld((False,) * len(message.digests))

    boaster.handle(PutBlob, take)
    boaster.handle(HasBlobs, deny)
    with pytest.raises(Unavailable, match="does not hold them all"):
        await replicate_object(here, [boaster.endpoint], name, local, 1)


async def test_a_node_that_answers_for_too_few_is_no_copy(nodes: Nodes) -> None:
    here, sloppy, local = await nodes.plain(), await nodes.plain(), MemoryBlobs()
    name = store_object(local, seal_object(b"small", KEY, RNG))

    async def shrug(_: NodeId, __: HasBlobs) -> BlobsHeld:
        return BlobsHeld(())

    sloppy.handle(HasBlobs, shrug)
    with pytest.raises(Unavailable, match="asked for 2 blobs and answered for 0"):
        await replicate_object(here, [sloppy.endpoint], name, local, 1)


async def test_a_server_gives_and_shows_only_what_it_may(nodes: Nodes) -> None:
    here, server, blobs = await nodes.plain(), await nodes.plain(), MemoryBlobs()
    name = blobs.put(b"private")
    serve_blobs(server.handle, blobs, may_put=lambda *_: False, may_get=lambda peer, _: peer != here.node_id)
    with pytest.raises(Unavailable, match="does not give you"):
        await fetch_blob(here, [server.endpoint], name)
    with pytest.raises(Refused):
        await here.call(server.endpoint, PutBlob(b"x"))
    asked = await here.call(server.endpoint, HasBlobs((digest_of_cid(name),)))
    assert asked == BlobsHeld((False,)), "what may not be had is not shown either"
