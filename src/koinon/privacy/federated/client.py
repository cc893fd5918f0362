"""An owner's side of one round of secure aggregation, as a pure step.

    keys → shares → masked → voting → unmasking → done; from any of them → stopped

The aggregator is not trusted: whatever it says is checked, an owner says each thing once, and after a message that no
honest aggregator sends it stops for good. A round's secrets are used for no other round.
"""

from dataclasses import dataclass, field, replace

import msgspec
import numpy as np

from koinon.crypto.signature import NodeKey
from koinon.kernel.errors import Forged, InvalidInput, KoinonError, MalformedMessage
from koinon.privacy.federated import session as rules
from koinon.privacy.federated.encoding import from_bytes, to_bytes
from koinon.privacy.federated.session import RoundSecrets
from koinon.privacy.federated.shamir import split
from koinon.wire.catalogue import Message
from koinon.wire.federated import (
    KeyAnnouncement,
    KeyList,
    MaskedUpdate,
    OpenedShare,
    RoundFailure,
    RoundSum,
    RoundTerms,
    SealedShare,
    ShareDelivery,
    ShareOffer,
    SurvivorList,
    SurvivorVote,
    Unmasking,
    VoteList,
)


@dataclass(frozen=True, slots=True)
class ClientState:
    """One owner in one round.

    Attributes:
        phase: keys, shares, masked, voting, unmasking, done or stopped: what it said last.
        words: the encoded update, secret.
        keys: the list that everybody was given.
        own_shares: of its own mask key and seed.
        held: usable shares by dealer.
        dealers, survivors: ascending, once they are known.
    """

    terms: RoundTerms
    owner: int
    session: bytes
    secrets: RoundSecrets
    words: np.ndarray = field(repr=False)
    phase: str = "keys"
    announcement: KeyAnnouncement | None = None
    keys: tuple[KeyAnnouncement, ...] = ()
    own_shares: tuple[bytes, bytes] = field(default=(b"", b""), repr=False)
    held: tuple[tuple[int, tuple[bytes, bytes]], ...] = field(default=(), repr=False)
    dealers: tuple[int, ...] = ()
    survivors: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Say:
    """Send this to the aggregator."""

    message: Message


@dataclass(frozen=True, slots=True)
class Sum:
    """The round's result: whose updates are in it, and the sum as unsigned words."""

    survivors: tuple[int, ...]
    words: np.ndarray


@dataclass(frozen=True, slots=True)
class Stop:
    """The round is over for this owner, for the reason given."""

    reason: str


ClientEffect = Say | Sum | Stop
_Next = tuple[ClientState, tuple[ClientEffect, ...]]


def begin(terms: RoundTerms, owner: int, words: np.ndarray, key: NodeKey, entropy: bytes) -> _Next:
    """Enter a round.

    Args:
        owner: our number in the terms.
        words: our encoded update, (terms.length,) unsigned words; see ``encoding.encode``.
        entropy: 32 fresh random bytes, used for nothing else.

    Raises:
        InvalidInput: terms that protect nobody, or an update that does not fit them.
    """
    rules.check_terms(terms)
    if not 0 <= owner < len(terms.owners) or terms.owners[owner] != key.node_id:
        raise InvalidInput(f"the terms do not name this node as owner {owner}")
    if words.shape != (terms.length,) or words.dtype.itemsize * 8 != terms.word_bits:
        raise InvalidInput(f"the terms ask for {terms.length} words of {terms.word_bits} bits")
    signed = words.view(np.dtype(f"<i{words.dtype.itemsize}"))
    if int(signed.max()) > terms.limit or int(signed.min()) < -terms.limit:
        raise InvalidInput("the update holds a word beyond the agreed limit; clip it first")
    session = rules.session_of(terms)
    secrets = rules.secrets_from(entropy, session, owner)
    unsigned = KeyAnnouncement(
        session,
        owner,
        secrets.public_cipher_key,
        secrets.public_mask_key,
        rules.seed_commitment(session, owner, secrets.seed),
        b"",
    )
    announcement = msgspec.structs.replace(unsigned, signature=rules.sign(key, rules.key_statement(unsigned)))
    return ClientState(terms, owner, session, secrets, words, announcement=announcement), (Say(announcement),)


def step(state: ClientState, message: Message, key: NodeKey) -> _Next:
    """Take one message of the aggregator's."""
    if state.phase in ("done", "stopped"):
        return state, ()
    try:
        match message:
            case RoundFailure(session=session) if session == state.session:
                return replace(state, phase="stopped"), (Stop(f"the aggregator ended the round: {message.reason}"),)
            case KeyList(session=session) if session == state.session and state.phase == "keys":
                return _deal(state, message, key)
            case ShareDelivery(session=session) if session == state.session and state.phase == "shares":
                return _mask(state, message, key)
            case SurvivorList(session=session) if session == state.session and state.phase == "masked":
                return _vote(state, message, key)
            case VoteList(session=session) if session == state.session and state.phase == "voting":
                return _unmask(state, message, key)
            case RoundSum(session=session) if session == state.session and state.phase == "unmasking":
                return _finish(state, message)
        raise MalformedMessage(f"a {type(message).__name__} was not due in the phase {state.phase!r}, or of this round")
    except KoinonError as problem:
        return replace(state, phase="stopped"), (Stop(f"the aggregator deviated: {problem}"),)


# ----------------------------------------------------------------------------------------------------- the stages


def _deal(state: ClientState, message: KeyList, key: NodeKey) -> _Next:
    """Check everybody's keys; share the own mask key and seed among them."""
    terms, session, secrets = state.terms, state.session, state.secrets
    numbers = tuple(each.owner for each in message.keys)
    _check_numbers(state, numbers, range(len(terms.owners)), "the key list")
    public = [each for announced in message.keys for each in (announced.cipher_key, announced.mask_key)]
    if len(set(public)) != len(public):
        raise Forged("two keys in the list are the same")
    for announced in message.keys:
        if announced.session != session:
            raise Forged(f"the key of owner {announced.owner} is for another round or another model")
        if announced.owner == state.owner:
            if announced != state.announcement:
                raise Forged("the list holds other keys of ours than we sent")
        else:
            rules.check(terms, announced.owner, rules.key_statement(announced), announced.signature)
            if not (rules.is_usable_key(announced.cipher_key) and rules.is_usable_key(announced.mask_key)):
                raise MalformedMessage(f"a key of owner {announced.owner} is a point of small order")
    holders, threshold = len(terms.owners), terms.threshold
    key_shares = split(secrets.mask_key, threshold, holders, secrets.polynomials[0])
    seed_shares = split(secrets.seed, threshold, holders, secrets.polynomials[1])
    sealed = []
    for announced in message.keys:
        holder = announced.owner
        if holder == state.owner:
            continue
        pair = key_shares[holder], seed_shares[holder]
        unsigned = SealedShare(
            state.owner,
            holder,
            rules.seal_shares(secrets, announced.cipher_key, session, state.owner, holder, pair),
            *rules.share_commitments(session, state.owner, holder, pair),
            b"",
        )
        statement = rules.share_statement(session, unsigned)
        sealed.append(msgspec.structs.replace(unsigned, signature=rules.sign(key, statement)))
    own = key_shares[state.owner], seed_shares[state.owner]
    commitments = rules.share_commitments(session, state.owner, state.owner, own)
    signature = rules.sign(key, rules.offer_statement(session, state.owner, commitments))
    offer = ShareOffer(session, state.owner, tuple(sealed), commitments, signature)
    return replace(state, phase="shares", keys=message.keys, own_shares=own), (Say(offer),)


def _mask(state: ClientState, message: ShareDelivery, key: NodeKey) -> _Next:
    """Keep the shares that others dealt, and send the update under every dealer's mask and the own one."""
    terms, session = state.terms, state.session
    known = {announced.owner: announced for announced in state.keys}
    numbers = tuple(share.dealer for share in message.shares)
    if state.owner in numbers:
        raise MalformedMessage("the aggregator delivered us a share of our own")
    dealers = tuple(sorted((*numbers, state.owner)))
    _check_numbers(state, dealers, known, "the dealers")
    if numbers != tuple(dealer for dealer in dealers if dealer != state.owner):
        raise MalformedMessage("shares are delivered in ascending order of dealers")
    held = []
    for share in message.shares:
        if share.holder != state.owner:
            raise MalformedMessage(f"the aggregator delivered us a share for owner {share.holder}")
        rules.check(terms, share.dealer, rules.share_statement(session, share), share.signature)
        try:
            held.append(
                (share.dealer, rules.open_shares(state.secrets, known[share.dealer].cipher_key, session, share))
            )
        except Forged:
            continue  # the dealer's fault, which only the two of us can see; said when shares are opened
    words = state.words + rules.own_mask(state.secrets.seed, session, terms)
    for dealer in dealers:
        if dealer == state.owner:
            continue
        low, high = min(dealer, state.owner), max(dealer, state.owner)
        mask = rules.pair_mask(state.secrets.mask_key, known[dealer].mask_key, session, low, high, terms)
        words = words + mask if state.owner == low else words - mask
    body = to_bytes(words)
    signature = rules.sign(key, rules.update_statement(session, state.owner, body))
    masked = MaskedUpdate(session, state.owner, body, signature)
    return replace(state, phase="masked", held=tuple(held), dealers=dealers), (Say(masked),)


def _vote(state: ClientState, message: SurvivorList, key: NodeKey) -> _Next:
    """Sign whom the aggregator says to have survived: from now on no other list will be believed."""
    if message.dealers != state.dealers:
        raise Forged("the aggregator names other dealers than it delivered shares of")
    _check_numbers(state, message.survivors, state.dealers, "the survivors")
    statement = _survivor_statement(state, message.survivors)
    vote = SurvivorVote(state.session, state.owner, rules.sign(key, statement))
    return replace(state, phase="voting", survivors=message.survivors), (Say(vote),)


def _unmask(state: ClientState, message: VoteList, key: NodeKey) -> _Next:
    """Open a share of every dealer: of the seed if its update is in, of the mask key if not; never both."""
    voters = tuple(vote.owner for vote in message.votes)
    _check_numbers(state, voters, state.survivors, "the voters")
    statement = _survivor_statement(state, state.survivors)
    for vote in message.votes:
        if vote.session != state.session:
            raise Forged(f"the vote of owner {vote.owner} is for another round")
        rules.check(state.terms, vote.owner, statement, vote.signature)
    held = {**dict(state.held), state.owner: state.own_shares}
    dropped = [dealer for dealer in state.dealers if dealer not in state.survivors]
    unsigned = Unmasking(
        state.session,
        state.owner,
        tuple(OpenedShare(dealer, held[dealer][0]) for dealer in dropped if dealer in held),
        tuple(OpenedShare(dealer, held[dealer][1]) for dealer in state.survivors if dealer in held),
        tuple(dealer for dealer in state.dealers if dealer not in held),
        b"",
    )
    unmasking = msgspec.structs.replace(unsigned, signature=rules.sign(key, rules.unmasking_statement(unsigned)))
    return replace(state, phase="unmasking"), (Say(unmasking),)


def _finish(state: ClientState, message: RoundSum) -> _Next:
    if message.survivors != state.survivors:
        raise Forged("the sum is said to be of other survivors than were voted on")
    words = from_bytes(message.words, state.terms.length, state.terms.word_bits)
    return replace(state, phase="done"), (Sum(state.survivors, words),)


def _survivor_statement(state: ClientState, survivors: tuple[int, ...]) -> bytes:
    return rules.survivor_statement(state.session, rules.key_list_hash(state.keys), state.dealers, survivors)


def _check_numbers(
    state: ClientState,
    numbers: tuple[int, ...],
    allowed: "range | tuple[int, ...] | dict[int, KeyAnnouncement]",
    what: str,
) -> None:
    """Ascending, allowed, ours among them, and at least as many as the threshold."""
    if tuple(sorted(set(numbers))) != numbers or any(number not in allowed for number in numbers):
        raise MalformedMessage(f"{what} must be owners of this round, each once, in ascending order")
    if state.owner not in numbers:
        raise Forged(f"{what}: we are left out, although we answered")
    if len(numbers) < state.terms.threshold:
        raise Forged(f"{what}: {len(numbers)} owners are fewer than the threshold of {state.terms.threshold}")
