"""A lie that its author sealed: proved to strangers by digests, named by a judge who repeats one position's part."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache

import msgspec
import pytest

from koinon.kernel.errors import Forged, InvalidInput
from koinon.privacy.rep4 import abort, adversary
from koinon.privacy.rep4.judge import Dispute, Finding, Outcome, Replay, dispute_of, find
from koinon.privacy.rep4.lies import Lie, OneLie, SeededRng
from koinon.privacy.rep4.party import COMPLAINT_DOMAIN, HEADER
from koinon.privacy.rep4.seals import chained, seal
from koinon.privacy.rep4.simulation import Stage, perform
from koinon.privacy.rep4.transcript import Transcript
from koinon.wire.committee import PairEvidence, RouteDigest, SealedFrame

CHEATER = 1
REPLACE = msgspec.structs.replace


@dataclass(frozen=True)
class Trial:
    stage: Stage
    evidence: PairEvidence
    dispute: Dispute

    @property
    def other(self) -> int:
        return sum(self.dispute.accused) - CHEATER

    def view(self, position: int) -> Replay:
        kept = self.stage.transcripts[position]
        return Replay(kept.rounds, kept.signatures, kept.randomness)

    def find(self, position: int, view: Replay) -> Finding:
        stage = self.stage
        return find(
            self.dispute, position, view, stage.signatures(0), stage.identity, stage.program, stage.inputs(position)
        )


@cache
def trial(lie: Lie = Lie.SEALED, target: int = 40) -> Trial:
    """One lie in the middle of the session, at the parties of the tamper harness."""
    keys = SeededRng(b"judge")
    stage = Stage.draw(adversary._probe(), adversary._dealt(), keys)
    corruption = OneLie(CHEATER, lie, target, SeededRng(b"lie"))
    endings = perform(stage, keys, corruption, corruption.inputs)
    (evidence,) = {e for one in endings if one.abort is not None and (e := one.abort.evidence) is not None}
    return Trial(stage, evidence, dispute_of(evidence, stage.signatures(0)))


@pytest.mark.parametrize(("lie", "target"), [(Lie.SEALED, 40), (Lie.STATE, 12), (Lie.INPUT, 2)])
def test_either_view_alone_names_the_liar(lie: Lie, target: int) -> None:
    case = trial(lie, target)
    assert CHEATER in case.dispute.accused
    assert case.find(CHEATER, case.view(CHEATER)) == Finding(CHEATER, case.dispute.round, Outcome.DEVIATED, CHEATER)
    honest = case.find(case.other, case.view(case.other))
    assert honest == Finding(case.other, case.dispute.round, Outcome.KEPT, CHEATER)


def test_evidence_holds_nothing_but_hashes_and_signatures() -> None:
    """Whatever was sent, and however much of it."""

    def pieces(value: object) -> Iterator[bytes]:
        if isinstance(value, bytes):
            yield value
        elif isinstance(value, list):
            for each in value:
                yield from pieces(each)

    decoded = msgspec.msgpack.decode(msgspec.msgpack.encode(trial().evidence))
    assert {len(piece) for piece in pieces(decoded)} <= {0, 32, 64}


# Forged evidence: nobody is brought before a judge by it.


def resealed(case: Trial, sealed: SealedFrame, frame: object, signer: int) -> SealedFrame:
    """The frame with other digests, sealed by ``signer`` in the name of its sender."""
    head = chained(sealed.previous, frame)  # type: ignore[arg-type]
    place = case.dispute.receiver - (case.dispute.receiver > sealed.seal.position)
    heads = list(sealed.seal.sent)
    heads[place] = head
    made = seal(
        case.stage.signatures(signer),
        sealed.seal.session,
        sealed.seal.position,
        sealed.seal.round,
        (heads[0], heads[1], heads[2]),
    )
    return SealedFrame(made, sealed.previous, frame)  # type: ignore[arg-type]


def with_digest(sealed: SealedFrame, path: tuple[int, int, int], digest: bytes) -> object:
    def changed(one: RouteDigest) -> RouteDigest:
        return RouteDigest(*path, digest) if (one.sender, one.backup, one.receiver) == path else one

    values = tuple(changed(one) for one in sealed.frame.values)
    return REPLACE(sealed.frame, values=values, hashes=tuple(changed(one) for one in sealed.frame.hashes))


def other_digest_sealed_by_the_receiver(case: Trial) -> PairEvidence:
    """The receiver invents what the honest one of the two said."""
    d = case.dispute
    frame = with_digest(case.evidence.sender, (*d.accused, d.receiver), bytes(32))
    return REPLACE(case.evidence, sender=resealed(case, case.evidence.sender, frame, d.receiver))


def agreeing(case: Trial) -> PairEvidence:
    """Both sealed the same, and the receiver complains all the same."""
    d, path = case.dispute, (*case.dispute.accused, case.dispute.receiver)
    (said,) = [o.digest for o in case.evidence.backup.frame.hashes if (o.sender, o.backup, o.receiver) == path]
    frame = with_digest(case.evidence.sender, path, said)
    return REPLACE(case.evidence, sender=resealed(case, case.evidence.sender, frame, d.accused[0]))


def complained(case: Trial, **changes: object) -> PairEvidence:
    """The complaint changed, and signed by its receiver."""
    blank = REPLACE(case.evidence.complaint, **changes)
    signature = case.stage.signatures(case.dispute.receiver).sign(COMPLAINT_DOMAIN, abort.statement(blank))
    return REPLACE(case.evidence, complaint=REPLACE(blank, signature=signature))


def with_seal(case: Trial, **changes: object) -> PairEvidence:
    """The sender's seal changed, and signed by the sender itself."""
    made = REPLACE(case.evidence.sender.seal, **changes)
    signed = seal(case.stage.signatures(made.position), made.session, made.position, made.round, made.sent)
    return REPLACE(case.evidence, sender=REPLACE(case.evidence.sender, seal=signed))


def without_the_value(case: Trial) -> PairEvidence:
    frame = REPLACE(case.evidence.sender.frame, values=())
    return REPLACE(case.evidence, sender=resealed(case, case.evidence.sender, frame, case.dispute.accused[0]))


def with_a_shorter_head(case: Trial) -> PairEvidence:
    """Sealed as it is, but bytes of the head before it may as well be the frame's."""
    short = REPLACE(case.evidence.sender, previous=case.evidence.sender.previous[:-1])
    return REPLACE(case.evidence, sender=resealed(case, short, short.frame, case.dispute.accused[0]))


FORGED: dict[str, Callable[[Trial], PairEvidence]] = {
    "digest in another's name": other_digest_sealed_by_the_receiver,
    "both say the same": agreeing,
    "value not in the frame": without_the_value,
    "complaint not signed": lambda c: REPLACE(c.evidence, complaint=REPLACE(c.evidence.complaint, signature=bytes(64))),
    "complaint about silence": lambda c: complained(c, reason=abort.SILENCE),
    "complaint about one alone": lambda c: complained(c, backup=-1),
    "complaint in another round": lambda c: complained(c, round=c.dispute.round + 1),
    "complaint of another session": lambda c: complained(c, session=bytes(32)),
    "roles exchanged": lambda c: complained(c, sender=c.dispute.accused[1], backup=c.dispute.accused[0]),
    "seal of another round": lambda c: with_seal(c, round=c.dispute.round - 1),
    "seal of another session": lambda c: with_seal(c, session=bytes(32)),
    "seal not over this frame": lambda c: with_seal(c, sent=(bytes(32),) * 3),
    "seal not signed": lambda c: REPLACE(
        c.evidence, sender=REPLACE(c.evidence.sender, seal=REPLACE(c.evidence.sender.seal, signature=bytes(64)))
    ),
    "frames exchanged": lambda c: PairEvidence(c.evidence.complaint, c.evidence.backup, c.evidence.sender),
    "head before it of another length": with_a_shorter_head,
    "other frame before it": lambda c: REPLACE(c.evidence, sender=REPLACE(c.evidence.sender, previous=bytes(32))),
}


@pytest.mark.parametrize("case", FORGED)
def test_forged_evidence_is_refused(case: str) -> None:
    genuine = trial()
    with pytest.raises(Forged):
        dispute_of(FORGED[case](genuine), genuine.stage.signatures(0))


def test_a_third_position_cannot_be_judged() -> None:
    case = trial()
    with pytest.raises(InvalidInput, match="is about positions"):
        case.find(case.dispute.receiver, case.view(case.dispute.receiver))


# Forged views: the liar is never found to have kept to the protocol, nobody else to have deviated.


def last_frame(view: Replay, case: Trial) -> tuple[int, int]:
    """(round, peer) of the last frame that counts."""
    number = max(n for n in range(case.dispute.round) if view.received[n])
    return number, min(view.received[number])


def with_frame(view: Replay, number: int, peer: int, frame: bytes) -> Replay:
    rounds = [dict(frames) for frames in view.received]
    rounds[number][peer] = frame
    return replace(view, received=rounds)


def unsealed(view: Replay, case: Trial) -> Replay:
    number, peer = last_frame(view, case)
    frame = view.received[number][peer]
    return with_frame(view, number, peer, frame[:-64] + bytes(64))


def unexpected_frame(view: Replay, case: Trial) -> Replay:
    """A frame too many must not stand in for the seal of one that was taken in."""
    number, peer = last_frame(view, case)
    forged = unsealed(view, case)
    return with_frame(forged, number, 7, view.received[number][peer])


@pytest.mark.parametrize("position", ["liar", "other"])
@pytest.mark.parametrize("change", [unsealed, unexpected_frame])
def test_what_peers_did_not_sign_proves_nothing(change: Callable[[Replay, Trial], Replay], position: str) -> None:
    case = trial()
    who = CHEATER if position == "liar" else case.other
    finding = case.find(who, change(case.view(who), case))
    assert (finding.outcome, finding.named) == (Outcome.UNATTRIBUTED, None)


def cut(view: Replay, case: Trial) -> Replay:
    return replace(view, received=view.received[: case.dispute.round - 1])


def empty(view: Replay, case: Trial) -> Replay:
    del case
    return Replay([], [], [])


def changed_word(view: Replay, case: Trial) -> Replay:
    number, peer = last_frame(view, case)
    frame = bytearray(view.received[number][peer])
    frame[HEADER.size] ^= 1
    return with_frame(view, number, peer, bytes(frame))


def others_randomness(view: Replay, case: Trial) -> Replay:
    del case
    return replace(view, randomness=[bytes(32)] * len(view.randomness))


def short_randomness(view: Replay, case: Trial) -> Replay:
    del case
    return replace(view, randomness=[each[:-1] for each in view.randomness])


def others_signature(view: Replay, case: Trial) -> Replay:
    return replace(view, signatures=case.stage.transcripts[case.dispute.receiver].signatures)


@pytest.mark.parametrize("change", [cut, empty, changed_word, others_randomness, short_randomness, others_signature])
def test_a_view_that_is_no_run_of_the_session_is_refused(change: Callable[[Replay, Trial], Replay]) -> None:
    case = trial()
    for position in (CHEATER, case.other):
        with pytest.raises(Forged):
            case.find(position, change(case.view(position), case))


def test_the_liar_cannot_hand_in_the_inputs_of_an_honest_run() -> None:
    """An input lie repeated on the dealt shares shows it: what the owners committed to decides, not what it says."""
    case = trial(Lie.INPUT, 2)
    assert case.find(CHEATER, case.view(CHEATER)).outcome is Outcome.DEVIATED


# Transcripts.


def test_a_transcript_that_grows_too_long_is_dropped_whole() -> None:
    transcript = Transcript(most_bytes=100)
    transcript.keep({0: bytes(60)})
    assert transcript.complete
    assert len(transcript.rounds) == 1
    transcript.keep({0: bytes(41)})
    transcript.keep({0: b"later"})
    assert not transcript.complete
    assert transcript.rounds == []
    assert "bytes" not in repr(transcript)
