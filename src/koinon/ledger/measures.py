"""What a validator counts: how fast blocks are certified and final, and what it lost or refused on the way."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from koinon.kernel.ids import Hash32
from koinon.kernel.measures import Histogram

_MOST_BLOCKS: Final = 4096


@dataclass
class LedgerMeasures:
    """Counters of one validator since it started. Written by the ledger's thread, read from any.

    Attributes:
        certified: seconds from beginning to execute a block to its certificate.
        finality: seconds from beginning to execute a block to its finality.
        blocks, transactions: final ones since the start.
        views_lost: views given up by time-out.
        distrusted: messages that consensus refused.
        contradictions: pairs of signatures that contradict each other.
    """

    certified: Histogram = field(default_factory=Histogram)
    finality: Histogram = field(default_factory=Histogram)
    blocks: int = 0
    transactions: int = 0
    views_lost: int = 0
    distrusted: int = 0
    contradictions: int = 0
    _begun: dict[Hash32, float] = field(default_factory=dict)
    _certified: set[Hash32] = field(default_factory=set)

    def begin(self, block: Hash32, now: float) -> None:
        """A block's execution begins; ``now`` in seconds."""
        if len(self._begun) < _MOST_BLOCKS:
            self._begun.setdefault(block, now)

    def certify(self, block: Hash32, now: float) -> None:
        """A block's certificate is known."""
        begun = self._begun.get(block)
        if begun is not None and block not in self._certified:
            self._certified.add(block)
            self.certified.observe(now - begun)

    def finalise(self, blocks: Sequence[Hash32], transactions: int, now: float) -> None:
        """These blocks, with so many transactions in all, became final."""
        for block in blocks:
            begun = self._begun.pop(block, None)
            self._certified.discard(block)
            if begun is not None:
                self.finality.observe(now - begun)
        self.blocks += len(blocks)
        self.transactions += transactions
        if len(self._begun) >= _MOST_BLOCKS:  # blocks of lost views, which nothing else forgets
            self._begun.clear()
            self._certified.clear()
