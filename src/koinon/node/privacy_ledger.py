"""The privacy ledgers of an owner's data sets on disk: one entry a key, never changed, never deleted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from koinon.kernel.codec import decode, encode
from koinon.kernel.effects import StoreView
from koinon.privacy.differential.budget import Entry

_PREFIX: Final = b"privacy-budget/"


@dataclass(frozen=True)
class PrivacyLedger:
    """What every data set here has answered so far."""

    memory: StoreView

    def entries(self, dataset: bytes) -> tuple[Entry, ...]:
        """All entries of a data set, in order. Raises MalformedMessage where the disk holds something else."""
        return tuple(decode(Entry, entry) for _, entry in self.memory.scan(_PREFIX + dataset))


def added(dataset: bytes, before: Sequence[Entry], after: Sequence[Entry]) -> dict[bytes, bytes]:
    """What has to be written, in one piece with whatever the new entries pay for, for ``after`` to stand."""
    return {_key(dataset, place): encode(after[place]) for place in range(len(before), len(after))}


def _key(dataset: bytes, place: int) -> bytes:
    return _PREFIX + dataset + place.to_bytes(4, "big")
