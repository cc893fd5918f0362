"""The blocks that Giskard's validators may be shown, and the rules that nodes run applied to them.

Every decision of an honest validator in the models beside this file is taken here, by the functions of
``koinon.ledger.giskard.rules`` and ``certificates.rank`` on real headers and certificates.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Final, NamedTuple

from koinon.kernel.ids import Hash32, NodeId
from koinon.kernel.quantities import BlockIndex, Epoch, View
from koinon.ledger.giskard.certificates import rank
from koinon.ledger.giskard.rules import Rules, above_lock
from koinon.ledger.giskard.shells import make_header
from koinon.ledger.types import (
    Header,
    QuorumCertificate,
    Validator,
    ValidatorSet,
    ViewChangeCertificate,
    header_hash,
)

GENESIS: Final = 0
Key = Callable[[QuorumCertificate], tuple[int, ...]]


@dataclass(frozen=True)
class Bounds:
    """How far a search goes.

    Attributes:
        rivals: how many blocks a proposer may make for one place, that is with equal view, index and parent.
        per_view: how many blocks of one view may become certified; None stands for N + 1, and by GISKARD-SAFETY-1 more
            than N never do, so that this cuts off nothing unless the rule is weakened.
    """

    views: int
    blocks_per_view: int
    nodes: int = 4
    rivals: int = 2
    per_view: int | None = None

    @property
    def faults(self) -> int:
        return (self.nodes - 1) // 3

    @property
    def honest(self) -> int:
        return self.nodes - self.faults

    @property
    def needed(self) -> int:
        """Honest signatures that make a quorum together with all liars."""
        return self.nodes - 2 * self.faults


class Local(NamedTuple):
    """An honest validator.

    Attributes:
        voted: blocks it voted for in this view, in order.
        highest: the highest certified block it knows.
    """

    view: View
    timed_out: bool
    voted: tuple[int, ...]
    highest: int
    locked_height: int


class World:
    """All blocks that were ever thought of, numbered; genesis is 0.

    Args:
        rules: those that validators follow.
        key: how certificates are compared; with equal keys the adversary chooses.
    """

    def __init__(self, bounds: Bounds, rules: Rules | None = None, key: Key = rank) -> None:
        self.bounds, self.rules, self.key = bounds, rules or Rules(), key
        self.last = bounds.blocks_per_view - 1
        self.headers: list[Header] = []
        self.parents: list[int] = []
        self.rival: list[int] = []
        self._certificates: list[QuorumCertificate] = []
        self.validators = ValidatorSet(
            tuple(Validator(NodeId(bytes([n]) * 32), bytes(20), bytes([n]) * 48) for n in range(bounds.nodes))
        )
        self._enter(make_header(self.validators, None, View(0), BlockIndex(self.last), b""), GENESIS, 0)
        # The same few questions come back millions of times.
        self.child = lru_cache(None)(self.child)
        self.order = lru_cache(None)(self.order)
        self.is_ancestor = lru_cache(None)(self.is_ancestor)
        self.fork = lru_cache(None)(self.fork)
        self.extends = lru_cache(None)(self.extends)
        self._may_follow = lru_cache(None)(self._may_follow)

    def _enter(self, header: Header, parent: int, rival: int) -> int:
        self.headers.append(header)
        self.parents.append(parent)
        self.rival.append(rival)
        name = header_hash(header)
        self._certificates.append(
            QuorumCertificate(header.epoch, header.view, header.index, header.height, name, b"\x07", b"\x01")
        )
        return len(self.headers) - 1

    def child(self, parent: int, view: int, index: int, rival: int) -> int:
        """The block at this place."""
        header = make_header(self.validators, self.headers[parent], View(view), BlockIndex(index), bytes([rival]))
        return self._enter(header, parent, rival)

    def ends_view(self, block: int, view: int) -> bool:
        """Whether this is a last block of the view, whose certificate leads into the next one."""
        return self.headers[block].view == view and self.headers[block].index == self.last

    def reach(self, block: int) -> int:
        """The view into which the block's certificate leads whoever is behind."""
        header = self.headers[block]
        return header.view + (header.index == self.last)

    def certificate(self, block: int) -> QuorumCertificate:
        """Place and hash of the block as a certificate names them; what signed it is left out."""
        return self._certificates[block]

    def order(self, block: int) -> tuple[int, ...]:
        """What the block's certificate is compared by."""
        return self.key(self._certificates[block])

    def line(self, block: int) -> Iterator[int]:
        """The block and its ancestors, youngest first."""
        while block != GENESIS:
            yield block
            block = self.parents[block]
        yield GENESIS

    def is_ancestor(self, elder: int, younger: int) -> bool:
        """Whether ``younger`` is ``elder`` or descends from it."""
        return elder in self.line(younger)

    def final_line(self, certified: tuple[int, ...], tip: int) -> list[int] | None:
        """The linked certified blocks up to ``tip``, eldest first, if they make the first of them final."""
        line = list(islice(self.line(tip), self.rules.linked_certificates))[::-1]
        final = all(one in certified for one in line) and self.rules.is_final([self.headers[one] for one in line])
        return line if final else None

    def fork(self, certified: tuple[int, ...]) -> tuple[list[int], list[int]] | None:
        """Two lines of certified blocks that make conflicting blocks final."""
        lines = [line for tip in certified if (line := self.final_line(certified, tip)) is not None]
        for first in lines:
            for second in lines:
                if not self.is_ancestor(first[0], second[0]) and not self.is_ancestor(second[0], first[0]):
                    return first, second
        return None

    def extends(self, reported: int, block: int) -> bool:
        """Whether a first block fits a view-change certificate whose highest report is ``reported``."""
        left = ViewChangeCertificate(Epoch(0), View(0), (), self._certificates[reported])
        return self.rules.extends_highest(left, self.headers[block])

    def reportable(self, certified: tuple[int, ...], reports: tuple[int, ...]) -> list[int]:
        """Certified blocks that some view-change certificate can show as the highest reported.

        The liars report what they like, so that is every block not below the highest of the lowest honest reports.

        Args:
            reports: of honest validators, the lowest ones in ascending order; too few make no certificate.
        """
        if len(reports) < self.bounds.needed:
            return []
        threshold = self.order(reports[self.bounds.needed - 1])
        return [block for block in certified if self.order(block) >= threshold]

    def add_report(self, reports: tuple[int, ...], report: int) -> tuple[int, ...]:
        """The lowest reports, as many as a certificate needs."""
        lowest = sorted((*reports, report), key=lambda block: (self.order(block), block))
        return tuple(lowest[: self.bounds.needed])

    def places(self, view: int, certified: tuple[int, ...], reportable: list[int]) -> list[tuple[int, int]]:
        """Parent and index of every block of ``view`` whose place is justified.

        Args:
            reportable: what view-change certificates out of the view before can show.
        """
        most = self.bounds.blocks_per_view + 1 if self.bounds.per_view is None else self.bounds.per_view
        if sum(self.headers[block].view == view for block in certified) >= most:
            return []
        within = [
            (parent, self.headers[parent].index + 1)
            for parent in certified
            if self.headers[parent].view == view and self.headers[parent].index < self.last
        ]
        first = [
            (parent, 0)
            for parent in certified
            if self.ends_view(parent, view - 1)
            or any(self.extends(shown, self.child(parent, view, 0, 0)) for shown in reportable)
        ]
        return within + first

    def entrances(self, view: int, certified: tuple[int, ...], reportable: list[int]) -> list[int]:
        """Certified blocks whose certificates, or view-change certificates showing them, lead into ``view``."""
        return [
            block
            for block in certified
            if self.reach(block) == view or (block in reportable and self.reach(block) < view)
        ]

    def vote(self, local: Local, block: int) -> Local | None:
        """The validator after its vote, None where the rules forbid it. The block brings its parent's certificate."""
        header = self.headers[block]
        if header.view < local.view or (header.view == local.view and local.timed_out):
            return None
        if self.reach(self.parents[block]) > header.view:
            return None
        voted = local.voted if header.view == local.view else ()
        after = self.learn(local, self.parents[block])
        if not above_lock(after.locked_height, header) or not self._may_follow(voted, block):
            return None
        return Local(header.view, False, (*voted, block), after.highest, after.locked_height)

    def learn(self, local: Local, certified: int) -> Local:
        """Take in a certificate; together with its parent's it locks the parent's height."""
        if certified == local.highest:
            return local
        locked = local.locked_height
        if self.parents[certified] == local.highest:
            locked = max(locked, self.headers[local.highest].height)
        higher = self.order(certified) > self.order(local.highest)
        return local._replace(highest=certified if higher else local.highest, locked_height=locked)

    def _may_follow(self, voted: tuple[int, ...], block: int) -> bool:
        """Whether who cast these votes in a view may vote for this block of it."""
        rules, header = self.rules, self.headers[block]
        slots = [(self.headers[one].index, self.headers[one].height) for one in voted]
        if block in voted or not rules.slot_is_free(slots, header):
            return False
        first = next((one for one in voted if self.headers[one].index == header.index), None)
        if first is not None and not rules.considers(self.headers[first], header):
            return False
        own = self._place(voted[-1]) if voted else None
        within = [self._place(one) for one in self.line(self.parents[block]) if self.headers[one].view == header.view]
        return rules.follows_own_chain(own, within)

    def _place(self, block: int) -> tuple[int, Hash32]:
        return self.headers[block].index, header_hash(self.headers[block])
