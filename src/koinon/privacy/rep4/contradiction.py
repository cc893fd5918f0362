"""Who contradicted itself, from sealed frames of announcements alone (REP4-ALONE in docs/spec/rep4.md).

A stranger who knows the four workers' keys checks it; nobody opens a view. A party that keeps to the protocol seals
once in a round, says one thing about its contribution to a key, confirms the key that follows from what it
acknowledges, and states the heads that its seals are over; so whatever frames are put together, by whomever, it is
never named by any ``Ground`` but the last. That one needs that two of three holders of a value do not lie together, so
whom it names may still clear itself by its view.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import combinations
from typing import Final

from koinon.kernel.errors import Forged
from koinon.privacy.rep4.agreement import (
    AGREEMENT_DOMAIN,
    COMMITMENT_ROUND,
    CONFIRMATION_ROUND,
    LENGTHS,
    OPENING_ROUND,
    SESSION_ROUND,
    acknowledged,
    component_key,
    confirmation,
    contribution_in,
    is_opening,
    shared,
)
from koinon.privacy.rep4.checkpoint import is_sound, statement_in
from koinon.privacy.rep4.party import KEY_ROUNDS
from koinon.privacy.rep4.seals import HASH_BYTES, announced, covers, sealed_by
from koinon.privacy.rep4.signing import Checks
from koinon.wire.committee import POSITIONS, OpenedFrame, Seal

MOST_FRAMES: Final = 48
"""Twelve of each member."""


class Ground(Enum):
    """By what a position is named alone."""

    UNSOUND = "it sealed an announcement that the protocol does not know"
    SEALS = "it sealed two different things in one round"
    CONTRIBUTION = "what it opened of a key is not what it committed to, or not the same to all"
    CONFIRMATION = "it confirmed another key than follows from what it acknowledged"
    DIGEST = "it states another digest of the output than the two others that hold the value"


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A position that deviated, as its own signatures show.

    Attributes:
        seal: of the frame that shows it.
        receiver: of that frame.
    """

    position: int
    ground: Ground
    seal: Seal
    receiver: int

    @property
    def may_be_cleared(self) -> bool:
        """Whether the position's view could clear it: only where two others might have lied together."""
        return self.ground is Ground.DIGEST


def contradiction_of(frames: Sequence[OpenedFrame], checks: Checks) -> Contradiction:
    """The one position that these frames name.

    Args:
        checks: of the signatures of the session's four workers.

    Raises:
        Forged: a frame is not sealed by its author, or shows something else than was sealed; or they name nobody.
    """
    if not 0 < len(frames) <= MOST_FRAMES:
        raise Forged(f"evidence about one position has 1 to {MOST_FRAMES} frames; got {len(frames)}")
    for frame in frames:
        _check_frame(frame, checks)
    for found in _grounds(frames, checks):
        return found
    raise Forged("no position contradicts itself in these frames")


def is_sealed(frame: OpenedFrame, checks: Checks) -> bool:
    """Whether a frame's author sealed what it shows."""
    try:
        _check_frame(frame, checks)
    except Forged:
        return False
    return True


def digests_in(position: int, note: bytes) -> dict[int, bytes]:
    """The output digests that a position states in its last checkpoint's note, by component."""
    cut = [note[start : start + HASH_BYTES] for start in range(0, 3 * HASH_BYTES, HASH_BYTES)]
    return dict(zip([j for j in POSITIONS if j != position], cut, strict=True))


def odd_one(stated: Mapping[int, bytes]) -> int | None:
    """Who of three states something else than the two others; None where there is no such one."""
    values = list(stated.values())
    alone = [position for position, value in stated.items() if values.count(value) == 1]
    return alone[0] if len(alone) == 1 and len(values) == 3 else None


def _check_frame(frame: OpenedFrame, checks: Checks) -> None:
    seal, digests = frame.sealed.seal, frame.sealed.frame.announced
    if seal.position not in POSITIONS or frame.receiver not in POSITIONS or frame.receiver == seal.position:
        raise Forged("a frame names no sender and receiver")
    if not covers(frame.sealed, frame.receiver) or not sealed_by(checks, seal):
        raise Forged(f"position {seal.position} did not seal this frame")
    if not digests or len(frame.contents) != len(digests):
        raise Forged("a frame shows another number of announcements than was sealed")
    for content, digest in zip(frame.contents, digests, strict=True):
        if content is not None and announced([content]) != (digest,):
            raise Forged("a frame shows another announcement than was sealed")


def _grounds(frames: Sequence[OpenedFrame], checks: Checks) -> Iterator[Contradiction]:
    def by(frame: OpenedFrame, ground: Ground) -> Contradiction:
        return Contradiction(frame.sealed.seal.position, ground, frame.sealed.seal, frame.receiver)

    for frame in frames:
        if not _is_known(frame, checks):
            yield by(frame, Ground.UNSOUND)
    told = [frame for frame in frames if frame.sealed.seal.round < KEY_ROUNDS]
    yield from _two_seals(frames, told)
    for frame, other in combinations(told, 2):
        if _is_other_contribution(frame, other) or _is_other_contribution(other, frame):
            yield by(frame, Ground.CONTRIBUTION)
    for frame in told:
        if frame.sealed.seal.round == CONFIRMATION_ROUND and _is_other_key(frame, told):
            yield by(frame, Ground.CONFIRMATION)
    for three in combinations([frame for frame in frames if frame not in told], 3):
        if (odd := _odd_digest(three)) is not None:
            yield by(odd, Ground.DIGEST)


def _is_known(frame: OpenedFrame, checks: Checks) -> bool:
    """Whether a party that keeps to the protocol, whatever it was sent, could have sealed what is shown."""
    seal, sealed = frame.sealed.seal, frame.sealed.frame
    if seal.round >= KEY_ROUNDS:
        return None in frame.contents or is_sound(frame, checks)
    if seal.round < 0:
        return False
    lengths = LENGTHS[seal.round]
    if sealed.values or sealed.hashes or len(frame.contents) != len(lengths):
        return False
    shown = zip(frame.contents, lengths, strict=True)
    if any(content is not None and len(content) != length for content, length in shown):
        return False
    last = frame.contents[-1]
    if last is None:
        return True
    if seal.round == SESSION_ROUND:
        return last[:HASH_BYTES] == seal.session and _is_signed(checks, seal, last[HASH_BYTES:])
    if seal.round == CONFIRMATION_ROUND:
        return all(sealed_by(checks, each) for each in acknowledged(seal.session, seal.position, last).values())
    return True


def _is_signed(checks: Checks, seal: Seal, signature: bytes) -> bool:
    try:
        checks.check(seal.position, AGREEMENT_DOMAIN, seal.session, signature)
    except Forged:
        return False
    return True


def _two_seals(frames: Sequence[OpenedFrame], told: Sequence[OpenedFrame]) -> Iterator[Contradiction]:
    """Of frames, and of what others acknowledge; ``_is_known`` has found those signed."""
    seals = [(frame.sealed.seal, frame.receiver) for frame in frames]
    for frame in told:
        seal, last = frame.sealed.seal, frame.contents[-1]
        if seal.round == CONFIRMATION_ROUND and last is not None:
            seals += [(each, seal.position) for each in acknowledged(seal.session, seal.position, last).values()]
    for (one, receiver), (other, _) in combinations(seals, 2):
        if one.position != other.position:
            continue
        if one.session != other.session or (one.round == other.round and one.sent != other.sent):
            yield Contradiction(one.position, Ground.SEALS, one, receiver)


def _contributions(frame: OpenedFrame) -> dict[int, bytes]:
    """What a frame shows of its author's commitments, openings or confirmations, by component."""
    components = shared(frame.sealed.seal.position, frame.receiver)
    return {j: content for j, content in zip(components, frame.contents, strict=False) if content is not None}


def _is_other_contribution(frame: OpenedFrame, other: OpenedFrame) -> bool:
    """Whether one author commits to, or opens, two things for one key, or opens another than it committed to."""
    one, two = frame.sealed.seal, other.sealed.seal
    if (one.session, one.position) != (two.session, two.position):
        return False
    said, said_later = _contributions(frame), _contributions(other)
    both = said.keys() & said_later.keys()
    if one.round == two.round and one.round in (COMMITMENT_ROUND, OPENING_ROUND):
        return any(said[j] != said_later[j] for j in both)
    if (one.round, two.round) == (COMMITMENT_ROUND, OPENING_ROUND):
        return not all(is_opening(one.session, one.position, j, said[j], said_later[j]) for j in both)
    return False


def _is_other_key(confirming: OpenedFrame, told: Sequence[OpenedFrame]) -> bool:
    """Whether a confirmed key is not made of what its author opened and of what it acknowledges to have been opened."""
    seal, acknowledgement = confirming.sealed.seal, confirming.contents[-1]
    if acknowledgement is None:
        return False
    heard = acknowledged(seal.session, seal.position, acknowledgement)
    for j, said in _contributions(confirming).items():
        if j not in shared(seal.position, confirming.receiver):
            continue
        given = {}
        for frame in told:
            theirs = frame.sealed.seal
            opened = theirs.round == OPENING_ROUND and theirs.session == seal.session and j in _contributions(frame)
            own = theirs.position == seal.position
            if opened and (own or (frame.receiver == seal.position and theirs == heard[theirs.position])):
                given[theirs.position] = contribution_in(_contributions(frame)[j])
        if given.keys() == set(POSITIONS) - {j}:
            key = component_key(seal.session, j, given)
            if said != confirmation(seal.session, key, j, seal.position):
                return True
    return False


def _odd_digest(three: Sequence[OpenedFrame]) -> OpenedFrame | None:
    """Of three statements of one last checkpoint, that which differs about a value that all three authors hold."""
    authors = {frame.sealed.seal.position: frame for frame in three}
    when = {(frame.sealed.seal.session, frame.sealed.seal.round) for frame in three}
    if len(authors) != 3 or len(when) != 1 or any(None in frame.contents for frame in three):
        return None
    notes = {position: statement_in(frame).note for position, frame in authors.items()}
    if any(len(note) != 3 * HASH_BYTES for note in notes.values()):
        return None
    (j,) = set(POSITIONS) - authors.keys()
    odd = odd_one({position: digests_in(position, note)[j] for position, note in notes.items()})
    return None if odd is None else authors[odd]
