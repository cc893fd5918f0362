"""Evidence: the step finds every kind, it has one form, anybody can check it, and what proves nothing is refused."""

from dataclasses import replace as change

import pytest
from ledger_giskard import (
    A1,
    A2,
    A3,
    CHAIN_ID,
    GENESIS,
    GENESIS_CERTIFICATE,
    MEMBERS,
    SCHEME,
    certificate,
    fresh_state,
    header,
    hear,
    proposal,
    view_change,
    vote,
)
from msgspec.structs import replace

from koinon.crypto.bls import BlsKey
from koinon.kernel.codec import encode
from koinon.kernel.errors import Forged, KoinonError, MalformedMessage
from koinon.kernel.ids import ZERO_ADDRESS, Hash32, NodeId
from koinon.kernel.quantities import ChainId, Epoch, Height, View
from koinon.ledger.finality import BlsVerifier
from koinon.ledger.giskard.certificates import vote_message
from koinon.ledger.giskard.evidence import (
    MAXIMUM_EVIDENCE_BYTES,
    Evidence,
    check_evidence,
    decode_evidence,
    encode_evidence,
    hidden_parent,
    two_blocks,
    two_votes,
)
from koinon.ledger.giskard.state import Effect, Report
from koinon.ledger.types import PrepareVote, ProposalEvidence, ReportEvidence, Validator, ValidatorSet, VoteEvidence
from koinon.wire.consensus import BLOOM_BYTES

RIVAL = header(GENESIS, 1, 0, b"rival")
BLOCKS = two_blocks(A1, proposal(A1).signature, RIVAL, proposal(RIVAL).signature)
VOTES = two_votes(vote(A1, 2), vote(RIVAL, 2))
HIDDEN = hidden_parent(vote(A3, 2), view_change(1, 2, GENESIS_CERTIFICATE))
GOOD: dict[str, tuple[Evidence, int]] = {"blocks": (BLOCKS, 1), "votes": (VOTES, 2), "a hidden parent": (HIDDEN, 2)}


def reports(effects: list[Effect]) -> list[tuple[int, Evidence]]:
    return [(effect.offender, effect.evidence) for effect in effects if isinstance(effect, Report)]


def check(evidence: Evidence) -> int:
    return check_evidence(evidence, CHAIN_ID, MEMBERS, SCHEME)


@pytest.mark.parametrize("name", GOOD)
def test_good_evidence_names_its_offender_and_survives_its_encoding(name: str) -> None:
    evidence, offender = GOOD[name]
    assert check(evidence) == offender
    assert decode_evidence(encode_evidence(evidence)) == evidence


def test_the_step_finds_two_blocks_for_one_place_in_either_order() -> None:
    for pair in ((A1, RIVAL), (RIVAL, A1)):
        _, effects = hear(fresh_state(), 1, *(proposal(made, GENESIS_CERTIFICATE) for made in pair))
        assert reports(effects) == [(1, BLOCKS)]


def test_the_step_finds_two_votes_for_one_place_or_height_in_either_order() -> None:
    other_index = header(GENESIS, 1, 1)
    for second in (RIVAL, other_index):
        for pair in ((A1, second), (second, A1)):
            _, effects = hear(fresh_state(), 2, *(vote(made, 2) for made in pair))
            assert reports(effects) == [(2, two_votes(vote(A1, 2), vote(second, 2)))]


def test_the_step_finds_a_hidden_parent_in_either_order() -> None:
    messages = [vote(A3, 2), view_change(1, 2, GENESIS_CERTIFICATE)]
    for pair in (messages, messages[::-1]):
        _, effects = hear(fresh_state(), 2, *pair)
        assert reports(effects) == [(2, HIDDEN)]


def test_a_report_of_the_parent_or_out_of_an_earlier_view_hides_nothing() -> None:
    state, effects = hear(fresh_state(), 2, vote(A3, 2), view_change(1, 2, certificate(A2)))
    assert reports(effects) == []
    later = header(A2, 2, 0)
    _, effects = hear(state, 3, vote(later, 3), view_change(1, 3, GENESIS_CERTIFICATE))
    assert reports(effects) == []


def test_an_offender_is_reported_once() -> None:
    third = header(GENESIS, 1, 0, b"third")
    _, effects = hear(fresh_state(), 2, vote(A1, 2), vote(RIVAL, 2), vote(third, 2), vote(RIVAL, 2))
    assert len(reports(effects)) == 1


def test_forged_halves_report_nobody() -> None:
    false = replace(vote(RIVAL, 2), signature=b"x" * 16)
    _, effects = hear(fresh_state(), 2, vote(A1, 2), false)
    assert reports(effects) == []
    _, effects = hear(
        fresh_state(), 2, replace(vote(A3, 2), signature=b"x" * 16), view_change(1, 2, GENESIS_CERTIFICATE)
    )
    assert reports(effects) == []


NOT_EVIDENCE: dict[str, Evidence] = {
    "one block twice": ProposalEvidence(A1, proposal(A1).signature, A1, proposal(A1).signature),
    "blocks of two places": two_blocks(A1, proposal(A1).signature, A2, proposal(A2).signature),
    "blocks in the wrong order": ProposalEvidence(
        BLOCKS.second, BLOCKS.second_signature, BLOCKS.first, BLOCKS.first_signature
    ),
    "a block nobody signed": replace(BLOCKS, first_signature=b"x" * 16),
    "a block of another set": two_blocks(
        A1,
        proposal(A1).signature,
        replace(RIVAL, validators=Hash32(bytes(32))),
        proposal(replace(RIVAL, validators=Hash32(bytes(32)))).signature,
    ),
    "a block of another chain": two_blocks(
        A1, proposal(A1).signature, replace(RIVAL, chain_id=ChainId(8)), proposal(RIVAL).signature
    ),
    "one vote twice": VoteEvidence(vote(A1, 2), vote(A1, 2)),
    "votes of two": two_votes(vote(A1, 2), vote(RIVAL, 3)),
    "votes of two views": two_votes(vote(A1, 2), vote(header(GENESIS, 2), 2)),
    "votes of two epochs": two_votes(vote(A1, 2), replace(vote(RIVAL, 2), epoch=Epoch(1))),
    "votes for parent and child": two_votes(vote(A1, 2), vote(A2, 2)),
    "votes in the wrong order": VoteEvidence(VOTES.second, VOTES.first),
    "a vote nobody signed": two_votes(vote(A1, 2), replace(vote(RIVAL, 2), signature=b"x" * 16)),
    "votes of a stranger": two_votes(replace(vote(A1, 2), voter=9), replace(vote(RIVAL, 2), voter=9)),
    "a report of the parent": hidden_parent(vote(A2, 2), view_change(1, 2, certificate(A1))),
    "a report before the vote": hidden_parent(vote(header(A2, 2), 2), view_change(1, 2, GENESIS_CERTIFICATE)),
    "a report of another": hidden_parent(vote(A3, 2), view_change(1, 3, GENESIS_CERTIFICATE)),
    "a report nobody signed": replace(HIDDEN, reported=replace(HIDDEN.reported, signature=b"x" * 16)),
    "a report with another height": replace(HIDDEN, reported=replace(HIDDEN.reported, height=Height(1))),
    "a report out of another view": replace(HIDDEN, left=View(2)),
    "a report with a vote nobody cast": replace(HIDDEN, vote=replace(HIDDEN.vote, signature=b"x" * 16)),
}


@pytest.mark.parametrize("name", NOT_EVIDENCE)
def test_what_proves_nothing_is_refused(name: str) -> None:
    with pytest.raises((Forged, MalformedMessage)):
        check(NOT_EVIDENCE[name])


def test_evidence_is_of_its_chain_and_set() -> None:
    for evidence, _ in GOOD.values():
        with pytest.raises(KoinonError):
            check_evidence(evidence, ChainId(8), MEMBERS, SCHEME)
    fewer = ValidatorSet(MEMBERS.members[:3])
    with pytest.raises(Forged, match="validator set"):
        check_evidence(BLOCKS, CHAIN_ID, fewer, SCHEME)


BAD_BYTES = {
    "nothing": b"",
    "an unknown kind": b"\x03" + encode(VOTES),
    "another kind": b"\x00" + encode(VOTES),
    "half": encode_evidence(VOTES)[:-3],
    "more": encode_evidence(VOTES) + b"\x00",
    "too much": b"\x01" + bytes(MAXIMUM_EVIDENCE_BYTES),
}


@pytest.mark.parametrize("name", BAD_BYTES)
def test_bad_bytes_are_refused(name: str) -> None:
    with pytest.raises(MalformedMessage):
        decode_evidence(BAD_BYTES[name])


def test_the_largest_evidence_fits() -> None:
    large = change_header(A1)
    rival = change_header(RIVAL)
    evidence = two_blocks(large, bytes(96), rival, bytes(96))
    assert len(encode_evidence(evidence)) < MAXIMUM_EVIDENCE_BYTES
    vote_of_largest = PrepareVote(
        Epoch(2**62), View(2**62), A1.index, Height(2**62), Hash32(bytes(32)), 1023, bytes(96)
    )
    reported = replace(HIDDEN.reported, signers=bytes(128), signature=bytes(96))
    assert len(encode_evidence(ReportEvidence(vote_of_largest, View(2**62), reported))) < MAXIMUM_EVIDENCE_BYTES


def change_header(made: object) -> object:
    return replace(made, bloom=bytes(BLOOM_BYTES), randomness_proof=bytes(96), height=Height(2**62))  # type: ignore[type-var]


def test_evidence_with_real_signatures() -> None:
    keys = [BlsKey(bytes([number]) * 32) for number in range(1, 5)]
    members = ValidatorSet(
        tuple(Validator(NodeId(bytes([n]) * 32), ZERO_ADDRESS, key.public_key) for n, key in enumerate(keys))
    )

    def signed(made: PrepareVote) -> PrepareVote:
        statement = vote_message(CHAIN_ID, made.epoch, made.view, made.index, made.height, made.block)
        return replace(made, signature=keys[2].sign(statement))

    evidence = two_votes(signed(vote(A1, 2)), signed(vote(RIVAL, 2)))
    assert check_evidence(evidence, CHAIN_ID, members, BlsVerifier(members)) == 2
    swapped = change(members, members=(*members.members[:2], members.members[3], members.members[2]))
    with pytest.raises(Forged):
        check_evidence(evidence, CHAIN_ID, swapped, BlsVerifier(swapped))
