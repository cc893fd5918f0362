"""Seals: one signature a round over the chains of all a party sent (REP4-SEAL in docs/spec/rep4.md).

The chain of a link takes in digests, never values: of each route's values the very digest that their backup sends. So
two sealed frames whose digests of one route differ prove to a stranger that the sender or the backup deviated, and show
nothing of what was sent. Nobody checks the signatures while all goes well; they are for the judge.
"""

from collections.abc import Sequence
from typing import Final

from blake3 import blake3

from koinon.crypto.hash import tagged_hash
from koinon.kernel.codec import encode
from koinon.kernel.errors import Forged
from koinon.privacy.rep4.signing import SIGNATURE_BYTES, Checks, Signatures
from koinon.wire.committee import FrameDigests, Seal, SealedFrame

HASH_BYTES: Final = 32
SEAL_BYTES: Final = 3 * HASH_BYTES + SIGNATURE_BYTES
"""A seal at the end of a frame; session, position and round are known."""
SEAL_DOMAIN: Final = "koinon/rep4/seal/1"
_CHAIN_DOMAIN: Final = "koinon rep4 frame chain 3"
_ANNOUNCEMENT_DOMAIN: Final = "koinon/rep4/announcement/2"

Heads = tuple[bytes, bytes, bytes]


def chained(head: bytes, frame: FrameDigests) -> bytes:
    """The head of a link's chain after one more frame."""
    return blake3(head + encode(frame), derive_key_context=_CHAIN_DOMAIN).digest()


def announced(contents: Sequence[bytes]) -> tuple[bytes, ...]:
    """The digests of announcements, each of its own, so that one can be shown without the others."""
    return tuple([tagged_hash(_ANNOUNCEMENT_DOMAIN, content) for content in contents])


def place_of(owner: int, peer: int) -> int:
    """Where in the heads of ``owner``, ascending by peer, that of ``peer`` stands."""
    return peer - (peer > owner)


def seal(signatures: Signatures, session: bytes, position: int, round_number: int, sent: Heads) -> Seal:
    """Our own seal of a round."""
    statement = encode([session, position, round_number, sent])
    return Seal(session, position, round_number, sent, signatures.sign(SEAL_DOMAIN, statement))


def sealed_by(checks: Checks, sealed: Seal) -> bool:
    """Whether the position that a seal names signed it."""
    try:
        checks.check(sealed.position, SEAL_DOMAIN, _signed_bytes(sealed), sealed.signature)
    except Forged:
        return False
    return True


def covers(sealed: SealedFrame, receiver: int) -> bool:
    """Whether the seal is over the chain that ends with this frame to ``receiver``."""
    place = place_of(sealed.seal.position, receiver)
    # A shorter head would let the frame begin elsewhere in the bytes that were hashed.
    whole = len(sealed.previous) == HASH_BYTES
    return whole and sealed.seal.sent[place] == chained(sealed.previous, sealed.frame)


def packed(sealed: Seal) -> bytes:
    """A seal as the end of a frame."""
    return b"".join([*sealed.sent, sealed.signature])


def head_in(content: bytes, place: int) -> bytes:
    """The head at one place, ascending by peer, of a seal at the end of a frame."""
    return content[place * HASH_BYTES : (place + 1) * HASH_BYTES]


def unpacked(content: bytes, session: bytes, position: int, round_number: int) -> Seal:
    """The seal at the end of a frame, unchecked; ``content`` has SEAL_BYTES bytes."""
    heads = [content[start : start + HASH_BYTES] for start in range(0, 3 * HASH_BYTES, HASH_BYTES)]
    return Seal(session, position, round_number, (heads[0], heads[1], heads[2]), content[3 * HASH_BYTES :])


def _signed_bytes(sealed: Seal) -> bytes:
    return encode([sealed.session, sealed.position, sealed.round, sealed.sent])
