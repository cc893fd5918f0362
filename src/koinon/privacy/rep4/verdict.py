"""What came of a trial of the tamper harness: who is named, by what, to whom (REP4-NAMED in docs/spec/rep4.md).

A liar that contradicted itself is looked for in what the honest positions may show; a pair that is proven is heard by a
judge, each by its own view. Neither may ever name an honest position.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, Protocol

from koinon.kernel.errors import Forged
from koinon.privacy.rep4.contradiction import contradiction_of
from koinon.privacy.rep4.judge import Dispute, Replay, dispute_about_one, dispute_of, find
from koinon.privacy.rep4.lies import Lie
from koinon.privacy.rep4.lockstep import Ending
from koinon.privacy.rep4.simulation import Stage
from koinon.privacy.rep4.transcript import Transcript
from koinon.wire.committee import POSITIONS

COUNTED: Final = ("told", "detected", "proved", "alone", "named", "wrong", "framed", "sent_on", "pardoned")
"""What a summary counts of ``Verdict``s; the last four must never be."""


class Naming(Enum):
    """Who is named when a lie of some kind is noticed."""

    ALONE = "the liar alone, by its own signatures, which anybody checks"
    JUDGE = "the liar alone, by judges that repeat one view"
    RESULT_PARTY = "the liar alone, by the result party, to whom three holders open each component"
    SUSPECTED = "the liar with the receiver, and with the backup where there is one"


NAMED: Final[dict[Lie, Naming]] = {
    Lie.VALUE: Naming.SUSPECTED,
    Lie.ANNOUNCEMENT: Naming.SUSPECTED,
    Lie.HASH: Naming.SUSPECTED,
    Lie.STATE: Naming.JUDGE,
    Lie.SEALED: Naming.JUDGE,
    Lie.SILENCE: Naming.SUSPECTED,
    Lie.MALFORMED: Naming.SUSPECTED,
    Lie.COMPLAINT: Naming.SUSPECTED,
    Lie.FORGERY: Naming.SUSPECTED,
    Lie.OPENING: Naming.RESULT_PARTY,
    Lie.INPUT: Naming.JUDGE,
    Lie.TOLD: Naming.ALONE,
    Lie.STATED: Naming.ALONE,
    Lie.MISSHAPEN: Naming.ALONE,
    Lie.TWO_FACED: Naming.ALONE,
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one trial.

    Attributes:
        lie: what was told, by ``cheater``.
        told: whether the opportunity arose.
        detected: an honest position stopped, or the result party named the liar.
        wrong: a wrong result was accepted. Must never be.
        framed: an honest position, the result party or evidence named positions without the cheater. Must never be.
        sent_on: a victim sent data in a later round than the one in which the lie could be checked. Must never be.
        proved: strangers are shown that one of two positions lied, or that one did.
        alone: the liar's own signatures name it alone, or the result party does.
        named: it is named alone, by those or by a judge: by the view of the other, and by its own if it opened it.
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
    alone: bool = False
    named: bool = False
    pardoned: bool = False

    @property
    def naming(self) -> Naming:
        """Who was named in this trial."""
        if not self.named:
            return Naming.SUSPECTED
        if self.lie is Lie.OPENING:
            return Naming.RESULT_PARTY
        return Naming.ALONE if self.alone else Naming.JUDGE

    @property
    def is_broken(self) -> bool:
        """Whether something came of it that must never be."""
        return self.wrong or self.framed or self.sent_on or self.pardoned


class Below(Protocol):
    """Draws numbers."""

    def below(self, limit: int) -> int:
        """A number from 0 to limit − 1."""
        ...


def judged(verdict: Verdict, stage: Stage, endings: Sequence[Ending], rng: Below) -> Verdict:
    """Bring what the honest positions can prove before strangers: who is named?"""
    honest = [endings[position] for position in POSITIONS if position != verdict.cheater]
    checks = stage.signatures(0)
    shown = tuple(dict.fromkeys(frame for ending in honest for frame in ending.shown))
    if shown:
        try:
            found = contradiction_of(shown, checks)
        except Forged:
            return verdict
        if not found.may_be_cleared:
            right = found.position == verdict.cheater
            return replace(verdict, proved=True, alone=right, named=right, framed=verdict.framed or not right)
        return _heard(verdict, stage, dispute_about_one(shown, checks), rng)
    for ending in honest:
        if ending.abort is not None and ending.abort.evidence is not None:
            return _heard(verdict, stage, dispute_of(ending.abort.evidence, checks), rng)
    return verdict


def _heard(verdict: Verdict, stage: Stage, dispute: Dispute, rng: Below) -> Verdict:
    """A judge hears every accused, each by its own view; the liar changes what it opens, or does not."""
    named, checks = set[int](), stage.signatures(0)
    for position in dispute.accused:
        view = view_of(stage.transcripts[position])
        if position == verdict.cheater and rng.below(2):
            view = _forged_view(view, rng)
        try:
            finding = find(dispute, position, view, checks, stage.identity, stage.program, stage.inputs(position))
        except Forged:
            continue
        if finding.named is not None:
            named.add(finding.named)
        elif len(dispute.accused) == 1 and position == verdict.cheater:
            return replace(verdict, proved=True, pardoned=True)
    honest, alone = named - {verdict.cheater}, len(dispute.accused) == 1
    return replace(
        verdict,
        proved=True,
        alone=alone,
        named=alone or verdict.cheater in named,
        framed=verdict.framed or bool(honest) or verdict.cheater not in dispute.accused,
        pardoned=bool(honest),
    )


def view_of(transcript: Transcript) -> Replay:
    """What a position can open."""
    return Replay(transcript.rounds, transcript.signatures, transcript.randomness)


def _forged_view(view: Replay, rng: Below) -> Replay:
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
