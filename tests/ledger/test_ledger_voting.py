"""Votes that go to a collector, votes that are not signed, and floods that must not grow a validator's state."""

from dataclasses import replace as change

from ledger_giskard import (
    A1,
    A2,
    A3,
    BLOCKS_PER_VIEW,
    GENESIS,
    GENESIS_CERTIFICATE,
    MEMBERS,
    NODES,
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

from koinon.ledger.giskard.protocol import step
from koinon.ledger.giskard.state import (
    BlockFetched,
    Broadcast,
    Configuration,
    Distrust,
    Effect,
    Finalise,
    PendingChanged,
    Persist,
    Propose,
    Proposed,
    Received,
    Send,
    State,
    TimerFired,
    Voting,
)
from koinon.ledger.giskard.turn import VIEWS_AHEAD, VIEWS_BEHIND
from koinon.ledger.types import Certified, PrepareVote, ViewEntry, ViewSync, header_hash


def collecting(position: int) -> State:
    state = fresh_state(position)
    configuration: Configuration = change(state.configuration, voting=Voting.COLLECTED)
    state.configuration = configuration
    return state


def sent(effects: list[Effect], kind: type) -> list[tuple[int | None, object]]:
    """Receiver (None for all) and message."""
    return [
        (effect.to if isinstance(effect, Send) else None, effect.message)
        for effect in effects
        if isinstance(effect, Send | Broadcast) and isinstance(effect.message, kind)
    ]


def test_votes_go_to_the_proposers_of_this_view_and_the_next() -> None:
    """GISKARD-LIVENESS-5."""
    _, effects = hear(collecting(0), 1, proposal(A1, GENESIS_CERTIFICATE))
    assert sorted(sent(effects, PrepareVote), key=str) == [(1, vote(A1, 0)), (2, vote(A1, 0))]
    kinds = [type(effect) for effect in effects]
    assert kinds.index(Persist) < kinds.index(Send)


def test_the_collector_tells_everybody_the_certificate_and_nobody_else_does() -> None:
    for position, told in ((1, 1), (2, 0), (0, 0)):
        state, _ = hear(collecting(position), 1, proposal(A1, GENESIS_CERTIFICATE))
        effects: list[Effect] = []
        for voter in {0, 2, 3} - {position}:
            state, more = hear(state, voter, vote(A1, voter))
            effects.extend(more)
        assert len(sent(effects, Certified)) == told
        assert header_hash(A1) in state.certificates


def test_a_chain_becomes_final_by_collected_certificates_alone() -> None:
    state, _ = hear(collecting(0), 1, proposal(A1, GENESIS_CERTIFICATE), proposal(A2), proposal(A3))
    finals = []
    for made in (A1, A2, A3):
        state, effects = hear(state, 1, Certified(certificate(made)))
        finals.extend(effect.blocks[-1].header for effect in effects if isinstance(effect, Finalise))
    assert finals == [A1]
    assert state.view == 2


def test_a_forged_certificate_of_a_collector_changes_nothing() -> None:
    for false in (replace(certificate(A1), signature=b"y" * 16), certificate(A1, (0, 1))):
        state, effects = hear(collecting(0), 1, Certified(false))
        assert [effect.sender for effect in effects if isinstance(effect, Distrust)] == [1]
        assert state.highest == GENESIS_CERTIFICATE


def test_after_a_lost_view_votes_are_broadcast_until_a_block_is_final() -> None:
    """GISKARD-LIVENESS-5."""
    state, _ = feed(collecting(0), PendingChanged(True, 0.0), TimerFired(1.0))
    left = left_view(1, dict.fromkeys((1, 2, 3), GENESIS_CERTIFICATE))
    line = [header(GENESIS, 2)]
    line.extend(header(line[-1], 2, index) for index in (1,))
    line.append(header(line[-1], 2, 2))
    state, _ = hear(state, 1, ViewSync(ViewEntry(None, left)))
    state, effects = hear(state, 2, proposal(line[0], GENESIS_CERTIFICATE, left))
    assert [to for to, _ in sent(effects, PrepareVote)] == [None]
    state, _ = hear(state, 2, proposal(line[1]), proposal(line[2]), *(Certified(certificate(made)) for made in line))
    assert state.final_header == line[0]
    _, effects = hear(state, 3, proposal(header(line[2], 3), certificate(line[2])))
    assert sorted(to for to, _ in sent(effects, PrepareVote) if to is not None) == [3]


def test_who_forged_a_vote_once_is_checked_from_then_on() -> None:
    state, _ = hear(fresh_state(), 1, proposal(A1, GENESIS_CERTIFICATE))
    false = replace(vote(A1, 1), signature=b"x" * 16)
    state, _ = hear(state, 1, false)
    state, effects = hear(state, 2, vote(A1, 2))
    assert [effect.sender for effect in effects if isinstance(effect, Distrust)] == [1]
    state, _ = hear(state, 1, false)
    assert (1, 0, 1) not in state.votes
    state, _ = hear(state, 1, vote(A1, 1))
    assert header_hash(A1) in state.certificates


def test_blocks_are_made_ahead_of_their_certificates_as_far_as_the_pipeline_allows() -> None:
    """The next block is asked for in the step that sends the last, before anybody has voted."""
    state, effects = feed(change_pipeline(fresh_state(1), 2), PendingChanged(True, 0.0))
    parent, asked = GENESIS, []
    for index in range(BLOCKS_PER_VIEW):
        wanted = [effect for effect in effects if isinstance(effect, Propose)]
        asked.append(len(wanted))
        if not wanted:
            break
        parent = header(parent, 1, index)
        state, effects = feed(state, Proposed(proposal(parent).block, 0.0))
        assert any(isinstance(effect, Broadcast) for effect in effects)
    assert asked == [1, 1, 0]
    for voter in (2, 3):
        state, effects = hear(state, voter, vote(A1, voter))
    assert [effect.height for effect in effects if isinstance(effect, Propose)] == [3]


def change_pipeline(state: State, pipeline: int) -> State:
    configuration: Configuration = change(state.configuration, pipeline=pipeline)
    state.configuration = configuration
    return state


def size(state: State) -> int:
    return sum(
        len(container)
        for container in (state.blocks, state.certificates, state.votes, state.proposals, state.view_changes)
    )


def test_a_flood_of_well_signed_messages_leaves_the_state_bounded() -> None:
    """One liar, validator 1, signs votes, blocks and view changes for every place there is."""
    most = (VIEWS_BEHIND + VIEWS_AHEAD + 1) * BLOCKS_PER_VIEW * 2 + VIEWS_AHEAD + 1
    state = fresh_state()
    for number in range(3000):
        view, index, payload = 1 + number % 61, number % BLOCKS_PER_VIEW, number.to_bytes(4, "big")
        parent = header(GENESIS, view, index, payload)
        made = header(replace(parent, height=number * 7), view, index, payload)
        state, _ = step(state, Received(1, vote(made, 1), 0.0))
        if MEMBERS.proposer(made.view) == 1:
            state, _ = step(state, Received(1, proposal(made), 0.0))
            state, _ = step(state, BlockFetched(proposal(made).block, proposal(made).signature, None, 0.0))
        state, _ = step(state, Received(1, view_change(view, 1, GENESIS_CERTIFICATE), 0.0))
        assert size(state) <= most + 1


def test_an_async_network_of_many_views_leaves_the_state_bounded() -> None:
    """Views are lost one after the other, each with blocks that nobody ever certifies."""
    state = fresh_state()
    seen = 0
    for view in range(1, 60):
        left = left_view(view, dict.fromkeys((1, 2, 3), GENESIS_CERTIFICATE))
        made = header(GENESIS, view + 1)
        entry = proposal(made, GENESIS_CERTIFICATE, left)
        state, _ = hear(state, made.proposer, entry, *(vote(made, made.proposer),))
        seen = max(seen, size(state))
    assert state.view == 60
    assert seen <= 4 * (VIEWS_BEHIND + 2) * NODES
