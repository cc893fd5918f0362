"""Validators as processes on the hosts of a lab: started, killed, asked, loaded, and in the end held to account."""

import http.client
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import psutil
from eth_account.signers.local import LocalAccount
from ledger_namespaces import Lab, address_of
from ledger_network import make_genesis, sign

import koinon
from koinon.kernel.codec import decode, encode
from koinon.kernel.ids import NodeId
from koinon.kernel.quantities import Milliseconds
from koinon.ledger.chain import Chain
from koinon.ledger.finality import verify_finality
from koinon.ledger.genesis import Genesis, Parameters
from koinon.ledger.types import header_hash
from koinon.store.keyvalue import LmdbStore
from koinon.wire.catalogue import unpack
from koinon.wire.consensus import PrepareBlock, PrepareVote, ViewChange

SOURCES: Final = str(Path(koinon.__file__).parent.parent)
PROGRAM: Final = Path(__file__).with_name("ledger_process.py")
STRANGER: Final = "0x" + "00" * 19 + "99"
PORT: Final = 7300
RPC_PORT: Final = 8545
STALL_SECONDS: Final = 240.0
"""Without any progress although a quorum is up and connected; real time, so generous on a loaded machine."""
MOST_OUTSTANDING: Final = 24
RESEND_SECONDS: Final = 3.0


class Fleet:
    """The validators of one lab.

    Attributes:
        final: hash of every final block that any validator has ever told of, by height.
        processes: those that run.
        kills: how many were killed so far.
    """

    def __init__(self, lab: Lab, folder: Path, rich: LocalAccount, rng: random.Random) -> None:
        self.lab = lab
        self.folder = folder
        self.rng = rng
        self.count = len(lab.names)
        hosts = [address_of(number) for number in range(self.count)]
        parameters = Parameters(blocks_per_view=5, base_timeout=Milliseconds(1000))
        self.genesis = make_genesis(self.count, rich, [PORT] * self.count, parameters, hosts)
        (folder / "genesis").write_bytes(encode(self.genesis))
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.final: dict[int, str] = {}
        self.kills = 0
        self._heights = [0] * self.count
        self._rich = rich
        self._raws: list[bytes] = []
        self._settled = 0
        self._sent_up_to = 0
        self._sent_at = 0.0

    def start(self, *numbers: int) -> None:
        for number in numbers:
            words = (str(number), str(self.folder / "genesis"), str(self.folder / str(number)), str(RPC_PORT))
            command = self.lab.command(number, sys.executable, str(PROGRAM), *words, str(self.journal(number)))
            with self.log(number).open("ab") as log:
                self.processes[number] = subprocess.Popen(
                    command, stdout=subprocess.DEVNULL, stderr=log, env={**os.environ, "PYTHONPATH": SOURCES}
                )

    def kill(self, number: int) -> None:
        """kill -9 (``ip netns exec`` has become the program itself)."""
        process = self.processes.pop(number)
        process.kill()
        process.wait()
        self.kills += 1

    def log(self, number: int) -> Path:
        return self.folder / f"{number}.log"

    def journal(self, number: int) -> Path:
        return self.folder / f"{number}.messages"

    def call(self, number: int, method: str, *parameters: Any) -> Any:
        """What the validator's RPC answers; None if it does not."""
        connection = http.client.HTTPConnection("127.0.0.1", RPC_PORT, timeout=10)
        connection.sock = self.lab.socket(number)
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(parameters)})
        try:
            connection.sock.settimeout(10)
            connection.sock.connect(("127.0.0.1", RPC_PORT))
            connection.request("POST", "/", body, {"content-type": "application/json"})
            return json.loads(connection.getresponse().read()).get("result")
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def look(self, number: int) -> int:
        """Final height of a validator, or -1 if it does not answer; finds forks and losses."""
        assert self.processes[number].poll() is None, f"validator {number} ended by itself: {self.words(number)}"
        status = self.call(number, "koinon_status")
        if status is None:
            return -1
        height, block = int(status["finalHeight"], 16), str(status["finalHash"])
        assert not status["halted"], f"validator {number} has halted: {self.words(number)}"
        assert self.final.setdefault(height, block) == block, f"fork at height {height}: validator {number} has {block}"
        assert height >= self._heights[number], (
            f"validator {number} lost blocks {height + 1} to {self._heights[number]}"
        )
        self._heights[number] = height
        return height

    def words(self, number: int) -> str:
        return self.log(number).read_text("utf-8", "replace")[-1500:]

    def height(self) -> int:
        """The highest final height that any running validator answers with."""
        return max((self.look(number) for number in self.processes), default=-1)

    def until(self, reached: Callable[[], bool], what: str) -> None:
        """Keep the load up until it is so. Fails with everybody's state when nothing moves for long."""
        deadline, so_far = time.monotonic() + STALL_SECONDS, sum(self._heights)
        while not reached():
            self.offer()
            if sum(self._heights) > so_far:
                deadline, so_far = time.monotonic() + STALL_SECONDS, sum(self._heights)
            if time.monotonic() > deadline:
                states = {number: self.call(number, "koinon_status") for number in self.processes}
                logs = "\n".join(f"{number}: {self.words(number)}" for number in self.processes)
                height = max(self.final, default=0)
                raise AssertionError(f"{what} does not come; final height {height}; {states}\n{logs}")

    def grow_up(self, number: int, seconds: float) -> None:
        """Return once a validator has used so much processor time: how far it has come, however busy the machine is."""
        process = psutil.Process(self.processes[number].pid)
        self.until(lambda: sum(process.cpu_times()[:2]) >= seconds, f"{seconds:.1f} s of work of validator {number}")

    def advance(self, blocks: int) -> None:
        """Return once so many more blocks are final at some validator."""
        target = max(self.final, default=0) + blocks
        self.until(lambda: self.height() >= target, f"block {target}")

    def offer(self) -> None:
        """Hand transfers to validators at random, and again those that a killed one may have taken with it."""
        number = self.rng.choice(list(self.processes))
        count = self.call(number, "eth_getTransactionCount", self._rich.address, "latest")
        if count is None:
            return
        self._settled = max(self._settled, int(count, 16))
        if time.monotonic() - self._sent_at > RESEND_SECONDS:
            self._sent_up_to, self._sent_at = self._settled, time.monotonic()
        while self._sent_up_to < self._settled + MOST_OUTSTANDING:
            if self._sent_up_to == len(self._raws):
                self._raws.append(sign(self._rich, len(self._raws), STRANGER, value=1))
            if self.call(number, "eth_sendRawTransaction", "0x" + self._raws[self._sent_up_to].hex()) is None:
                # Refused because it is known or already final, or nobody is there; it is offered again later.
                number = self.rng.choice(list(self.processes))
            self._sent_up_to += 1

    def settle_everywhere(self) -> int:
        """Return once every validator holds what any held as final; that height. Needs all to run."""
        target = max(self.final)
        self.until(lambda: all(self.look(number) >= target for number in range(self.count)), f"{target} everywhere")
        return target


def contradictions(genesis: Genesis, journals: list[Path]) -> Iterator[str]:
    """Every pair of signed statements in the journals that no honest validator may make (GISKARD-SAFETY-1)."""
    positions = {member.node_id: number for number, member in enumerate(genesis.validators)}
    votes: dict[tuple[object, ...], bytes] = {}
    for journal in journals:
        left: set[tuple[int, int, int]] = set()
        for author, message in _noted(journal):
            if isinstance(message, PrepareVote):
                places = (
                    ("index", message.voter, message.epoch, message.view, message.index),
                    ("height", message.voter, message.epoch, message.view, message.height),
                )
                fresh = places[0] not in votes
                for place in places:
                    if votes.setdefault(place, message.block) != message.block:
                        yield f"two votes at {place}"
                if (
                    fresh
                    and (message.voter, message.epoch, message.view) in left
                    and positions[author] == message.voter
                ):
                    yield f"validator {message.voter} voted in view {message.view} after it had left it"
            elif isinstance(message, PrepareBlock):
                header = message.block.header
                name = header_hash(header)
                place = ("proposal", header.proposer, header.epoch, header.view, header.index)
                if votes.setdefault(place, name) != name:
                    yield f"two proposals at {place}"
            elif isinstance(message, ViewChange):
                left.add((message.sender, message.epoch, message.view))


def _noted(journal: Path) -> Iterator[tuple[NodeId, object]]:
    data = journal.read_bytes()
    place = 0
    while place + 4 <= len(data):
        end = place + 4 + int.from_bytes(data[place : place + 4], "big")
        if end > len(data):  # killed in the middle of the write
            return
        author, number, body = decode(tuple[NodeId, int, bytes], data[place + 4 : end])
        yield author, unpack(number, body)
        place = end


@contextmanager
def open_chain(fleet: Fleet, number: int) -> Iterator[Chain]:
    """The ledger of a validator that does not run."""
    store = LmdbStore.open(fleet.folder / str(number), 16 << 30)
    try:
        yield Chain(store, fleet.genesis)
    finally:
        store.close()


def hold_to_account(fleet: Fleet) -> dict[str, int]:
    """Compare everything that was ever said or kept; nobody runs any more. What was looked at, in numbers."""
    journals = [fleet.journal(number) for number in range(fleet.count)]
    found = list(contradictions(fleet.genesis, journals))
    assert not found, found[:5]
    chains: list[list[bytes]] = []
    votes = _votes(journals)
    checked = 0
    for number in range(fleet.count):
        with open_chain(fleet, number) as chain:
            headers = [chain.header_at(height) for height in range(chain.final_height + 1)]
            for parent, child in pairwise(headers):
                assert child.parent == header_hash(parent)
            chains.append([header_hash(header) for header in headers])
            proof = chain.finality_proof(chain.final_height)
            verify_finality(proof.headers, proof.certificates, chain.validators)
            record, _ = chain.restored()
            assert record is not None
            for index, height in record.voted:  # what is durable covers every vote that anybody saw
                checked += 1
                assert (number, record.epoch, record.view, index) not in votes or height == votes[
                    number, record.epoch, record.view, index
                ]
            seen = {place for place in votes if place[:3] == (number, record.epoch, record.view)}
            assert {place[3] for place in seen} <= {index for index, _ in record.voted}
            assert not [place for place in votes if place[0] == number and place[1:3] > (record.epoch, record.view)]
    shortest = min(map(len, chains))
    assert all(chain[:shortest] == chains[0][:shortest] for chain in chains)
    longest = max(chains, key=len)
    for height, block in fleet.final.items():
        assert longest[height].hex() == block[2:], f"final block {height} was lost"
    logs = [fleet.log(number).read_text("utf-8", "replace") for number in range(fleet.count)]
    assert not [log for log in logs if "contradiction" in log or "Traceback" in log or "halts" in log]
    return {"final_height": len(longest) - 1, "votes": len(votes), "durable_votes": checked, "kills": fleet.kills}


def _votes(journals: list[Path]) -> dict[tuple[int, int, int, int], int]:
    """Height of every vote by (voter, epoch, view, index)."""
    return {
        (message.voter, message.epoch, message.view, message.index): message.height
        for journal in journals
        for _, message in _noted(journal)
        if isinstance(message, PrepareVote)
    }
