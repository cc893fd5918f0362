"""0x09xx: one round of secure aggregation between owners and the aggregator, and the training around it.

Owners are numbered from 0 in the order of ``RoundTerms.owners``. Every statement of an owner is signed with its node's
key and names the session, which is a hash of the round's terms: what was said in one round means nothing in another.
"""

from typing import Final

from koinon.kernel.codec import Record
from koinon.wire.catalogue import Message, message

_LIST_LIMIT: Final = 1 << 20
_SHARES_LIMIT: Final = 1 << 20
_WORDS_LIMIT: Final = (64 << 20) + 65536
_ROWS_LIMIT: Final = 256 << 20


class RoundTerms(Record, frozen=True):
    """What everybody in a round must agree on; its hash is the session.

    ``model`` is the hash of the parameters that the owners start from: owners that were given different ones are in
    different sessions, and their masks do not meet. ``limit`` bounds the size of every word before masking.
    """

    study: bytes
    round: int
    model: bytes
    aggregator: bytes
    owners: tuple[bytes, ...]
    threshold: int
    length: int
    word_bits: int
    fraction_bits: int
    limit: int


@message(0x0901, limit=1024)
class KeyAnnouncement(Message, frozen=True):
    """Owner to aggregator: two X25519 keys for this round, and a commitment to the seed of its own mask."""

    session: bytes
    owner: int
    cipher_key: bytes
    mask_key: bytes
    seed_commitment: bytes
    signature: bytes


@message(0x0902, limit=_LIST_LIMIT)
class KeyList(Message, frozen=True):
    """Aggregator to all: who takes part, with which keys; in ascending order of owners."""

    session: bytes
    keys: tuple[KeyAnnouncement, ...]


class SealedShare(Record, frozen=True):
    """A dealer's two shares for one holder, encrypted to it, with commitments that bind the dealer."""

    dealer: int
    holder: int
    sealed: bytes
    key_commitment: bytes
    seed_commitment: bytes
    signature: bytes


@message(0x0903, limit=_SHARES_LIMIT)
class ShareOffer(Message, frozen=True):
    """Owner to aggregator: shares of its mask key and of its seed, one for every other owner in the key list."""

    session: bytes
    owner: int
    shares: tuple[SealedShare, ...]
    own_commitments: tuple[bytes, bytes]
    signature: bytes


@message(0x0904, limit=_SHARES_LIMIT)
class ShareDelivery(Message, frozen=True):
    """Aggregator to one owner: what the others dealt to it, in ascending order of dealers."""

    session: bytes
    shares: tuple[SealedShare, ...]


@message(0x0905, limit=_WORDS_LIMIT)
class MaskedUpdate(Message, frozen=True):
    """Owner to aggregator: its update under all its masks, as little-endian words."""

    session: bytes
    owner: int
    words: bytes
    signature: bytes


@message(0x0906, limit=_LIST_LIMIT)
class SurvivorList(Message, frozen=True):
    """Aggregator to all that sent an update: who dealt shares, and whose updates are in."""

    session: bytes
    dealers: tuple[int, ...]
    survivors: tuple[int, ...]


@message(0x0907, limit=1024)
class SurvivorVote(Message, frozen=True):
    """Owner to aggregator: its signature on key list, dealers and survivors as it was told."""

    session: bytes
    owner: int
    signature: bytes


@message(0x0908, limit=_LIST_LIMIT)
class VoteList(Message, frozen=True):
    """Aggregator to those that voted: enough signatures that everybody was told the same."""

    session: bytes
    votes: tuple[SurvivorVote, ...]


class OpenedShare(Record, frozen=True):
    """One share of a dealer's secret."""

    dealer: int
    value: bytes


@message(0x0909, limit=_LIST_LIMIT)
class Unmasking(Message, frozen=True):
    """Owner to aggregator: shares of the keys of those that dropped out, and of the seeds of those that did not.

    Of no dealer both. ``unusable`` names dealers whose sealed shares did not open to what they committed to.
    """

    session: bytes
    owner: int
    keys: tuple[OpenedShare, ...]
    seeds: tuple[OpenedShare, ...]
    unusable: tuple[int, ...]
    signature: bytes


@message(0x090A, limit=_WORDS_LIMIT)
class RoundSum(Message, frozen=True):
    """Aggregator to all that remain: the sum of the survivors' updates, and nothing about any one of them."""

    session: bytes
    survivors: tuple[int, ...]
    words: bytes


@message(0x090B, limit=4096)
class RoundFailure(Message, frozen=True):
    """Aggregator to all that remain: the round ended without a sum."""

    session: bytes
    reason: str


@message(0x0910, limit=1024)
class ModelApproval(Message, frozen=True):
    """Member to the one that leads: the round of this session follows from what the leader told.

    ``key`` is the worker's, ``certificate`` its node's for it, ``signature`` the worker's on the session.
    """

    session: bytes
    position: int
    key: bytes
    certificate: bytes
    signature: bytes


@message(0x090C, limit=_WORDS_LIMIT)
class TrainingRound(Message, frozen=True):
    """Aggregator to owner: train from these parameters (little-endian float64) and enter the round of these terms.

    After the first round, two members approve of the model.
    """

    terms: RoundTerms
    parameters: bytes
    approvals: tuple[ModelApproval, ...]


@message(0x090D, limit=_WORDS_LIMIT)
class TrainingOver(Message, frozen=True):
    """Aggregator to owner: no further round follows, and this is the joint model."""

    reason: str
    parameters: bytes


class RoundEvent(Record, frozen=True):
    """0: owner ``number`` sent this framed ``message``; 1: it left; 2: the time of stage ``number`` was up."""

    kind: int
    number: int
    message: bytes


@message(0x090E, limit=_ROWS_LIMIT)
class RoundEvents(Message, frozen=True):
    """Leader to the other members of a committee: all that the aggregator took in a round, in order."""

    round: int
    events: tuple[RoundEvent, ...]
    is_last: bool


@message(0x090F, limit=1024)
class Endorsement(Message, frozen=True):
    """A member's signature on the result of a training that it led or repeated."""

    position: int
    digest: bytes
    signature: bytes


@message(0x0911, limit=_ROWS_LIMIT)
class HoldRows(Message, frozen=True):
    """Node to its own worker: the plan, how many owners there are, which one we are, our rows (float64, row-major)."""

    plan: bytes
    owners: int
    owner: int
    features: bytes
    targets: bytes


@message(0x0912, limit=_WORDS_LIMIT)
class TrainLocally(Message, frozen=True):
    """Node to its own worker: train on the rows from these parameters."""

    round: int
    parameters: bytes


@message(0x0913, limit=_WORDS_LIMIT)
class LocalWords(Message, frozen=True):
    """Worker to its node: the clipped and encoded update, before masking."""

    words: bytes
