"""Giskard's step: each safety property by hand, forged messages, and restarts."""

from typing import Any

import pytest
from ledger_giskard import (
    A1,
    A2,
    A3,
    BLOCKS_PER_VIEW,
    GENESIS,
    GENESIS_CERTIFICATE,
    certificate,
    feed,
    fresh_state,
    header,
    hear,
    left_view,
    proposal,
    view_change,
    vote,
)
from msgspec.structs import replace

from koinon.kernel.quantities import ChainId
from koinon.ledger.giskard.plants import PLANTS
from koinon.ledger.giskard.protocol import step
from koinon.ledger.giskard.rules import Rules
from koinon.ledger.giskard.start import restored_state
from koinon.ledger.giskard.state import (
    BlockFetched,
    Broadcast,
    Distrust,
    Effect,
    Finalise,
    Halt,
    PendingChanged,
    Persist,
    Propose,
    Received,
    Report,
    Send,
    SetTimer,
    State,
    TimerFired,
)
from koinon.ledger.types import PrepareVote, QuorumCertificate, ViewChange, ViewEntry, ViewSync, header_hash


def votes_in(effects: list[Effect]) -> list[PrepareVote]:
    return [e.message for e in effects if isinstance(e, Broadcast) and isinstance(e.message, PrepareVote)]


def reports_in(effects: list[Effect]) -> list[ViewChange]:
    return [e.message for e in effects if isinstance(e, Broadcast) and isinstance(e.message, ViewChange)]


def final_heights(effects: list[Effect]) -> list[int]:
    return [block.header.height for e in effects if isinstance(e, Finalise) for block in e.blocks]


def test_three_linked_certificates_make_a_block_final() -> None:
    state, effects = hear(fresh_state(), 1, proposal(A1, GENESIS_CERTIFICATE), proposal(A2), proposal(A3))
    assert [cast.height for cast in votes_in(effects)] == [1]
    for made, then in ((A1, [2]), (A2, [3]), (A3, [])):
        assert final_heights(effects) == []
        for voter in (1, 2):
            state, effects = hear(state, voter, vote(made, voter))
        assert [cast.height for cast in votes_in(effects)] == then
    assert final_heights(effects) == [1]
    assert state.final_header == A1
    assert state.view == 2


def test_old_blocks_become_final_while_newer_ones_lack_something_between() -> None:
    """Whoever was away hears of the newest blocks at once, and of the old ones only as they are fetched."""
    line = [header(GENESIS, 1)]
    while len(line) < 12:
        view = 1 + len(line) // BLOCKS_PER_VIEW
        line.append(header(line[-1], view, len(line) % BLOCKS_PER_VIEW))
    fetched = [BlockFetched(proposal(made).block, None, certificate(made), 0.0) for made in line]
    newest, oldest, between = fetched[8:], fetched[:4], fetched[4:8]
    state, effects = feed(fresh_state(), *newest, *oldest)
    assert state.final_header == line[1]
    state, more = feed(state, *between)
    assert state.final_header == line[9]
    final = [block.header for effect in effects + more if isinstance(effect, Finalise) for block in effect.blocks]
    assert final == line[:10]


def test_votes_wait_for_the_certificate_of_the_parent() -> None:
    _, effects = hear(fresh_state(), 1, proposal(A2), proposal(A3))
    assert votes_in(effects) == []


def test_what_is_signed_is_persisted_first() -> None:
    """GISKARD-SAFETY-7."""
    state, effects = hear(fresh_state(), 1, proposal(A1, GENESIS_CERTIFICATE))
    kinds = [type(effect) for effect in effects]
    assert kinds.index(Persist) < kinds.index(Broadcast)
    kept = next(effect for effect in effects if isinstance(effect, Persist))
    assert kept.record.voted == ((0, 1),)
    assert [tracked.hash for tracked in kept.blocks] == [header_hash(A1)]
    again = restored_state(
        state.configuration, GENESIS, GENESIS_CERTIFICATE, kept.record, ((kept.blocks[0].block, None),)
    )
    rival = header(GENESIS, 1, 0, b"rival")
    _, effects = hear(again, 1, proposal(rival, GENESIS_CERTIFICATE), proposal(A1, GENESIS_CERTIFICATE))
    assert votes_in(effects) == []


def test_a_restart_says_again_that_the_view_was_given_up() -> None:
    state, effects = feed(fresh_state(), PendingChanged(True, 0.0), TimerFired(1.0))
    record = next(effect.record for effect in effects if isinstance(effect, Persist))
    again = restored_state(state.configuration, GENESIS, GENESIS_CERTIFICATE, record, ())
    again, effects = feed(again, PendingChanged(True, 5.0))
    assert SetTimer(5.0) in effects
    again, effects = feed(again, TimerFired(5.0))
    assert len(reports_in(effects)) == 1
    _, effects = hear(again, 1, proposal(A1, GENESIS_CERTIFICATE))
    assert votes_in(effects) == []


def test_a_view_change_that_nobody_answers_is_sent_again() -> None:
    """GISKARD-LIVENESS-3: the timer runs on after the view was given up, since the network may lose what was sent."""
    state, effects = feed(fresh_state(), PendingChanged(True, 0.0), TimerFired(1.0))
    assert SetTimer(2.0) in effects
    _, effects = feed(state, TimerFired(2.0))
    assert len(reports_in(effects)) == 1
    assert SetTimer(3.0) in effects


def equivocating_first_blocks(rules: Rules) -> tuple[State, list[Effect]]:
    """View 3 (proposer 3): one block on the last block of view 2, one on what the end of view 2 reports, one lower."""
    b1 = header(GENESIS, 2)
    b2 = header(b1, 2, 1)
    b3 = header(b2, 2, 2)
    left = left_view(1, {0: GENESIS_CERTIFICATE, 1: GENESIS_CERTIFICATE, 2: GENESIS_CERTIFICATE})
    state = fresh_state(0, rules)
    state, _ = hear(state, 2, proposal(b1, GENESIS_CERTIFICATE, left), proposal(b2, certificate(b1)), proposal(b3))
    state, _ = feed(state, BlockFetched(proposal(b2).block, None, certificate(b2), 0.0))
    high = proposal(header(b3, 3, 0, b"high"), certificate(b3))
    lower = left_view(2, {1: certificate(b2), 2: certificate(b2), 3: certificate(b2)})
    low = proposal(header(b2, 3, 0, b"low"), certificate(b2), lower)
    return hear(state, 3, low, high)


def test_one_vote_for_each_index_however_many_heights() -> None:
    """GISKARD-SAFETY-1, and that the planted rule breaks it."""
    _, effects = equivocating_first_blocks(Rules())
    cast = [one for one in votes_in(effects) if one.view == 3]
    assert [one.height for one in cast] == [3]
    assert [effect.offender for effect in effects if isinstance(effect, Report)] == [3]
    _, effects = equivocating_first_blocks(PLANTS["height-only-voting"].rules)
    cast = [one for one in votes_in(effects) if one.view == 3]
    assert [(one.index, one.height) for one in cast] == [(0, 3), (0, 4)]


def test_a_later_block_must_stand_on_the_own_earlier_one() -> None:
    """GISKARD-SAFETY-2."""
    rival = header(GENESIS, 1, 0, b"rival")
    state, _ = hear(fresh_state(), 1, proposal(A1, GENESIS_CERTIFICATE))
    other = proposal(header(rival, 1, 1), certificate(rival, (1, 2, 3)))
    fetched = BlockFetched(proposal(rival).block, None, certificate(rival, (1, 2, 3)), 0.0)
    state, effects = feed(state, fetched, Received(1, other, 0.0))
    assert votes_in(effects) == []


def interleaved_chains() -> list[list[tuple[Any, QuorumCertificate]]]:
    """Two chains that fork at height 1; their certificates appear in turns, each view justified by the one before."""
    reported: QuorumCertificate = GENESIS_CERTIFICATE
    chains: list[list[tuple[Any, QuorumCertificate]]] = [[], []]
    parents = [GENESIS, GENESIS]
    for turn in range(6):
        chain, view = turn % 2, turn + 1
        made = header(parents[chain], view, 0, bytes([turn]))
        left = None
        if view > 1:
            # One liar reports this chain's certificate; the two honest ones hold none above it.
            left = left_view(view - 1, {0: reported, 1: reported, 3: reported})
            assert left.highest.block == header_hash(parents[chain])
        chains[chain].append((proposal(made, reported if turn else GENESIS_CERTIFICATE, left), certificate(made)))
        parents[chain] = made
        other = chains[1 - chain]
        reported = other[-1][1] if other else GENESIS_CERTIFICATE
    return chains


def test_linked_certificates_with_gaps_between_their_views_are_not_final() -> None:
    """GISKARD-SAFETY-3: the rule as published makes both chains final; ours makes neither."""
    for rules, expected in ((PLANTS["finality-across-any-views"].rules, [1]), (Rules(), [])):
        finals = []
        for chain in interleaved_chains():
            state = fresh_state(0, rules)
            events = [BlockFetched(made.block, None, certified, 0.0) for made, certified in chain]
            state, effects = feed(state, *events)
            assert final_heights(effects) == expected
            finals.append(state.final_hash)
        assert (finals[0] != finals[1]) == bool(expected)


def test_nothing_at_or_below_the_lock_is_voted_for() -> None:
    """GISKARD-SAFETY-4."""
    state = fresh_state()
    certified = [BlockFetched(proposal(made).block, None, certificate(made), 0.0) for made in (A1, A2)]
    state, _ = feed(state, *certified)
    rival = header(GENESIS, 2, 0, b"rival")
    left = left_view(1, {1: GENESIS_CERTIFICATE, 2: GENESIS_CERTIFICATE, 3: GENESIS_CERTIFICATE})
    state, effects = hear(state, 2, proposal(rival, GENESIS_CERTIFICATE, left))
    assert state.view == 2
    assert votes_in(effects) == []


def test_receivers_work_out_the_highest_report_themselves() -> None:
    """GISKARD-SAFETY-5."""
    reports = {0: GENESIS_CERTIFICATE, 1: certificate(A1), 3: GENESIS_CERTIFICATE}
    left = left_view(1, reports)
    hiding = replace(left, highest=GENESIS_CERTIFICATE)
    low = header(GENESIS, 2)
    for lie in (hiding, left):
        _, effects = hear(fresh_state(), 2, proposal(low, GENESIS_CERTIFICATE, lie))
        assert votes_in(effects) == []
        assert [effect.sender for effect in effects if isinstance(effect, Distrust)] == [2]
    _, effects = hear(fresh_state(), 1, proposal(A1, GENESIS_CERTIFICATE))
    state, effects = hear(fresh_state(), 2, proposal(header(A1, 2), certificate(A1), left))
    assert state.view == 2


FORGERIES: dict[str, tuple[int, object]] = {
    "a vote of somebody else": (1, vote(A1, 2)),
    "a vote for no place": (1, replace(vote(A1, 1), index=BLOCKS_PER_VIEW)),
    "a block of another chain": (1, proposal(replace(A1, chain_id=ChainId(8)), GENESIS_CERTIFICATE)),
    "a block with other validators": (1, proposal(replace(A1, validators=bytes(32)), GENESIS_CERTIFICATE)),
    "a block past the end of its view": (1, proposal(replace(A1, index=BLOCKS_PER_VIEW), GENESIS_CERTIFICATE)),
    "a block of somebody who has no turn": (2, proposal(replace(A1, proposer=2), GENESIS_CERTIFICATE)),
    "a block nobody signed": (1, replace(proposal(A1, GENESIS_CERTIFICATE), signature=b"x" * 16)),
    "a first block without its parent's certificate": (1, proposal(A1)),
    "a first block with the certificate of another": (1, proposal(A1, certificate(A2))),
    "a certificate too few signed": (1, proposal(A2, certificate(A1, (0, 1)))),
    "a certificate with a false sum": (1, proposal(A2, replace(certificate(A1), signature=b"y" * 16))),
    "a certificate with a long bitmap": (1, proposal(A2, replace(certificate(A1), signers=b"\x07\x00"))),
    "a certificate of a stranger": (1, proposal(A2, replace(certificate(A1), signers=b"\x17"))),
    "a certificate like genesis": (1, proposal(A2, replace(certificate(A1), signature=b"\x00"))),
    "a first block of a view that was not reached": (2, proposal(header(A1, 2), certificate(A1))),
    "a view change of somebody else": (1, view_change(1, 2, GENESIS_CERTIFICATE)),
    "a view change nobody signed": (1, replace(view_change(1, 1, GENESIS_CERTIFICATE), signature=b"z" * 16)),
    "a view change with a forged report": (1, view_change(1, 1, replace(certificate(A1), signature=b"y" * 16))),
    "a way in that nobody signed": (
        1,
        ViewSync(ViewEntry(None, replace(left_view(4, {0: GENESIS_CERTIFICATE}), highest=GENESIS_CERTIFICATE))),
    ),
    "a way in by a forged certificate": (1, ViewSync(ViewEntry(replace(certificate(A3), signature=b"y" * 16), None))),
    "a way in that names nothing": (1, ViewSync(ViewEntry(None, None))),
    "a way in that names two": (
        1,
        ViewSync(ViewEntry(GENESIS_CERTIFICATE, left_view(1, dict.fromkeys((0, 1, 2), GENESIS_CERTIFICATE)))),
    ),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_messages_change_nothing(name: str) -> None:
    sender, message = FORGERIES[name]
    before = fresh_state()
    after, effects = hear(before, sender, message)
    assert (after.view, after.highest, after.voted) == (1, GENESIS_CERTIFICATE, ())
    assert (after.blocks, after.votes, after.view_changes) == ({}, {}, {})
    assert after.certificates == before.certificates
    assert all(isinstance(effect, Distrust) for effect in effects)
    assert len(effects) == 1


def test_a_false_vote_is_found_out_and_its_voter_named() -> None:
    state, _ = hear(fresh_state(), 1, proposal(A1, GENESIS_CERTIFICATE))
    false = replace(vote(A1, 1), signature=b"x" * 16)
    state, _ = hear(state, 1, false)
    state, effects = hear(state, 2, vote(A1, 2))
    assert [effect.sender for effect in effects if isinstance(effect, Distrust)] == [1]
    assert header_hash(A1) not in state.certificates
    state, _ = hear(state, 3, vote(A1, 3))
    assert header_hash(A1) in state.certificates


def test_contradicting_votes_are_reported_with_both_signatures() -> None:
    rival = header(GENESIS, 1, 0, b"rival")
    _, effects = hear(fresh_state(), 1, vote(A1, 1), vote(rival, 1))
    (report,) = [effect for effect in effects if isinstance(effect, Report)]
    assert report.offender == 1
    _, effects = hear(fresh_state(), 1, vote(A1, 1), replace(vote(rival, 1), signature=b"x" * 16))
    assert [effect for effect in effects if isinstance(effect, Report)] == []


def test_a_quiet_network_sets_no_timer_and_says_nothing() -> None:
    state, effects = feed(fresh_state(1), PendingChanged(False, 0.0))
    assert effects == []
    state, effects = feed(state, PendingChanged(True, 1.0))
    assert any(isinstance(effect, Propose) for effect in effects)
    assert SetTimer(2.0) in effects


def test_patience_grows_with_every_view_that_is_lost() -> None:
    state, _ = feed(fresh_state(), PendingChanged(True, 0.0))
    waits = []
    now = 0.0
    for view in range(1, 7):
        begun = now
        assert state.deadline is not None
        now = state.deadline
        waits.append(round(now - begun, 6))
        state, _ = feed(state, TimerFired(now))
        for sender in (1, 2):
            state, _ = step(state, Received(sender, view_change(view, sender, GENESIS_CERTIFICATE), now))
        assert state.view == view + 1
    # Views 5 and 6 belong to proposers that brought nothing in views 1 and 2.
    assert waits == [1.0, 1.5, 2.25, 3.375, 1.5**4 / 4, round(1.5**5 / 4, 6)]


def test_f_plus_one_reports_are_joined_without_waiting() -> None:
    state, effects = hear(fresh_state(), 1, view_change(1, 1, GENESIS_CERTIFICATE))
    assert reports_in(effects) == []
    state, effects = hear(state, 2, view_change(1, 2, GENESIS_CERTIFICATE))
    assert len(reports_in(effects)) == 1
    assert state.view == 2


def test_a_laggard_is_shown_the_way() -> None:
    state, _ = hear(
        fresh_state(), 2, ViewSync(ViewEntry(None, left_view(4, dict.fromkeys((0, 1, 2), GENESIS_CERTIFICATE))))
    )
    assert state.view == 5
    _, effects = hear(state, 3, view_change(2, 3, GENESIS_CERTIFICATE))
    (answer,) = [effect for effect in effects if isinstance(effect, Send)]
    assert answer.to == 3
    behind, _ = hear(fresh_state(3), 0, answer.message)
    assert behind.view == 5


def test_an_observer_follows_and_signs_nothing() -> None:
    from dataclasses import replace as change

    state = fresh_state()
    state.configuration = change(state.configuration, position=None, signer=None)
    events = [BlockFetched(proposal(made).block, None, certificate(made), 0.0) for made in (A1, A2, A3)]
    state, effects = feed(state, *events, PendingChanged(True, 0.0), TimerFired(99.0))
    assert final_heights(effects) == [1]
    assert not any(isinstance(effect, Broadcast | Persist) for effect in effects)


def test_a_rival_of_a_final_block_stops_the_validator() -> None:
    chain = [BlockFetched(proposal(made).block, None, certificate(made), 0.0) for made in (A1, A2, A3)]
    state, _ = feed(fresh_state(), *chain)
    assert state.final_header == A1
    rivals = [header(GENESIS, 1, 0, b"rival")]
    for index in range(BLOCKS_PER_VIEW):
        rivals.append(header(rivals[-1], 2, index, b"rival"))
    fetched = [BlockFetched(proposal(made).block, None, certificate(made), 0.0) for made in rivals]
    state, effects = feed(state, *fetched)
    assert final_heights(effects) == []
    assert [effect for effect in effects if isinstance(effect, Halt)]
    state, effects = feed(state, PendingChanged(True, 1.0), TimerFired(99.0))
    assert effects == []
