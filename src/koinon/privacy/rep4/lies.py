"""What a corrupted position does in the tamper harness: one lie of one kind, at one of its opportunities."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

import numpy as np
from blake3 import blake3
from msgspec import structs

from koinon.privacy.rep4 import abort
from koinon.privacy.rep4.agreement import COMMITMENT_ROUND, OPENING_BYTES, OPENING_ROUND, committed, shared
from koinon.privacy.rep4.checkpoint import ROUND_BYTES, restated
from koinon.privacy.rep4.party import HEADER, KEY_ROUNDS, Party, complaint_frame
from koinon.privacy.rep4.seals import HASH_BYTES
from koinon.privacy.rep4.shares import Shares, four
from koinon.privacy.rep4.signing import SIGNATURE_BYTES
from koinon.wire.committee import NOBODY, POSITIONS, Complaint

_AS_USED: Final = ("STATE", "OPENING", "INPUT")
_SEALED: Final = ("SEALED", "TOLD", "STATED", "MISSHAPEN", "TWO_FACED")
_TOGETHER: Final = 64


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
    TOLD = "a session, commitment, key, confirmation or signed head, sealed as it is sent"
    STATED = "a signed statement at a checkpoint, to all alike: heads, or digests of the output"
    MISSHAPEN = "an announcement of another length, sealed as it is sent"
    TWO_FACED = "commits to and opens another contribution to one than to the others, under one seal"


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
    _second: tuple[int, int, bytes] | None = None
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
        if party.position != self.cheater:
            return
        if self.lie is Lie.TWO_FACED:
            self._be_two_faced(party)
        elif self.lie is Lie.STATED:
            if party.round >= KEY_ROUNDS and party.announcing() and self._now(party):
                false = self._retold(party, party.announcing()[0].content)
                for announcement in party.announcing():
                    announcement.content = false
                    self.victims.add(announcement.receiver)
        elif self.lie in (Lie.TOLD, Lie.MISSHAPEN):
            for announcement in party.announcing():
                if self._now(party):
                    announcement.content = self._retold(party, announcement.content)
                    self.victims.add(announcement.receiver)
        if self.lie not in (Lie.STATE, Lie.SEALED):
            return
        for message in party.outgoing():
            if message.value.size and message.value.flags.writeable and self._now(party):
                self._restored = message.value, message.value.copy()
                self._flip(message.value)
                self.victims.add(message.receiver)

    def frames(self, party: Party, frames: dict[int, bytes]) -> dict[int, bytes]:
        if party.position == self.cheater and self.lie is Lie.SEALED and self._restored is not None:
            value, right = self._restored
            value[...] = right
            self._restored = None
        if party.position != self.cheater or self.lie.name in (*_AS_USED, *_SEALED):
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

    def _retold(self, party: Party, content: bytes) -> bytes:
        if self.lie is Lie.MISSHAPEN:
            return (
                content[: self.rng.below(len(content))]
                if self.rng.below(2)
                else content + self.rng.bytes(1 + self.rng.below(_TOGETHER))
            )
        changed = bytearray(content)
        unsigned = len(changed) if self.lie is Lie.TOLD else len(changed) - SIGNATURE_BYTES
        # What is stated of a round is in the seal too; a statement is signed anew from behind that number on.
        first = 0 if self.lie is Lie.TOLD else ROUND_BYTES
        changed[first + self.rng.below(unsigned - first)] ^= 1 << self.rng.below(8)
        return bytes(changed) if self.lie is Lie.TOLD else restated(party, bytes(changed))

    def _be_two_faced(self, party: Party) -> None:
        """Of one receiver's two announcements, about two keys, one is changed in both rounds."""
        for place, announcement in enumerate(party.announcing()):
            if party.round == COMMITMENT_ROUND and self._now(party):
                j = shared(party.position, announcement.receiver)[place % 2]
                opening = self.rng.bytes(OPENING_BYTES)
                announcement.content = committed(party.session, party.position, j, opening)
                self._second = announcement.receiver, place, opening
                self.victims.add(announcement.receiver)
            elif party.round == OPENING_ROUND and self._second is not None and place == self._second[1]:
                announcement.content = self._second[2]

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
