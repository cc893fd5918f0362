"""What each owner of an intersection remembers between two messages, what happens to it, and what it does."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from koinon.privacy.joins import oblivious_transfer
from koinon.privacy.joins.matching import Sought
from koinon.wire.catalogue import Message

MOST_ITEMS: Final = 1 << 24
ITEMS_AT_ONCE: Final = 1 << 16
"""Items whose values under one choice are one message."""


@dataclass(frozen=True)
class Terms:
    """What one owner is ready to do.

    Attributes:
        session: 32 bytes that name the occasion, the same on both sides, such as the hash of a study's file.
        asks: this owner asks, the other answers.
        both_learn: the other learns the result too.
        most: the largest set of the other's that this owner accepts.
    """

    session: bytes
    asks: bool
    both_learn: bool
    most: int = MOST_ITEMS


@dataclass(frozen=True)
class Greeting:
    """Before the other's opening has come."""

    terms: Terms
    identifiers: tuple[bytes, ...]
    salt: bytes


@dataclass(frozen=True)
class AwaitingChoices:
    """Asker: it has offered the transfers. ``bins`` holds an item's number or −1, ``chosen`` which choice it is in."""

    terms: Terms
    session: bytes
    others: int
    items: np.ndarray
    bins: np.ndarray
    chosen: np.ndarray
    offer: oblivious_transfer.Offer


@dataclass(frozen=True)
class AwaitingChallenge:
    """Asker: it has sent its corrections.

    Attributes:
        keys: the first key of every transfer, which the columns of t are stretched from.
        bins: how many there are.
        messages: batches of the columns of its messages, the masks last.
    """

    terms: Terms
    others: int
    sought: tuple[Sought, ...]
    keys: tuple[bytes, ...]
    bins: int
    messages: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class AwaitingValues:
    """Asker: it has proved its corrections. ``received`` counts batches of values."""

    terms: Terms
    others: int
    sought: tuple[Sought, ...]
    received: int
    found: tuple[np.ndarray, ...]
    places: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class AwaitingOffer:
    """The other: both have opened, with these salts."""

    terms: Terms
    identifiers: tuple[bytes, ...]
    salts: tuple[bytes, bytes]
    asked: int


@dataclass(frozen=True)
class AwaitingCorrections:
    """The other: it has chosen. ``columns`` are the batches of q so far."""

    terms: Terms
    session: bytes
    bins: int
    items: np.ndarray
    secret: np.ndarray
    keys: tuple[bytes, ...]
    columns: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class AwaitingProof:
    """The other: it has all of q, and has challenged the asker. ``masks`` are the columns of q's last rows."""

    terms: Terms
    session: bytes
    bins: int
    items: np.ndarray
    secret: np.ndarray
    columns: tuple[np.ndarray, ...]
    masks: np.ndarray
    challenge: bytes


@dataclass(frozen=True)
class AwaitingMembers:
    """The other, where both learn: it has sent its values in this order of its items."""

    order: np.ndarray
    places: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Finished:
    """Nothing more is said."""


State = (
    Greeting
    | AwaitingChoices
    | AwaitingChallenge
    | AwaitingValues
    | AwaitingOffer
    | AwaitingCorrections
    | AwaitingProof
    | AwaitingMembers
    | Finished
)


@dataclass(frozen=True)
class Begin:
    """The connection stands."""


@dataclass(frozen=True)
class Received:
    """A message of the other owner."""

    message: Message


Event = Begin | Received


@dataclass(frozen=True)
class Send:
    """Send this to the other owner."""

    message: Message


@dataclass(frozen=True)
class Learned:
    """The end: the numbers of this owner's items that both have, ascending; None for who learns nothing."""

    members: np.ndarray | None


Effect = Send | Learned
