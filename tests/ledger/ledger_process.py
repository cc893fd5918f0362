"""One validator as a process of its own, until it is killed: ``ledger_process.py NUMBER GENESIS FOLDER RPC_PORT``.

Prints ``ready`` once the RPC answers.
"""

import asyncio
import logging
import sys
from pathlib import Path

from ledger_network import Keys

from koinon.kernel.codec import decode
from koinon.ledger.genesis import Genesis
from koinon.ledger.validator import Validator, ValidatorConfig
from koinon.net.transport import Transport


async def main(number: int, genesis: Genesis, folder: Path, rpc_port: int) -> None:
    keys = Keys.of(number)
    port = genesis.validators[number].port
    async with (
        Transport.open(keys.node, "127.0.0.1", port) as transport,
        Validator.open(ValidatorConfig(rpc_port=rpc_port), keys.bls, transport, keys.node.node_id, folder, genesis),
    ):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    first_block = decode(Genesis, Path(sys.argv[2]).read_bytes())
    asyncio.run(main(int(sys.argv[1]), first_block, Path(sys.argv[3]), int(sys.argv[4])))
