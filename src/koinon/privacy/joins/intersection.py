"""Private set intersection: two owners find out who is in both of their sets, and nothing else about the rest.

Kolesnikov, Kumaresan, Rosulek and Trieu (CCS 2016), figure 2, without a stash, with the linear code and the proof of
Orrù, Orsini and Scholl (ePrint 2016/933). One owner *asks*: it puts its items into bins by cuckoo hashing and learns a
pseudorandom value of each (``pseudorandom``). The other computes the values of each of its items in each of the three
bins it could be in, and sends them in an order of its own. Values that both have are items that both have; all others
look random to who asks.

Who asks learns which of its items the other has, and the size of the other's set. The other learns the size of the
asker's set, and, only where both agreed to it, which of its own items the asker has: the asker tells it, and could tell
it less or more than is true. An asker that breaks the rules is caught before it is told anything (``consistency``), or
has asked for one item in each bin, so for at most ``bins_for(count)`` items. An owner may always put guessed
identifiers into its set; what bounds that is the size both declare first, which is why a session has a most. Who
answers and breaks the rules can make the result wrong; and where both learn, the places that the asker names can tell
it in which of its bins an item of both stands, which depends a little on the asker's other items.

Every hash of a session depends on what the asker offered after it had seen the other's salt, so that the other cannot
choose identifiers' bins.

Order of messages: both IntersectionOpening; TransferOffer →, ← TransferChoices, Corrections… →, ← CorrectionsChallenge,
CorrectionsProof →, ← Values…, Members… →.
"""

from collections.abc import Sequence
from typing import Final

from koinon.kernel.effects import Rng
from koinon.kernel.errors import Forged, InvalidInput, MalformedMessage, Refused
from koinon.privacy.joins import answering, asking
from koinon.privacy.joins.cuckoo import CHOICES
from koinon.privacy.joins.pseudorandom import BINS_AT_ONCE
from koinon.privacy.joins.states import (
    ITEMS_AT_ONCE,
    MOST_ITEMS,
    AwaitingChallenge,
    AwaitingChoices,
    AwaitingCorrections,
    AwaitingMembers,
    AwaitingOffer,
    AwaitingProof,
    AwaitingValues,
    Begin,
    Effect,
    Event,
    Finished,
    Greeting,
    Received,
    Send,
    State,
    Terms,
)
from koinon.wire.joins import (
    Corrections,
    CorrectionsChallenge,
    CorrectionsProof,
    IntersectionOpening,
    Members,
    TransferChoices,
    TransferOffer,
    Values,
)

LONGEST_IDENTIFIER: Final = 256
_SALT_BYTES: Final = 32


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
            return min(len(state.columns) * BINS_AT_ONCE / state.bins, 1.0) / 2
        case AwaitingValues():
            return 0.5 + min(state.received * ITEMS_AT_ONCE / (CHOICES * state.others), 1.0) / 2
        case AwaitingChallenge() | AwaitingProof() | AwaitingMembers():
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
            return answering.chosen(state, offer, rng)
        case AwaitingChoices(), Received(TransferChoices() as choices):
            return asking.corrected(state, choices, rng)
        case AwaitingCorrections(), Received(Corrections() as correction):
            return answering.taken(state, correction, rng)
        case AwaitingChallenge(), Received(CorrectionsChallenge() as challenge):
            return asking.proved(state, challenge)
        case AwaitingProof(), Received(CorrectionsProof() as proof):
            return answering.answered(state, proof, rng)
        case AwaitingValues(), Received(Values() as batch):
            return asking.matched(state, batch)
        case AwaitingMembers(), Received(Members() as members):
            return answering.told(state, members)
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
    if not terms.asks:
        return AwaitingOffer(terms, state.identifiers, (opening.salt, state.salt), opening.count), ()
    return asking.offered(state, opening, rng)
