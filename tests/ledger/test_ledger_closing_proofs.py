"""Closing blocks and light verification: what only closes an epoch is final for nobody, whatever certificates it has.

The case needs no liar. The last block of an epoch is certified in view 1, view 2 is lost, and the three closing blocks
of view 3 are certified one after the other: with them the last block is final, and its proof holds three certified
closing blocks. Without its first header the same proof would show the first of them to be final, at a height at which
the next epoch has another block.
"""

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from koinon.crypto.bls import BlsKey
from koinon.kernel.codec import encode
from koinon.kernel.errors import Forged
from koinon.kernel.ids import ZERO_ADDRESS, ZERO_HASH, NodeId
from koinon.kernel.quantities import BlockIndex, Epoch, View
from koinon.ledger.finality import BlsVerifier, verify_epochs, verify_finality
from koinon.ledger.giskard.certificates import certify, vote_message
from koinon.ledger.giskard.shells import CHAIN_ID, make_header
from koinon.ledger.types import (
    FinalityProof,
    Header,
    PrepareVote,
    QuorumCertificate,
    Validator,
    ValidatorSet,
    header_hash,
)
from koinon.wire.ledger import EpochEnd

KEYS = [BlsKey(bytes([number]) * 32) for number in range(1, 5)]
MEMBERS = ValidatorSet(
    tuple(Validator(NodeId(bytes([n]) * 32), ZERO_ADDRESS, key.public_key) for n, key in enumerate(KEYS))
)


def child(parent: Header | None, view: int, index: int, *, closing: bool = False) -> Header:
    made = make_header(MEMBERS, parent, View(view), BlockIndex(index), b"")
    return replace(made, next_validators=ZERO_HASH) if closing else made


def certificate(header: Header) -> QuorumCertificate:
    """Three of four vote."""
    place = (header.epoch, header.view, header.index, header.height, header_hash(header))
    statement = vote_message(CHAIN_ID, *place)
    votes = {voter: PrepareVote(*place, voter, KEYS[voter].sign(statement)) for voter in range(3)}
    return certify(votes, BlsVerifier(MEMBERS), len(MEMBERS))


def chain() -> list[Header]:
    """The last block but one of an epoch, the last, and three closing blocks two views later."""
    before = child(child(None, 0, 2), 1, 0)
    last = child(before, 1, 1)
    first = child(last, 3, 0, closing=True)
    second = child(first, 3, 1, closing=True)
    return [before, last, first, second, child(second, 3, 2, closing=True)]


def proof(headers: Sequence[Header]) -> FinalityProof:
    return FinalityProof(tuple(headers), tuple(certificate(header) for header in headers[-3:]))


def test_the_last_block_of_an_epoch_is_proven_by_closing_blocks_and_they_are_not() -> None:
    """GISKARD-SAFETY-8."""
    headers = chain()
    shown = proof(headers[1:])
    assert verify_finality(shown.headers, shown.certificates, MEMBERS) == headers[1]
    with pytest.raises(Forged, match="closing blocks are never final"):
        verify_finality(shown.headers[1:], shown.certificates, MEMBERS)


def test_an_epoch_ends_with_its_last_block_only() -> None:
    headers = chain()
    members = encode(MEMBERS.members)
    end = EpochEnd(proof(headers[1:]), members)
    assert verify_epochs(MEMBERS, [end]) == (MEMBERS, MEMBERS)
    for too_early_or_late in (headers[:], headers[2:]):
        with pytest.raises(Forged, match=r"not its last block|never final"):
            verify_epochs(MEMBERS, [EpochEnd(proof(too_early_or_late), members)])


def test_three_certificates_of_two_epochs_prove_nothing() -> None:
    """Views start afresh with each epoch, so that their numbers say nothing across its end."""
    last = child(child(None, 0, 2), 1, 0)
    first = make_header(MEMBERS, last, View(1), BlockIndex(0), b"", Epoch(1))
    second = make_header(MEMBERS, first, View(1), BlockIndex(1), b"", Epoch(1))
    shown = proof([last, first, second])
    with pytest.raises(Forged, match="of another epoch"):
        verify_finality(shown.headers, shown.certificates, MEMBERS)
