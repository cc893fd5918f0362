"""What strangers and liars send: each is cut off or told why, and nothing else changes."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from net_messages import HASTY, Ask, Order, RawClient, Reply, Tell, new_key

from koinon.kernel.codec import decode, encode
from koinon.kernel.errors import Expired, MalformedMessage, Unavailable
from koinon.kernel.ids import NodeId
from koinon.net.certificate import server_context
from koinon.net.conversation import ANSWER, ASK, TELL
from koinon.net.handshake import CHALLENGE, PROOF, REFUSAL, WELCOME, Proof, Purpose, _statement
from koinon.net.quota import Allowance, Allowances
from koinon.net.transport import Transport
from koinon.wire.catalogue import Done, Failure, number_of, pack
from koinon.wire.discovery import Endpoint
from koinon.wire.frames import HEADER, FrameHead

heard: list[object] = []


@pytest.fixture
async def server() -> AsyncIterator[Transport]:
    """A node that hears, answers and must come out of every test alive and untouched."""
    heard.clear()

    async def answer(_: NodeId, message: Ask) -> Reply:
        heard.append(message)
        return Reply(message.data)

    async def hear(_: NodeId, message: Tell) -> None:
        heard.append(message)

    async with Transport.open(new_key(), pace=HASTY) as node:
        node.handle(Ask, answer)
        node.handle(Tell, hear)
        yield node
        async with Transport.open(new_key()) as honest:
            assert await honest.call(node.endpoint, Ask(b"still there?")) == Reply(b"still there?")


def proof(called: Transport, challenge: bytes, **changes: object) -> bytes:
    key = changes.get("key") or new_key()
    purpose = changes.get("purpose") or Purpose(1, None)
    named = changes.get("server") or called.node_id
    signature = key.sign(changes.get("domain", "koinon/transport/1"), _statement(named, challenge, purpose))  # type: ignore
    return encode(Proof(changes.get("claimed") or key.node_id, purpose, signature))  # type: ignore


@pytest.mark.parametrize(
    "changes",
    [
        {"claimed": new_key().node_id},
        {"server": new_key().node_id},
        {"domain": "koinon/other/1"},
        {"purpose": Purpose(2, None)},
        {"purpose": Purpose(1, "x" * 201)},
    ],
    ids=["another's id", "made for another server", "another domain", "another version", "label too long"],
)
async def test_a_false_proof_is_refused(server: Transport, changes: dict[str, object]) -> None:
    async with RawClient.connect(server.endpoint) as client:
        head, challenge = await client.read()
        assert head == CHALLENGE
        client.write(PROOF, proof(server, challenge, **changes))
        head, body = await client.read()
        assert head == REFUSAL
        assert decode(Failure, body).kind in ("Forged", "Refused", "MalformedMessage")
        assert await client.is_cut_off()


async def test_a_proof_cannot_be_replayed(server: Transport) -> None:
    async with RawClient.connect(server.endpoint) as client:
        _, challenge = await client.read()
        used = proof(server, challenge)
        client.write(PROOF, used)
        assert (await client.read())[0] == WELCOME
    async with RawClient.connect(server.endpoint) as client:
        await client.read()
        client.write(PROOF, used)
        assert (await client.read())[0] == REFUSAL


async def test_a_server_cannot_pass_a_proof_on() -> None:
    # The man in the middle is dialled under his own name and forwards the real server's challenge.
    victim = new_key()
    async with Transport.open(new_key()) as real, RawClient.connect(real.endpoint) as middle:
        _, challenge = await middle.read()
        own = new_key()
        signed_for_middle = victim.sign("koinon/transport/1", _statement(own.node_id, challenge, Purpose(1, None)))
        middle.write(PROOF, encode(Proof(victim.node_id, Purpose(1, None), signed_for_middle)))
        assert (await middle.read())[0] == REFUSAL
        assert not real.conversations()


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (FrameHead(ASK, 1, number_of(Ask)), encode(Ask(b"before the proof"))),
        (FrameHead(TELL, 0, number_of(Tell)), encode(Tell(1))),
        (WELCOME, b""),
        (CHALLENGE, bytes(32)),
        (FrameHead(200, 0, 0), b""),
    ],
)
async def test_nothing_but_a_proof_is_heard_before_the_proof(server: Transport, head: FrameHead, body: bytes) -> None:
    async with RawClient.connect(server.endpoint) as client:
        await client.read()
        client.write(head, body)
        assert await client.is_cut_off()
    assert heard == []


@pytest.mark.parametrize(
    ("head", "body", "length"),
    [
        (FrameHead(ASK, 1, 0xFFFF), b"", None),
        (FrameHead(ASK, 1, number_of(Ask)), b"\xc1", None),
        (FrameHead(ASK, 1, number_of(Ask)), encode(Ask(b"")) + b"\0", None),
        (FrameHead(ASK, 1, number_of(Ask)), b"\x92\xc4\0\x01", None),
        (FrameHead(TELL, 0, number_of(Ask)), encode(Ask(b"told")), None),
        (FrameHead(ASK, 1, number_of(Tell)), encode(Tell(1)), None),
        (FrameHead(ASK, 1, number_of(Reply)), encode(Reply(b"")), None),
        (FrameHead(8, 0, 0), b"link data", None),
        (PROOF, b"", None),
        (FrameHead(ASK, 1, number_of(Order)), b"", 101),
        (FrameHead(ASK, 1, number_of(Ask)), b"", 2**32 - 1),
    ],
    ids=[
        "unknown number", "not MessagePack", "trailing byte", "extra field", "request told", "one-way asked",
        "answer asked", "link frame", "second proof", "announced too long", "announced 4 GiB",
    ],
)  # fmt: skip
async def test_a_peer_that_breaks_the_format_is_cut_off(
    server: Transport, head: FrameHead, body: bytes, length: int | None
) -> None:
    async with RawClient.connect(server.endpoint) as client:
        assert (await client.prove(new_key(), server.endpoint))[0] == WELCOME
        client.write(head, body, length)
        assert await client.is_cut_off()
    assert heard == []


async def test_an_answer_nobody_asked_for_is_passed_over(server: Transport) -> None:
    async with RawClient.connect(server.endpoint) as client:
        await client.prove(new_key(), server.endpoint)
        client.write(FrameHead(ANSWER, 77, number_of(Done)), encode(Done()))
        client.write(FrameHead(ASK, 5, number_of(Ask)), encode(Ask(b"go on")))
        head, body = await client.read()
        assert head == FrameHead(ANSWER, 5, number_of(Reply))
        assert decode(Reply, body) == Reply(b"go on")


async def test_a_peer_that_answers_with_the_wrong_message_is_cut_off() -> None:
    key = new_key()
    async with Transport.open(new_key()) as node, RawClient.connect(node.endpoint) as liar:
        await liar.prove(key, node.endpoint)
        (conversation,) = node.conversations()
        call = asyncio.create_task(conversation.ask(Ask(b"")))
        head, _ = await liar.read()
        number, body = pack(Tell(1))
        liar.write(FrameHead(ANSWER, head.request, number), body)
        with pytest.raises(Unavailable, match="may not answer"):
            await call
        assert await liar.is_cut_off()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.booleans())
async def test_no_bytes_at_all_do_harm(server: Transport, data: bytes, proven: bool) -> None:
    async with RawClient.connect(server.endpoint) as client:
        if proven:
            await client.prove(new_key(), server.endpoint)
        client.writer.write(data)
        client.writer.write_eof() if client.writer.can_write_eof() else client.writer.close()
        assert await client.is_cut_off()


async def test_plain_text_is_no_greeting(server: Transport) -> None:
    reader, writer = await asyncio.open_connection(server.endpoint.host, server.endpoint.port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n" * 10)
    client = RawClient(reader, writer)
    assert await client.is_cut_off()
    writer.close()


async def test_silence_is_cut_off_at_every_stage(server: Transport) -> None:
    # Before TLS, before the proof, within a header, within a body.
    reader, writer = await asyncio.open_connection(server.endpoint.host, server.endpoint.port)
    assert await RawClient(reader, writer).is_cut_off()
    writer.close()
    async with RawClient.connect(server.endpoint) as client:
        assert await client.is_cut_off()
    for part in (b"\0", HEADER.pack(100, ASK, 1, number_of(Ask)), HEADER.pack(100, ASK, 1, number_of(Ask)) + bytes(99)):
        async with RawClient.connect(server.endpoint) as client:
            await client.prove(new_key(), server.endpoint)
            client.writer.write(part)
            assert await client.is_cut_off()


async def test_an_idle_but_proven_peer_is_kept(server: Transport) -> None:
    async with RawClient.connect(server.endpoint) as idle, RawClient.connect(server.endpoint) as slow:
        await idle.prove(new_key(), server.endpoint)
        await slow.prove(new_key(), server.endpoint)
        slow.writer.write(b"\0")
        assert await slow.is_cut_off()  # by now the idle one has been looked at more than once
        idle.write(FrameHead(ASK, 1, number_of(Ask)), encode(Ask(b"awake")))
        assert (await idle.read())[0].kind == ANSWER


async def test_a_peer_that_never_reads_its_answers_is_dropped(server: Transport) -> None:
    async with RawClient.connect(server.endpoint) as client:
        await client.prove(new_key(), server.endpoint)
        (conversation,) = server.conversations()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for number in range(20):
            client.write(FrameHead(ASK, number, number_of(Ask)), encode(Ask(bytes(4_000_000))))
        async with asyncio.timeout(120):
            await conversation.stream.closed
    heard.clear()


async def test_a_flood_is_slowed_down_across_reconnects_and_spares_others() -> None:
    few = Allowances(messages_per_peer=Allowance(per_second=0.001, burst=5))
    flooder, received = new_key(), []

    async def hear(peer: NodeId, _: Ask) -> Reply:
        received.append(peer)
        return Reply(b"")

    async with Transport.open(new_key(), allowances=few) as node:
        node.handle(Ask, hear)
        for _ in range(2):
            async with Transport.open(flooder, pace=HASTY) as client:
                calls = [client.call(node.endpoint, Ask(bytes(70_000)), 0.3) for _ in range(10)]
                outcomes = await asyncio.gather(*calls, return_exceptions=True)
                assert [type(outcome) for outcome in outcomes].count(Expired) >= 3
        assert len(received) <= 8
        async with Transport.open(new_key()) as polite:
            await polite.call(node.endpoint, Ask(b""))


async def test_an_address_that_dials_too_often_is_hung_up_on() -> None:
    few = Allowances(connections_per_address=Allowance(per_second=0.001, burst=3))
    async with Transport.open(new_key(), allowances=few) as node:
        for _ in range(3):
            async with Transport.open(new_key(), pace=HASTY) as client:
                await client.link(node.endpoint, "one of three")
        async with Transport.open(new_key(), pace=HASTY) as client:
            with pytest.raises(Unavailable, match="cannot be reached"):
                await client.link(node.endpoint, "the fourth")


async def test_one_peer_holds_few_connections(server: Transport) -> None:
    key = new_key()
    async with (
        RawClient.connect(server.endpoint) as first,
        RawClient.connect(server.endpoint) as second,
        RawClient.connect(server.endpoint) as third,
        RawClient.connect(server.endpoint) as fourth,
        RawClient.connect(server.endpoint) as fifth,
    ):
        for client in (first, second, third, fourth, fifth):
            assert (await client.prove(key, server.endpoint))[0] == WELCOME
        assert await first.is_cut_off()
        assert len(server.conversations()) <= 4


async def test_a_server_that_lies_in_its_greeting_is_left() -> None:
    key = new_key()
    for said, expected in [
        (HEADER.pack(32, *CHALLENGE) + bytes(32) + HEADER.pack(1, *WELCOME) + b"x" + b"\xff" * 40, Unavailable),
        (HEADER.pack(3000, *CHALLENGE) + bytes(3000), Unavailable),
        (HEADER.pack(31, *CHALLENGE) + bytes(31), MalformedMessage),
        (HEADER.pack(4, *REFUSAL) + b"\xff" * 4, MalformedMessage),
    ]:

        async def lie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, said: bytes = said) -> None:
            writer.write(said)
            await reader.read()
            writer.close()

        liar = await asyncio.start_server(lie, "127.0.0.1", 0, ssl=server_context(key))
        try:
            port = liar.sockets[0].getsockname()[1]
            async with Transport.open(new_key(), pace=HASTY) as node:
                with pytest.raises(expected):
                    await node.call(Endpoint(key.node_id, "127.0.0.1", port), Ask(b""), 2)
        finally:
            liar.close()
            await liar.wait_closed()


def test_only_loopback_is_listened_on_by_default() -> None:
    async def main() -> str:
        async with Transport.open(new_key()) as node:
            return node.endpoint.host

    assert asyncio.run(main()) == "127.0.0.1"
    assert socket.inet_aton("127.0.0.1")[0] == 127
