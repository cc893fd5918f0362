"""Checkpoints: every party signs that it accepted all frames so far, and the heads of its links' hash chains.

One signature per checkpoint, instead of one per frame, binds a party to everything it sent: two signed statements that
contradict each other about one link prove that one of its two ends lied (REP4-HEADS).
"""

from collections.abc import Callable, Generator
from struct import Struct
from typing import Final

from koinon.kernel.codec import encode
from koinon.kernel.errors import Forged
from koinon.privacy.rep4 import abort
from koinon.privacy.rep4.party import Party
from koinon.privacy.rep4.seals import HASH_BYTES
from koinon.privacy.rep4.signing import SIGNATURE_BYTES
from koinon.wire.committee import SignedHeads

HEADS_DOMAIN: Final = "koinon/rep4/heads/1"
_NUMBERS: Final = Struct("<II")
_HEADS_BYTES: Final = 3 * HASH_BYTES

Statements = dict[int, SignedHeads]
"""The signed statements of all four positions at one checkpoint."""


def checkpoint(party: Party, number: int, note: bytes = b"") -> Generator[None, None, Statements]:
    """Exchange and compare signed chain heads: one round.

    Args:
        number: of this checkpoint in the session.
        note: bytes of a length known to all, signed along; what they must say is for the caller to check.

    Raises:
        CommitteeAbort: a statement is not signed by its author, or contradicts a link.
    """
    mine = _signed(party, number, note)
    for peer in party.peers:
        party.tell(peer, _packed(mine))
    length = _NUMBERS.size + 2 * _HEADS_BYTES + len(note) + SIGNATURE_BYTES
    heard = {peer: party.hear(peer, length) for peer in party.peers}
    yield
    statements = {party.position: mine}
    for peer, announcement in heard.items():
        statement = _unpacked(announcement.content, party.session, peer, len(note))
        if (statement.checkpoint, statement.round) != (mine.checkpoint, mine.round):
            raise party.complain(abort.MALFORMED, peer)
        try:
            party.signatures.check(peer, HEADS_DOMAIN, signed_bytes(statement), statement.signature)
        except Forged:
            raise party.complain(abort.MALFORMED, peer) from None
        statements[peer] = statement
    _compare(party, statements)
    return statements


def signed_bytes(statement: SignedHeads) -> bytes:
    """What the author of a statement signs."""
    return encode(
        [
            statement.session,
            statement.position,
            statement.checkpoint,
            statement.round,
            list(statement.sent),
            list(statement.received),
            statement.note,
        ]
    )


def contradict(one: SignedHeads, other: SignedHeads) -> bool:
    """Whether two statements of one checkpoint disagree about the link between their authors."""
    return _head(one.sent, one, other) != _head(other.received, other, one) or _head(one.received, one, other) != _head(
        other.sent, other, one
    )


def _compare(party: Party, statements: Statements) -> None:
    for peer in party.peers:
        if contradict(statements[party.position], statements[peer]):
            raise party.complain(abort.BAD_HEADS, peer)
    for one in party.peers:
        for other in party.peers:
            if one < other and contradict(statements[one], statements[other]):
                raise party.complain(abort.BAD_HEADS, one, other)


def _head(heads: tuple[bytes, bytes, bytes], owner: SignedHeads, peer: SignedHeads) -> bytes:
    others = [position for position in range(4) if position != owner.position]
    return heads[others.index(peer.position)]


def _signed(party: Party, number: int, note: bytes) -> SignedHeads:
    first, second, third = party.peers
    sent = (party.sent[first], party.sent[second], party.sent[third])
    received = (party.received[first], party.received[second], party.received[third])
    blank = SignedHeads(party.session, party.position, number, party.round, sent, received, note, b"")
    signature = party.signatures.sign(HEADS_DOMAIN, signed_bytes(blank))
    return SignedHeads(party.session, party.position, number, party.round, sent, received, note, signature)


def _packed(statement: SignedHeads) -> bytes:
    numbers = _NUMBERS.pack(statement.checkpoint, statement.round)
    return b"".join([numbers, *statement.sent, *statement.received, statement.note, statement.signature])


def _unpacked(content: bytes, session: bytes, position: int, note_length: int) -> SignedHeads:
    number, round_number = _NUMBERS.unpack(content[: _NUMBERS.size])

    def taken(start: int) -> Callable[[int], bytes]:
        return lambda place: content[start + place * HASH_BYTES : start + (place + 1) * HASH_BYTES]

    sent, received = taken(_NUMBERS.size), taken(_NUMBERS.size + _HEADS_BYTES)
    end = _NUMBERS.size + 2 * _HEADS_BYTES
    return SignedHeads(
        session,
        position,
        number,
        round_number,
        (sent(0), sent(1), sent(2)),
        (received(0), received(1), received(2)),
        content[end : end + note_length],
        content[end + note_length :],
    )
