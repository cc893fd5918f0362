"""Who is named alone by sealed announcements: every ground, forged evidence, and that nobody honest ever is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koinon.kernel.errors import Forged, InvalidInput
from koinon.privacy.rep4 import abort, adversary
from koinon.privacy.rep4.agreement import COMMITMENT_ROUND, CONFIRMATION_ROUND, OPENING_ROUND, shared
from koinon.privacy.rep4.checkpoint import restated
from koinon.privacy.rep4.contradiction import MOST_FRAMES, Contradiction, Ground, contradiction_of, odd_one
from koinon.privacy.rep4.judge import Outcome, dispute_about_one, find
from koinon.privacy.rep4.lies import Lie, OneLie, SeededRng
from koinon.privacy.rep4.lockstep import Ending
from koinon.privacy.rep4.party import Party
from koinon.privacy.rep4.seals import announced, chained, seal
from koinon.privacy.rep4.signing import IdealSignatures
from koinon.privacy.rep4.simulation import Stage, perform
from koinon.privacy.rep4.verdict import view_of
from koinon.wire.committee import POSITIONS, FrameDigests, OpenedFrame, SealedFrame

REPLACE = msgspec.structs.replace
CHEATER = 1
NOTE = 4 + 96
STATEMENT_BYTES = NOTE + 96 + 64


@dataclass
class Recorded:
    """A corruption, and every frame with announcements that anybody sealed."""

    lying: OneLie
    frames_sealed: list[OpenedFrame] = field(default_factory=list)

    def before(self, party: Party) -> None:
        self.lying.before(party)

    def frames(self, party: Party, frames: dict[int, bytes]) -> dict[int, bytes]:
        if party.announcing():
            self.frames_sealed.extend(party.told.values())
        return self.lying.frames(party, frames)


@dataclass(frozen=True)
class Run:
    stage: Stage
    endings: list[Ending]
    sealed: tuple[OpenedFrame, ...]

    @property
    def checks(self) -> IdealSignatures:
        return self.stage.signatures(0)

    @property
    def shown(self) -> tuple[OpenedFrame, ...]:
        """What all but the cheater may show."""
        return tuple(frame for position, one in enumerate(self.endings) if position != CHEATER for frame in one.shown)

    def named(self, frames: Sequence[OpenedFrame]) -> Contradiction:
        return contradiction_of(frames, self.checks)


@cache
def run(lie: Lie = Lie.STATE, target: int = -1, cheater: int = CHEATER) -> Run:
    """A session of the tamper harness; honest without a target."""
    keys = SeededRng(b"contradiction")
    stage = Stage.draw(adversary._probe(), adversary._dealt(), keys)
    recorded = Recorded(OneLie(cheater, lie, target, SeededRng(b"lie")))
    endings = perform(stage, keys, recorded, recorded.lying.inputs)
    return Run(stage, endings, tuple(recorded.frames_sealed))


def of(run_: Run, number: int, sender: int, receiver: int) -> OpenedFrame:
    """The frame of one round and link."""
    (found,) = (
        one
        for one in run_.sealed
        if (one.sealed.seal.round, one.sealed.seal.position, one.receiver) == (number, sender, receiver)
    )
    return found


# Told in a run, found by what its honest members show.


@pytest.mark.parametrize(
    ("lie", "target", "ground"),
    [
        (Lie.TOLD, 1, Ground.UNSOUND),  # another session
        (Lie.TOLD, 4, Ground.CONTRIBUTION),  # a commitment
        (Lie.TOLD, 10, Ground.CONTRIBUTION),  # an opening
        (Lie.TOLD, 16, Ground.CONFIRMATION),
        (Lie.TOLD, 17, Ground.UNSOUND),  # an acknowledgement
        (Lie.TOLD, 25, Ground.UNSOUND),  # a statement that is not signed
        (Lie.STATED, 1, Ground.UNSOUND),  # heads that the seal denies
        (Lie.MISSHAPEN, 5, Ground.UNSOUND),
        (Lie.TWO_FACED, 2, Ground.CONTRIBUTION),
    ],
)
def test_what_a_member_seals_names_it_alone(lie: Lie, target: int, ground: Ground) -> None:
    lying = run(lie, target)
    found = lying.named(lying.shown)
    assert (found.position, found.ground, found.may_be_cleared) == (CHEATER, ground, False)


class Misstating:
    """States, to all alike, another digest of one component than it has."""

    def __init__(self, place: int) -> None:
        self.place = place

    def before(self, party: Party) -> None:
        for announcement in party.announcing():
            content = announcement.content
            if (party.position, len(content)) == (CHEATER, STATEMENT_BYTES):
                changed = bytearray(content)
                changed[NOTE + 32 * self.place] ^= 1
                announcement.content = restated(party, bytes(changed))

    def frames(self, party: Party, frames: dict[int, bytes]) -> dict[int, bytes]:
        del party
        return frames


@pytest.mark.parametrize("place", range(3))
def test_of_three_that_hold_a_component_the_odd_one_is_named(place: int) -> None:
    """Everybody names it, also whoever does not hold the component and only hears of it."""
    keys = SeededRng(b"misstating")
    stage = Stage.draw(adversary._probe(), adversary._dealt(), keys)
    endings = perform(stage, keys, Misstating(place))
    checks = stage.signatures(0)
    for position in (0, 2, 3):
        problem = endings[position].abort
        assert problem is not None
        assert (problem.complaint.reason, problem.suspects) == (abort.ODD_DIGEST, {CHEATER})
        heard = dispute_about_one(endings[position].shown, checks)
        assert heard.accused == (CHEATER,)
        assert heard.is_heard
    view, inputs = view_of(stage.transcripts[CHEATER]), stage.inputs(CHEATER)
    finding = find(heard, CHEATER, view, checks, stage.identity, stage.program, inputs)
    assert (finding.outcome, finding.named) == (Outcome.DEVIATED, CHEATER)
    with pytest.raises(InvalidInput, match="is about positions 1"):
        find(heard, 0, view, checks, stage.identity, stage.program, inputs)


def test_two_seals_of_one_round_name_their_author_whoever_shows_them() -> None:
    honest = run()
    one = of(honest, OPENING_ROUND, CHEATER, 0)
    made = seal(honest.stage.signatures(CHEATER), honest.stage.session, CHEATER, OPENING_ROUND, (bytes(32),) * 3)
    other = resealed(of(honest, OPENING_ROUND, CHEATER, 2), honest, made.sent[0])
    assert honest.named((one, other)) == Contradiction(CHEATER, Ground.SEALS, one.sealed.seal, 0)


def test_what_is_shown_about_a_confirmation_is_about_one_key() -> None:
    lying = run(Lie.TOLD, 16)
    frames = [frame for frame in lying.shown if frame.sealed.seal.round in (COMMITMENT_ROUND, OPENING_ROUND)]
    (key,) = set(POSITIONS) - {p for frame in frames for p in (frame.sealed.seal.position, frame.receiver)}
    assert frames
    for frame in frames:
        components = shared(frame.sealed.seal.position, frame.receiver)
        assert [j for j, content in zip(components, frame.contents, strict=True) if content is not None] == [key]


@pytest.mark.parametrize("lie", [Lie.SEALED, Lie.VALUE, Lie.SILENCE])
def test_once_values_are_sent_nothing_of_a_key_is_shown(lie: Lie) -> None:
    lying = run(lie, 20)
    assert any(ending.abort for ending in lying.endings)
    assert lying.shown == ()


# Nobody honest.


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_nobody_honest_is_named_by_any_frames(data: st.DataObject) -> None:
    """Of honest runs, and of runs with a liar: whatever is selected of all that was ever sealed, in any order."""
    lie = data.draw(st.sampled_from([Lie.STATE, Lie.TOLD, Lie.STATED, Lie.TWO_FACED, Lie.MISSHAPEN, Lie.SEALED]))
    cheater = data.draw(st.sampled_from(POSITIONS))
    target = data.draw(st.integers(-1, 35))
    lying = run(lie, target, cheater) if target >= 0 else run()
    count = data.draw(st.integers(1, MOST_FRAMES))
    frames = data.draw(st.lists(st.sampled_from(lying.sealed), min_size=1, max_size=count))
    try:
        found = lying.named(frames)
    except Forged:
        return
    assert target >= 0
    assert found.position == cheater


def test_two_that_state_the_same_lie_have_a_third_accused_and_its_view_clears_it() -> None:
    honest, victim = run(), 3
    last = max(frame.sealed.seal.round for frame in honest.sealed)
    frames = []
    for position in (0, 1):
        frame = of(honest, last, position, 2)
        (content,) = frame.contents
        assert content is not None
        party = Party(position, honest.stage.session, honest.stage.signatures(position))
        party.round = last
        # Component 2 is held by 0, 1 and 3; it is the second that 0 and 1 state.
        place = NOTE + 32
        changed = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        frames.append(stating(frame, honest, restated(party, changed)))
    frames.append(of(honest, last, victim, 0))
    found = honest.named(frames)
    assert (found.position, found.ground, found.may_be_cleared) == (victim, Ground.DIGEST, True)
    dispute, stage = dispute_about_one(frames, honest.checks), honest.stage
    finding = find(
        dispute,
        victim,
        view_of(stage.transcripts[victim]),
        honest.checks,
        stage.identity,
        stage.program,
        stage.inputs(victim),
    )
    assert (finding.outcome, finding.named) == (Outcome.KEPT, None)


def test_the_odd_one_of_three() -> None:
    assert odd_one({0: b"a", 1: b"b", 3: b"a"}) == 1
    assert odd_one({0: b"a", 1: b"a", 3: b"a"}) is None
    assert odd_one({0: b"a", 1: b"b", 3: b"c"}) is None


# Forged evidence.


def resealed(frame: OpenedFrame, honest: Run, head: bytes = b"", signer: int | None = None) -> OpenedFrame:
    """The frame as it is, under a seal over it, and over another head in the place of the first other link."""
    made = frame.sealed.seal
    place = frame.receiver - (frame.receiver > made.position)
    heads = list(made.sent)
    heads[place] = chained(frame.sealed.previous, frame.sealed.frame)
    if head:
        heads[(place + 1) % 3] = head
    author = made.position if signer is None else signer
    signed = seal(
        honest.stage.signatures(author), made.session, made.position, made.round, (heads[0], heads[1], heads[2])
    )
    return REPLACE(frame, sealed=REPLACE(frame.sealed, seal=signed))


def telling(frame: OpenedFrame, honest: Run, *contents: bytes, signer: int | None = None) -> OpenedFrame:
    """The frame with other announcements, under a seal over them."""
    digests = REPLACE(frame.sealed.frame, announced=announced(contents))
    return resealed(REPLACE(frame, sealed=REPLACE(frame.sealed, frame=digests), contents=contents), honest, b"", signer)


def stating(frame: OpenedFrame, honest: Run, content: bytes) -> OpenedFrame:
    """A checkpoint's frame with another statement, and a seal that agrees with its heads."""
    digests = FrameDigests((), announced((content,)), ())
    heads = [chained(content[start : start + 32], digests) for start in (4, 36, 68)]
    made = frame.sealed.seal
    signed = seal(
        honest.stage.signatures(made.position), made.session, made.position, made.round, (heads[0], heads[1], heads[2])
    )
    return REPLACE(frame, sealed=SealedFrame(signed, frame.sealed.previous, digests), contents=(content,))


def opening(honest: Run) -> OpenedFrame:
    return of(honest, OPENING_ROUND, CHEATER, 0)


FORGED: dict[str, Callable[[Run], Sequence[OpenedFrame]]] = {
    "no frames": lambda _: (),
    "too many frames": lambda r: (opening(r),) * (MOST_FRAMES + 1),
    "an honest frame": lambda r: (opening(r),),
    "sealed by the accuser": lambda r: (telling(opening(r), r, b"", signer=0),),
    "not sealed": lambda r: (
        REPLACE(
            opening(r),
            sealed=REPLACE(opening(r).sealed, seal=REPLACE(opening(r).sealed.seal, signature=bytes(64))),
        ),
    ),
    "another announcement than was sealed": lambda r: (REPLACE(opening(r), contents=(bytes(64), None)),),
    "an announcement too few": lambda r: (REPLACE(opening(r), contents=opening(r).contents[:1]),),
    "to itself": lambda r: (REPLACE(opening(r), receiver=CHEATER),),
    "to a fifth": lambda r: (REPLACE(opening(r), receiver=4),),
    "to another receiver": lambda r: (REPLACE(opening(r), receiver=3),),
    "head before it of another length": lambda r: (
        REPLACE(opening(r), sealed=REPLACE(opening(r).sealed, previous=bytes(31))),
    ),
    "a confirmation without what was opened": lambda r: (of(r, CONFIRMATION_ROUND, CHEATER, 0),),
    "a confirmation with what another was opened": lambda r: (
        of(r, CONFIRMATION_ROUND, CHEATER, 0),
        of(r, OPENING_ROUND, CHEATER, 0),
        of(r, OPENING_ROUND, 0, 2),
        of(r, OPENING_ROUND, 2, 0),
    ),
    # The accuser makes up, and seals anew, what it had opened to the member.
    "a confirmation with what was never opened to it": lambda r: (
        of(r, CONFIRMATION_ROUND, CHEATER, 0),
        of(r, OPENING_ROUND, CHEATER, 0),
        of(r, OPENING_ROUND, 2, CHEATER),
        telling(of(r, OPENING_ROUND, 0, CHEATER), r, bytes(64), bytes(64)),
    ),
}


@pytest.mark.parametrize("case", FORGED)
def test_forged_evidence_about_one_names_no_honest_member(case: str) -> None:
    honest = run()
    try:
        found = honest.named(FORGED[case](honest))
    except Forged:
        return
    # Whoever seals something else in an honest member's round contradicts itself by what that member acknowledges.
    assert case == "a confirmation with what was never opened to it"
    assert (found.position, found.ground) == (0, Ground.SEALS)


@pytest.mark.parametrize("number", [-1, -9, 2**40])
def test_a_round_that_cannot_be_is_its_authors_fault(number: int) -> None:
    honest = run()
    frame = opening(honest)
    made = seal(honest.stage.signatures(CHEATER), honest.stage.session, CHEATER, number, frame.sealed.seal.sent)
    found = honest.named((REPLACE(frame, sealed=REPLACE(frame.sealed, seal=made)),))
    assert (found.position, found.ground) == (CHEATER, Ground.UNSOUND)


def test_every_pair_of_honest_frames_agrees() -> None:
    honest = run()
    early = [frame for frame in honest.sealed if frame.sealed.seal.round <= CONFIRMATION_ROUND]
    assert len(early) == 48
    with pytest.raises(Forged, match="no position contradicts itself"):
        honest.named(early)
    for pair in combinations(early[::5], 2):
        with pytest.raises(Forged, match="no position contradicts itself"):
            honest.named(pair)
