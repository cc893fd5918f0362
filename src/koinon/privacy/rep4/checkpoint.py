"""Checkpoints: every party signs that it accepted all frames so far, and the heads of its links' hash chains.

One signature per checkpoint, instead of one per frame, binds a party to everything it sent (REP4-HEADS). A checkpoint's
frames hold nothing else, so the seal at their end says again which heads came before: who states others contradicts
itself, in one frame. What came in need not be stated, as every frame was held against its sender's seal in its round.
"""

from collections.abc import Generator
from struct import Struct
from typing import Final

from msgspec import structs

from koinon.kernel.codec import encode
from koinon.kernel.errors import Forged
from koinon.privacy.rep4 import abort
from koinon.privacy.rep4.abort import CommitteeAbort
from koinon.privacy.rep4.party import Party
from koinon.privacy.rep4.seals import HASH_BYTES, chained
from koinon.privacy.rep4.signing import SIGNATURE_BYTES, Checks
from koinon.wire.committee import OpenedFrame, SignedHeads

HEADS_DOMAIN: Final = "koinon/rep4/heads/1"
_ROUND: Final = Struct("<I")
_HEADS_BYTES: Final = 3 * HASH_BYTES
ROUND_BYTES: Final = _ROUND.size
_NOTE: Final = ROUND_BYTES + _HEADS_BYTES
_LEAST_BYTES: Final = _NOTE + SIGNATURE_BYTES

Statements = dict[int, SignedHeads]
"""The signed statements of all four positions at one checkpoint."""


def checkpoint(party: Party, note: bytes = b"") -> Generator[None, None, Statements]:
    """Exchange signed chain heads, and hold them against the seals: one round.

    Args:
        note: bytes of a length known to all, signed along; what they must say is for the caller to check.

    Raises:
        CommitteeAbort: a statement is not signed by its author, or contradicts its own seal.
    """
    mine = _signed(party, note)
    for peer in party.peers:
        party.tell(peer, _packed(mine))
    length = _LEAST_BYTES + len(note)
    heard = {peer: party.hear(peer, length) for peer in party.peers}
    yield
    statements = {party.position: mine}
    for peer in heard:
        frame = party.heard_from[peer]
        statement = statement_in(frame)
        if statement.round != party.round - 1 or not _is_signed(statement, party.signatures):
            raise _about(party.complain(abort.MALFORMED, peer), frame)
        if not is_consistent(statement, frame):
            raise _about(party.complain(abort.BAD_HEADS, peer), frame)
        statements[peer] = statement
    return statements


def signed_bytes(statement: SignedHeads) -> bytes:
    """What the author of a statement signs."""
    return encode([statement.session, statement.position, statement.round, list(statement.sent), statement.note])


def statement_in(frame: OpenedFrame) -> SignedHeads:
    """The statement that a checkpoint's frame holds, unchecked. Raises Forged where it holds none."""
    content = frame.contents[0] if len(frame.contents) == 1 else None
    if content is None or len(content) < _LEAST_BYTES or frame.sealed.frame.values or frame.sealed.frame.hashes:
        raise Forged("the frame holds no statement of a checkpoint, or something else besides")
    (round_number,) = _ROUND.unpack(content[:ROUND_BYTES])
    heads = [content[start : start + HASH_BYTES] for start in range(ROUND_BYTES, _NOTE, HASH_BYTES)]
    seal = frame.sealed.seal
    return SignedHeads(
        seal.session,
        seal.position,
        round_number,
        (heads[0], heads[1], heads[2]),
        content[_NOTE:-SIGNATURE_BYTES],
        content[-SIGNATURE_BYTES:],
    )


def restated(party: Party, content: bytes) -> bytes:
    """The bytes of a statement, signed by this party as they are: what a liar at a checkpoint sends."""
    heads = [content[start : start + HASH_BYTES] for start in range(ROUND_BYTES, _NOTE, HASH_BYTES)]
    blank = SignedHeads(
        party.session, party.position, party.round, (heads[0], heads[1], heads[2]), content[_NOTE:-SIGNATURE_BYTES], b""
    )
    return content[:-SIGNATURE_BYTES] + party.signatures.sign(HEADS_DOMAIN, signed_bytes(blank))


def is_sound(frame: OpenedFrame, checks: Checks) -> bool:
    """Whether a sealed frame of a checkpoint is one that a party that keeps to the protocol could have sealed."""
    try:
        statement = statement_in(frame)
    except Forged:
        return False
    right = statement.round == frame.sealed.seal.round and len(statement.note) in (0, _HEADS_BYTES)
    return right and _is_signed(statement, checks) and is_consistent(statement, frame)


def is_consistent(statement: SignedHeads, frame: OpenedFrame) -> bool:
    """Whether the stated heads, with this frame after them, give the heads that the frame's seal is over."""
    return tuple(chained(head, frame.sealed.frame) for head in statement.sent) == frame.sealed.seal.sent


def _about(problem: CommitteeAbort, frame: OpenedFrame) -> CommitteeAbort:
    problem.frames = (frame,)
    return problem


def _is_signed(statement: SignedHeads, checks: Checks) -> bool:
    try:
        checks.check(statement.position, HEADS_DOMAIN, signed_bytes(statement), statement.signature)
    except Forged:
        return False
    return True


def _signed(party: Party, note: bytes) -> SignedHeads:
    blank = SignedHeads(party.session, party.position, party.round, party.heads(), note, b"")
    signature = party.signatures.sign(HEADS_DOMAIN, signed_bytes(blank))
    return structs.replace(blank, signature=signature)


def _packed(statement: SignedHeads) -> bytes:
    return b"".join([_ROUND.pack(statement.round), *statement.sent, statement.note, statement.signature])
