"""Blobs between nodes: keep some for others, fetch from several, believe nobody.

A source that is slow does not hold a fetch up: the next one is asked beside it. A source that sends other bytes than
the name says is passed over and named in the error if nobody else delivers.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Final, Protocol, TypeVar

from koinon.crypto.hash import sha256
from koinon.kernel.errors import Forged, InvalidInput, KoinonError, MalformedMessage, Refused, Unavailable
from koinon.kernel.ids import NodeId
from koinon.kernel.quantities import Seconds
from koinon.store.blobs import BlobStore, Cid, cid_of_digest, digest_of_cid
from koinon.store.objects import object_blobs, read_manifest
from koinon.wire.blobs import MOST_ASKED_BLOBS, BlobData, BlobsHeld, GetBlob, HasBlobs, Manifest, PutBlob
from koinon.wire.catalogue import Message
from koinon.wire.discovery import Endpoint

PATIENCE: Final = Seconds(2.0)
"""How long one source may take before another is asked as well."""

BLOB_TIMEOUT: Final = Seconds(30.0)
_CHUNKS_AT_ONCE: Final = 4

_M = TypeVar("_M", bound=Message)


class Caller(Protocol):
    """What a fetch needs of a transport."""

    async def call(self, endpoint: Endpoint, message: Message, timeout: float = ..., /) -> Message: ...


class Handles(Protocol):
    """What serving needs of a transport: ``Transport.handle``."""

    def __call__(
        self, kind: type[_M], function: Callable[[NodeId, _M], Coroutine[Any, Any, Message | None]]
    ) -> None: ...


def serve_blobs(
    handle: Handles,
    blobs: BlobStore,
    *,
    may_put: Callable[[NodeId, int], bool],
    may_get: Callable[[NodeId, Cid], bool] = lambda _peer, _name: True,
) -> None:
    """Answer the blob messages of other nodes.

    Args:
        handle: ``Transport.handle``.
        blobs: where they are kept; its calls run in threads, since they wait for the disk.
        may_put: whether this peer may leave so many bytes here.
        may_get: whether this peer may have that blob; anybody may by default, since blobs of worth are encrypted.
    """

    async def put(peer: NodeId, message: PutBlob) -> None:
        if not may_put(peer, len(message.data)):
            raise Refused(f"this node keeps no blob of {len(message.data)} bytes for you")
        await asyncio.to_thread(blobs.put, message.data)

    async def get(peer: NodeId, message: GetBlob) -> BlobData:
        name = cid_of_digest(message.digest)
        if not may_get(peer, name):
            raise Refused(f"this node does not give you blob {name}")
        return BlobData(await asyncio.to_thread(blobs.get, name))

    async def has(peer: NodeId, message: HasBlobs) -> BlobsHeld:
        names = [cid_of_digest(digest) for digest in message.digests]
        visible = [name for name in names if may_get(peer, name)]
        held = await asyncio.to_thread(lambda: {name for name in visible if blobs.has(name)})
        return BlobsHeld(tuple(name in held for name in names))

    handle(PutBlob, put)
    handle(GetBlob, get)
    handle(HasBlobs, has)


async def fetch_blob(
    caller: Caller,
    sources: Sequence[Endpoint],
    name: Cid,
    *,
    patience: Seconds | float = PATIENCE,
    timeout: Seconds | float = BLOB_TIMEOUT,
) -> bytes:
    """The bytes of ``name`` from the first source that gives them.

    Args:
        caller: the transport.
        sources: nodes that may have it, the preferred first.
        name: what to fetch.
        patience: seconds after which the next source is asked beside those that have not answered.
        timeout: seconds for each source.

    Raises:
        InvalidInput: no name of ours, or no source.
        Unavailable: no source gave it; says how each failed.
    """
    digest = digest_of_cid(name)
    if not sources:
        raise InvalidInput(f"blob {name} cannot be fetched from no source; name at least one")

    async def ask(source: Endpoint) -> bytes:
        answer = await caller.call(source, GetBlob(digest), float(timeout))
        assert isinstance(answer, BlobData)
        if sha256(answer.data) != digest:
            raise Forged("it sent other bytes")
        return answer.data

    failures: list[str] = []
    asked: dict[asyncio.Task[bytes], Endpoint] = {}
    waiting = iter(sources)
    try:
        following = next(waiting, None)
        while following is not None or asked:
            if following is not None:
                asked[asyncio.create_task(ask(following))] = following
                following = next(waiting, None)
            limit = float(patience) if following is not None else None
            done, _ = await asyncio.wait(asked, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                source = asked.pop(task)
                problem = task.exception()
                if problem is None:
                    return task.result()
                if not isinstance(problem, KoinonError):
                    raise problem
                failures.append(f"node 0x{source.node_id.hex()[:16]}…: {problem}")
    finally:
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
    raise Unavailable(f"blob {name} could not be fetched; " + "; ".join(failures))


async def fetch_object(
    caller: Caller,
    sources: Sequence[Endpoint],
    name: Cid,
    blobs: BlobStore,
    *,
    patience: Seconds | float = PATIENCE,
    timeout: Seconds | float = BLOB_TIMEOUT,
) -> Manifest:
    """Bring the manifest of an object and every chunk into ``blobs``; what is there and sound is not fetched again.

    Chunks come from all sources in turn, four at once.

    Raises:
        MalformedMessage: the blob of this name is no manifest.
        Unavailable: a blob could not be fetched; those that came before it are kept.
    """
    turn = 0
    room = asyncio.Semaphore(_CHUNKS_AT_ONCE)

    async def bring(wanted: Cid) -> bytes:
        nonlocal turn
        async with room:
            held = await asyncio.to_thread(_sound_copy, blobs, wanted)
            if held is not None:
                return held
            first, turn = turn % max(1, len(sources)), turn + 1
            order = (*sources[first:], *sources[:first])
            data = await fetch_blob(caller, order, wanted, patience=patience, timeout=timeout)
            await asyncio.to_thread(blobs.put, data)
            return data

    manifest = read_manifest(await bring(name))

    async def keep(wanted: Cid) -> None:
        await bring(wanted)

    try:
        async with asyncio.TaskGroup() as group:
            for digest in dict.fromkeys(manifest.chunks):
                group.create_task(keep(cid_of_digest(digest)))
    except* KoinonError as problems:
        raise problems.exceptions[0] from None
    return manifest


async def replicate_object(
    caller: Caller,
    targets: Iterable[Endpoint],
    name: Cid,
    blobs: BlobStore,
    copies: int,
    *,
    timeout: Seconds | float = BLOB_TIMEOUT,
) -> tuple[Endpoint, ...]:
    """Give an object to other nodes until ``copies`` of them hold all of it.

    Args:
        caller: the transport.
        targets: candidates, the preferred first; those that fail or refuse are passed over.
        name: the object; every blob of it must be in ``blobs``.
        blobs: where it is.
        copies: how many nodes shall hold it.
        timeout: seconds for each message.

    Returns:
        The nodes that confirmed that they hold every blob.

    Raises:
        Unavailable: fewer than ``copies`` took it; says how the others failed. Copies that were made stay.
    """
    manifest = read_manifest(await asyncio.to_thread(blobs.get, name))
    names = tuple(dict.fromkeys(object_blobs(name, manifest)))
    holders: list[Endpoint] = []
    failures: list[str] = []
    for target in targets:
        if len(holders) == copies:
            break
        try:
            for missing in await _missing(caller, target, names, timeout):
                data = await asyncio.to_thread(blobs.get, missing)
                await caller.call(target, PutBlob(data), float(timeout))
            if await _missing(caller, target, names, timeout):
                raise Refused("it said it took every blob but does not hold them all")
        except KoinonError as problem:
            failures.append(f"node 0x{target.node_id.hex()[:16]}…: {problem}")
        else:
            holders.append(target)
    if len(holders) < copies:
        because = "; ".join(failures) or "there are no more nodes to ask"
        raise Unavailable(f"object {name} has {len(holders)} of {copies} copies; {because}")
    return tuple(holders)


async def _missing(caller: Caller, target: Endpoint, names: Sequence[Cid], timeout: Seconds | float) -> list[Cid]:
    missing: list[Cid] = []
    for begin in range(0, len(names), MOST_ASKED_BLOBS):
        part = names[begin : begin + MOST_ASKED_BLOBS]
        answer = await caller.call(target, HasBlobs(tuple(digest_of_cid(name) for name in part)), float(timeout))
        assert isinstance(answer, BlobsHeld)
        if len(answer.held) != len(part):
            raise MalformedMessage(f"it was asked for {len(part)} blobs and answered for {len(answer.held)}")
        missing += [name for name, held in zip(part, answer.held, strict=True) if not held]
    return missing


def _sound_copy(blobs: BlobStore, name: Cid) -> bytes | None:
    """The blob if it is here and unchanged."""
    if not blobs.has(name):
        return None
    try:
        return blobs.get(name)
    except (Forged, Unavailable):
        return None  # damaged or removed meanwhile: fetch it as if it had never been here
