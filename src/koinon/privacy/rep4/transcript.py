"""What one position received and drew in a session: enough to repeat its part, and nothing a judge would not need.

A transcript is as secret as the position's shares. It lives in the worker's memory and leaves it only when the run
stopped over a message of this very position.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from koinon.kernel.effects import Rng
from koinon.privacy.rep4.signing import Signatures

MOST_BYTES: Final = 128 * 1024**2
"""Of received frames; a longer session keeps none, and its disputes end at the pair."""


@dataclass(slots=True)
class Transcript:
    """Received frames by round, own signatures and own random bytes, in order.

    Attributes:
        most_bytes: of frames; beyond them everything is dropped.
        complete: whether nothing has been dropped.
    """

    most_bytes: int = MOST_BYTES
    complete: bool = True
    rounds: list[dict[int, bytes]] = field(default_factory=list)
    signatures: list[bytes] = field(default_factory=list)
    randomness: list[bytes] = field(default_factory=list)
    _size: int = 0

    def __repr__(self) -> str:
        return f"Transcript({len(self.rounds)} rounds)"

    def keep(self, frames: Mapping[int, bytes]) -> None:
        """Add the frames of one round."""
        self._size += sum(map(len, frames.values()))
        if self._size > self.most_bytes:
            self.complete = False
            self.rounds.clear()
        if self.complete:
            self.rounds.append(dict(frames))


@dataclass(frozen=True, slots=True)
class RecordedRng:
    """Hands on random bytes and keeps them."""

    rng: Rng
    transcript: Transcript

    def bytes(self, count: int, /) -> bytes:
        drawn = self.rng.bytes(count)
        self.transcript.randomness.append(drawn)
        return drawn


@dataclass(frozen=True, slots=True)
class RecordedSignatures:
    """Signs, and keeps the signatures that are part of a message. Seals are not: a judge compares what they say."""

    signatures: Signatures
    transcript: Transcript
    skipped: str

    def sign(self, domain: str, message: bytes) -> bytes:
        signature = self.signatures.sign(domain, message)
        if domain != self.skipped:
            self.transcript.signatures.append(signature)
        return signature

    def check(self, position: int, domain: str, message: bytes, signature: bytes) -> None:
        self.signatures.check(position, domain, message, signature)
