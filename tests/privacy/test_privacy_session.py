"""Agreement, keys, checkpoints, complaints, dishonest owners, and frames from anywhere."""

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from privacy_scenes import SESSION, computed, new_parties, shared

from koinon.privacy.rep4 import abort, arithmetic, lockstep
from koinon.privacy.rep4.abort import CommitteeAbort
from koinon.privacy.rep4.adversary import SeededRng
from koinon.privacy.rep4.agreement import agree
from koinon.privacy.rep4.checkpoint import checkpoint
from koinon.privacy.rep4.contradiction import Ground, contradiction_of
from koinon.privacy.rep4.domain import check_domain
from koinon.privacy.rep4.lockstep import Ending
from koinon.privacy.rep4.party import HEADER, Party, complaint_frame
from koinon.privacy.rep4.session import Terms
from koinon.privacy.rep4.shares import Shares
from koinon.wire.committee import NOBODY, POSITIONS, Complaint


class Change:
    """Position ``cheater`` replaces its frame to ``peer`` in ``round`` by ``change(frame)``."""

    def __init__(self, cheater: int, round_number: int, peer: int, change: Callable[[bytes], bytes]) -> None:
        self.cheater, self.round, self.peer, self.change = cheater, round_number, peer, change

    def before(self, party: Party) -> None:
        """Changes frames only."""

    def frames(self, party: Party, frames: dict[int, bytes]) -> dict[int, bytes]:
        if (party.position, party.round) != (self.cheater, self.round):
            return frames
        return {peer: self.change(frame) if peer == self.peer else frame for peer, frame in frames.items()}


def agreed(corruption: Any = None, parties: list[Party] | None = None) -> tuple[list[Party], list[Ending]]:
    parties = parties or new_parties(keyed=False)
    protocols = [agree(party, SeededRng(bytes([party.position]))) for party in parties]
    return parties, lockstep.run(parties, protocols, corruption)


def aborts(endings: list[Ending], cheater: int) -> list[CommitteeAbort]:
    found = [ending.abort for position, ending in enumerate(endings) if position != cheater and ending.abort]
    assert found
    assert all(cheater in problem.suspects for problem in found)
    return found


def test_holders_agree_on_keys_that_the_outsider_does_not_get() -> None:
    parties, endings = agreed()
    lockstep.finished(endings)
    for j in POSITIONS:
        holders = [party.keys[j] for party in parties if party.position != j]
        assert len(set(holders)) == 1
        assert j not in parties[j].keys
    assert len({party.keys[j] for party in parties for j in party.keys}) == 4


def test_another_session_is_noticed_before_anything_secret_is_said() -> None:
    parties = new_parties(keyed=False)
    parties[2].session = bytes(32)
    _, endings = agreed(parties=parties)
    assert all(ending.abort is not None for ending in endings)
    assert all(ending.rounds_sent == [0] for ending in endings)
    for position in (0, 1, 3):
        problem = endings[position].abort
        assert problem is not None
        assert problem.suspects == {2}


def flipped_at(offset: int) -> Callable[[bytes], bytes]:
    def change(frame: bytes) -> bytes:
        place = HEADER.size + offset
        return frame[:place] + bytes([frame[place] ^ 1]) + frame[place + 1 :]

    return change


KEY_LIES = {
    "session": (0, 3),
    "signature of the session": (0, 40),
    "commitment": (1, 5),
    "contribution": (2, 5),
    "salt": (2, 40),
    "confirmation": (3, 5),
}


@pytest.mark.parametrize("case", KEY_LIES)
@pytest.mark.parametrize("cheater", POSITIONS)
def test_lies_during_key_agreement_are_caught(case: str, cheater: int) -> None:
    round_number, offset = KEY_LIES[case]
    victim = (cheater + 1) % 4
    parties, endings = agreed(Change(cheater, round_number, victim, flipped_at(offset)))
    assert any(problem.triple[0] == cheater for problem in aborts(endings, cheater))
    assert all(not party.keys for party in parties if party.position != cheater) or case == "confirmation"


class Equivocation:
    """Position 1 commits to and opens other contributions towards position 2 than towards the others."""

    def __init__(self) -> None:
        other = new_parties(keyed=False)
        told: list[tuple[bytes, bytes]] = []

        class Spy:
            def before(self, party: Party) -> None:
                """Only listens."""

            def frames(self, party: Party, frames: dict[int, bytes]) -> dict[int, bytes]:
                if party.position == 1:
                    told.append((frames[2], party.sent[2]))
                return frames

        lockstep.run(other, [agree(party, SeededRng(b"other" + bytes([party.position]))) for party in other], Spy())
        self._told = told

    def before(self, party: Party) -> None:
        """Its own state follows the first contributions."""

    def frames(self, party: Party, frames: dict[int, bytes]) -> dict[int, bytes]:
        if party.position != 1 or party.round not in (1, 2):
            return frames
        frame, party.sent[2] = self._told[party.round]
        return {**frames, 2: frame}


def test_two_faced_contributions_are_caught_by_confirmation() -> None:
    parties, endings = agreed(Equivocation())
    for problem in aborts(endings, 1):
        assert problem.complaint.reason == abort.INCONSISTENT
    assert not parties[2].keys
    # Position 2 acknowledges another seal of position 1's than the others got.
    shown = [frame for position in (0, 2, 3) for frame in endings[position].shown]
    found = contradiction_of(shown, parties[0].signatures)
    assert (found.position, found.ground) == (1, Ground.SEALS)


# Checkpoints.


NOTE = b"note" * 24


def two_rounds(party: Party, x: Shares) -> Generator[None, None, Any]:
    yield from arithmetic.multiply(party, x, x)
    return (yield from checkpoint(party, NOTE))


def run_checkpoint(corruption: Any = None) -> list[Ending]:
    parties, views = new_parties(), shared(np.arange(5, dtype=np.uint64))
    return lockstep.run(parties, [two_rounds(parties[i], views[i]) for i in POSITIONS], corruption)


def test_checkpoint_collects_four_statements_that_agree() -> None:
    for statements in lockstep.finished(run_checkpoint()):
        assert sorted(statements) == list(POSITIONS)
        for one in POSITIONS:
            assert statements[one].note == NOTE


@pytest.mark.parametrize("offset", [0, 4, 4 + 50, 4 + 96, 4 + 96 + 4, 4 + 96 + 96 + 10])
@pytest.mark.parametrize("cheater", POSITIONS)
def test_a_changed_statement_is_caught(cheater: int, offset: int) -> None:
    endings = run_checkpoint(Change(cheater, 1, (cheater + 2) % 4, flipped_at(offset)))
    aborts(endings, cheater)


def test_a_signed_statement_that_contradicts_its_seal_names_its_author_alone() -> None:
    """The cheater states another history than the one its peers saw and its seals say."""

    class Rewriting:
        right = b""

        def before(self, party: Party) -> None:
            if party.position == 3 and party.round == 1:
                party.sent[0] = self.right

        def frames(self, party: Party, frames: dict[int, bytes]) -> dict[int, bytes]:
            if party.position == 3 and party.round == 0:
                self.right, party.sent[0] = party.sent[0], bytes([1]) * 32
            return frames

    endings = run_checkpoint(Rewriting())
    problems = aborts(endings, 3)
    assert {problem.complaint.reason for problem in problems} == {abort.BAD_HEADS}
    for problem in problems:
        found = contradiction_of(problem.frames, new_parties()[0].signatures)
        assert (found.position, found.ground) == (3, Ground.UNSOUND)


# Complaints.


def test_a_complaint_names_its_author_to_everybody_else() -> None:
    parties = new_parties()
    problem = parties[2].complain(abort.MISMATCH, 0, 1)
    frame = complaint_frame(problem.complaint)
    assert problem.suspects == {0, 1}
    assert parties[0].heard(3, frame).suspects == {1, 2}
    assert parties[1].heard(2, frame).suspects == {0, 2}
    assert parties[3].heard(2, frame).suspects == {0, 1, 2}
    assert parties[3].heard(0, frame).triple == (0, 1, 2)


BAD_COMPLAINTS: dict[str, dict[str, object]] = {
    "another author": {"receiver": 1, "sender": 0, "backup": 3},
    "another accused": {"sender": 3},
    "another round": {"round": 9},
    "another session": {"session": bytes(32)},
    "no signature": {"signature": b""},
    "unknown reason": {"reason": "I do not like it"},
    "no receiver": {"receiver": NOBODY},
    "a position that does not exist": {"sender": 4},
    "the same twice": {"sender": 1},
    "an input for no reason": {"input": 0},
}


@pytest.mark.parametrize("case", BAD_COMPLAINTS)
def test_a_complaint_that_its_author_did_not_sign_falls_on_its_messenger(case: str) -> None:
    parties = new_parties()
    genuine = parties[2].complain(abort.MISMATCH, 0, 1).complaint
    changed: Complaint = msgspec.structs.replace(genuine, **BAD_COMPLAINTS[case])
    judged = parties[3].heard(1, complaint_frame(changed))
    assert judged.suspects == {1}
    assert judged.complaint.receiver == 3


@given(st.binary(max_size=400))
@settings(max_examples=60)
def test_any_bytes_as_a_complaint_fall_on_their_messenger(body: bytes) -> None:
    party = new_parties()[0]
    assert party.heard(2, HEADER.pack(b"rep4", 2, 0, 0, 0, len(body)) + body).suspects == {2}


@given(st.binary(max_size=200), st.sampled_from([0, 1, 3]))
@settings(max_examples=60)
def test_any_bytes_as_a_frame_are_malformed_and_change_nothing(data: bytes, peer: int) -> None:
    parties, views = new_parties(), shared(np.arange(3, dtype=np.uint64))
    protocols = [arithmetic.multiply(parties[i], views[i], views[i]) for i in POSITIONS]
    for protocol in protocols:
        next(protocol)
    frames = {i: parties[i].send_frames() for i in POSITIONS if i != 2}
    received = {i: frames[i][2] for i in frames}
    parties[2].send_frames()
    with pytest.raises(CommitteeAbort) as problem:
        parties[2].receive_frames({**received, peer: data})
    assert problem.value.suspects == {peer}
    assert parties[2].round == 0


def test_a_frame_of_an_earlier_round_or_session_is_refused() -> None:
    views = shared(np.arange(3, dtype=np.uint64))

    def twice(party: Party, x: Shares) -> Generator[None, None, Shares]:
        product = yield from arithmetic.multiply(party, x, x)
        return (yield from arithmetic.multiply(party, x, product))

    kept: dict[int, bytes] = {}

    class Replay:
        def before(self, party: Party) -> None:
            """Changes frames only."""

        def frames(self, party: Party, frames: dict[int, bytes]) -> dict[int, bytes]:
            if party.position != 0:
                return frames
            if party.round == 0:
                kept.update(frames)
                return frames
            return kept

    parties = new_parties()
    endings = lockstep.run(parties, [twice(parties[i], views[i]) for i in POSITIONS], Replay())
    for problem in aborts(endings, 0):
        assert 0 in problem.suspects


def test_a_key_is_used_once() -> None:
    party = new_parties()[0]
    with pytest.raises(ValueError, match="once"):
        party.install_keys({1: bytes(32)})
    assert "keys" not in repr(party)


def test_the_session_binds_everything_agreed() -> None:
    four = (b"0" * 32, b"1" * 32, b"2" * 32, b"3" * 32)
    terms = Terms(bytes(32), "p/1", bytes(32), b"x", bytes(32), four, four, ())
    changes: dict[str, Any] = {
        "identity": SESSION,
        "program": "p/2",
        "algorithm": SESSION,
        "parameters": b"y",
        "result_party": SESSION,
        "nodes": four[::-1],
        "workers": four[::-1],
    }
    digests = {terms.digest()}
    for name, value in changes.items():
        digests.add(replace(terms, **{name: value}).digest())
    assert len(digests) == 1 + len(changes)


# Owners outside their ranges.

BITS = 20
ONE = 1 << BITS


def domain(rows: np.ndarray, flags: tuple[int, ...] = (1,)) -> list[Ending]:
    parties = new_parties()
    good = shared(np.array([[5, ONE], [0, -ONE % 2**64]], np.uint64), 1)
    words = shared(np.asarray(rows, np.int64).view(np.uint64), 2)
    protocols = [check_domain(parties[i], [good[i], words[i]], BITS, [flags, flags]) for i in POSITIONS]
    return lockstep.run(parties, protocols)


def test_numbers_at_the_ends_of_the_range_are_accepted() -> None:
    lockstep.finished(domain(np.array([[ONE, ONE], [-ONE, -ONE], [0, ONE]])))


OUTSIDE = {
    "just above": [[ONE + 1, ONE]],
    "just below": [[-ONE - 1, ONE]],
    "largest word": [[2**63 - 1, ONE]],
    "smallest word": [[-(2**63), ONE]],
    "a flag between its values": [[0, 0]],
    "a flag outside whose square wraps to one": [[0, ONE + 2 ** (63 - BITS)]],
    "one of many": [[0, ONE]] * 30 + [[ONE * 7, ONE]],
}


@pytest.mark.parametrize("case", OUTSIDE)
def test_numbers_outside_the_range_are_refused_and_their_owner_named(case: str) -> None:
    for ending in domain(np.array(OUTSIDE[case], np.int64)):
        assert ending.abort is not None
        assert ending.abort.complaint.input == 1
        assert ending.abort.complaint.reason == abort.BAD_INPUT


def test_a_tape_gives_every_draw_its_own_words() -> None:
    from koinon.privacy.rep4.streams import Tape

    shapes = [(300_000,), (), (3, 5), (0,), *((500 + number,) for number in range(40)), (70_000,), (7,)]
    tape, again = Tape(bytes(32)), Tape(bytes(32))
    drawn = [tape.draw(shape) for shape in shapes]
    assert [each.shape for each in drawn] == shapes
    # Not one word twice; and whoever draws as much stays at the same place.
    words = np.concatenate([each.reshape(-1) for each in drawn])
    assert len(np.unique(words)) == len(words)
    assert all((again.draw(shape) == each).all() for shape, each in zip(shapes, drawn, strict=True))
    assert (Tape(bytes([1]) * 32).draw((10,)) != drawn[0][:10]).all()


def test_the_same_words_come_out_whatever_the_keys() -> None:
    words = np.arange(6, dtype=np.uint64)
    for seed in (b"a", b"b"):
        assert (computed(lambda p, x: arithmetic.multiply(p, x, x), words, seed=seed) == words * words).all()
