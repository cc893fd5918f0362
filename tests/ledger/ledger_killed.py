"""Grow a chain on disk and die by SIGKILL at a chosen point of a commit: ``ledger_killed.py GENESIS FOLDER POINT…``.

For each point a fork of this process opens ``FOLDER/POINT`` and kills itself right before the entry with that number,
of all that it ever writes, enters the database's transaction; the last entry of a write counts twice, once before the
commit and once after it.
"""

import os
import signal
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from eth_account import Account as Wallet
from ledger_chain import GrowingChain
from ledger_network import sign

from koinon.crypto.hash import keccak256
from koinon.kernel.codec import decode
from koinon.kernel.effects import Store
from koinon.ledger import rlp
from koinon.ledger.genesis import Genesis
from koinon.store.keyvalue import LmdbStore

RICH = Wallet.from_key(b"\x77" * 32)
BLOCKS = 6
LOGGER_CREATION = bytes.fromhex("6008600c60003960086000f3600160006000a100")


def transactions() -> list[list[bytes]]:
    """By block: a contract, then transfers to new accounts and an event of the contract each."""
    logger = "0x" + keccak256(rlp.encode([bytes.fromhex(RICH.address[2:]), 0]))[12:].hex()
    made = [[sign(RICH, 0, data=LOGGER_CREATION, gas=200_000)]]
    for number in range(1, BLOCKS):
        nonce = 2 * number - 1
        new = "0x" + bytes([number] * 20).hex()
        made.append([sign(RICH, nonce, new, value=number), sign(RICH, nonce + 1, logger, gas=60_000)])
    return [*made, [], []]


def grow(store: Store, genesis: Genesis) -> GrowingChain:
    """Go on from wherever the store stands to the end; every block is made final as soon as two stand on it."""
    grown = GrowingChain(store, RICH, genesis=genesis)
    for number, raws in enumerate(transactions()[grown.chain.final_height :]):
        grown.build(raws)
        if number >= 2:
            grown.finalise()
    return grown


class Doomed(LmdbStore):
    """A store whose process dies at one entry."""

    point: int

    def write(self, put: Mapping[bytes, bytes], delete: Iterable[bytes] = ()) -> None:
        super().write(_Counted(self, put), delete)
        self.count()

    def count(self) -> None:
        self.point -= 1
        if self.point < 0:
            os.kill(os.getpid(), signal.SIGKILL)


class _Counted(dict[bytes, bytes]):
    def __init__(self, store: Doomed, put: Mapping[bytes, bytes]) -> None:
        super().__init__(put)
        self._store = store

    def items(self) -> Any:
        for pair in super().items():
            self._store.count()
            yield pair


def die(point: int, folder: Path, genesis: Genesis) -> None:
    store = Doomed.open(folder)
    store.point = point
    grow(store, genesis)


def main() -> None:
    genesis = decode(Genesis, Path(sys.argv[1]).read_bytes())
    for point in map(int, sys.argv[3:]):
        child = os.fork()
        if child == 0:
            die(point, Path(sys.argv[2]) / str(point), genesis)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        print(point, "killed" if killed else "ended", flush=True)


if __name__ == "__main__":
    main()
