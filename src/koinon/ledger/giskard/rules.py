"""The predicates that safety rests on, and the table of all properties.

``Rules`` bundles those that a test may replace to show that the simulator notices: a node always runs ``Rules()``.

====================  ==================================================================================================
GISKARD-SAFETY-1      One vote per (view, index) and one per (view, height), both strictly rising.
GISKARD-SAFETY-2      Within a view a validator votes only for blocks that stand on the block it voted for before.
GISKARD-SAFETY-3      A block is final where three linked certificates, in equal or consecutive views, begin with it; no
                      two final blocks have one height.
GISKARD-SAFETY-4      No vote at or below the height of a certified block with a certified child.
GISKARD-SAFETY-5      After a time-out the first block extends the highest reported block, which receivers work out
                      themselves and whose every signature they check.
GISKARD-SAFETY-6      Certificates are ordered by height, then by view.
GISKARD-SAFETY-7      What a signature commits its signer to is durable before the signature leaves.
GISKARD-SAFETY-8      A block above the last height of its epoch is empty, says so and is never final; once that height
                      is final nothing is signed in the epoch.
GISKARD-LIVENESS-1    Once messages between honest validators arrive within some unknown time, blocks become final
                      again: patience grows without bound while views are lost.
GISKARD-LIVENESS-2    After a correct proposer no step waits for a timer: its last certificate starts the next view.
GISKARD-LIVENESS-3    A view change is said again until its view is left, since it may have been lost; f + 1 of them
                      make everybody join.
GISKARD-LIVENESS-4    Who speaks of a view or an epoch that is over is shown the proof that it is; what is missing is
                      asked for in every step until it is here.
GISKARD-LIVENESS-5    Where votes are collected, a lost view makes everybody broadcast them until a block is final.
====================  ==================================================================================================

Why three linked certificates alone are not final (GISKARD-SAFETY-3). The published rule lets the views of the three
differ at will. Then two chains A and B that fork at one height can both collect three: while the network is
asynchronous, one liar holds back each new certificate and, in the view change after, reports the other chain's newest
one, so that certificates appear as A1 (view v), B1 (v+1), A2 (v+2), B2 (v+3), A3 (v+4), B3 (v+5), each justified by a
correct view-change certificate. With the views of the three equal or consecutive this cannot happen: whoever voted for
the child held the certificate of the first block, so every later view change reports it or something above it, and no
view lies between the two in which another block could have been certified. ``tests/ledger`` replays the schedule.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from koinon.kernel.quantities import ChainId, Height
from koinon.ledger.giskard.certificates import Verifier, check_view_change_certificate
from koinon.ledger.types import Header, ViewChangeCertificate, is_closing

LINKED_CERTIFICATES: Final = 3

VotedSlot = tuple[int, int]
"""Index and height of a vote cast in the current view."""


def slot_is_free(voted: Iterable[VotedSlot], header: Header) -> bool:
    """GISKARD-SAFETY-1: one vote per (view, index) and one per (view, height), both strictly rising.

    Height alone is not enough: an equivocating proposer can build its first block on the last block of the view before
    and again on the highest block of that view's view-change certificate, one height lower.
    """
    return all(header.index > index and header.height > height for index, height in voted)


def considers(first: Header, header: Header) -> bool:
    """GISKARD-SAFETY-1 again, a step earlier: of several proposals for one place only the first to come is considered.

    Another one enters the tree only with a certificate.
    """
    return first == header


def follows_own_chain(own: tuple[int, bytes] | None, line: Iterable[tuple[int, bytes]]) -> bool:
    """GISKARD-SAFETY-2: a block must stand on the block this validator accepted before it in the same view.

    Args:
        own: index and hash of the last accepted block of the view, None before the first.
        line: index and hash of the ancestors within the view, youngest first.
    """
    if own is None:
        return True
    return any(ancestor == own for ancestor in line)


def is_final(line: Sequence[Header]) -> bool:
    """GISKARD-SAFETY-3: whether certified blocks, each the parent of the next, make the first of them final.

    There must be three, and the view of each is that of the block before or the next one; see the module's docstring.
    """
    return len(line) == LINKED_CERTIFICATES and all(
        0 <= child.view - parent.view <= 1 for parent, child in pairwise(line)
    )


def final_height(proven: Height, last_height: Height | None) -> Height:
    """GISKARD-SAFETY-8: no block above the last of its epoch is ever final.

    Closing blocks finalise the last block of an epoch and then are forgotten: the next epoch begins on that block, so
    its first block has the height of the first closing block.
    """
    return proven if last_height is None else min(proven, last_height)


def may_hold(transactions: Sequence[bytes], height: Height, last_height: Height | None) -> bool:
    """GISKARD-SAFETY-8, second part: a closing block holds nothing that would be forgotten with it."""
    return last_height is None or height <= last_height or not transactions


def is_marked(header: Header, last_height: Height | None) -> bool:
    """GISKARD-SAFETY-8, third part: closing blocks, and no others, say in their headers that they are closing ones.

    Without the mark, certificates of three of them would prove the first one final to who sees headers only.
    """
    return is_closing(header) == (last_height is not None and header.height > last_height)


def above_lock(locked_height: int, header: Header) -> bool:
    """GISKARD-SAFETY-4: never vote at or below the height of a block that is certified and has a certified child."""
    return header.height > locked_height


def check_view_change(
    certificate: ViewChangeCertificate, chain_id: ChainId, validators: int, quorum: int, verifier: Verifier
) -> None:
    """GISKARD-SAFETY-5: receivers work out the highest reported block themselves. Raises Forged, MalformedMessage."""
    check_view_change_certificate(certificate, chain_id, validators, quorum, verifier)


def extends_highest(certificate: ViewChangeCertificate, header: Header) -> bool:
    """GISKARD-SAFETY-5, second half: after a time-out the first block extends the highest block that was reported."""
    return header.parent == certificate.highest.block


@dataclass(frozen=True)
class Rules:
    """The replaceable predicates; the defaults are the protocol."""

    slot_is_free: Callable[[Iterable[VotedSlot], Header], bool] = slot_is_free
    considers: Callable[[Header, Header], bool] = considers
    follows_own_chain: Callable[[tuple[int, bytes] | None, Iterable[tuple[int, bytes]]], bool] = follows_own_chain
    is_final: Callable[[Sequence[Header]], bool] = is_final
    linked_certificates: int = LINKED_CERTIFICATES
    check_view_change: Callable[[ViewChangeCertificate, ChainId, int, int, Verifier], None] = check_view_change
    extends_highest: Callable[[ViewChangeCertificate, Header], bool] = extends_highest
    final_height: Callable[[Height, Height | None], Height] = final_height
    may_hold: Callable[[Sequence[bytes], Height, Height | None], bool] = may_hold
    is_marked: Callable[[Header, Height | None], bool] = is_marked
