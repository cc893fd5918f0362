"""The tamper harness: one corrupted position, every kind of lie, at any message; and what came of it.

    koinon sim rep4 --trials 1000 --from 0 --json

Every trial is determined by its seed. It runs a whole session (agreement, range checks, products, truncation,
comparison, shuffling, output) twice: honestly, to count the messages and know the result, and with the corruption.
"""

from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cache
from math import gcd
from typing import Final

import numpy as np
from blake3 import blake3
from msgspec import structs

from koinon.crypto.signature import NodeKey
from koinon.kernel.errors import Forged, KoinonError
from koinon.privacy.approximations import sigmoid
from koinon.privacy.backend import Program
from koinon.privacy.opening import reconstruct
from koinon.privacy.rep4 import abort
from koinon.privacy.rep4.judge import Replay, dispute_of, find
from koinon.privacy.rep4.lockstep import Ending
from koinon.privacy.rep4.party import HEADER, Party, complaint_frame
from koinon.privacy.rep4.seals import HASH_BYTES
from koinon.privacy.rep4.session import Outcome
from koinon.privacy.rep4.shares import Shares, four
from koinon.privacy.rep4.simulation import Dealt, Stage, perform, simulate
from koinon.privacy.rep4.transcript import Transcript
from koinon.privacy.secret import Machine, Product, Secret, multiply, shuffled, together, truncate
from koinon.privacy.sharing import Dealing, deal
from koinon.wire.committee import NOBODY, POSITIONS, Column, Complaint, OutputPackage

_TOLERANCE: Final = 2.0**-14
_BITS: Final = 20
_COMMITMENT_ROUND: Final = 1
_GOLDEN: Final = 0.618
COUNTED: Final = ("told", "detected", "proved", "named", "wrong", "framed", "sent_on", "pardoned")
"""What a summary counts of ``Verdict``s; the last four must never be."""


class Lie(Enum):
    """What the corrupted position does once."""

    VALUE = "a value it sends"
    ANNOUNCEMENT = "a commitment, key, confirmation or signed head it sends"
    HASH = "the hash of a value it backs up"
    STATE = "its own state, then honestly used"
    SEALED = "a value or the hash of one, sealed as it is sent"
    SILENCE = "says nothing"
    MALFORMED = "sends a frame of the wrong form"
    COMPLAINT = "accuses two honest positions"
    FORGERY = "forges the complaint of another"
    OPENING = "its package for the result party"
    INPUT = "its share of an owner's rows, then honestly used"


class SeededRng:
    """A stream of bytes from a seed."""

    def __init__(self, seed: bytes) -> None:
        self._seed, self._count = seed, 0

    def bytes(self, count: int, /) -> bytes:
        self._count += 1
        return blake3(self._seed + self._count.to_bytes(8, "big")).digest(length=count)

    def below(self, limit: int) -> int:
        """A number from 0 to limit − 1."""
        return int.from_bytes(self.bytes(8), "big") % limit


@dataclass(slots=True)
class OneLie:
    """Position ``cheater`` tells ``lie`` at its ``target``-th opportunity; with target −1 it only counts them."""

    cheater: int
    lie: Lie
    target: int
    rng: SeededRng
    opportunities: int = 0
    round: int = -1
    victims: set[int] = field(default_factory=set)
    _restored: tuple[np.ndarray, np.ndarray] | None = None

    def inputs(self, position: int, shares: list[Shares]) -> list[Shares]:
        """What this position computes with, of what the owners dealt to it."""
        if position != self.cheater or self.lie is not Lie.INPUT:
            return shares
        held = [(number, j) for number in range(len(shares)) for j in POSITIONS if j != position]
        self.opportunities = len(held)
        if self.target < 0:
            return shares
        self.round = 0
        number, j = held[self.target]
        parts = [None if part is None else part.copy() for part in shares[number].parts]
        self._flip(shares[number].part(j) if (part := parts[j]) is None else part)
        changed = list(shares)
        changed[number] = structs.replace(shares[number], parts=four(parts), limbs={})
        return changed

    def before(self, party: Party) -> None:
        if party.position != self.cheater or self.lie not in (Lie.STATE, Lie.SEALED):
            return
        for message in party.outgoing():
            if message.value.size and message.value.flags.writeable and self._now(party):
                self._restored = message.value, message.value.copy()
                self._flip(message.value)
                if self.lie is Lie.SEALED:
                    self.victims.add(message.receiver)

    def frames(self, party: Party, frames: dict[int, bytes]) -> dict[int, bytes]:
        if party.position == self.cheater and self.lie is Lie.SEALED and self._restored is not None:
            value, right = self._restored
            value[...] = right
            self._restored = None
        if party.position != self.cheater or self.lie in (Lie.STATE, Lie.SEALED, Lie.OPENING, Lie.INPUT):
            return frames
        return {peer: frame for peer in frames for frame in self._changed(party, peer, frames[peer])}

    def _changed(self, party: Party, peer: int, frame: bytes) -> Iterator[bytes]:
        places = self._places(party, peer)
        if places.start == places.stop or not self._now(party):
            yield frame
            return
        self.victims.add(peer)
        match self.lie:
            case Lie.SILENCE:
                return
            case Lie.MALFORMED:
                yield self._malformed(frame)
            case Lie.COMPLAINT:
                yield complaint_frame(self._complaint(party, self.cheater))
            case Lie.FORGERY:
                yield complaint_frame(self._complaint(party, next(p for p in party.peers if p != peer)))
            case _:
                changed = bytearray(frame)
                changed[places.start + self.rng.below(places.stop - places.start)] ^= 1 << self.rng.below(8)
                yield bytes(changed)

    def _places(self, party: Party, peer: int) -> slice:
        """Where in the frame to ``peer`` this kind of lie can be told."""
        frame = party.compose()[peer]
        values = HEADER.size + sum(value.nbytes for value in frame.values)
        announcements = values + sum(map(len, frame.announcements))
        end = announcements + HASH_BYTES * len(frame.hashes)
        match self.lie:
            case Lie.VALUE:
                return slice(HEADER.size, values)
            case Lie.ANNOUNCEMENT:
                return slice(values, announcements)
            case Lie.HASH:
                return slice(announcements, end)
            case _:
                return slice(0, end)

    def _now(self, party: Party) -> bool:
        self.opportunities += 1
        if self.opportunities - 1 != self.target:
            return False
        self.round = party.round
        return True

    def _flip(self, value: np.ndarray) -> None:
        words = value.reshape(-1).view(np.uint8)
        words[self.rng.below(words.size)] ^= np.uint8(1 << self.rng.below(8))

    def _malformed(self, frame: bytes) -> bytes:
        shapes = (
            frame[: self.rng.below(len(frame))],
            frame + self.rng.bytes(1 + self.rng.below(64)),
            self.rng.bytes(len(frame)),
            bytes([frame[0] ^ 1]) + frame[1:],
            b"",
        )
        return shapes[self.rng.below(len(shapes))]

    def _complaint(self, party: Party, author: int) -> Complaint:
        accused = [position for position in POSITIONS if position not in (author, self.cheater)]
        honest = party.complain(abort.MISMATCH, accused[0], accused[1]).complaint
        if author == self.cheater:
            return honest
        return structs.replace(honest, receiver=author, sender=accused[0], backup=NOBODY)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one trial.

    Attributes:
        lie: what was told, by ``cheater``.
        told: whether the opportunity arose.
        detected: an honest position stopped, or the result party named the liar.
        wrong: a wrong result was accepted. Must never be.
        framed: an honest position, or the result party, named positions without the cheater. Must never be.
        sent_on: a victim sent data in a later round than the one in which the lie could be checked. Must never be.
        proved: a victim holds sealed evidence about a pair.
        named: of that pair, a judge named the liar; by the view of the other, and by its own if it opened it.
        pardoned: a judge found that the liar kept to the protocol. Must never be.
    """

    seed: int
    lie: Lie
    cheater: int
    told: bool
    detected: bool
    wrong: bool
    framed: bool
    sent_on: bool
    proved: bool = False
    named: bool = False
    pardoned: bool = False


def trial(seed: int) -> Verdict:
    """Run one trial.

    Seeds that follow each other tell every lie at every position in turn; as they go on, every message of the session
    is met once before any is met again.
    """
    rng = SeededRng(b"trial" + seed.to_bytes(8, "big"))
    lie, cheater = tuple(Lie)[seed % len(Lie)], seed // len(Lie) % 4
    target = _target(seed // (len(Lie) * len(POSITIONS)), opportunities(lie, cheater)) if lie is not Lie.OPENING else 0
    corruption = OneLie(cheater, lie, target, rng)
    keys = SeededRng(b"keys" + seed.to_bytes(8, "big"))
    stage = Stage.draw(_probe(), _dealt(), keys)
    endings = perform(stage, keys, corruption, corruption.inputs)
    return _brought_to_judge(_verdict(seed, corruption, endings), stage, endings, rng)


def summary(verdicts: Sequence[Verdict]) -> dict[str, dict[str, int]]:
    """Counts by kind of lie."""
    counts: dict[str, Counter[str]] = {}
    for verdict in verdicts:
        row = counts.setdefault(verdict.lie.name.lower(), Counter())
        row["trials"] += 1
        for name in COUNTED:
            row[name] += bool(getattr(verdict, name))
    return {lie: dict(row) for lie, row in sorted(counts.items())}


@cache
def opportunities(lie: Lie, cheater: int) -> int:
    """How often a position could tell this lie in one session."""
    counter = OneLie(cheater, lie, -1, SeededRng(b"count"))
    simulate(_probe(), _dealt(), SeededRng(b"count"), counter, counter.inputs)
    return counter.opportunities


def _target(number: int, count: int) -> int:
    """The number-th of ``count`` opportunities, in an order that spreads over the session and repeats none early."""
    stride = round(count * _GOLDEN)
    while gcd(stride, count) != 1:
        stride += 1
    return number * stride % count


def _verdict(seed: int, corruption: OneLie, endings: Sequence[Ending]) -> Verdict:
    cheater, honest = corruption.cheater, [p for p in POSITIONS if p != corruption.cheater]
    aborts = [ending.abort for position in honest if (ending := endings[position]).abort is not None]
    framed = any(cheater not in problem.suspects for problem in aborts)
    packages = [endings[position].result.package for position in honest if endings[position].abort is None]
    wrong, liars = False, tuple[int, ...]()
    if corruption.lie is Lie.OPENING or packages:
        wrong, liars = _opened(corruption, endings, packages)
    framed = framed or any(liar != cheater for liar in liars)
    # A commitment can only be checked when it is opened, in the round after it.
    checked = corruption.round + (corruption.lie is Lie.ANNOUNCEMENT and corruption.round == _COMMITMENT_ROUND)
    sent_on = any(
        endings[victim].abort is not None and endings[victim].rounds_sent[-1] > checked for victim in corruption.victims
    )
    told = corruption.round >= 0 or corruption.lie is Lie.OPENING
    return Verdict(seed, corruption.lie, cheater, told, bool(aborts or liars), wrong, framed, sent_on)


def _brought_to_judge(verdict: Verdict, stage: Stage, endings: Sequence[Ending], rng: SeededRng) -> Verdict:
    """Let a judge hear both of a proven pair, each by its own view; the liar changes what it opens, or does not."""
    proofs = [
        evidence
        for position in POSITIONS
        if position != verdict.cheater
        and (problem := endings[position].abort) is not None
        and (evidence := problem.evidence) is not None
    ]
    if not proofs:
        return verdict
    checks = stage.signatures(0)
    dispute = dispute_of(proofs[0], checks)
    named = set()
    for position in (dispute.sender, dispute.backup):
        view = _view(stage.transcripts[position])
        if position == verdict.cheater and rng.below(2):
            view = _forged_view(view, rng)
        try:
            finding = find(dispute, position, view, checks, stage.identity, stage.program, stage.inputs(position))
        except Forged:
            continue
        named |= {finding.named} - {None}
    honest = named - {verdict.cheater}
    return replace(
        verdict,
        proved=True,
        named=verdict.cheater in named,
        framed=verdict.framed or bool(honest) or verdict.cheater not in (dispute.sender, dispute.backup),
        pardoned=bool(honest),
    )


def _view(transcript: Transcript) -> Replay:
    return Replay(transcript.rounds, transcript.signatures, transcript.randomness)


def _forged_view(view: Replay, rng: SeededRng) -> Replay:
    """The view with one bit changed: of a frame, a random contribution or a signature of its own."""

    def flipped_in(pieces: Sequence[bytes]) -> list[bytes]:
        changed = [bytearray(piece) for piece in pieces]
        piece = changed[rng.below(len(changed))]
        piece[rng.below(len(piece))] ^= 1 << rng.below(8)
        return [bytes(piece) for piece in changed]

    match rng.below(3):
        case 0:
            return replace(view, randomness=flipped_in(view.randomness))
        case 1:
            return replace(view, signatures=flipped_in(view.signatures))
        case _:
            rounds = [dict(frames) for frames in view.received]
            frames = rounds[rng.below(len(rounds))]
            if frames:
                peer = sorted(frames)[rng.below(len(frames))]
                (frames[peer],) = flipped_in([frames[peer]])
            return replace(view, received=rounds)


def _opened(
    corruption: OneLie, endings: Sequence[Ending], honest: Sequence[OutputPackage]
) -> tuple[bool, tuple[int, ...]]:
    """Whether the result party accepts something wrong, given the honest packages and the cheater's; whom it names."""
    packages = list(honest)
    outcome: Outcome | None = endings[corruption.cheater].result
    if outcome is not None:
        package = outcome.package
        packages.append(_lying(package, corruption.rng) if corruption.lie is Lie.OPENING else package)
    try:
        values, liars = reconstruct(packages, packages[0].session)
    except KoinonError:
        return False, ()
    return bool(np.abs(values - _truth()).max() > _TOLERANCE), liars


def _lying(package: OutputPackage, rng: SeededRng) -> OutputPackage:
    place = rng.below(3)
    share = package.components[place]
    values = bytearray(share.values)
    values[rng.below(len(values))] ^= 1 << rng.below(8)
    components = list(package.components)
    components[place] = structs.replace(share, values=bytes(values))
    return structs.replace(package, components=(components[0], components[1], components[2]))


# The session under attack: small, but with every kind of message.


def _compute(machine: Machine, inputs: Sequence[Secret]) -> Generator[None, None, Sequence[Secret]]:
    del machine
    left, right = inputs
    logits = yield from multiply(left.T, right, kind=Product.MATRIX)
    chances = yield from sigmoid(logits.times(4), _BITS)
    squares, gram, rows = yield from together(
        multiply(chances, chances, fraction_bits=_BITS),
        multiply(left, left, kind=Product.GRAM),
        shuffled(left),
    )
    moments = yield from truncate(gram + rows.sum(0), _BITS)
    return squares, moments


@cache
def _probe() -> Program:
    columns = (Column("a", -1.0, 1.0), Column("b", -1.0, 1.0))
    return Program(
        "probe", ((3, 2), (3, 2)), columns, _BITS, (1,), (("squares", (2, 2)), ("moments", (2, 2))), _compute
    )


_LEFT: Final = np.array([[0.5, 1.0], [-0.25, -1.0], [0.75, 1.0]])
_RIGHT: Final = np.array([[-0.5, -1.0], [0.125, 1.0], [1.0, 1.0]])


@cache
def _dealt() -> tuple[Dealt, ...]:
    rng, program = SeededRng(b"owners"), _probe()
    dealing = Dealing(rng.bytes(32), 0, rng.bytes(32))
    return tuple(
        deal(matrix, program.columns, _BITS, dealing, NodeKey.generate(rng), rng) for matrix in (_LEFT, _RIGHT)
    )


@cache
def _truth() -> np.ndarray:
    endings = simulate(_probe(), _dealt(), SeededRng(b"truth"))
    values, liars = reconstruct([ending.result.package for ending in endings], endings[0].result.package.session)
    squares = 1 / (1 + np.exp(-4 * _LEFT.T @ _RIGHT)) ** 2
    moments = _LEFT.T @ _LEFT + _LEFT.sum(0)
    if liars or np.abs(values - np.concatenate([squares.ravel(), moments.ravel()])).max() > 1e-3:
        raise AssertionError("the honest run is wrong already")
    return values
