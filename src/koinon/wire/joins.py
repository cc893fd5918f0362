"""0x0Axx: joins. What two owners say to each other to find out who is in both of their sets."""

from koinon.wire.catalogue import Message, message


@message(0x0A01, limit=1024)
class IntersectionOpening(Message, frozen=True):
    """Both owners, first: what they are about to do. Everything but ``salt``, ``count`` and ``learns`` must be equal.

    ``learns`` says whether the sender of this message learns which of its items are in both sets.
    """

    session: bytes
    salt: bytes
    count: int
    asks: bool
    learns: bool


@message(0x0A02, limit=256)
class TransferOffer(Message, frozen=True):
    """Who asks offers oblivious transfers: two points of secp256k1, compressed."""

    sum: bytes
    power: bytes


@message(0x0A03, limit=32 * 1024)
class TransferChoices(Message, frozen=True):
    """The other answers with the first public key of each of 512 transfers, 33 bytes each."""

    points: bytes


@message(0x0A04, limit=(4 << 20) + 256)
class Corrections(Message, frozen=True):
    """Who asks: the corrections of one batch of bins, 64 bytes for each bin, one row of bits for each transfer.

    The last batch is 128 rows that are in no bin and hide what ``CorrectionsProof`` says.
    """

    batch: int
    rows: bytes


@message(0x0A05, limit=(1 << 20) + 256)
class Values(Message, frozen=True):
    """The other: its items' values under one of the three choices, 12 bytes each, in the order it shuffled them to."""

    choice: int
    first: int
    values: bytes


@message(0x0A06, limit=(1 << 20) + 256)
class Members(Message, frozen=True):
    """Who asks, where both learn: the places in that order whose items are in both, 4 bytes each, little end first."""

    places: bytes
    is_last: bool


@message(0x0A07, limit=64 << 20)
class FindIntersection(Message, frozen=True):
    """A node to its own child: take part in an intersection; see ``privacy.joins.intersection.Terms``.

    After it come the other owner's frames as they are; an empty frame says that the other owner is gone.
    """

    session: bytes
    asks: bool
    both_learn: bool
    most: int
    identifiers: tuple[str, ...]
    seconds: float


@message(0x0A08, limit=(64 << 20) + 256)
class IntersectionFound(Message, frozen=True):
    """The child's last frame: numbers of the identifiers that both owners have, ascending, 4 bytes each, little end
    first. ``learned`` is false where this owner agreed to learn nothing. Frames before it are for the other owner, but
    for Progress.
    """

    learned: bool
    members: bytes


@message(0x0A09, limit=256)
class PseudonymKeyReply(Message, frozen=True):
    """The 32 bytes under which a study's owners replace ids by pseudonyms. For owners of that study only."""

    key: bytes


@message(0x0A0A, answers=(PseudonymKeyReply,), limit=64)
class FetchPseudonymKey(Message, frozen=True):
    """An owner of a study with an oblivious join asks the first owner for the key."""

    study: int


@message(0x0A0B, limit=128)
class CorrectionsChallenge(Message, frozen=True):
    """Who answers, once it has all corrections: 32 random bytes."""

    seed: bytes


@message(0x0A0C, limit=16 * 1024)
class CorrectionsProof(Message, frozen=True):
    """Who asks: hashes that show that its corrections are made of codewords, 16 bytes each, of 512 columns of bits and
    of the 76 bits of messages; see ``privacy.joins.consistency``.
    """

    columns: bytes
    messages: bytes
