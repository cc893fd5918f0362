"""Stopping: who complains about whom, and what a stranger may conclude from it.

A complaint is signed by the receiver of the message it is about, so that nobody can complain in another's name and a
relayed complaint frames nobody but its author. The receiver itself knows that the sender or the backup deviated;
everybody else knows it only of the three together (``REP4-BLAME`` in docs/spec/rep4.md).
"""

from typing import Final

from koinon.kernel.codec import encode
from koinon.kernel.errors import ProtocolAbort
from koinon.wire.committee import NOBODY, POSITIONS, Complaint, OpenedFrame, PairEvidence

MISMATCH: Final = "the value and its hash do not match"
INCONSISTENT: Final = "two parties state different things about the same value"
MALFORMED: Final = "a frame is not the one the protocol expects"
SILENCE: Final = "no frame came in time"
BAD_HEADS: Final = "the signed chain heads do not match the link"
ODD_DIGEST: Final = "one of three holders states another digest of the output"
BAD_INPUT: Final = "an input is outside its declared range"
WITHDRAWN: Final = "the party was stopped by its own operator"
MOST_INPUTS: Final = 1 << 16
REASONS: Final = (MISMATCH, INCONSISTENT, MALFORMED, SILENCE, BAD_HEADS, ODD_DIGEST, BAD_INPUT, WITHDRAWN)


class CommitteeAbort(ProtocolAbort):
    """A committee's run stopped; nothing was opened.

    Attributes:
        complaint: the signed complaint that explains it.
        position: of the party that raises this.
        suspects: positions of whom at least one deviated, as far as this party knows; it leaves itself out.
        evidence: what proves to outsiders that sender or backup deviated, where this party has it.
        frames: announcements that prove who did, alone or with those of others.
    """

    evidence: PairEvidence | None = None
    frames: tuple[OpenedFrame, ...] = ()

    def __init__(self, complaint: Complaint, position: int) -> None:
        self.complaint = complaint
        self.position = position
        super().__init__(f"{complaint.reason}, round {complaint.round}", suspects(complaint, position))

    @property
    def triple(self) -> tuple[int, int, int]:
        """(sender, backup, receiver); NOBODY where the role does not exist."""
        return self.complaint.sender, self.complaint.backup, self.complaint.receiver


def suspects(complaint: Complaint, position: int) -> frozenset[int]:
    """Of whom the party at ``position``, knowing itself honest, can say that one of them deviated."""
    if complaint.input != NOBODY and complaint.receiver == position:
        return frozenset()
    named = {complaint.sender, complaint.backup, complaint.receiver} - {NOBODY, position}
    return frozenset(named)


def statement(complaint: Complaint) -> bytes:
    """The bytes that the complainant signs."""
    return encode(
        [
            complaint.session,
            complaint.round,
            complaint.reason,
            complaint.sender,
            complaint.backup,
            complaint.receiver,
            complaint.input,
        ]
    )


def is_possible(complaint: Complaint, session: bytes) -> bool:
    """Whether a complaint says something that can happen in this session; its signature is checked separately."""
    roles = (complaint.sender, complaint.backup, complaint.receiver)
    named = [role for role in roles if role != NOBODY]
    return (
        complaint.session == session
        and complaint.receiver in POSITIONS
        and all(role in POSITIONS for role in named)
        and len(set(named)) == len(named)
        and complaint.reason in REASONS
        and NOBODY <= complaint.input < MOST_INPUTS
        and (complaint.reason == BAD_INPUT) == (complaint.input != NOBODY)
        and 0 <= complaint.round < 1 << 32
    )
