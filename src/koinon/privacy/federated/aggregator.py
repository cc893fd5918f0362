"""The aggregator's side of one round of secure aggregation, as a pure step. It learns the sum and nothing else.

A stage ends when everybody who can still answer has answered, or when its time is up (``StageOver``); at least t owners
must have answered, or the round ends without a sum. Who drops out before its masked update is in is not in the sum; who
drops out afterwards is. All owners' messages are signed: whoever holds the events of a round can repeat the step
(``recompute``) and see whether the sum that was given out is theirs.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec
import numpy as np

from koinon.kernel.errors import Forged, InvalidInput, KoinonError, MalformedMessage
from koinon.privacy.federated import session as rules
from koinon.privacy.federated.encoding import WORD_TYPES, from_bytes, to_bytes
from koinon.privacy.federated.shamir import combine
from koinon.wire.catalogue import Message
from koinon.wire.federated import (
    KeyAnnouncement,
    KeyList,
    MaskedUpdate,
    OpenedShare,
    RoundFailure,
    RoundSum,
    RoundTerms,
    ShareDelivery,
    ShareOffer,
    SurvivorList,
    SurvivorVote,
    Unmasking,
    VoteList,
)

STAGES: Final[tuple[tuple[str, type[Message]], ...]] = (
    ("keys", KeyAnnouncement),
    ("shares", ShareOffer),
    ("updates", MaskedUpdate),
    ("votes", SurvivorVote),
    ("unmasking", Unmasking),
)
"""What is gathered, in order, and the message that brings it."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message over the owner's own authenticated link."""

    owner: int
    message: Message


@dataclass(frozen=True, slots=True)
class Gone:
    """The owner's link has ended."""

    owner: int


@dataclass(frozen=True, slots=True)
class StageOver:
    """The time of this stage (its number from 0) is up. One that came too late changes nothing."""

    stage: int


AggregatorEvent = Received | Gone | StageOver


@dataclass(frozen=True, slots=True)
class Tell:
    """Send this to an owner."""

    owner: int
    message: Message


@dataclass(frozen=True, slots=True)
class StageBegan:
    """Let ``StageOver`` with this number come when its time is up."""

    stage: int


@dataclass(frozen=True, slots=True)
class Expel:
    """The owner provably deviated: hang up on it, and leave it out of the next round."""

    owner: int
    reason: str


@dataclass(frozen=True, slots=True)
class Summed:
    """The round ended well: ``words`` is the sum modulo 2^k of the updates of ``survivors``."""

    survivors: tuple[int, ...]
    words: np.ndarray


@dataclass(frozen=True, slots=True)
class Failed:
    """The round ended without a sum."""

    reason: str


AggregatorEffect = Tell | StageBegan | Expel | Summed | Failed
_Next = tuple["AggregatorState", tuple[AggregatorEffect, ...]]


@dataclass(frozen=True, slots=True)
class AggregatorState:
    """One round.

    Attributes:
        stage: number of the stage; len(STAGES) when the round is over.
        awaited: owners whose answer to this stage is still missing.
        lists: for each stage that has ended, the messages by owner, ascending.
        answers: of the stage that goes on, by owner.
        gone: owners whose link has ended; what they sent before counts.
        expelled: owners that provably deviated.
    """

    terms: RoundTerms
    session: bytes
    stage: int = 0
    awaited: frozenset[int] = frozenset()
    lists: tuple[Mapping[int, Message], ...] = ()
    answers: Mapping[int, Message] = field(default_factory=dict)
    gone: frozenset[int] = frozenset()
    expelled: frozenset[int] = frozenset()


def begin(terms: RoundTerms) -> _Next:
    """Open a round to all owners of the terms. Raises InvalidInput for terms that protect nobody."""
    rules.check_terms(terms)
    everybody = frozenset(range(len(terms.owners)))
    return AggregatorState(terms, rules.session_of(terms), awaited=everybody), (StageBegan(0),)


def step(state: AggregatorState, event: AggregatorEvent) -> _Next:
    """Take one event. A second answer, or one that comes after its stage, changes nothing."""
    if state.stage == len(STAGES):
        return state, ()
    match event:
        case Received():
            return _received(state, event.owner, event.message)
        case Gone():
            one = {event.owner}
            return _advance(replace(state, awaited=state.awaited - one, gone=state.gone | one), ())
        case StageOver():
            return _advance(replace(state, awaited=frozenset()), ()) if event.stage == state.stage else (state, ())


def recompute(terms: RoundTerms, events: Iterable[AggregatorEvent]) -> Summed | Failed:
    """What follows from a round's events, for whoever doubts what was given out.

    Raises:
        InvalidInput: the events end before the round does.
    """
    state, _ = begin(terms)
    for event in events:
        state, effects = step(state, event)
        for effect in effects:
            if isinstance(effect, Summed | Failed):
                return effect
    raise InvalidInput("the events end before the round does")


# ----------------------------------------------------------------------------------------------------- one answer


def _received(state: AggregatorState, owner: int, message: Message) -> _Next:
    if owner not in state.awaited:
        return state, ()
    try:
        _check(state, owner, message)
    except (Forged, InvalidInput) as problem:
        reason = f"owner {owner} deviated: {problem}"
        expelled = replace(state, awaited=state.awaited - {owner}, expelled=state.expelled | {owner})
        told = Tell(owner, RoundFailure(state.session, str(problem)[:500]))
        return _advance(expelled, (told, Expel(owner, reason)))
    answered = replace(state, awaited=state.awaited - {owner}, answers={**state.answers, owner: message})
    return _advance(answered, ())


def _check(state: AggregatorState, owner: int, message: Message) -> None:
    """Raises MalformedMessage or Forged for what no honest owner says at this stage."""
    name, kind = STAGES[state.stage]
    if type(message) is not kind:
        raise MalformedMessage(f"a {type(message).__name__} came while {name} were gathered")
    match message:
        case KeyAnnouncement():
            _check_speaker(state, owner, message.session, message.owner)
            rules.check(state.terms, owner, rules.key_statement(message), message.signature)
            if not (rules.is_usable_key(message.cipher_key) and rules.is_usable_key(message.mask_key)):
                raise MalformedMessage("a key is a point of small order")
            taken = {key for other in _keys(state.answers) for key in (other.cipher_key, other.mask_key)}
            if message.cipher_key == message.mask_key or taken & {message.cipher_key, message.mask_key}:
                raise Forged("a key is used twice")
            if len(message.seed_commitment) != 32:
                raise MalformedMessage("a commitment has 32 bytes")
        case ShareOffer():
            _check_speaker(state, owner, message.session, message.owner)
            _check_offer(state, owner, message)
        case MaskedUpdate():
            _check_speaker(state, owner, message.session, message.owner)
            from_bytes(message.words, state.terms.length, state.terms.word_bits)
            statement = rules.update_statement(state.session, owner, message.words)
            rules.check(state.terms, owner, statement, message.signature)
        case SurvivorVote():
            _check_speaker(state, owner, message.session, message.owner)
            rules.check(state.terms, owner, _survivor_statement(state), message.signature)
        case Unmasking():
            _check_speaker(state, owner, message.session, message.owner)
            _check_unmasking(state, owner, message)


def _check_speaker(state: AggregatorState, owner: int, session: bytes, claimed: int) -> None:
    if session != state.session:
        raise Forged("the message belongs to another round, or to another model")
    if claimed != owner:
        raise Forged(f"the message speaks for owner {claimed}")


def _check_offer(state: AggregatorState, owner: int, offer: ShareOffer) -> None:
    expected = tuple(other for other in state.lists[0] if other != owner)
    if tuple(share.holder for share in offer.shares) != expected:
        raise MalformedMessage("shares must be dealt to every other owner of the key list, in order")
    if any(len(commitment) != 32 for commitment in offer.own_commitments):
        raise MalformedMessage("a commitment has 32 bytes")
    statement = rules.offer_statement(state.session, owner, offer.own_commitments)
    rules.check(state.terms, owner, statement, offer.signature)
    for share in offer.shares:
        lengths = len(share.sealed), len(share.key_commitment), len(share.seed_commitment)
        if share.dealer != owner or lengths != (rules.SEALED_BYTES, 32, 32):
            raise MalformedMessage("a sealed share has the wrong form")
        rules.check(state.terms, owner, rules.share_statement(state.session, share), share.signature)


def _check_unmasking(state: AggregatorState, owner: int, opened: Unmasking) -> None:
    unsigned = msgspec.structs.replace(opened, signature=b"")
    rules.check(state.terms, owner, rules.unmasking_statement(unsigned), opened.signature)
    dealers, survivors = tuple(state.lists[1]), tuple(state.lists[2])
    dropped = tuple(dealer for dealer in dealers if dealer not in survivors)
    missing = set(opened.unusable)
    for shares, expected in ((opened.keys, dropped), (opened.seeds, survivors)):
        if tuple(share.dealer for share in shares) != tuple(each for each in expected if each not in missing):
            raise MalformedMessage("shares must be opened of every dealer: of its key if it dropped out, else its seed")
    if not missing <= set(dealers) - {owner}:
        raise MalformedMessage("only dealers can have sent unusable shares")
    for kind, shares in ((rules.KEY, opened.keys), (rules.SEED, opened.seeds)):
        for share in shares:
            committed = _commitment(state, share.dealer, owner, kind)
            if rules.share_commitment(state.session, share.dealer, owner, kind, share.value) != committed:
                raise Forged(f"the share of owner {share.dealer} is not the one that was dealt")


def _commitment(state: AggregatorState, dealer: int, holder: int, kind: bytes) -> bytes:
    offer = state.lists[1][dealer]
    assert isinstance(offer, ShareOffer)
    place = 0 if kind == rules.KEY else 1
    if holder == dealer:
        return offer.own_commitments[place]
    share = next(each for each in offer.shares if each.holder == holder)
    return (share.key_commitment, share.seed_commitment)[place]


# ----------------------------------------------------------------------------------------------------- one stage


def _advance(state: AggregatorState, effects: tuple[AggregatorEffect, ...]) -> _Next:
    """Go on as soon as nobody's answer is awaited any more."""
    if state.awaited:
        return state, effects
    if len(state.answers) < state.terms.threshold:
        name = STAGES[state.stage][0]
        return _fail(
            state,
            effects,
            f"{len(state.answers)} of {len(state.terms.owners)} owners answered while {name} were gathered, and"
            f" {state.terms.threshold} must; nothing was unmasked, start another round",
        )
    answered = dict(sorted(state.answers.items()))
    ended = replace(state, stage=state.stage + 1, lists=(*state.lists, answered), answers={})
    if ended.stage == len(STAGES):
        return _sum(ended, effects)
    following = replace(ended, awaited=frozenset(answered) - state.gone)
    told = tuple(Tell(owner, message) for owner, message in _announced(following).items() if owner not in state.gone)
    return _advance(following, (*effects, *told, StageBegan(following.stage)))


def _announced(state: AggregatorState) -> dict[int, Message]:
    """What each owner is told when a stage begins."""
    last = state.lists[-1]
    match STAGES[state.stage][0]:
        case "shares":
            keys = KeyList(state.session, tuple(_keys(last)))
            return dict.fromkeys(last, keys)
        case "updates":
            offers = [offer for offer in last.values() if isinstance(offer, ShareOffer)]
            return {
                holder: ShareDelivery(
                    state.session, tuple(share for offer in offers for share in offer.shares if share.holder == holder)
                )
                for holder in last
            }
        case "votes":
            survivors = SurvivorList(state.session, tuple(state.lists[1]), tuple(last))
            return dict.fromkeys(last, survivors)
        case _:
            votes = VoteList(state.session, tuple(vote for vote in last.values() if isinstance(vote, SurvivorVote)))
            return dict.fromkeys(last, votes)


def _sum(state: AggregatorState, effects: tuple[AggregatorEffect, ...]) -> _Next:
    """Take every mask off the sum of the masked updates."""
    terms, session = state.terms, state.session
    keys = {each.owner: each for each in _keys(state.lists[0])}
    dealers, survivors = tuple(state.lists[1]), tuple(state.lists[2])
    total = np.zeros(terms.length, WORD_TYPES[terms.word_bits])
    for update in state.lists[2].values():
        assert isinstance(update, MaskedUpdate)
        total += from_bytes(update.words, terms.length, terms.word_bits)
    try:
        for survivor in survivors:
            seed = _combined(state, survivor, rules.SEED)
            if rules.seed_commitment(session, survivor, seed) != keys[survivor].seed_commitment:
                raise _Inconsistent(survivor)
            total -= rules.own_mask(seed, session, terms)
        for dropped in (dealer for dealer in dealers if dealer not in survivors):
            private = _combined(state, dropped, rules.KEY)
            if rules.public_key(private) != keys[dropped].mask_key:
                raise _Inconsistent(dropped)
            for survivor in survivors:
                low, high = min(dropped, survivor), max(dropped, survivor)
                mask = rules.pair_mask(private, keys[survivor].mask_key, session, low, high, terms)
                total += mask if survivor == high else -mask
    except _Inconsistent as problem:
        blamed = Expel(problem.dealer, f"owner {problem.dealer} dealt shares that open to nothing")
        expelled = replace(state, expelled=state.expelled | {problem.dealer})
        return _fail(expelled, (*effects, blamed), f"{blamed.reason}; start another round without it")
    except _TooFew as problem:
        return _fail(state, effects, str(problem))
    told = tuple(
        Tell(owner, RoundSum(session, survivors, to_bytes(total)))
        for owner in state.lists[-1]
        if owner not in state.gone
    )
    return state, (*effects, *told, Summed(survivors, total))


class _Inconsistent(Exception):
    """Shares that their dealer committed to open to another secret than it announced."""

    def __init__(self, dealer: int) -> None:
        self.dealer = dealer


class _TooFew(KoinonError):
    """Too many holders say that a dealer's shares are unusable; who of them lies cannot be told."""


def _combined(state: AggregatorState, dealer: int, kind: bytes) -> bytes:
    shares = {}
    for holder, opened in state.lists[-1].items():
        assert isinstance(opened, Unmasking)
        found = _find(opened.keys if kind == rules.KEY else opened.seeds, dealer)
        if found is not None:
            shares[holder] = found
    if len(shares) < state.terms.threshold:
        refused = sorted(set(state.lists[-1]) - set(shares))
        raise _TooFew(
            f"owner {dealer} dealt unusable shares, or {', '.join(map(str, refused))} say so falsely;"
            " start another round without it"
        )
    try:
        return combine(shares, state.terms.threshold)
    except MalformedMessage:
        raise _Inconsistent(dealer) from None


def _find(shares: tuple[OpenedShare, ...], dealer: int) -> bytes | None:
    return next((share.value for share in shares if share.dealer == dealer), None)


def _fail(state: AggregatorState, effects: tuple[AggregatorEffect, ...], reason: str) -> _Next:
    present = set(state.answers) or (set(state.lists[-1]) if state.lists else set())
    told = tuple(
        Tell(owner, RoundFailure(state.session, reason[:500]))
        for owner in sorted(present - state.expelled - state.gone)
    )
    over = replace(state, stage=len(STAGES), awaited=frozenset())
    return over, (*effects, *told, Failed(reason))


def _keys(answers: Mapping[int, Message]) -> list[KeyAnnouncement]:
    return [answer for answer in answers.values() if isinstance(answer, KeyAnnouncement)]


def _survivor_statement(state: AggregatorState) -> bytes:
    keys = rules.key_list_hash(tuple(_keys(state.lists[0])))
    return rules.survivor_statement(state.session, keys, tuple(state.lists[1]), tuple(state.lists[2]))
