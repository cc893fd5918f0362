"""Giskard alone: time to finality on a simulated network, messages, processor time, and what a certificate costs.

    python benchmarks/consensus.py --json

The network is simulated: every message takes half the round-trip time. The processor is real: each validator has one of
its own, and every step, with real BLS signatures, occupies it for as long as that step took here. Making and executing
a block and a durable write take fixed times. A transaction arrives at a random moment at a random validator, spreads
in one message delay, and counts until that validator holds its block as final.
"""

import argparse
import json
import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from koinon.crypto.bls import BlsKey
from koinon.kernel.ids import ZERO_ADDRESS, NodeId
from koinon.kernel.quantities import BlockIndex, Epoch, Seconds, View
from koinon.ledger.finality import BlsVerifier
from koinon.ledger.giskard.certificates import certify, check_certificate, vote_message
from koinon.ledger.giskard.protocol import step
from koinon.ledger.giskard.shells import CHAIN_ID, make_header
from koinon.ledger.giskard.simulation import Scenario, run
from koinon.ledger.giskard.start import initial_state
from koinon.ledger.giskard.state import (
    Broadcast,
    Configuration,
    Effect,
    Event,
    Execute,
    Executed,
    Finalise,
    PendingChanged,
    Persist,
    Propose,
    Proposed,
    Received,
    Send,
    SetTimer,
    TimerFired,
    Voting,
)
from koinon.ledger.types import Block, PrepareVote, Validator, ValidatorSet, header_hash
from koinon.sim.network import Faults
from koinon.sim.world import World

WRITE_SECONDS: Final = 0.002
BLOCK_SECONDS: Final = 0.010
BLOCKS_PER_VIEW: Final = 10
TRANSACTIONS: Final = 7
REPEATS: Final = 5


@dataclass
class Sample:
    """A transaction on its way."""

    arrived: float
    at: int
    block: bytes | None = None
    final: float | None = None


@dataclass
class Cluster:
    """n validators, their processors and the network between them."""

    count: int
    voting: Voting
    delay: float
    world: World = field(default_factory=lambda: World(1))
    pending: bool = False
    samples: list[Sample] = field(default_factory=list)
    messages: Counter[str] = field(default_factory=Counter)
    blocks: int = 0
    cpu: float = 0.0
    steps: int = 0

    def __post_init__(self) -> None:
        keys = [BlsKey((number + 1).to_bytes(32, "big")) for number in range(self.count)]
        self.members = ValidatorSet(
            tuple(Validator(NodeId(n.to_bytes(32, "big")), ZERO_ADDRESS, key.public_key) for n, key in enumerate(keys))
        )
        genesis = make_header(self.members, None, View(0), BlockIndex(BLOCKS_PER_VIEW - 1), b"")
        verifier = BlsVerifier(self.members)
        self.states = [
            initial_state(
                Configuration(
                    chain_id=CHAIN_ID,
                    epoch=Epoch(0),
                    validators=self.members,
                    position=position,
                    blocks_per_view=BLOCKS_PER_VIEW,
                    base_timeout=Seconds(5.0),
                    verifier=verifier,
                    signer=key,
                    voting=self.voting,
                ),
                genesis,
            )
            for position, key in enumerate(keys)
        ]
        self.busy = [0.0] * self.count
        self.timers: list[float | None] = [None] * self.count

    def take(self, position: int, make: Callable[[float], Event]) -> None:
        """Work an event off as soon as the validator's processor is free."""
        start = max(self.world.monotonic(), self.busy[position])
        self.busy[position] = start
        if start > self.world.monotonic():
            self.world.after(start - self.world.monotonic(), lambda: self.take(position, make))
            return
        begun = time.thread_time()
        self.states[position], effects = step(self.states[position], make(start))
        spent = time.thread_time() - begun
        self.cpu += spent
        self.steps += 1
        done = start + spent + WRITE_SECONDS * sum(isinstance(effect, Persist) for effect in effects)
        self.busy[position] = done
        self.world.after(done - start, lambda: self.perform(position, effects))

    def perform(self, position: int, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            match effect:
                case Broadcast():
                    for other in range(self.count):
                        if other != position:
                            self.send(position, other, effect.message)
                case Send():
                    self.send(position, effect.to, effect.message)
                case Execute():
                    self.occupy(position, lambda now, e=effect: Executed(header_hash(e.block.header), True, now))
                case Propose():
                    self.occupy(position, lambda now, e=effect: Proposed(self.make_block(position, e), now))
                case SetTimer():
                    self.timers[position] = effect.at
                    if effect.at is not None:
                        self.world.after(
                            effect.at - self.world.monotonic(), lambda at=effect.at: self.ring(position, at)
                        )
                case Finalise():
                    self.finalise(position, effect)

    def occupy(self, position: int, answer: Callable[[float], Event]) -> None:
        """Make or execute a block: on the same processor."""
        self.busy[position] = max(self.busy[position], self.world.monotonic()) + BLOCK_SECONDS
        self.world.after(self.busy[position] - self.world.monotonic(), lambda: self.take(position, answer))

    def ring(self, position: int, at: float) -> None:
        if self.timers[position] == at:
            self.take(position, TimerFired)

    def send(self, sender: int, receiver: int, message: Any) -> None:
        self.messages[type(message).__name__] += 1
        self.world.after(self.delay, lambda: self.take(receiver, lambda now: Received(sender, message, now)))

    def make_block(self, position: int, effect: Propose) -> Block | None:
        now = self.world.monotonic()
        waiting = [
            sample
            for sample in self.samples
            if sample.block is None and sample.arrived + (self.delay if sample.at != position else 0.0) <= now
        ]
        parent = self.states[position].header_of(effect.parent)
        if parent is None or not (waiting or self.pending or effect.required):
            return None
        payload = self.world.bytes(8)
        header = make_header(self.members, parent, effect.view, effect.index, payload)
        for sample in waiting:
            sample.block = header_hash(header)
        return Block(header, (payload,) if waiting or self.pending else ())

    def finalise(self, position: int, effect: Finalise) -> None:
        names = {header_hash(block.header) for block in effect.blocks}
        self.blocks += len(names) if position == 0 else 0
        for sample in self.samples:
            if sample.at == position and sample.block in names:
                sample.final = self.world.monotonic()

    def tell_pending(self, pending: bool) -> None:
        for position in range(self.count):
            self.take(position, lambda now: PendingChanged(pending, now))

    def submit(self) -> Sample:
        """A transaction at a random validator; the others hear of it a message later."""
        sample = Sample(self.world.monotonic(), self.world.random.randrange(self.count))
        self.samples.append(sample)
        for position in range(self.count):
            delay = 0.0 if position == sample.at else self.delay
            self.world.after(delay, lambda p=position: self.take(p, lambda now: PendingChanged(True, now)))
        return sample


def finality(count: int, voting: Voting, delay: float, *, loaded: bool) -> dict[str, Any]:
    """Seconds from a transaction's arrival to its finality at the validator that it came to."""
    cluster = Cluster(count, voting, delay)
    world = cluster.world
    cluster.pending = loaded
    if loaded:
        cluster.tell_pending(True)
        world.run(1.0)
    for _ in range(TRANSACTIONS):
        sample = cluster.submit()
        limit = world.monotonic() + 30.0
        while sample.final is None and world.monotonic() < limit:
            world.run(world.monotonic() + 0.05)
        world.run(world.monotonic() + (0.0 if loaded else 0.5) + world.random.uniform(0.0, 0.3))
    waits = [s.final - s.arrived for s in cluster.samples if s.final is not None]
    assert len(waits) == TRANSACTIONS, "a transaction was lost"
    return {
        "validators": count,
        "voting": voting.value,
        "round_trip_ms": round(2000 * delay),
        "loaded": loaded,
        "p50_s": round(statistics.median(waits), 3),
        "p95_s": round(sorted(waits)[int(0.95 * len(waits))], 3),
        "blocks": cluster.blocks,
        "messages_per_block": round(cluster.messages.total() / cluster.blocks, 1),
        "cpu_ms_per_block_and_validator": round(1000 * cluster.cpu / cluster.blocks / count, 2),
    }


def certificate_cost(count: int) -> dict[str, Any]:
    """CPU milliseconds to check one certificate with real signatures, and to add one up."""
    keys = [BlsKey((number + 1).to_bytes(32, "big")) for number in range(count)]
    members = ValidatorSet(
        tuple(Validator(NodeId(n.to_bytes(32, "big")), ZERO_ADDRESS, key.public_key) for n, key in enumerate(keys))
    )
    verifier = BlsVerifier(members)
    header = make_header(members, None, View(1), BlockIndex(0), b"")
    name = header_hash(header)
    statement = vote_message(CHAIN_ID, header.epoch, header.view, header.index, header.height, name)
    votes = {
        n: PrepareVote(header.epoch, header.view, header.index, header.height, name, n, keys[n].sign(statement))
        for n in range(members.quorum)
    }
    certificate = certify(votes, verifier, count)
    check = lambda: check_certificate(certificate, CHAIN_ID, count, members.quorum, verifier)  # noqa: E731
    check()
    return {
        "validators": count,
        "signers": members.quorum,
        "check_ms": milliseconds(check),
        "add_up_ms": milliseconds(lambda: certify(votes, verifier, count)),
    }


def milliseconds(work: Callable[[], object]) -> float:
    """Median CPU milliseconds of several repeats."""
    times = []
    for _ in range(2 * REPEATS):
        begun = time.thread_time()
        work()
        times.append(1000 * (time.thread_time() - begun))
    return round(statistics.median(times), 3)


def steps_per_second(count: int) -> dict[str, Any]:
    """Steps that one core works off when signatures cost next to nothing: the protocol's own price."""
    rates = []
    for seed in range(1, REPEATS + 1):
        calm = Scenario(
            nodes=count, byzantine=0, crashes=0, partitions=0, faults=Faults(), calm_at=1.0, quiet_at=3.0, building=0.03
        )
        begun = time.thread_time()
        verdict = run(calm, seed)
        rates.append(verdict.steps / (time.thread_time() - begun))
    return {"validators": count, "steps_per_cpu_second": round(statistics.median(rates))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="four and sixteen validators, one transaction at a time")
    options = parser.parse_args()
    counts = (4, 16) if options.quick else (4, 16, 64, 100)
    facts = {
        "finality": [
            finality(count, voting, 0.025, loaded=loaded)
            for count in (4, 16)
            for voting in Voting
            for loaded in ((False,) if options.quick else (False, True))
        ],
        "certificates": [certificate_cost(count) for count in counts],
        "steps": [steps_per_second(count) for count in (4, 16)],
    }
    if options.json:
        print(json.dumps(facts, indent=2))
        return
    for section, rows in facts.items():
        print(section)
        for row in rows:
            print("  " + ", ".join(f"{name} {value}" for name, value in row.items()))


if __name__ == "__main__":
    main()
