"""Private set intersection: two owners find out who is in both of their sets, and nothing else about the rest.

Kolesnikov, Kumaresan, Rosulek and Trieu (CCS 2016), figure 2, without a stash. One owner *asks*: it puts its items into
bins by cuckoo hashing and learns a pseudorandom value of each (``pseudorandom``). The other computes the values of
each of its items in each of the three bins it could be in, and sends them in an order of its own. Values that both have
are items that both have; all others look random to who asks.

Who asks learns which of its items the other has, and the size of the other's set. The other learns the size of the
asker's set, and, only where both agreed to it, which of its own items the asker has: the asker tells it, and could tell
it less or more than is true. Against semi-honest owners: an asker that breaks the rules, and knows some dozens of the
other's items, can test any others (``pseudorandom``). An owner may always put guessed identifiers into its set; what
bounds that, for one that keeps to the rules, is the size both declare first, which is why a session has a most.

Order of messages: both IntersectionOpening; TransferOffer →, ← TransferChoices, Corrections… →, ← Values…, Members… →.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from koinon.crypto.hash import tagged_hash
from koinon.kernel.effects import Rng
from koinon.kernel.errors import Forged, InvalidInput, MalformedMessage, Refused, Unavailable
from koinon.privacy.joins import oblivious_transfer
from koinon.privacy.joins.cuckoo import CHOICES, EMPTY, bins_for, place
from koinon.privacy.joins.pseudorandom import (
    BINS_AT_ONCE,
    ITEM_BYTES,
    ROW_BYTES,
    VALUE_BYTES,
    WIDTH,
    codewords,
    correct,
    keyed,
    values,
)
from koinon.privacy.rep4.streams import Stream
from koinon.wire.catalogue import Message
from koinon.wire.joins import Corrections, IntersectionOpening, Members, TransferChoices, TransferOffer, Values

MOST_ITEMS: Final = 1 << 24
LONGEST_IDENTIFIER: Final = 256
ITEMS_AT_ONCE: Final = 1 << 16
_PLACES_AT_ONCE: Final = 1 << 18
_SALT_BYTES: Final = 32
_DOMAIN: Final = "koinon/intersection/1"


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
class Sought:
    """The asker's values under one choice, in ascending order, and whose they are."""

    high: np.ndarray
    low: np.ndarray
    items: np.ndarray


@dataclass(frozen=True)
class AwaitingValues:
    """Asker: it has sent its corrections. ``received`` counts batches of values."""

    terms: Terms
    others: int
    sought: tuple[Sought, ...]
    received: int
    found: tuple[np.ndarray, ...]
    places: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class AwaitingOffer:
    """The other: it has opened."""

    terms: Terms
    session: bytes
    asked: int
    items: np.ndarray


@dataclass(frozen=True)
class AwaitingCorrections:
    """The other: it has chosen. ``rows`` are the batches of q so far."""

    terms: Terms
    session: bytes
    bins: int
    items: np.ndarray
    secret: np.ndarray
    keys: tuple[bytes, ...]
    rows: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class AwaitingMembers:
    """The other, where both learn: it has sent its values in this order of its items."""

    order: np.ndarray
    places: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Finished:
    """Nothing more is said."""


State = Greeting | AwaitingChoices | AwaitingValues | AwaitingOffer | AwaitingCorrections | AwaitingMembers | Finished


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


def begin(terms: Terms, identifiers: Sequence[str], rng: Rng) -> Greeting:
    """An owner's side before anything is sent.

    Args:
        identifiers: of this owner's rows, each once; 1 to 2²⁴ of at most 256 bytes.

    Raises:
        InvalidInput: no identifiers, too many, empty, too long or repeated ones; none of them is quoted.
    """
    if len(terms.session) != _SALT_BYTES:
        raise InvalidInput(f"a session's name has {_SALT_BYTES} bytes, not {len(terms.session)}")
    if not 1 <= len(identifiers) <= MOST_ITEMS:
        raise InvalidInput(f"an intersection takes 1 to {MOST_ITEMS} identifiers; here are {len(identifiers)}")
    encoded = tuple(text.encode() for text in identifiers)
    unfit = next((row for row, text in enumerate(encoded) if not 1 <= len(text) <= LONGEST_IDENTIFIER), None)
    if unfit is not None:
        raise InvalidInput(
            f"the identifier of row {unfit + 1} has {len(encoded[unfit])} bytes; give 1 to {LONGEST_IDENTIFIER}"
        )
    if repeated := len(encoded) - len(set(encoded)):
        raise InvalidInput(f"{repeated} identifiers occur more than once; keep one row for each")
    return Greeting(terms, encoded, rng.bytes(_SALT_BYTES))


def share_done(state: State) -> float:
    """How much of an intersection is behind this owner, from 0 to 1, by the batches that have come."""
    match state:
        case AwaitingCorrections():
            return min(len(state.rows) * BINS_AT_ONCE / state.bins, 1.0) / 2
        case AwaitingValues():
            return 0.5 + min(state.received * ITEMS_AT_ONCE / (CHOICES * state.others), 1.0) / 2
        case AwaitingMembers():
            return 0.5
        case Finished():
            return 1.0
    return 0.0


def step(state: State, event: Event, rng: Rng) -> tuple[State, tuple[Effect, ...]]:
    """Advance one owner's side.

    Raises:
        Refused: the other wants something else, or brings more than this owner accepts.
        Forged: what the other sent cannot come from the protocol.
        MalformedMessage: a message that is not due now, or of the wrong size.
    """
    match state, event:
        case Greeting(), Begin():
            terms = state.terms
            learns = terms.asks or terms.both_learn
            opening = IntersectionOpening(terms.session, state.salt, len(state.identifiers), terms.asks, learns)
            return state, (Send(opening),)
        case Greeting(), Received(IntersectionOpening() as opening):
            return _opened(state, opening, rng)
        case AwaitingOffer(), Received(TransferOffer() as offer):
            return _chosen(state, offer, rng)
        case AwaitingChoices(), Received(TransferChoices() as choices):
            return _corrected(state, choices)
        case AwaitingCorrections(), Received(Corrections() as correction):
            return _keyed(state, correction, rng)
        case AwaitingValues(), Received(Values() as batch):
            return _matched(state, batch)
        case AwaitingMembers(), Received(Members() as members):
            return _told(state, members)
        case _, Received(message):
            raise MalformedMessage(f"{type(message).__name__} is not due while {type(state).__name__}")
    raise InvalidInput(f"an intersection cannot begin while {type(state).__name__}")


def _opened(state: Greeting, opening: IntersectionOpening, rng: Rng) -> tuple[State, tuple[Effect, ...]]:
    terms = state.terms
    if opening.session != terms.session:
        raise Refused("the other owner's intersection is for another occasion; agree on one study first")
    if opening.asks == terms.asks:
        raise Refused("one owner asks and the other answers; here both want the same part")
    if opening.learns != (opening.asks or terms.both_learn):
        raise Refused("the two owners have not agreed on who learns the result")
    if not 1 <= opening.count <= min(terms.most, MOST_ITEMS):
        raise Refused(f"the other owner brings {opening.count} identifiers; this one accepts 1 to {terms.most}")
    if len(opening.salt) != _SALT_BYTES or opening.salt == state.salt:
        raise Forged("the other owner's salt is not one of its own")
    asker, other = (state.salt, opening.salt) if terms.asks else (opening.salt, state.salt)
    session = tagged_hash(_DOMAIN, terms.session, asker, other)
    items = _hashed(state.identifiers, session)
    if not terms.asks:
        return AwaitingOffer(terms, session, opening.count, items), ()
    bins = bins_for(len(items))
    table, chosen = place(
        _bins_of(items, bins, session), bins, np.random.default_rng(int.from_bytes(rng.bytes(16), "big"))
    )
    offer = oblivious_transfer.offer(rng)
    waiting = AwaitingChoices(terms, session, opening.count, items, table, chosen, offer)
    return waiting, (Send(TransferOffer(offer.sum, offer.power)),)


def _chosen(state: AwaitingOffer, offer: TransferOffer, rng: Rng) -> tuple[State, tuple[Effect, ...]]:
    secret = np.unpackbits(np.frombuffer(rng.bytes(ROW_BYTES), np.uint8), bitorder="little").astype(bool)
    points, keys = oblivious_transfer.choose(offer.sum, offer.power, secret.tolist(), state.session, rng)
    waiting = AwaitingCorrections(
        state.terms, state.session, bins_for(state.asked), state.items, secret, tuple(keys), ()
    )
    return waiting, (Send(TransferChoices(points)),)


def _corrected(state: AwaitingChoices, choices: TransferChoices) -> tuple[State, tuple[Effect, ...]]:
    pairs = oblivious_transfer.keys_of(state.offer, choices.points, WIDTH, state.session)
    key, used = _codeword_key(state.session), state.bins != EMPTY
    messages, rows = [], []
    for number, start in enumerate(range(0, len(state.bins), BINS_AT_ONCE)):
        batch = state.bins[start : start + BINS_AT_ONCE]
        # An empty bin asks for an item that nobody has: zeros, whose hash nobody knows an identifier of.
        items = np.where((batch != EMPTY)[:, None], state.items[batch], np.uint8(0))
        row, correction = correct(pairs, codewords(items, key), number)
        rows.append(row[batch != EMPTY])
        messages.append(Send(Corrections(number, correction)))
    own, bins = state.bins[used], np.flatnonzero(used)
    known = np.concatenate(rows)
    sought = []
    for choice in range(CHOICES):
        here = state.chosen[own] == choice
        sought.append(_sorted(values(known[here], bins[here], choice), own[here]))
    return AwaitingValues(state.terms, state.others, tuple(sought), 0, (), ()), tuple(messages)


def _keyed(state: AwaitingCorrections, correction: Corrections, rng: Rng) -> tuple[State, tuple[Effect, ...]]:
    number = len(state.rows)
    due = min(BINS_AT_ONCE, state.bins - number * BINS_AT_ONCE)
    if correction.batch != number or len(correction.rows) != due * ROW_BYTES:
        raise MalformedMessage(f"correction {correction.batch} is not number {number} for {due} bins")
    rows = (*state.rows, keyed(state.keys, state.secret, correction.rows, number))
    if (number + 1) * BINS_AT_ONCE < state.bins:
        return replace(state, rows=rows), ()
    table = np.concatenate(rows)
    # Drawn from a cipher: who asks sees where its own items stand, and must not guess where the others do from it.
    order = np.argsort(Stream(rng.bytes(32)).draw(0, (len(state.items),)))
    key, secret = _codeword_key(state.session), np.packbits(state.secret, bitorder="little")
    effects: list[Effect] = []
    for start in range(0, len(order), ITEMS_AT_ONCE):
        items = state.items[order[start : start + ITEMS_AT_ONCE]]
        masked = codewords(items, key) & secret
        for choice, bins in enumerate(_bins_of(items, state.bins, state.session).T):
            effects.append(Send(Values(choice, start, values(table[bins] ^ masked, bins, choice).tobytes())))
    if state.terms.both_learn:
        return AwaitingMembers(order, ()), tuple(effects)
    return Finished(), (*effects, Learned(None))


def _matched(state: AwaitingValues, batch: Values) -> tuple[State, tuple[Effect, ...]]:
    start, choice = state.received // CHOICES * ITEMS_AT_ONCE, state.received % CHOICES
    due = min(ITEMS_AT_ONCE, state.others - start)
    if (batch.first, batch.choice, len(batch.values)) != (start, choice, due * VALUE_BYTES):
        raise MalformedMessage(f"{due} values from place {start} under choice {choice} were due")
    places, items = _found(state.sought[choice], batch.values)
    state = replace(
        state,
        received=state.received + 1,
        found=(*state.found, items),
        places=(*state.places, places + start),
    )
    if state.received < CHOICES * -(-state.others // ITEMS_AT_ONCE):
        return state, ()
    members = np.sort(np.concatenate(state.found))
    if len(np.unique(members)) != len(members):
        raise Forged("the other owner's values name one identifier more than once")
    if not state.terms.both_learn:
        return Finished(), (Learned(members),)
    # Ascending: in the order of choices they would say which items had to make room for others that only we have.
    told = np.sort(np.concatenate(state.places)).astype("<u4")
    cuts = range(0, max(len(told), 1), _PLACES_AT_ONCE)
    parts = [
        Send(Members(told[cut : cut + _PLACES_AT_ONCE].tobytes(), cut + _PLACES_AT_ONCE >= len(told))) for cut in cuts
    ]
    return Finished(), (*parts, Learned(members))


def _told(state: AwaitingMembers, members: Members) -> tuple[State, tuple[Effect, ...]]:
    if len(members.places) % 4:
        raise MalformedMessage("places take four bytes each")
    places = (*state.places, np.frombuffer(members.places, "<u4").astype(np.int64))
    told = np.concatenate(places)
    if len(told) > len(state.order) or (told >= len(state.order)).any() or len(np.unique(told)) != len(told):
        raise Forged("the other owner names places that there are not, or one of them twice")
    if not members.is_last:
        return replace(state, places=places), ()
    return Finished(), (Learned(np.sort(state.order[told])),)


def _hashed(identifiers: Sequence[bytes], session: bytes) -> np.ndarray:
    digests = [blake3(identifier, key=session).digest(ITEM_BYTES) for identifier in identifiers]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, ITEM_BYTES)


def _bins_of(items: np.ndarray, bins: int, session: bytes) -> np.ndarray:
    """The three bins each item may be in: int64 of shape (n, 3)."""
    key = tagged_hash(_DOMAIN, b"bins", session)[:16]
    cipher = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305  # one block is one call of a function
    words = np.frombuffer(cipher.update(items.tobytes()), "<u4").reshape(-1, 4)[:, :CHOICES]
    return ((words.astype(np.uint64) * np.uint64(bins)) >> np.uint64(32)).astype(np.int64)


def _codeword_key(session: bytes) -> bytes:
    return bytes(tagged_hash(_DOMAIN, b"codewords", session)[:16])


def _halves(encoded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    high = np.ascontiguousarray(encoded[:, :8]).view("<u8").reshape(-1)
    return high, np.ascontiguousarray(encoded[:, 8:]).view("<u4").reshape(-1)


def _sorted(encoded: np.ndarray, items: np.ndarray) -> Sought:
    high, low = _halves(encoded)
    order = np.argsort(high)
    if (np.diff(high[order]) == 0).any():
        raise Unavailable("two items have one value, which happens once in many million sessions; begin again")
    return Sought(high[order], low[order], items[order])


def _found(sought: Sought, received: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Which of the received values are sought: their places in the batch, and the items they belong to."""
    if not len(sought.high):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    high, low = _halves(np.frombuffer(received, np.uint8).reshape(-1, VALUE_BYTES))
    nearest = np.minimum(np.searchsorted(sought.high, high), len(sought.high) - 1)
    places = np.flatnonzero((sought.high[nearest] == high) & (sought.low[nearest] == low))
    return places, sought.items[nearest[places]]
