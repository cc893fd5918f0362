"""Links: raw frames in order, at the reader's pace, by the label both ends know."""

import asyncio
import hashlib
import select
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy
import pytest
from net_messages import HASTY, Ask, RawClient, new_key

from koinon.kernel.errors import Expired, InvalidInput, Refused, Unavailable
from koinon.net.link import FrameLink
from koinon.net.parking import MOST_PARKED_PER_PEER
from koinon.net.sockets import LOOP_SOCKETS, PROMPT_SOCKETS, Sockets
from koinon.net.transport import Transport
from koinon.wire.catalogue import pack
from koinon.wire.frames import LARGEST_BODY, FrameHead

MEBIBYTE = 1024 * 1024
SOON = replace(HASTY, greeting=30.0)
"""Hasty with everything but greetings, which take what they take on a busy machine."""

Opened = Callable[..., AbstractAsyncContextManager[Transport]]


@pytest.fixture(params=[LOOP_SOCKETS, PROMPT_SOCKETS], ids=["event loop", "prompt"])
def opened(request: pytest.FixtureRequest) -> Opened:
    """``Transport.open`` on either kind of sockets."""
    return partial(Transport.open, sockets=request.param)


async def pair(one: Transport, other: Transport, label: str = "work") -> tuple[FrameLink, FrameLink]:
    here, there = await asyncio.gather(one.link(other.endpoint, label), other.accept_link(one.node_id, label))
    return here, there


async def test_frames_arrive_whole_in_order_and_both_ways(opened: Opened) -> None:
    async with opened(new_key()) as one, opened(new_key()) as other:
        here, there = await pair(one, other)
        assert (here.peer, there.peer) == (other.node_id, one.node_id)
        frames = [b"", b"a", bytes(70_000), bytes(range(256)) * 10_000, b"end"]

        async def send_all(link: FrameLink) -> None:
            for frame in frames:
                await link.send(frame)

        async def receive_all(link: FrameLink) -> list[bytes]:
            return [await link.receive() for _ in frames]

        results = await asyncio.gather(send_all(here), send_all(there), receive_all(here), receive_all(there))
        assert results[2] == results[3] == frames


async def test_a_host_is_dialled_at_each_of_its_addresses(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    resolve = loop.getaddrinfo

    async def also_elsewhere(*arguments: Any, **named: Any) -> Any:
        found = await resolve(*arguments, **named)
        return [(*each[:4], (each[4][0], 1)) for each in found] + found

    async with opened(new_key()) as one, opened(new_key()) as other:
        monkeypatch.setattr(loop, "getaddrinfo", also_elsewhere)
        here, _ = await pair(one, other)
        assert here.peer == other.node_id


async def test_buffers_of_any_shape_are_joined(opened: Opened) -> None:
    matrix = numpy.arange(200_000, dtype=numpy.uint64).reshape(400, 500)
    empty = numpy.zeros((0, 3))
    async with opened(new_key()) as one, opened(new_key()) as other:
        here, there = await pair(one, other)
        await asyncio.gather(here.send([b"head", memoryview(matrix), memoryview(empty), bytearray(b"tail")]))
        received = await there.receive_buffer()
        assert bytes(received[:4]) == b"head"
        assert bytes(received[-4:]) == b"tail"
        assert (numpy.frombuffer(received[4:-4], numpy.uint64).reshape(400, 500) == matrix).all()
        small = matrix[:2, :3].copy()
        await here.send([memoryview(small)])
        assert await there.receive() == small.tobytes()


async def test_two_senders_do_not_mix_their_frames(opened: Opened) -> None:
    async with opened(new_key()) as one, opened(new_key()) as other:
        here, there = await pair(one, other)
        frames = [bytes([n]) * (2 * MEBIBYTE if n % 2 else 10) for n in range(1, 9)]
        sending = asyncio.gather(*(here.send(frame) for frame in frames))
        assert [await there.receive() for _ in frames] == frames
        await sending


async def test_a_reader_that_waits_makes_the_sender_wait(opened: Opened) -> None:
    async with opened(new_key()) as one, opened(new_key()) as other:
        here, there = await pair(one, other)
        sent, digest = 0, hashlib.sha256()

        async def send() -> None:
            nonlocal sent
            for number in range(128):
                frame = bytes([number]) * MEBIBYTE
                digest.update(frame)
                await here.send(frame)
                sent += 1

        sending = asyncio.create_task(send())
        done, _ = await asyncio.wait([sending], timeout=1.5)
        assert not done
        assert 0 < sent < 100, "nobody has read, so at most the buffers' worth has left"
        received = hashlib.sha256()
        for _ in range(128):
            received.update(await there.receive_buffer())
        await sending
        assert received.digest() == digest.digest()


async def test_a_link_that_arrives_first_waits_to_be_accepted(opened: Opened) -> None:
    async with opened(new_key()) as one, opened(new_key()) as other:
        here = await one.link(other.endpoint, "early")
        await here.send(b"sent before anybody accepted")
        there = await other.accept_link(one.node_id, "early")
        assert await there.receive() == b"sent before anybody accepted"


async def test_labels_and_peers_are_told_apart(opened: Opened) -> None:
    async with (
        opened(new_key()) as one,
        opened(new_key()) as two,
        opened(new_key()) as other,
    ):
        for link, text in (
            (await one.link(other.endpoint, "a"), b"one a"),
            (await one.link(other.endpoint, "b"), b"one b"),
            (await two.link(other.endpoint, "a"), b"two a"),
        ):
            await link.send(text)
        assert await (await other.accept_link(two.node_id, "a")).receive() == b"two a"
        assert await (await other.accept_link(one.node_id, "b")).receive() == b"one b"
        assert await (await other.accept_link(one.node_id, "a")).receive() == b"one a"


async def test_a_second_link_of_one_label_is_refused_while_the_first_waits(opened: Opened) -> None:
    async with opened(new_key()) as one, opened(new_key()) as other:
        await one.link(other.endpoint, "once")
        with pytest.raises(Refused, match="waits to be accepted already"):
            await one.link(other.endpoint, "once")


async def test_one_peer_cannot_park_without_bound(opened: Opened) -> None:
    async with opened(new_key()) as one, opened(new_key()) as other:
        for number in range(MOST_PARKED_PER_PEER):
            await one.link(other.endpoint, f"parked {number}")
        with pytest.raises(Refused, match="too many"):
            await one.link(other.endpoint, "one more")


async def test_a_link_nobody_opens_expires(opened: Opened) -> None:
    async with opened(new_key()) as one:
        with pytest.raises(Expired, match="opened no link never"):
            await one.accept_link(new_key().node_id, "never", 0.05)


async def test_a_link_nobody_accepts_is_cut(opened: Opened) -> None:
    async with opened(new_key()) as one, opened(new_key(), pace=SOON) as other:
        here = await one.link(other.endpoint, "ignored")
        with pytest.raises(Unavailable, match="ignored"):
            await here.receive()
        with pytest.raises(Expired):
            await other.accept_link(one.node_id, "ignored", 0.05)


async def test_closing_delivers_what_was_sent_and_then_says_so(opened: Opened) -> None:
    async with opened(new_key()) as one, opened(new_key()) as other:
        here, there = await pair(one, other)
        await here.send(bytes(3 * MEBIBYTE))
        await here.send(b"last")
        closing = asyncio.create_task(here.close())
        assert len(await there.receive()) == 3 * MEBIBYTE
        assert await there.receive() == b"last"
        with pytest.raises(Unavailable, match="is gone"):
            await there.receive()
        await closing
        with pytest.raises(Unavailable):
            await here.send(b"too late")
        with pytest.raises(Unavailable):
            await there.send(b"nobody reads")


async def test_a_frame_too_long_is_refused_before_anything_leaves(opened: Opened) -> None:
    async with opened(new_key()) as one, opened(new_key()) as other:
        here, there = await pair(one, other)
        part = memoryview(bytearray(64 * MEBIBYTE))
        with pytest.raises(InvalidInput, match=f"longer than the {LARGEST_BODY}"):
            await here.send([part] * 4 + [b"x"])
        await here.send(b"unharmed")
        assert await there.receive() == b"unharmed"


async def test_a_send_given_up_halfway_ends_the_link_instead_of_garbling_it(opened: Opened) -> None:
    async with opened(new_key()) as one, opened(new_key()) as other:
        here, there = await pair(one, other)
        sending = asyncio.create_task(here.send(bytes(200 * MEBIBYTE)))
        done, _ = await asyncio.wait([sending], timeout=0.05)
        assert not done
        sending.cancel()
        with pytest.raises(Unavailable):
            await there.receive()
        with pytest.raises(Unavailable, match="given up halfway"):
            await here.send(b"next")


async def test_a_peer_that_stops_within_a_frame_is_cut(opened: Opened) -> None:
    async with opened(new_key(), pace=SOON) as node, RawClient.connect(node.endpoint) as client:
        key = new_key()
        await client.prove(key, node.endpoint, "slow")
        link = await node.accept_link(key.node_id, "slow")
        client.write(FrameHead(8, 0, 0), b"half", length=8)
        with pytest.raises(Unavailable, match="did not finish a frame"):
            await link.receive()


async def test_a_link_carries_nothing_but_its_frames(opened: Opened) -> None:
    async with opened(new_key()) as node, RawClient.connect(node.endpoint) as client:
        key = new_key()
        await client.prove(key, node.endpoint, "odd")
        link = await node.accept_link(key.node_id, "odd")
        number, body = pack(Ask(b"a message"))
        client.write(FrameHead(6, 1, number), body)
        with pytest.raises(Unavailable, match="no place on a link"):
            await link.receive()


# What only prompt links can.


async def test_frames_can_be_waited_for_without_the_event_loop() -> None:
    """Small ones that come together, one of several records, an empty one; and the loop goes on where this left off."""
    opened = partial(Transport.open, sockets=PROMPT_SOCKETS)
    async with opened(new_key()) as one, opened(new_key()) as other:
        here, there = await pair(one, other)
        frames = [b"first", b"second", bytes(range(256)) * 300, b"", b"last"]
        assert all(here.send_now(frame) for frame in frames)
        received: list[bytes] = []
        while len(received) < len(frames):
            frame = there.receive_now()
            if frame is not None:
                received.append(frame)
                continue
            descriptor = there.descriptor()
            assert descriptor is not None
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            assert poll.poll(60_000)
        assert received == frames
        assert there.receive_now() is None
        receiving = asyncio.create_task(there.receive())
        await asyncio.sleep(0)
        await here.send(b"through the loop")
        assert await receiving == b"through the loop"


async def test_a_prompt_link_that_cannot_send_at_once_leaves_waiting_to_the_loop() -> None:
    opened = partial(Transport.open, sockets=PROMPT_SOCKETS)
    async with opened(new_key()) as one, opened(new_key()) as other:
        here, there = await pair(one, other)
        frame, count = bytes(200 * 1024), 0
        while here.descriptor() is not None:
            assert here.send_now(frame)
            count += 1
        for _ in range(count):
            assert await there.receive() == frame
        assert here.descriptor() is not None


@pytest.mark.parametrize("kinds", [(LOOP_SOCKETS, PROMPT_SOCKETS), (PROMPT_SOCKETS, LOOP_SOCKETS)])
async def test_both_kinds_of_sockets_understand_each_other(kinds: tuple[Sockets, Sockets]) -> None:
    calling, called = kinds
    async with (
        Transport.open(new_key(), sockets=calling) as one,
        Transport.open(new_key(), sockets=called) as other,
    ):
        here, there = await pair(one, other)
        frames = [bytes([number]) * 100_000 for number in range(40)]
        sending = asyncio.gather(*(link.send(frame) for frame in frames for link in (here, there)))
        for link in (here, there):
            assert [await link.receive() for _ in frames] == frames
        await sending
        await here.close()
        with pytest.raises(Unavailable):
            await there.receive()
