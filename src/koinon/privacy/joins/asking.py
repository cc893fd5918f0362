"""Who asks: its items go into bins, its corrections are proved, and the other's values are looked up."""

from dataclasses import replace
from typing import Final

import numpy as np

from koinon.kernel.effects import Rng
from koinon.kernel.errors import MalformedMessage
from koinon.privacy.joins import consistency, oblivious_transfer
from koinon.privacy.joins.bits import transposed
from koinon.privacy.joins.codes import MESSAGE_BITS, MESSAGE_BYTES, WIDTH, encoded
from koinon.privacy.joins.cuckoo import CHOICES, EMPTY, bins_for, place
from koinon.privacy.joins.items import bins_of, hashed, messages_of, session_of
from koinon.privacy.joins.matching import found, sought
from koinon.privacy.joins.pseudorandom import BINS_AT_ONCE, VALUE_BYTES, batches_of, correct, stretched, values
from koinon.privacy.joins.states import (
    ITEMS_AT_ONCE,
    AwaitingChallenge,
    AwaitingChoices,
    AwaitingValues,
    Effect,
    Finished,
    Greeting,
    Learned,
    Send,
    State,
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

_PLACES_AT_ONCE: Final = 1 << 18


def offered(state: Greeting, opening: IntersectionOpening, rng: Rng) -> tuple[State, tuple[Effect, ...]]:
    """Both have opened: put the items into bins and offer the transfers."""
    offer = oblivious_transfer.offer(rng)
    message = TransferOffer(offer.sum, offer.power)
    session = session_of(state.terms, (state.salt, opening.salt), message)
    items = hashed(state.identifiers, session)
    bins = bins_for(len(items))
    table, chosen = place(
        bins_of(items, bins, session), bins, np.random.default_rng(int.from_bytes(rng.bytes(16), "big"))
    )
    return AwaitingChoices(state.terms, session, opening.count, items, table, chosen, offer), (Send(message),)


def corrected(state: AwaitingChoices, choices: TransferChoices, rng: Rng) -> tuple[State, tuple[Effect, ...]]:
    """Ask for an item in each bin, and make ready for the values."""
    pairs = oblivious_transfer.keys_of(state.offer, choices.points, WIDTH, state.session)
    # An empty bin asks for an item that nobody has: zeros, whose hash nobody knows an identifier of.
    own, bins = state.bins[state.bins != EMPTY], np.flatnonzero(state.bins != EMPTY)
    messages = np.zeros((len(state.bins), MESSAGE_BYTES), np.uint8)
    messages[bins] = messages_of(state.items[own])
    effects, asked, known = [], [], []
    for number, start in enumerate(range(0, len(messages), BINS_AT_ONCE)):
        batch = messages[start : start + BINS_AT_ONCE]
        columns, correction = correct(pairs, encoded(batch), number)
        known.append(transposed(columns))
        asked.append(transposed(batch)[:MESSAGE_BITS])
        effects.append(Send(Corrections(number, correction)))
    masks = np.frombuffer(rng.bytes(consistency.MASKS * MESSAGE_BYTES), np.uint8).reshape(-1, MESSAGE_BYTES)
    effects.append(Send(Corrections(len(asked), correct(pairs, encoded(masks), len(asked))[1])))
    asked.append(transposed(masks)[:MESSAGE_BITS])
    rows, chosen = np.concatenate(known)[bins], state.chosen[own]
    wanted = []
    for choice in range(CHOICES):
        here = chosen == choice
        wanted.append(sought(values(rows[here], bins[here], choice), own[here]))
    first = tuple(pair[0] for pair in pairs)
    waiting = AwaitingChallenge(state.terms, state.others, tuple(wanted), first, len(state.bins), tuple(asked))
    return waiting, tuple(effects)


def proved(state: AwaitingChallenge, challenge: CorrectionsChallenge) -> tuple[State, tuple[Effect, ...]]:
    """Show that every correction is of a codeword."""
    if len(challenge.seed) != consistency.CHALLENGE_BYTES:
        raise MalformedMessage(f"a challenge has {consistency.CHALLENGE_BYTES} bytes, not {len(challenge.seed)}")
    # Stretched once more rather than kept: they are as large as all corrections.
    columns = (stretched(state.keys, number, due) for number, due in enumerate(batches_of(state.bins)))
    masks = stretched(state.keys, len(state.messages) - 1, consistency.MASKS)
    proof = CorrectionsProof(
        consistency.hashed(columns, masks, challenge.seed).tobytes(),
        consistency.hashed(state.messages[:-1], state.messages[-1], challenge.seed).tobytes(),
    )
    return AwaitingValues(state.terms, state.others, state.sought, 0, (), ()), (Send(proof),)


def matched(state: AwaitingValues, batch: Values) -> tuple[State, tuple[Effect, ...]]:
    """Look a batch of values up; after the last, tell the other where both agreed to it."""
    start, choice = state.received // CHOICES * ITEMS_AT_ONCE, state.received % CHOICES
    due = min(ITEMS_AT_ONCE, state.others - start)
    if (batch.first, batch.choice, len(batch.values)) != (start, choice, due * VALUE_BYTES):
        raise MalformedMessage(f"{due} values from place {start} under choice {choice} were due")
    places, items = found(state.sought[choice], batch.values)
    state = replace(
        state,
        received=state.received + 1,
        found=(*state.found, items),
        places=(*state.places, places + start),
    )
    if state.received < CHOICES * -(-state.others // ITEMS_AT_ONCE):
        return state, ()
    # An identifier whose value came twice counts once: an asker that stopped there would tell that it has it.
    places = np.concatenate(state.places)
    order = np.argsort(places, kind="stable")
    members, first = np.unique(np.concatenate(state.found)[order], return_index=True)
    if not state.terms.both_learn:
        return Finished(), (Learned(members),)
    # Ascending: in the order of choices they would say which items had to make room for others that only we have.
    told = np.sort(places[order][first]).astype("<u4")
    cuts = range(0, max(len(told), 1), _PLACES_AT_ONCE)
    parts = [
        Send(Members(told[cut : cut + _PLACES_AT_ONCE].tobytes(), cut + _PLACES_AT_ONCE >= len(told))) for cut in cuts
    ]
    return Finished(), (*parts, Learned(members))
