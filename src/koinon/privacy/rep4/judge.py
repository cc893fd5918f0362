"""The judge: repeats what one accused position should have sent, from what it signed (REP4-JUDGE in docs/spec/rep4.md).

    evidence   two sealed frames that state different things about one value: sender or backup deviated; or sealed
               announcements by which one position contradicts itself (``contradiction``)
    view       what one of the two received and drew, which it opens, signed, to its judge and to nobody else
    finding    the judge runs the honest protocol on the view and compares the heads it gets with the seal

A view is everything its position saw, so a judge must be trusted as a member of the committee is: together with any
other position it would know every secret. One judge must never hold the views of two positions.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from koinon.kernel.errors import Forged, InvalidInput
from koinon.privacy.backend import Program
from koinon.privacy.rep4 import abort
from koinon.privacy.rep4.abort import CommitteeAbort
from koinon.privacy.rep4.contradiction import Contradiction, contradiction_of
from koinon.privacy.rep4.party import COMPLAINT_DOMAIN, Party
from koinon.privacy.rep4.seals import SEAL_BYTES, SEAL_DOMAIN, covers, sealed_by, unpacked
from koinon.privacy.rep4.session import take_part
from koinon.privacy.rep4.shares import Shares
from koinon.privacy.rep4.signing import SIGNATURE_BYTES, Checks
from koinon.wire.committee import POSITIONS, OpenedFrame, PairEvidence, RouteDigest, Seal


class Outcome(StrEnum):
    """What repeating a position's part shows."""

    KEPT = "it sent what the protocol says; where two are accused, the other deviated"
    DEVIATED = "it signed something else than the protocol says"
    UNATTRIBUTED = "what it received is not signed by its peers, so its part cannot be repeated for certain"


@dataclass(frozen=True, slots=True)
class Dispute:
    """A proven deviation, in ``round``.

    Attributes:
        accused: sender and backup of a value, of whom at most one kept to the protocol; or one position alone.
        seals: of theirs, by which each is judged.
        alone: what one position alone is named by; None where there are two.
    """

    session: bytes
    round: int
    accused: tuple[int, ...]
    receiver: int
    seals: tuple[Seal, ...]
    alone: Contradiction | None = None

    @property
    def is_heard(self) -> bool:
        """Whether an accused's view could clear it."""
        return self.alone is None or self.alone.may_be_cleared

    def seal_of(self, position: int) -> Seal:
        """The seal that ``position``, one of the accused, is judged by. Raises InvalidInput for any other position."""
        if position not in self.accused:
            raise InvalidInput(f"the dispute is about positions {', '.join(map(str, self.accused))}, not {position}")
        return self.seals[self.accused.index(position)]


@dataclass(frozen=True, slots=True)
class Replay:
    """A view in the judge's memory, ready to be repeated.

    Attributes:
        received: frames by round and peer.
        signatures, randomness: of the position itself, in the order in which it used them.
    """

    received: Sequence[dict[int, bytes]]
    signatures: Sequence[bytes]
    randomness: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Finding:
    """A judge's finding about one position.

    Attributes:
        named: who deviated, if at most one of the four did; None where it stays open between the two.
    """

    position: int
    round: int
    outcome: Outcome
    named: int | None


def dispute_of(evidence: PairEvidence, checks: Checks) -> Dispute:
    """Check evidence about a pair.

    Args:
        checks: of the signatures of the session's four workers.

    Raises:
        Forged: it does not show two sealed, different statements about one value.
    """
    complaint = evidence.complaint
    path = (complaint.sender, complaint.backup, complaint.receiver)
    if not abort.is_possible(complaint, complaint.session) or complaint.reason != abort.MISMATCH:
        raise Forged("the complaint is not one about a value and its hash")
    if not set(path) <= set(POSITIONS):
        raise Forged("the complaint names no sender and backup")
    checks.check(complaint.receiver, COMPLAINT_DOMAIN, abort.statement(complaint), complaint.signature)
    for sealed, position in ((evidence.sender, complaint.sender), (evidence.backup, complaint.backup)):
        stated = (sealed.seal.session, sealed.seal.round, sealed.seal.position)
        if stated != (complaint.session, complaint.round, position):
            raise Forged("a seal is of another session, round or position than the complaint")
        if not covers(sealed, complaint.receiver) or not sealed_by(checks, sealed.seal):
            raise Forged(f"position {position} did not seal this frame")
    one, other = _stated(evidence.sender.frame.values, path), _stated(evidence.backup.frame.hashes, path)
    if one == other:
        raise Forged("sender and backup state the same: nobody deviated")
    seals = (evidence.sender.seal, evidence.backup.seal)
    return Dispute(complaint.session, complaint.round, path[:2], complaint.receiver, seals)


def dispute_about_one(frames: Sequence[OpenedFrame], checks: Checks) -> Dispute:
    """Check evidence about one position. Raises Forged where it names none."""
    found = contradiction_of(frames, checks)
    seal = found.seal
    return Dispute(seal.session, seal.round, (found.position,), found.receiver, (seal,), found)


def find(
    dispute: Dispute,
    position: int,
    replay: Replay,
    checks: Checks,
    identity: bytes,
    program: Program,
    inputs: Sequence[Shares],
) -> Finding:
    """Repeat the part of an accused position up to the disputed round.

    Args:
        replay: what the position opened; that it signed this is checked by the caller.
        inputs: its shares of the owners' rows, as the owners' manifests commit to them.

    Raises:
        Forged: what was opened is no run of this session. It shows nothing, and is as if it had not been opened.
    """
    sealed = dispute.seal_of(position)
    source = _Recorded(checks, position, replay.signatures, replay.randomness)
    party = Party(position, dispute.session, source)
    try:
        last = _repeat(party, take_part(party, identity, program, inputs, source), dispute.round, replay.received)
    except CommitteeAbort as problem:
        raise Forged(f"the opened view stops by itself before the disputed round: {problem.complaint.reason}") from None
    if not all(sealed_by(checks, each) for each in last.values()):
        if dispute.alone is not None:  # before it stated digests, it was to check that these were signed
            return Finding(position, dispute.round, Outcome.DEVIATED, position)
        return Finding(position, dispute.round, Outcome.UNATTRIBUTED, None)
    if party.heads() != sealed.sent:
        return Finding(position, dispute.round, Outcome.DEVIATED, position)
    other = next((one for one in dispute.accused if one != position), None)
    return Finding(position, dispute.round, Outcome.KEPT, other)


def _stated(digests: Sequence[RouteDigest], path: tuple[int, int, int]) -> bytes:
    stated = [each.digest for each in digests if (each.sender, each.backup, each.receiver) == path]
    if len(stated) != 1:
        raise Forged("a frame does not say exactly one thing about the disputed value")
    return stated[0]


def _repeat(
    party: Party, protocol: Generator[None, None, Any], last_round: int, received: Sequence[dict[int, bytes]]
) -> dict[int, Seal]:
    """Run up to the frames of ``last_round``; answers the last seal of each peer."""
    seals: dict[int, Seal] = {}
    for number in range(last_round + 1):
        try:
            next(protocol)
        except StopIteration:
            raise Forged("the run ends before the disputed round") from None
        party.send_frames()
        if number == last_round:
            break
        if number >= len(received):
            raise Forged(f"the opened view ends in round {number}, before the disputed round {last_round}")
        # Only frames that the protocol takes in here: others would not be compared with what their seal says.
        frames = {peer: received[number].get(peer, b"") for peer in party.expected()}
        party.receive_frames(frames)
        for peer, frame in frames.items():
            seals[peer] = unpacked(frame[-SEAL_BYTES:], party.session, peer, number)
    return seals


@dataclass(slots=True)
class _Recorded:
    """A position's own signatures and random bytes, given out again in order."""

    checking: Checks
    position: int
    signatures: Sequence[bytes]
    randomness: Sequence[bytes]
    signed: int = 0
    drawn: int = 0

    def sign(self, domain: str, message: bytes) -> bytes:
        if domain in (SEAL_DOMAIN, COMPLAINT_DOMAIN):
            return bytes(SIGNATURE_BYTES)  # only what a seal says is compared
        signature = _at(self.signatures, self.signed)
        self.signed += 1
        self.checking.check(self.position, domain, message, signature)
        return signature

    def check(self, position: int, domain: str, message: bytes, signature: bytes) -> None:
        self.checking.check(position, domain, message, signature)

    def bytes(self, count: int, /) -> bytes:
        drawn = _at(self.randomness, self.drawn)
        self.drawn += 1
        if len(drawn) != count:
            raise Forged(f"the opened view draws {len(drawn)} random bytes where {count} are due")
        return drawn


def _at(kept: Sequence[bytes], place: int) -> bytes:
    if place >= len(kept):
        raise Forged("the opened view lacks signatures or random bytes of its position")
    return kept[place]
