"""Who answers: it sends the values of its items once the asker has shown that it asks for one item in each bin."""

from dataclasses import replace

import numpy as np

from koinon.kernel.effects import Rng
from koinon.kernel.errors import Forged, MalformedMessage
from koinon.privacy.joins import consistency, oblivious_transfer
from koinon.privacy.joins.bits import transposed
from koinon.privacy.joins.codes import WORD_BYTES, encoded
from koinon.privacy.joins.cuckoo import bins_for
from koinon.privacy.joins.items import bins_of, hashed, messages_of, session_of
from koinon.privacy.joins.pseudorandom import batches_of, keyed, values
from koinon.privacy.joins.states import (
    ITEMS_AT_ONCE,
    AwaitingCorrections,
    AwaitingMembers,
    AwaitingOffer,
    AwaitingProof,
    Effect,
    Finished,
    Learned,
    Send,
    State,
)
from koinon.privacy.rep4.streams import Stream
from koinon.wire.joins import (
    Corrections,
    CorrectionsChallenge,
    CorrectionsProof,
    Members,
    TransferChoices,
    TransferOffer,
    Values,
)


def chosen(state: AwaitingOffer, offer: TransferOffer, rng: Rng) -> tuple[State, tuple[Effect, ...]]:
    """Take one key of each transfer, by the bits of a new secret."""
    secret = np.unpackbits(np.frombuffer(rng.bytes(WORD_BYTES), np.uint8), bitorder="little").astype(bool)
    session = session_of(state.terms, state.salts, offer)
    points, keys = oblivious_transfer.choose(offer.sum, offer.power, secret.tolist(), session, rng)
    items = hashed(state.identifiers, session)
    waiting = AwaitingCorrections(state.terms, session, bins_for(state.asked), items, secret, tuple(keys), ())
    return waiting, (Send(TransferChoices(points)),)


def taken(state: AwaitingCorrections, correction: Corrections, rng: Rng) -> tuple[State, tuple[Effect, ...]]:
    """Take a batch of corrections; after the last, challenge the asker."""
    number, batches = len(state.columns), [*batches_of(state.bins), consistency.MASKS]
    due = batches[number]
    if correction.batch != number or len(correction.rows) != due * WORD_BYTES:
        raise MalformedMessage(f"correction {correction.batch} is not number {number} for {due} bins")
    columns = keyed(state.keys, state.secret, correction.rows, number)
    if number + 1 < len(batches):
        return replace(state, columns=(*state.columns, columns)), ()
    # Drawn only now: a challenge that the asker could foresee would prove nothing.
    challenge = rng.bytes(consistency.CHALLENGE_BYTES)
    waiting = AwaitingProof(
        state.terms, state.session, state.bins, state.items, state.secret, state.columns, columns, challenge
    )
    return waiting, (Send(CorrectionsChallenge(challenge)),)


def answered(state: AwaitingProof, proof: CorrectionsProof, rng: Rng) -> tuple[State, tuple[Effect, ...]]:
    """Hold the proof against the corrections, and send the values of all items."""
    own = consistency.hashed(state.columns, state.masks, state.challenge)
    consistency.verify(consistency.Proof(proof.columns, proof.messages), own, state.secret)
    table = np.concatenate([transposed(columns) for columns in state.columns])
    # Drawn from a cipher: who asks sees where its own items stand, and must not guess where the others do from it.
    order = np.argsort(Stream(rng.bytes(32)).draw(0, (len(state.items),)))
    secret = np.packbits(state.secret, bitorder="little")
    effects: list[Effect] = []
    for start in range(0, len(order), ITEMS_AT_ONCE):
        items = state.items[order[start : start + ITEMS_AT_ONCE]]
        masked = encoded(messages_of(items)) & secret
        for choice, bins in enumerate(bins_of(items, state.bins, state.session).T):
            effects.append(Send(Values(choice, start, values(table[bins] ^ masked, bins, choice).tobytes())))
    if state.terms.both_learn:
        return AwaitingMembers(order, ()), tuple(effects)
    return Finished(), (*effects, Learned(None))


def told(state: AwaitingMembers, members: Members) -> tuple[State, tuple[Effect, ...]]:
    """Take the places that the asker says both have."""
    if len(members.places) % 4:
        raise MalformedMessage("places take four bytes each")
    places = (*state.places, np.frombuffer(members.places, "<u4").astype(np.int64))
    told = np.concatenate(places)
    if len(told) > len(state.order) or (told >= len(state.order)).any() or len(np.unique(told)) != len(told):
        raise Forged("the other owner names places that there are not, or one of them twice")
    if not members.is_last:
        return replace(state, places=places), ()
    return Finished(), (Learned(np.sort(state.order[told])),)
