"""One validator as a process of its own, until it is killed: ``ledger_process.py NUMBER GENESIS FOLDER RPC_PORT``.

Prints ``ready`` once the RPC answers. With a fifth word, the name of a file, everything that the validators say to one
another is appended there before it is taken in or sent, for whoever looks for two votes in one place.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from ledger_network import Keys

from koinon.kernel.codec import decode, encode
from koinon.kernel.ids import NodeId
from koinon.ledger.genesis import Genesis
from koinon.ledger.validator import Validator, ValidatorConfig
from koinon.net.transport import Transport
from koinon.wire.catalogue import Message, pack
from koinon.wire.consensus import PrepareBlock, PrepareVote, ViewChange
from koinon.wire.discovery import Endpoint

WATCHED = (PrepareBlock, PrepareVote, ViewChange)


class WatchedNetwork:
    """A transport whose consensus messages are noted in a file."""

    def __init__(self, transport: Transport, journal: Path) -> None:
        self._transport = transport
        self._journal = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self.peers = transport.peers
        self.call = transport.call
        self.offend = transport.offend

    def handle(self, kind: type[Message], function: Callable[[NodeId, Message], Awaitable[Message | None]]) -> None:
        async def note_and_take(peer: NodeId, message: Message) -> Message | None:
            self._note(peer, message)
            return await function(peer, message)

        self._transport.handle(kind, note_and_take)

    async def send(self, endpoint: Endpoint, message: Message, timeout: float = 10.0) -> None:
        self._note(self._transport.node_id, message)
        await self._transport.send(endpoint, message, timeout)

    def _note(self, author: NodeId, message: Message) -> None:
        if isinstance(message, WATCHED):
            record = encode((author, *pack(message)))
            os.write(self._journal, len(record).to_bytes(4, "big") + record)


async def main(
    number: int, genesis: Genesis, folder: Path, rpc_port: int, journal: Path | None, everybody: tuple[Endpoint, ...]
) -> None:
    keys = Keys.of(number)
    listed = [Endpoint(one.node_id, one.host, one.port) for one in genesis.validators]
    member = (everybody or listed)[number]
    peers = {endpoint.node_id: endpoint for endpoint in everybody}
    async with Transport.open(keys.node, member.host, member.port) as transport:
        network = transport if journal is None else WatchedNetwork(transport, journal)
        config = ValidatorConfig(rpc_port=rpc_port)
        async with Validator.open(
            config,
            keys.bls,
            network,
            keys.node.node_id,
            folder,
            genesis,
            peers,
            reporting_key=keys.account,  # type: ignore[arg-type]
        ):
            print("ready", flush=True)
            await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    first_block = decode(Genesis, Path(sys.argv[2]).read_bytes())
    journal_path = Path(sys.argv[5]) if len(sys.argv) > 5 and sys.argv[5] else None
    known = decode(tuple[Endpoint, ...], Path(sys.argv[6]).read_bytes()) if len(sys.argv) > 6 else ()
    asyncio.run(main(int(sys.argv[1]), first_block, Path(sys.argv[3]), int(sys.argv[4]), journal_path, known))
