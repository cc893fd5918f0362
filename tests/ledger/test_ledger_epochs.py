"""The end of an epoch by hand: closing blocks, the proof of the end, and the next epoch on the last block."""

from dataclasses import replace as change

import pytest
from ledger_giskard import (
    GENESIS,
    GENESIS_CERTIFICATE,
    MEMBERS,
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

from koinon.kernel.errors import InvalidInput
from koinon.kernel.ids import NodeId
from koinon.kernel.quantities import Epoch, Height
from koinon.ledger.giskard.certificates import root_certificate
from koinon.ledger.giskard.epochs import EARLY_BYTES, EARLY_MESSAGES, EarlyMessages, message_epoch
from koinon.ledger.giskard.rules import Rules
from koinon.ledger.giskard.start import initial_state, restored_state
from koinon.ledger.giskard.state import (
    BlockFetched,
    Broadcast,
    Distrust,
    Effect,
    EpochEnded,
    Fetch,
    Finalise,
    PendingChanged,
    Persist,
    Propose,
    Proposed,
    Send,
    SetTimer,
    State,
    TimerFired,
)
from koinon.ledger.types import (
    Block,
    EpochSync,
    FinalityProof,
    Header,
    PrepareVote,
    ViewEntry,
    ViewSync,
    header_hash,
)

LAST = Height(1)
L = header(GENESIS, 1)
C1 = header(L, 1, 1, closing=True)
C2 = header(C1, 1, 2, closing=True)
PROOF = FinalityProof((L, C1, C2), (certificate(L), certificate(C1), certificate(C2)))
NEXT = Epoch(1)


def of_kind(effects: list[Effect], kind: type) -> list[Effect]:
    return [effect for effect in effects if isinstance(effect, kind)]


def closing(made: Header) -> BlockFetched:
    return BlockFetched(Block(made, ()), None, certificate(made), 0.0)


def ended_state(position: int = 0) -> tuple[State, list[Effect]]:
    state, _ = hear(
        fresh_state(position, last_height=LAST),
        1,
        proposal(L, GENESIS_CERTIFICATE),
        proposal(C1, transactions=()),
        proposal(C2, transactions=()),
    )
    effects: list[Effect] = []
    for made in (L, C1, C2):
        for voter in range(1, 4):
            state, more = hear(state, voter, vote(made, voter))
            effects.extend(more)
    return state, effects


def test_closing_blocks_finalise_the_last_block_and_nothing_else() -> None:
    """GISKARD-SAFETY-8."""
    state, effects = ended_state()
    (final,) = [effect for effect in effects if isinstance(effect, Finalise)]
    assert [block.header for block in final.blocks] == [L]
    assert of_kind(effects, EpochEnded) == [EpochEnded(L, certificate(L, (0, 1, 2)))]
    assert state.ended is not None
    assert state.ended.headers == (L, C1, C2)
    assert (state.final_header, state.deadline) == (L, None)


def test_a_closing_block_with_transactions_is_refused() -> None:
    """GISKARD-SAFETY-8."""
    before, _ = hear(fresh_state(last_height=LAST), 1, proposal(L, GENESIS_CERTIFICATE))
    state, effects = hear(before, 1, proposal(C1))
    assert [effect.sender for effect in effects if isinstance(effect, Distrust)] == [1]
    assert header_hash(C1) not in state.blocks
    fetched = BlockFetched(Block(C1, (b"transaction",)), None, certificate(C1), 0.0)
    state, _ = feed(before, fetched)
    assert header_hash(C1) not in state.blocks


UNMARKED = header(L, 1, 1)
MARKED = header(GENESIS, 1, closing=True)


@pytest.mark.parametrize(
    ("last", "wrong", "parent"),
    [(LAST, UNMARKED, L), (LAST, MARKED, None), (None, MARKED, None)],
    ids=["a closing block without the mark", "the last block with it", "a block of an endless epoch with it"],
)
def test_a_header_that_is_wrong_about_the_end_is_refused(
    last: Height | None, wrong: Header, parent: Header | None
) -> None:
    """GISKARD-SAFETY-8: however the block comes, and even with a certificate."""
    before = fresh_state(last_height=last)
    if parent is not None:
        before, _ = hear(before, 1, proposal(parent, GENESIS_CERTIFICATE))
    root = GENESIS_CERTIFICATE if parent is None else certificate(parent)
    for after, effects in (
        hear(before, 1, proposal(wrong, root, transactions=())),
        feed(before, closing(wrong)),
    ):
        (told,) = [effect for effect in effects if isinstance(effect, Distrust)]
        assert "wrong about whether the block closes its epoch" in told.reason
        assert of_kind(effects, Broadcast) == []
        assert header_hash(wrong) not in after.blocks


def test_nothing_is_signed_after_the_end() -> None:
    """GISKARD-SAFETY-8, GISKARD-LIVENESS-4: whoever is behind is shown that the epoch is over."""
    state, _ = ended_state()
    late = header(C2, 2, closing=True)
    state, effects = hear(state, 2, proposal(late, certificate(C2), transactions=()), vote(late, 2))
    state, more = feed(state, PendingChanged(True, 1.0), TimerFired(99.0))
    assert effects + more == []
    _, effects = hear(state, 3, view_change(1, 3, GENESIS_CERTIFICATE))
    (answer,) = effects
    assert isinstance(answer, Send)
    assert isinstance(answer.message, EpochSync)
    assert (answer.to, answer.message.proof.headers) == (3, (L, C1, C2))


def test_the_proof_of_the_end_brings_the_late_along() -> None:
    state, effects = hear(fresh_state(3, last_height=LAST), 0, EpochSync(PROOF))
    assert of_kind(effects, Fetch)
    assert of_kind(effects, EpochEnded) == []
    state, effects = feed(state, BlockFetched(proposal(L).block, None, certificate(L), 0.0))
    assert of_kind(effects, EpochEnded) == [EpochEnded(L, certificate(L))]


def test_a_longer_proof_stands_where_the_last_block_is_a_view_apart_from_its_closing_blocks() -> None:
    left = left_view(2, dict.fromkeys((0, 1, 2), certificate(L)))
    first = header(L, 3, closing=True)
    second = header(first, 3, 1, closing=True)
    line = (L, first, second, header(second, 3, 2, closing=True))
    blocks = [BlockFetched(proposal(L).block, None, certificate(L), 0.0), *map(closing, line[1:])]
    state, effects = feed(fresh_state(last_height=LAST), *blocks)
    (final,) = [effect for effect in effects if isinstance(effect, Finalise)]
    assert [block.header for block in final.blocks] == [L]
    assert final.headers == line
    assert final.proof == tuple(certificate(made) for made in line[1:])
    assert state.ended is not None
    late, _ = hear(fresh_state(3, last_height=LAST), 2, proposal(first, certificate(L), left, ()))
    late, _ = hear(late, 0, EpochSync(state.ended))
    late, effects = feed(late, blocks[0])
    assert [effect.header for effect in effects if isinstance(effect, EpochEnded)] == [L]


BAD_PROOFS = {
    "of another block": FinalityProof((C1, C2, header(C2, 2, closing=True)), PROOF.certificates),
    "of no chain": replace(PROOF, headers=(L, C2, C1)),
    "with swapped certificates": replace(PROOF, certificates=(PROOF.certificates[1],) * 3),
    "with a forged certificate": replace(
        PROOF, certificates=(*PROOF.certificates[:2], replace(PROOF.certificates[2], signature=b"y" * 16))
    ),
    "with too few signers": replace(PROOF, certificates=(*PROOF.certificates[:2], certificate(C2, (0, 1)))),
    "of blocks that do not say that they close": FinalityProof(
        (L, UNMARKED, header(UNMARKED, 1, 2)),
        (certificate(L), certificate(UNMARKED), certificate(header(UNMARKED, 1, 2))),
    ),
    "of other validators": FinalityProof(
        (L, C1, replace(C2, validators=bytes(32))),
        (*PROOF.certificates[:2], certificate(replace(C2, validators=bytes(32)))),
    ),
}


@pytest.mark.parametrize("name", BAD_PROOFS)
def test_a_false_proof_of_the_end_changes_nothing(name: str) -> None:
    before = fresh_state(3, last_height=LAST)
    after, effects = hear(before, 0, EpochSync(BAD_PROOFS[name]))
    assert [effect.sender for effect in effects if isinstance(effect, Distrust)] == [0]
    assert (after.blocks, after.highest, after.ended) == ({}, GENESIS_CERTIFICATE, None)
    assert after.certificates == before.certificates


def test_an_epoch_without_end_takes_no_proof_of_one() -> None:
    _, effects = hear(fresh_state(3), 0, EpochSync(PROOF))
    assert [effect.sender for effect in effects if isinstance(effect, Distrust)] == [0]


def proposer_at(tip: Header, pending: bool) -> list[Effect]:
    """What validator 1 proposes in view 1 on top of its own block at ``tip``."""
    state, effects = feed(fresh_state(1, last_height=LAST), PendingChanged(True, 0.0))
    state, effects = feed(state, Proposed(proposal(L).block, 0.0))
    if not pending:
        state, _ = feed(state, PendingChanged(False, 0.0))
    for made in (C1, C2):
        if made.height > tip.height:
            break
        state, effects = feed(state, Proposed(Block(made, ()), 0.0))
    return effects


def test_the_last_block_gets_its_closing_blocks_and_no_more() -> None:
    for tip, wanted in ((L, True), (C1, True), (C2, False)):
        asked = [effect for effect in proposer_at(tip, pending=True) if isinstance(effect, Propose)]
        assert [(one.height, one.required, one.closing) for one in asked] == (
            [(tip.height + 1, True, True)] if wanted else []
        )


def test_an_empty_last_block_is_work_too() -> None:
    _, effects = hear(fresh_state(0, last_height=LAST), 1, proposal(L, GENESIS_CERTIFICATE, transactions=()))
    assert of_kind(effects, SetTimer)


def next_epoch(position: int = 0, last_height: Height | None = None) -> State:
    return fresh_state(position, last_height=last_height, epoch=NEXT, root=L)


ROOT = root_certificate(L, NEXT, len(MEMBERS), 3)


def test_the_next_epoch_begins_on_the_last_block() -> None:
    first = header(L, 1, epoch=NEXT)
    state, effects = hear(next_epoch(), 1, proposal(first, ROOT))
    votes = [e.message for e in effects if isinstance(e, Broadcast) and isinstance(e.message, PrepareVote)]
    assert [(cast.epoch, cast.view, cast.height) for cast in votes] == [(NEXT, 1, 2)]
    line = [first, header(first, 1, 1), header(header(first, 1, 1), 1, 2)]
    state, effects = feed(state, *(BlockFetched(proposal(made).block, None, certificate(made), 0.0) for made in line))
    assert [effect.headers for effect in effects if isinstance(effect, Finalise)] == [tuple(line)]
    assert state.final_header == first
    # A late report of the root is still an honest one.
    state, effects = hear(state, 2, replace(view_change(state.view, 2, ROOT), epoch=NEXT))
    assert [e.reason for e in effects if isinstance(e, Distrust)] == [
        f"the view change of validator 2 out of view {state.view} is not signed by it"
    ]


def test_a_block_in_the_middle_of_a_view_does_not_stand_on_the_epoch_before() -> None:
    assert (L.view, L.index) == (1, 0)
    second = header(L, 1, 1, epoch=NEXT)
    _, effects = hear(next_epoch(), 1, proposal(second, ROOT))
    assert of_kind(effects, Broadcast) == []


OTHER_EPOCH = {
    "a block": proposal(header(L, 1, epoch=NEXT), ROOT),
    "a vote": replace(vote(L, 1), epoch=NEXT),
    "a view change": replace(view_change(1, 1, GENESIS_CERTIFICATE), epoch=NEXT),
    "a way in": ViewSync(ViewEntry(ROOT, None)),
    "an end": EpochSync(replace(PROOF, headers=tuple(replace(made, epoch=NEXT) for made in PROOF.headers))),
}


@pytest.mark.parametrize("name", OTHER_EPOCH)
def test_what_belongs_to_another_epoch_is_left_to_that_epoch(name: str) -> None:
    before = fresh_state(last_height=LAST)
    after, effects = hear(before, 1, OTHER_EPOCH[name])
    assert effects == []
    assert after == before
    assert message_epoch(OTHER_EPOCH[name]) == NEXT


def test_a_restart_begins_the_next_epoch_with_an_empty_record() -> None:
    state, effects = feed(fresh_state(last_height=LAST), PendingChanged(True, 0.0), TimerFired(1.0))
    record = next(effect.record for effect in effects if isinstance(effect, Persist))
    again = restored_state(next_epoch().configuration, L, certificate(L), record, ((Block(C1, ()), None),))
    assert again == next_epoch()
    with pytest.raises(InvalidInput, match="ends at height 1"):
        restored_state(state.configuration, L, certificate(L), record, ())


def test_an_epoch_cannot_end_before_it_begins() -> None:
    configuration = change(next_epoch().configuration, last_height=LAST)
    with pytest.raises(InvalidInput, match="cannot begin on block 1"):
        initial_state(configuration, L)


def test_early_messages_wait_within_bounds() -> None:
    early = EarlyMessages()
    loud, quiet = NodeId(bytes([1]) * 32), NodeId(bytes([2]) * 32)
    message = vote(L, 1)
    assert [early.add(loud, message) for _ in range(EARLY_MESSAGES + 1)] == [True] * EARLY_MESSAGES + [False]
    big = proposal(header(L, 1, epoch=NEXT), ROOT, transactions=(bytes(EARLY_BYTES // 2 + 1),))
    assert [early.add(quiet, big), early.add(quiet, big), early.add(quiet, message)] == [True, False, True]
    taken = early.take()
    assert [sender for sender, _ in taken] == [loud] * EARLY_MESSAGES + [quiet] * 2
    assert early.take() == []
    assert early.add(loud, message)


def test_the_rule_for_closing_blocks() -> None:
    rules = Rules()
    assert [rules.final_height(Height(5), last) for last in (None, Height(4), Height(6))] == [5, 4, 5]
    assert rules.may_hold((b"x",), Height(4), Height(4))
    assert rules.may_hold((), Height(5), Height(4))
    assert not rules.may_hold((b"x",), Height(5), Height(4))
    assert [rules.is_marked(made, LAST) for made in (L, C1, MARKED, UNMARKED)] == [True, True, False, False]
    assert [rules.is_marked(made, None) for made in (L, MARKED)] == [True, False]
