"""The three sides of a study as pure steps: what each does, once, in any order of arrival."""

import itertools
import random
from dataclasses import replace

import pytest
from test_jobs_policy import INSTALLED, OWNER, POLICY

from koinon.jobs import member, owner, result
from koinon.jobs.study import StudyFile
from koinon.kernel.ids import Hash32, NodeId
from koinon.kernel.quantities import Seconds
from koinon.wire.committee import (
    ComponentShare,
    Input,
    OutputComponent,
    OutputPackage,
    Peer,
    ShareManifest,
    SharePackage,
)

MEMBERS = tuple(NodeId(bytes([seat]) * 32) for seat in range(4))


def proposed(study: StudyFile, dataset: bytes = b"d" * 32) -> owner.StudyProposed:
    return owner.StudyProposed(study, INSTALLED, dataset, 50, b"n" * 32)


class TestOwner:
    def test_it_consents_reveals_and_deals_once_for_each_attempt(self, study: StudyFile) -> None:
        state = owner.OwnerState(1)
        drawn = owner.CommitteeDrawn(0, MEMBERS)
        again = owner.CommitteeDrawn(1, MEMBERS[::-1])
        seen: list[object] = []
        for event in (
            proposed(study),
            proposed(study),
            owner.StudyLocked(),
            owner.StudyLocked(),
            drawn,
            drawn,
            again,
            drawn,
        ):
            state, effects = owner.step(state, event, POLICY, OWNER)
            seen += effects
        assert seen == [
            owner.Consent(b"d" * 32, b"n" * 32),
            owner.RevealNonce(b"n" * 32),
            owner.DealShares(0, MEMBERS, b"d" * 32),
            owner.DealShares(1, MEMBERS[::-1], b"d" * 32),
        ]

    def test_without_a_data_set_it_refuses_and_never_reveals(self, study: StudyFile) -> None:
        state, effects = owner.step(owner.OwnerState(1), proposed(study, b""), POLICY, OWNER)
        assert "no data set here" in effects[0].reason  # type: ignore[union-attr]
        assert owner.step(state, owner.StudyLocked(), POLICY, OWNER)[1] == ()

    def test_without_budget_it_refuses_and_later_withholds_its_shares(self, study: StudyFile) -> None:
        poor = replace(proposed(study), unaffordable="the privacy budget does not cover it")
        state, effects = owner.step(owner.OwnerState(1), poor, POLICY, OWNER)
        assert (state.phase, effects) == ("refused", (owner.Refuse("the privacy budget does not cover it"),))
        state = owner.OwnerState(1)
        for event in (proposed(study), owner.StudyLocked(), owner.CommitteeDrawn(0, MEMBERS)):
            state, _ = owner.step(state, event, POLICY, OWNER)
        again = owner.CommitteeDrawn(1, MEMBERS, "the privacy budget does not cover it")
        after, effects = owner.step(state, again, POLICY, OWNER)
        assert (after, effects) == (state, (owner.Withhold(1, "the privacy budget does not cover it"),))

    def test_nothing_is_dealt_before_the_nonce_is_revealed(self, study: StudyFile) -> None:
        state, _ = owner.step(owner.OwnerState(1), proposed(study), POLICY, OWNER)
        assert owner.step(state, owner.CommitteeDrawn(0, MEMBERS), POLICY, OWNER)[1] == ()

    def test_after_the_end_the_nonce_is_forgotten(self, study: StudyFile) -> None:
        state, _ = owner.step(owner.OwnerState(1), proposed(study), POLICY, OWNER)
        state, _ = owner.step(state, owner.StudyEnded(), POLICY, OWNER)
        assert (state.phase, state.nonce) == ("ended", b"")


def greeting(seat: int) -> Peer:
    return Peer(MEMBERS[seat], bytes([seat]) * 32, b"c" * 64, "127.0.0.1", 4000 + seat)


def shares(number: int) -> Input:
    manifest = ShareManifest(b"s", 0, b"o%d" % number, b"d", 10, (), 20, (b"", b"", b"", b""))
    component = ComponentShare(0, b"", b"")
    return Input(manifest, SharePackage(1, (component, component, component)))


def output(seat: int) -> OutputPackage:
    component = OutputComponent(0, b"", b"")
    return OutputPackage(b"session", seat, 3, 20, (component, component, component), (b"", b"", b"", b""))


ARRIVALS: tuple[member.MemberEvent, ...] = (
    member.WorkerListening(greeting(1)),
    *(member.PeerGreeted(seat, greeting(seat)) for seat in (0, 2, 3)),
    *(member.SharesArrived(number, shares(number)) for number in range(3)),
)


def seated() -> member.MemberState:
    state, effects = member.begin(7, 0, 1, MEMBERS, owners=3, now=Seconds(100))
    assert effects == (member.StartWorker(),)
    return state


class TestMember:
    @pytest.mark.parametrize("seed", range(40))
    def test_it_runs_exactly_once_whatever_the_order_of_arrival(self, seed: int) -> None:
        events = list(ARRIVALS + ARRIVALS[1:])
        random.Random(seed).shuffle(events)
        state, runs = seated(), []
        for event in events:
            state, effects = member.step(state, event)
            runs += [effect for effect in effects if isinstance(effect, member.RunWorker)]
        assert len(runs) == 1
        assert runs[0].greetings == tuple(greeting(seat) for seat in range(4))
        assert [package.manifest.owner for package in runs[0].packages] == [b"o0", b"o1", b"o2"]

    def test_the_first_greeting_of_a_seat_counts(self) -> None:
        state, _ = member.step(seated(), member.PeerGreeted(2, greeting(2)))
        state, _ = member.step(state, member.PeerGreeted(2, greeting(3)))
        assert dict(state.greetings)[2] == greeting(2)

    def running(self) -> member.MemberState:
        state = seated()
        for event in ARRIVALS:
            state, _ = member.step(state, event)
        assert state.phase == "running"
        return state

    def test_only_the_receiver_of_a_lie_complains(self) -> None:
        for receiver, complains in ((1, True), (0, False)):
            aborted = member.WorkerAborted("mismatch", frozenset({2, 3}), 2, 3, receiver)
            state, effects = member.step(self.running(), aborted)
            assert state.phase == "aborted"
            assert (member.Complain(2, 3) in effects) is complains
            assert not any(isinstance(effect, member.Challenge) for effect in effects)

    def test_a_silent_peer_is_challenged_never_accused(self) -> None:
        aborted = member.WorkerAborted("no frame", frozenset({3}), None, None, None)
        _, effects = member.step(self.running(), aborted)
        assert member.Challenge(3) in effects
        assert not any(isinstance(effect, member.Complain) for effect in effects)

    def test_who_answers_but_does_not_compute_is_left_out_by_whoever_missed_it(self) -> None:
        for receiver, complains in ((1, True), (2, False)):
            aborted = member.WorkerAborted("no frame", frozenset({3, receiver} - {1}), 3, None, receiver)
            state, effects = member.step(self.running(), aborted)
            assert member.Challenge(3) in effects
            assert not any(isinstance(effect, member.Complain) for effect in effects)
            assert member.step(state, member.ChallengeAnswered(2))[1] == ()
            after, effects = member.step(state, member.ChallengeAnswered(3))
            assert after == state
            assert (member.Complain(3, None) in effects) is complains

    def test_a_late_peer_that_answered_is_computed_with(self) -> None:
        state = seated()
        for event in (*ARRIVALS[:2], member.Tick(Seconds(107)), member.ChallengeAnswered(2)):
            state, effects = member.step(state, event)
        assert effects == ()
        for event in ARRIVALS[2:]:
            state, effects = member.step(state, event)
        assert any(isinstance(effect, member.RunWorker) for effect in effects)
        assert member.step(state, member.ChallengeAnswered(2))[1] == ()

    def test_a_member_never_challenges_itself(self) -> None:
        aborted = member.WorkerAborted("own links lost", frozenset({1}), None, None, None)
        _, effects = member.step(self.running(), aborted)
        assert not any(isinstance(effect, member.Challenge) for effect in effects)

    def test_absent_peers_are_challenged_after_the_gathering_time_and_once(self) -> None:
        state = seated()
        for event in ARRIVALS[:2]:
            state, _ = member.step(state, event)
        assert member.step(state, member.Tick(Seconds(105)))[1] == ()
        state, effects = member.step(state, member.Tick(Seconds(107)))
        assert effects == (member.Challenge(2), member.Challenge(3))
        assert member.step(state, member.Tick(Seconds(108)))[1] == ()

    def test_a_missing_owner_ends_the_attempt_and_blames_no_member(self) -> None:
        state = seated()
        for event in ARRIVALS[:5]:
            state, _ = member.step(state, event)
        state, effects = member.step(state, member.Tick(Seconds(131)))
        assert state.phase == "aborted"
        assert [type(effect) for effect in effects] == [member.Say, member.StopWorker]

    def test_a_challenge_is_answered_in_every_phase(self) -> None:
        for state in (seated(), self.running(), member.step(self.running(), member.AttemptOver())[0]):
            assert member.step(state, member.ChallengedOnChain())[1] == (member.AnswerChallenge(),)

    def test_nothing_leaves_after_the_attempt_is_over(self) -> None:
        state, _ = member.step(self.running(), member.AttemptOver())
        assert member.step(state, member.WorkerFinished(output(1), b"d"))[1] == ()

    def signing(self) -> member.MemberState:
        state, effects = member.step(self.running(), member.WorkerFinished(output(1), b"d"))
        assert effects == (member.SignDigest(output(1), b"d"), member.StopWorker())
        return state

    @pytest.mark.parametrize("order", list(itertools.permutations(range(4)))[::3])
    @pytest.mark.parametrize("liar", [None, 0, 3])
    def test_the_output_leaves_with_three_signatures_in_hand_and_once(
        self, order: tuple[int, ...], liar: int | None
    ) -> None:
        state, sent, told, agreeing = self.signing(), [], [], set()
        for seat in order:
            state, effects = member.step(state, signature(seat, b"x" if seat == liar else b"d"))
            state, again = member.step(state, signature(seat, b"x"))
            assert again == ()
            agreeing |= {seat} - {liar}
            outputs = [effect for effect in effects if isinstance(effect, member.SendOutput)]
            assert bool(outputs) == (1 in agreeing and len(agreeing) >= 3 and not sent)
            sent += outputs
            told += [effect for effect in effects if isinstance(effect, member.SendSignature)]
        assert sent == [member.SendOutput(output(1), b"d", b"s1")]
        assert told == [member.SendSignature(seat, b"d", b"s1") for seat in (0, 2, 3)]

    def test_signatures_that_come_before_its_own_output_count(self) -> None:
        state = self.running()
        for event in (signature(2), signature(0), member.WorkerFinished(output(1), b"d")):
            state, _ = member.step(state, event)
        assert member.SendOutput(output(1), b"d", b"s1") in member.step(state, signature(1))[1]

    def test_a_result_party_that_does_not_complete_cannot_keep_anybody_from_being_paid(self) -> None:
        state = self.signing()
        for event in (signature(1), signature(3), signature(0), member.Tick(Seconds(200)), member.Tick(Seconds(219))):
            state, effects = member.step(state, event)
        assert effects == ()
        state, effects = member.step(state, member.Tick(Seconds(220)))
        assert effects[1:] == (member.Complete(b"d", (b"s0", b"s1", b"", b"s3")),)
        assert member.step(state, member.Tick(Seconds(300)))[1] == ()

    def test_with_two_signatures_nothing_leaves_unless_the_study_is_paid(self) -> None:
        state = self.signing()
        for event in (signature(1), signature(3), member.Tick(Seconds(900))):
            state, effects = member.step(state, event)
            assert not any(isinstance(effect, member.SendOutput | member.Complete) for effect in effects)
        assert member.step(state, member.AttemptOver())[1] == (member.StopWorker(),)
        paid = member.step(state, member.AttemptOver(paid=True))[1]
        assert paid == (member.SendOutput(output(1), b"d", b"s1"), member.StopWorker())


def signature(seat: int, digest: bytes = b"d") -> member.SignatureArrived:
    return member.SignatureArrived(seat, digest, b"s%d" % seat)


class TestResult:
    @pytest.mark.parametrize("order", list(itertools.permutations(range(4)))[::5])
    def test_three_matching_signatures_complete_even_if_one_lies(self, order: tuple[int, ...]) -> None:
        state, done = result.ResultState(1, 0), []
        for seat in order:
            digest = Hash32((b"x" if seat == 2 else b"d") * 32)
            state, effects = result.step(state, result.MemberOutput(seat, output(seat), digest, b"s%d" % seat))
            done += effects
        assert len(done) == 1
        assert done[0].signers == (0, 1, 3)
        assert done[0].signatures == (b"s0", b"s1", b"s3")

    def test_one_seat_counts_once(self) -> None:
        state = result.ResultState(1, 0)
        for _ in range(3):
            state, effects = result.step(state, result.MemberOutput(0, output(0), Hash32(b"d" * 32), b"s"))
            assert effects == ()
