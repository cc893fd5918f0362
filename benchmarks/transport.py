"""What a call, a link frame, a worker and a signature cost on this machine.

Client and server share one process and one event loop, so processor time per operation is the sum of both sides.

    python benchmarks/transport.py --json
"""

import argparse
import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from typing import Final

import uvloop

from koinon.crypto.bls import BlsKey, aggregate_signatures, verify, verify_aggregate
from koinon.crypto.random import SystemRng
from koinon.crypto.signature import AccountKey, NodeKey, recover_address, verify_node_signature
from koinon.kernel.ids import NodeId
from koinon.net.transport import Transport
from koinon.wire.blobs import BlobData, GetBlob, PutBlob
from koinon.worker import Worker

MEBIBYTE: Final = 1024 * 1024
RNG: Final = SystemRng()

Result = dict[str, float]


async def measured(name: str, count: int, operation: Callable[[], Awaitable[object]]) -> Result:
    """Microseconds of wall and processor time per operation."""
    await operation()
    processor, wall = time.process_time(), time.perf_counter()
    for _ in range(count):
        await operation()
    return {
        f"{name}_wall_us": round((time.perf_counter() - wall) / count * 1e6, 1),
        f"{name}_cpu_us": round((time.process_time() - processor) / count * 1e6, 1),
    }


async def network() -> Result:
    """Dial, call and link over TLS on loopback."""
    megabyte = os.urandom(MEBIBYTE)
    async with Transport.open(NodeKey.generate(RNG)) as one, Transport.open(NodeKey.generate(RNG)) as other:

        async def keep(_: NodeId, __: PutBlob) -> None:
            return None

        async def give(_: NodeId, __: GetBlob) -> BlobData:
            return BlobData(megabyte)

        other.handle(PutBlob, keep)
        other.handle(GetBlob, give)
        begin = time.perf_counter()
        await one.call(other.endpoint, PutBlob(b""))
        results = {"dial_and_call_ms": round((time.perf_counter() - begin) * 1e3, 2)}
        results |= await measured("call_200_bytes", 2000, lambda: one.call(other.endpoint, PutBlob(bytes(200))))
        results |= await measured("call_1_mebibyte_answer", 50, lambda: one.call(other.endpoint, GetBlob(bytes(32))))
        here, there = await asyncio.gather(one.link(other.endpoint, "b"), other.accept_link(one.node_id, "b"))

        async def reflect() -> None:
            while True:
                await there.send(await there.receive_buffer())

        reflecting = asyncio.create_task(reflect())
        for size in (100, 10_000, MEBIBYTE):
            frame = bytes(size)

            async def there_and_back(frame: bytes = frame) -> None:
                await here.send(frame)
                await here.receive_buffer()

            results |= await measured(f"link_round_trip_{size}", 2000 if size < MEBIBYTE else 50, there_and_back)
        reflecting.cancel()
    return results


async def workers() -> Result:
    """Start a confined child and exchange frames with it."""
    begin = time.perf_counter()
    async with Worker.start("transport:reflect_frames") as worker:
        results = {"worker_start_ms": round((time.perf_counter() - begin) * 1e3, 1)}

        async def there_and_back() -> None:
            await worker.send(bytes(1000))
            await worker.receive()

        return results | await measured("worker_round_trip_1000", 1000, there_and_back)


def reflect_frames(channel: "object") -> None:
    """What the child of the benchmark runs."""
    from koinon.worker import Channel

    assert isinstance(channel, Channel)
    while True:
        channel.send(channel.receive())


async def signatures() -> Result:
    """One signature of each kind, made and checked."""
    node, account, votes = NodeKey.generate(RNG), AccountKey.generate(RNG), [BlsKey.generate(RNG) for _ in range(4)]
    digest, signed = bytes(32), node.sign("benchmark", bytes(200))
    approved, ballots = account.sign_digest(digest), [key.sign(digest) for key in votes]
    quorum, keys = aggregate_signatures(ballots), [key.public_key for key in votes]
    results: Result = {}
    for name, operation in {
        "ed25519_sign": lambda: node.sign("benchmark", bytes(200)),
        "ed25519_verify": lambda: verify_node_signature(node.node_id, "benchmark", bytes(200), signed),
        "secp256k1_sign": lambda: account.sign_digest(digest),
        "secp256k1_recover": lambda: recover_address(digest, approved),
        "bls_sign": lambda: votes[0].sign(digest),
        "bls_verify": lambda: verify(keys[0], digest, ballots[0]),
        "bls_verify_aggregate_of_4": lambda: verify_aggregate(keys, digest, quorum),
    }.items():

        async def once(operation: Callable[[], object] = operation) -> None:
            operation()

        results |= await measured(name, 100, once)
    return results


async def everything() -> Result:
    """All measurements."""
    return await network() | await workers() | await signatures()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    results = uvloop.run(everything())
    print(json.dumps(results) if arguments.json else "\n".join(f"{name:36} {value}" for name, value in results.items()))


if __name__ == "__main__":
    main()
