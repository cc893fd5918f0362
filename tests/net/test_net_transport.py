"""Calls, refusals, mutual dialling, restarts and shutdown between honest nodes."""

import asyncio
import gc
import logging
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop
from net_messages import HASTY, Ask, Order, Reply, Tell, new_key

from koinon.kernel.errors import (
    Expired,
    Forged,
    InvalidInput,
    KoinonError,
    ProtocolAbort,
    Refused,
    Unavailable,
)
from koinon.kernel.ids import NodeId
from koinon.net.conversation import MOST_ASKED
from koinon.net.transport import Transport
from koinon.wire.catalogue import Done, Message
from koinon.wire.discovery import Endpoint


async def echo(_: NodeId, message: Ask) -> Reply:
    return Reply(message.data)


async def test_a_call_is_answered_by_the_node_that_was_called() -> None:
    callers = []

    async def note(peer: NodeId, message: Order) -> None:
        callers.append((peer, message.name))

    async with Transport.open(new_key()) as one, Transport.open(new_key()) as other:
        other.handle(Ask, echo)
        other.handle(Order, note)
        assert await one.call(other.endpoint, Ask(b"x" * 200)) == Reply(b"x" * 200)
        assert await one.call(other.endpoint, Order("begin")) == Done()
        assert callers == [(one.node_id, "begin")]
        large = bytes(range(256)) * 40_000
        assert await one.call(other.endpoint, Ask(large)) == Reply(large)


async def test_both_ends_call_over_one_connection() -> None:
    async with Transport.open(new_key()) as one, Transport.open(new_key()) as other:
        one.handle(Ask, echo)
        other.handle(Ask, echo)
        await one.call(other.endpoint, Ask(b""))
        unreachable = Endpoint(one.node_id, "127.0.0.1", 1)
        assert await other.call(unreachable, Ask(b"back")) == Reply(b"back")
        assert len(one.conversations()) == len(other.conversations()) == 1


async def test_a_node_calls_itself_without_a_connection() -> None:
    async with Transport.open(new_key()) as node:
        node.handle(Ask, echo)
        assert await node.call(node.endpoint, Ask(b"me")) == Reply(b"me")
        assert not node.conversations()


@pytest.mark.parametrize(
    "problem",
    [
        InvalidInput("no such study; ask for one that exists"),
        Refused("too small a budget"),
        Forged("the signature is not yours"),
        Unavailable("no room"),
        Expired("the deadline passed"),
    ],
)
async def test_an_error_is_raised_at_the_caller_as_it_was(problem: KoinonError) -> None:
    async def fail(_: NodeId, __: Ask) -> Reply:
        raise problem

    async with Transport.open(new_key()) as one, Transport.open(new_key()) as other:
        other.handle(Ask, fail)
        with pytest.raises(type(problem), match=str(problem)) as caught:
            await one.call(other.endpoint, Ask(b""))
        assert type(caught.value) is type(problem)


async def test_an_abort_does_not_carry_its_suspects() -> None:
    async def fail(_: NodeId, __: Ask) -> Reply:
        raise ProtocolAbort("a share does not add up", [1, 2])

    async with Transport.open(new_key()) as one, Transport.open(new_key()) as other:
        other.handle(Ask, fail)
        with pytest.raises(ProtocolAbort) as caught:
            await one.call(other.endpoint, Ask(b""))
        assert caught.value.suspects == frozenset()


async def test_an_internal_error_tells_nobody_its_text(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(_: NodeId, __: Ask) -> Reply:
        raise ValueError("patient 17: 0.25")

    async with Transport.open(new_key()) as one, Transport.open(new_key()) as other:
        other.handle(Ask, fail)
        with caplog.at_level(logging.DEBUG), pytest.raises(Unavailable, match="failed inside") as caught:
            await one.call(other.endpoint, Ask(b""))
    assert "patient" not in str(caught.value) + caplog.text
    assert "ValueError at" in caplog.text


async def test_an_answer_out_of_turn_is_our_fault_and_stays_here() -> None:
    async def confused(_: NodeId, __: Ask) -> Message:
        return Done()

    async with Transport.open(new_key()) as one, Transport.open(new_key()) as other:
        other.handle(Ask, confused)
        with pytest.raises(Unavailable, match="failed inside"):
            await one.call(other.endpoint, Ask(b""))


async def test_a_message_nobody_handles_is_refused() -> None:
    async with Transport.open(new_key()) as one, Transport.open(new_key()) as other:
        with pytest.raises(Refused, match="does not answer Ask"):
            await one.call(other.endpoint, Ask(b""))


async def test_messages_beyond_their_limit_never_leave() -> None:
    async with Transport.open(new_key()) as one, Transport.open(new_key()) as other:
        with pytest.raises(InvalidInput, match="longer than the 100 allowed"):
            await one.call(other.endpoint, Order("x" * 200))


async def test_call_and_send_are_not_mixed_up() -> None:
    async with Transport.open(new_key()) as node:
        with pytest.raises(ValueError, match="send it instead"):
            await node.call(node.endpoint, Tell(1))
        with pytest.raises(ValueError, match="call instead"):
            await node.send(node.endpoint, Ask(b""))
        node.handle(Ask, echo)
        with pytest.raises(ValueError, match="already"):
            node.handle(Ask, echo)


async def test_one_way_messages_arrive_in_order_even_when_the_sender_leaves() -> None:
    heard: asyncio.Queue[int] = asyncio.Queue()

    async def hear(_: NodeId, message: Tell) -> None:
        heard.put_nowait(message.number)

    async with Transport.open(new_key()) as other:
        other.handle(Tell, hear)
        async with Transport.open(new_key()) as one:
            for number in range(200):
                await one.send(other.endpoint, Tell(number))
        async with asyncio.timeout(120):
            assert [await heard.get() for _ in range(200)] == list(range(200))


async def test_another_key_at_the_address_is_forged() -> None:
    async with Transport.open(new_key()) as one, Transport.open(new_key()) as other:
        wrong = Endpoint(new_key().node_id, other.endpoint.host, other.endpoint.port)
        with pytest.raises(Forged, match="look its address up again"):
            await one.call(wrong, Ask(b""))
        with pytest.raises(Forged):
            await one.link(wrong, "label")
        assert not other.conversations()


async def test_a_stranger_is_refused_with_a_sentence() -> None:
    friend, stranger = new_key(), new_key()
    async with (
        Transport.open(new_key(), admit=lambda peer: peer == friend.node_id) as server,
        Transport.open(friend) as one,
        Transport.open(stranger) as other,
    ):
        server.handle(Ask, echo)
        assert await one.call(server.endpoint, Ask(b"hello")) == Reply(b"hello")
        with pytest.raises(Refused, match="does not admit"):
            await other.call(server.endpoint, Ask(b"hello"))
        with pytest.raises(Refused, match="does not admit"):
            await other.link(server.endpoint, "label")


async def test_nobody_listening_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed_soon:
        port = closed_soon.getsockname()[1]
    async with Transport.open(new_key()) as node:
        with pytest.raises(Unavailable, match=rf"cannot be reached at 127\.0\.0\.1:{port}"):
            await node.call(Endpoint(new_key().node_id, "127.0.0.1", port), Ask(b""))


async def test_a_port_in_use_is_said_clearly() -> None:
    async with Transport.open(new_key()) as node:
        with pytest.raises(Unavailable, match="choose another port"):
            async with Transport.open(new_key(), port=node.endpoint.port):
                raise AssertionError("two nodes on one port")


async def test_a_listener_that_says_nothing_expires() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        silent = Endpoint(new_key().node_id, "127.0.0.1", mute.getsockname()[1])
        async with Transport.open(new_key(), pace=HASTY) as node:
            with pytest.raises(Expired, match="within"):
                await node.call(silent, Ask(b""), 0.1)
            with pytest.raises(Unavailable):
                await node.call(silent, Ask(b""), 5)


async def test_an_answer_that_does_not_come_expires_and_the_connection_lives_on() -> None:
    release = asyncio.Event()

    async def slow(_: NodeId, message: Ask) -> Reply:
        if message.data == b"slow":
            await release.wait()
        return Reply(message.data)

    async with Transport.open(new_key()) as one, Transport.open(new_key()) as other:
        other.handle(Ask, slow)
        with pytest.raises(Expired, match="no answer to Ask"):
            await one.call(other.endpoint, Ask(b"slow"), 0.1)
        release.set()
        assert await one.call(other.endpoint, Ask(b"quick")) == Reply(b"quick")
        assert len(one.conversations()) == 1


async def test_many_calls_at_once_share_one_dial() -> None:
    admitted = []

    def admit(peer: NodeId) -> bool:
        admitted.append(peer)
        return True

    async with Transport.open(new_key()) as one, Transport.open(new_key(), admit=admit) as other:
        other.handle(Ask, echo)
        answers = await asyncio.gather(*(one.call(other.endpoint, Ask(bytes([n]))) for n in range(100)))
        assert answers == [Reply(bytes([n])) for n in range(100)]
        assert admitted == [one.node_id]


async def test_mutual_dialling_ends_in_one_connection_and_loses_no_call() -> None:
    for _ in range(5):
        async with Transport.open(new_key(), pace=HASTY) as one, Transport.open(new_key(), pace=HASTY) as other:
            one.handle(Ask, echo)
            other.handle(Ask, echo)
            calls = [a.call(b.endpoint, Ask(bytes([n]))) for n in range(20) for a, b in ((one, other), (other, one))]
            assert len(await asyncio.gather(*calls)) == 40
            retired = [each for node in (one, other) for each in node.conversations() if each.retired is not None]
            async with asyncio.timeout(120):
                await asyncio.gather(*(each.stream.closed for each in retired))
            await asyncio.gather(one.call(other.endpoint, Ask(b"")), other.call(one.endpoint, Ask(b"")))
            (kept,), (same) = one.conversations(), other.conversations()
            assert len(same) == 1
            if retired:
                assert kept.dialled == (one.node_id < other.node_id)


async def test_a_restarted_peer_is_dialled_again() -> None:
    key = new_key()
    async with Transport.open(new_key()) as one:
        async with Transport.open(key) as other:
            other.handle(Ask, echo)
            endpoint = other.endpoint
            await one.call(endpoint, Ask(b"before"))
            (conversation,) = one.conversations()
        await conversation.stream.closed
        with pytest.raises(Unavailable, match="cannot be reached"):
            await one.call(endpoint, Ask(b"between"))
        async with Transport.open(key, port=endpoint.port) as other:
            other.handle(Ask, echo)
            assert await one.call(endpoint, Ask(b"after")) == Reply(b"after")


async def test_a_peer_that_dies_fails_the_calls_that_wait_for_it() -> None:
    at_work = asyncio.Event()

    async def never(_: NodeId, __: Ask) -> Reply:
        at_work.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with Transport.open(new_key()) as one:
        async with Transport.open(new_key()) as other:
            other.handle(Ask, never)
            call = asyncio.create_task(one.call(other.endpoint, Ask(b"")))
            await at_work.wait()
        with pytest.raises(Unavailable, match="is gone"):
            await call


async def test_more_requests_than_a_peer_may_have_at_work_are_refused() -> None:
    release = asyncio.Event()

    async def slow(_: NodeId, message: Ask) -> Reply:
        await release.wait()
        return Reply(message.data)

    async with Transport.open(new_key()) as one, Transport.open(new_key()) as other:
        other.handle(Ask, slow)
        calls = [asyncio.create_task(one.call(other.endpoint, Ask(b""))) for _ in range(MOST_ASKED + 10)]
        done, waiting = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        release.set()
        await asyncio.wait(waiting)
        refused = [call for call in calls if isinstance(call.exception(), Refused)]
        assert len(refused) == 10
        assert done <= set(refused)


async def test_closing_leaves_no_task_no_connection_and_a_free_port() -> None:
    before = asyncio.all_tasks()

    async def never(_: NodeId, __: Ask) -> Reply:
        await asyncio.Event().wait()
        raise AssertionError

    async with Transport.open(new_key()) as one:
        async with Transport.open(new_key()) as other:
            other.handle(Ask, never)
            port = other.endpoint.port
            with pytest.raises(Expired):
                await one.call(other.endpoint, Ask(b""), 0.1)
            link = await one.link(other.endpoint, "open at the end")
        with pytest.raises(Unavailable):
            await link.receive()
        with pytest.raises(Unavailable, match=r"shutting down|cannot be reached"):
            await one.call(other.endpoint, Ask(b""))
        async with Transport.open(new_key(), port=port):
            pass
    assert asyncio.all_tasks() == before
    gc.collect()  # an unclosed socket would warn, and a warning is an error here


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_both_event_loops_carry_calls_and_links(run: Callable[[Coroutine[Any, Any, None]], None]) -> None:
    async def main() -> None:
        async with Transport.open(new_key()) as one, Transport.open(new_key()) as other:
            other.handle(Ask, echo)
            large = bytes(range(256)) * 20_000
            assert await one.call(other.endpoint, Ask(large)) == Reply(large)
            here, there = await asyncio.gather(one.link(other.endpoint, "l"), other.accept_link(one.node_id, "l"))
            for frame in (b"", b"small", large):
                _, received = await asyncio.gather(here.send(frame), there.receive())
                assert received == frame
            with pytest.raises(Forged):
                await one.call(Endpoint(new_key().node_id, other.endpoint.host, other.endpoint.port), Ask(b""))

    run(main())
