"""Rounds of secure aggregation with drop-outs, lying owners and lying aggregators, each replayed by its seed.

Of every three seeds one has owners that drop out at any message, one has owners that also lie, and one an aggregator
that lies, with as many owners on its side as the terms tolerate. What must hold is in ``session``: SECAGG-1 to 3.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from random import Random
from typing import Final

import msgspec
import numpy as np

from koinon.crypto.signature import NodeKey
from koinon.kernel.errors import MalformedMessage
from koinon.privacy.federated import aggregator, client
from koinon.privacy.federated import session as rules
from koinon.privacy.federated.encoding import as_words, decode_sum
from koinon.wire.catalogue import Message, pack, unpack
from koinon.wire.federated import (
    KeyAnnouncement,
    KeyList,
    MaskedUpdate,
    OpenedShare,
    RoundTerms,
    ShareOffer,
    SurvivorList,
    SurvivorVote,
    Unmasking,
    VoteList,
)

_LENGTH: Final = 5
_LIMIT: Final = 1 << 20
_MOST_OWNERS: Final = 7


class Scenario(Enum):
    """Who misbehaves."""

    DROP_OUTS = "owners drop out"
    OWNERS = "owners lie"
    AGGREGATOR = "the aggregator lies"


class OwnerLie(Enum):
    """What a lying owner does."""

    FLIP = "flips a bit of a message"
    IMPERSONATE = "speaks for another owner"
    OUT_OF_TURN = "repeats its last message in place of the next"
    OTHER_SEED = "shares another seed than it committed to"
    OTHER_KEY = "shares another mask key than it announced"
    SEAL_GARBAGE = "seals garbage for half of the holders"
    WRONG_SHARE = "opens a wrong share"
    FALSE_COMPLAINT = "calls every share unusable"
    GARBAGE_UPDATE = "sends random words as its update"


class AggregatorLie(Enum):
    """What a lying aggregator does."""

    FLIP = "flips a bit of what it passes on"
    SPLIT_SURVIVORS = "tells some owners that another one survived and others that it did not"
    SCATTER = "tells every owner other survivors, so that only a few are in all lists"
    SPLIT_KEYS = "leaves owners out of some key lists"
    OWN_KEYS = "puts keys of its own into the list"
    SPLIT_MODEL = "gives owners different models"
    FEW_VOTES = "asks for shares with too few votes"
    REPLAY = "asks again with other survivors"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one round.

    Attributes:
        lie: what was told, in words; empty in rounds without liars.
        dropped: owners that dropped out.
        ended: summed, failed or, with a lying aggregator, open.
        named: how many owners the aggregator proved a deviation of.
        violations: properties that did not hold; must be empty.
    """

    seed: int
    scenario: Scenario
    owners: int
    threshold: int
    lie: str
    dropped: int
    ended: str
    named: int
    violations: tuple[str, ...]


def trial(seed: int, beyond: int = 0) -> Verdict:
    """Run one round.

    Args:
        beyond: how many more owners than the terms tolerate work with a lying aggregator, to see that it is noticed.
    """
    scenario = tuple(Scenario)[seed % len(Scenario)]
    random = Random(f"koinon federated {seed}")  # noqa: S311  # a simulation must be repeatable, not unguessable
    game = _AggregatorGame(random, beyond) if scenario is Scenario.AGGREGATOR else _Game(random, scenario)
    game.play()
    return Verdict(
        seed,
        scenario,
        game.size,
        game.terms.threshold,
        game.lie_told,
        len(game.dropped),
        game.ended,
        len(game.state.expelled),
        tuple(game.violations()),
    )


def summary(verdicts: Sequence[Verdict]) -> dict[str, dict[str, int]]:
    """Counts by scenario and lie."""
    counts: dict[str, dict[str, int]] = {}
    for verdict in verdicts:
        name = verdict.scenario.value + (f": {verdict.lie}" if verdict.lie else "")
        row = counts.setdefault(name, {"rounds": 0, "dropped": 0, "summed": 0, "failed": 0, "named": 0, "broken": 0})
        row["rounds"] += 1
        row["dropped"] += verdict.dropped
        row["summed"] += verdict.ended == "summed"
        row["failed"] += verdict.ended == "failed"
        row["named"] += verdict.named
        row["broken"] += bool(verdict.violations)
    return dict(sorted(counts.items()))


@cache
def node(owner: int) -> NodeKey:
    """The key of a simulated owner."""
    return NodeKey.from_seed(bytes([1 + owner]) * 32)


class _Game:
    """One round in lockstep: every link keeps its order, and which link moves next is drawn by lot."""

    def __init__(self, random: Random, scenario: Scenario) -> None:
        self.random = random
        self.size = random.randint(2, _MOST_OWNERS)
        threshold = random.randint(self.size // 2 + 1, self.size)
        self.terms = RoundTerms(
            random.randbytes(32), random.randrange(100), random.randbytes(32), random.randbytes(32),
            tuple(node(owner).node_id for owner in range(self.size)), max(2, threshold), _LENGTH,
            random.choice((32, 64)), 0, _LIMIT,
        )  # fmt: skip
        self.updates = {
            owner: np.array([random.randint(-_LIMIT, _LIMIT) for _ in range(_LENGTH)]) for owner in range(self.size)
        }
        self.up: dict[int, deque[Message]] = {owner: deque() for owner in range(self.size)}
        self.down: dict[int, deque[Message]] = {owner: deque() for owner in range(self.size)}
        self.ended = "open"
        self.sum: aggregator.Summed | None = None
        self.failure = ""
        self.events: list[aggregator.AggregatorEvent] = []
        self.dropped: dict[int, int] = {}
        self.liars: dict[int, OwnerLie] = {}
        self.lie_told = ""
        self.clients: dict[int, client.ClientState] = {}
        self.opened: list[tuple[int, Unmasking]] = []
        self.said: dict[int, int] = dict.fromkeys(range(self.size), 0)
        self.last: dict[int, Message] = {}
        self._draw_faults(scenario)
        self.state, _ = aggregator.begin(self.terms)

    def _draw_faults(self, scenario: Scenario) -> None:
        random = self.random
        chance = random.choice((0.0, 0.2, 0.5))
        self.dropped = {
            owner: random.randrange(len(aggregator.STAGES)) for owner in range(self.size) if random.random() < chance
        }
        if scenario is Scenario.OWNERS:
            lie = random.choice(tuple(OwnerLie))
            self.lie_told = lie.value
            self.liars = dict.fromkeys(random.sample(range(self.size), random.randint(1, max(1, self.size // 3))), lie)
            self.target = random.randrange(len(aggregator.STAGES))
            for liar in self.liars:
                self.dropped.pop(liar, None)

    def play(self) -> None:
        """Until the round is over and every message has been taken."""
        for owner in range(self.size):
            self.enter(owner, self.terms)
        while True:
            moves = [(self.up, owner) for owner, queue in self.up.items() if queue]
            moves += [(self.down, owner) for owner, queue in self.down.items() if queue]
            if moves:
                queues, owner = self.random.choice(moves)
                message = queues[owner].popleft()
                if queues is self.up:
                    self.take(aggregator.Received(owner, message))
                else:
                    self.hear(owner, message)
            elif self.ended == "open" and self.state.stage < len(aggregator.STAGES):
                self.take(aggregator.StageOver(self.state.stage))
            else:
                return

    def enter(self, owner: int, terms: RoundTerms) -> None:
        words = as_words(self.updates[owner], terms.word_bits)
        state, effects = client.begin(terms, owner, words, node(owner), self.random.randbytes(32))
        lie = self.liars.get(owner)
        if lie is OwnerLie.OTHER_SEED:
            state = replace(state, secrets=replace(state.secrets, seed=self.random.randbytes(32)))
        if lie is OwnerLie.OTHER_KEY:
            state = replace(state, secrets=replace(state.secrets, mask_key=self.random.randbytes(32)))
        self.clients[owner] = state
        self.perform(owner, effects)

    def hear(self, owner: int, message: Message) -> None:
        self.clients[owner], effects = client.step(self.clients[owner], message, node(owner))
        self.perform(owner, effects)

    def perform(self, owner: int, effects: tuple[client.ClientEffect, ...]) -> None:
        for effect in effects:
            if not isinstance(effect, client.Say):
                continue
            if self.dropped.get(owner) == self.said[owner]:
                # It says nothing any more; the aggregator may hear of it, or only see the time run out.
                if self.random.random() < 0.5:
                    self.take(aggregator.Gone(owner))
                return
            if owner in self.dropped and self.said[owner] > self.dropped[owner]:
                return
            message = self.lied(owner, effect.message) if owner in self.liars else effect.message
            if isinstance(effect.message, Unmasking) and owner not in self.liars:
                self.opened.append((owner, effect.message))
            self.last[owner] = effect.message
            self.said[owner] += 1
            if message is None:
                self.take(aggregator.Gone(owner))  # no link passes on what is no message
            else:
                self.up[owner].append(message)

    def take(self, event: aggregator.AggregatorEvent) -> None:
        self.events.append(event)
        self.state, effects = aggregator.step(self.state, event)
        for effect in effects:
            match effect:
                case aggregator.Tell():
                    self.tell(effect.owner, effect.message)
                case aggregator.Summed():
                    self.ended, self.sum = "summed", effect
                case aggregator.Failed():
                    self.ended, self.failure = "failed", effect.reason

    def tell(self, owner: int, message: Message) -> None:
        self.down[owner].append(message)

    # ------------------------------------------------------------------------------------------------- lies

    def lied(self, owner: int, message: Message) -> Message | None:
        """What a liar sends in place of ``message``; None if it is no message at all."""
        random, due = self.random, self.said[owner] == self.target
        match self.liars[owner]:
            case OwnerLie.FLIP if due:
                return flipped(message, random)
            case OwnerLie.IMPERSONATE if due:
                return msgspec.structs.replace(message, owner=(owner + 1) % self.size)
            case OwnerLie.OUT_OF_TURN if due:
                return self.last.get(owner, message)
            case OwnerLie.SEAL_GARBAGE if isinstance(message, ShareOffer):
                shares = []
                for place, share in enumerate(message.shares):
                    if place % 2:
                        unsigned = msgspec.structs.replace(
                            share, sealed=random.randbytes(len(share.sealed)), signature=b""
                        )
                        signature = rules.sign(node(owner), rules.share_statement(message.session, unsigned))
                        shares.append(msgspec.structs.replace(unsigned, signature=signature))
                    else:
                        shares.append(share)
                return msgspec.structs.replace(message, shares=tuple(shares))
            case OwnerLie.WRONG_SHARE if isinstance(message, Unmasking):
                seeds = tuple(OpenedShare(share.dealer, bytes(1) + random.randbytes(32)) for share in message.seeds)
                return _signed(owner, msgspec.structs.replace(message, seeds=seeds, signature=b""))
            case OwnerLie.FALSE_COMPLAINT if isinstance(message, Unmasking):
                own = tuple(share for share in message.seeds if share.dealer == owner)
                others = tuple(dealer for dealer in self.clients[owner].dealers if dealer != owner)
                changed = msgspec.structs.replace(message, keys=(), seeds=own, unusable=others, signature=b"")
                return _signed(owner, changed)
            case OwnerLie.GARBAGE_UPDATE if isinstance(message, MaskedUpdate):
                words = random.randbytes(len(message.words))
                signature = rules.sign(node(owner), rules.update_statement(message.session, owner, words))
                return MaskedUpdate(message.session, owner, words, signature)
        return message

    # ------------------------------------------------------------------------------------------------- judgement

    def violations(self) -> list[str]:
        """What must never be, and was."""
        found = self.unmasked(frozenset(self.liars))
        framed = sorted(self.state.expelled - set(self.liars))
        found += [f"SECAGG-3: owner {owner} is named and did nothing" for owner in framed]
        if self.sum is not None:
            found += self._wrong_sum(self.sum)
        lasting = [owner for owner in range(self.size) if owner not in self.dropped]
        if not self.liars and len(lasting) >= self.terms.threshold and self.ended != "summed":
            found.append(f"no sum, although {len(lasting)} owners stayed to the end: {self.failure}")
        if self.ended == "open":
            found.append("the round never ended")
        return found

    def _wrong_sum(self, summed: aggregator.Summed) -> list[str]:
        found = []
        if len(summed.survivors) < self.terms.threshold:
            found.append(f"SECAGG-2: a sum of {len(summed.survivors)} owners was given out")
        if not set(summed.survivors) & set(self.liars):
            expected = sum(self.updates[owner] for owner in summed.survivors)
            if not np.array_equal(decode_sum(summed.words, 0, _LIMIT, len(summed.survivors)), expected):
                found.append("the sum is not that of the survivors' updates")
        again = aggregator.recompute(self.terms, self.events)
        match again:
            case aggregator.Summed(survivors, words) if survivors == summed.survivors:
                same = np.array_equal(words, summed.words)
            case _:
                same = False
        if not same:
            found.append("whoever repeats the round gets another sum")
        return found

    def unmasked(self, coalition: frozenset[int]) -> list[str]:
        """SECAGG-1 and SECAGG-2 for the owners outside a coalition, from the shares that it and the aggregator know."""
        keys, seeds = set[int](coalition), set[int]()
        for owner in range(self.size):
            held = {holder for holder in coalition if owner in self.clients[holder].dealers}
            opened = [held | {h for h, said in self.opened if owner in _dealers(said.keys)}]
            opened += [held | {h for h, said in self.opened if owner in _dealers(said.seeds)}]
            for secrets, known in zip((keys, seeds), opened, strict=True):
                if len(known) >= self.terms.threshold:
                    secrets.add(owner)
        honest = frozenset(range(self.size)) - coalition
        found = [f"SECAGG-1: owner {owner} could be unmasked" for owner in sorted(keys & seeds & honest)]
        dealers = frozenset().union(*(self.clients[owner].dealers for owner in honest))
        alone = seeds & honest
        if alone and dealers - alone <= keys and len(alone) + len(coalition) < self.terms.threshold:
            found.append(f"SECAGG-2: the sum of only {len(alone)} owners could be unmasked")
        return found


class _AggregatorGame(_Game):
    """A round whose aggregator lies once, and has as many owners on its side as the terms tolerate."""

    def __init__(self, random: Random, beyond: int) -> None:
        super().__init__(random, Scenario.AGGREGATOR)
        self.lie = random.choice(tuple(AggregatorLie))
        self.lie_told = self.lie.value
        side = random.sample(range(self.size), min(rules.tolerated(self.terms) + beyond, self.size - 1))
        self.coalition = frozenset(side)
        honest = random.sample(
            [owner for owner in range(self.size) if owner not in self.coalition], self.size - len(side)
        )
        self.victim = honest[0]
        # Halves that differ by one at most: the split that brings both to as many votes as possible.
        self.group = frozenset(honest[1 : 1 + len(honest) // 2])
        if self.lie in (AggregatorLie.SPLIT_SURVIVORS, AggregatorLie.SCATTER):
            self.dropped = {}
        self.missed = dict.fromkeys(random.sample(honest, min(len(honest) - 1, self._most_missed())), 0)
        self.target = random.randrange(len(aggregator.STAGES))

    def _most_missed(self) -> int:
        """How many owners can each be left out of enough lists for their keys to be opened."""
        spare = self.size - self.terms.threshold
        return (self.size - len(self.coalition)) * spare // max(1, self.terms.threshold - len(self.coalition))

    def enter(self, owner: int, terms: RoundTerms) -> None:
        if self.lie is AggregatorLie.SPLIT_MODEL and owner in self.group:
            terms = msgspec.structs.replace(terms, model=bytes(32))
        super().enter(owner, terms)

    def perform(self, owner: int, effects: tuple[client.ClientEffect, ...]) -> None:
        for effect in effects:
            if isinstance(effect, client.Say) and isinstance(effect.message, Unmasking):
                self.opened.append((owner, effect.message))
        opened = len(self.opened)
        super().perform(owner, effects)
        del self.opened[opened:]

    def tell(self, owner: int, message: Message) -> None:
        for told in self.altered(owner, message):
            self.down[owner].append(told)

    def altered(self, owner: int, message: Message) -> list[Message]:
        random, honest = self.random, [message]
        match self.lie, message:
            case AggregatorLie.FLIP, _ if self.state.stage == self.target:
                changed = flipped(message, random)
                return [] if changed is None else [changed]
            case AggregatorLie.SPLIT_SURVIVORS, SurvivorList():
                return [self.without_victim(message) if owner in self.group else message]
            case AggregatorLie.SCATTER, SurvivorList() if owner not in self.coalition:
                return [self.scattered(owner, message)]
            case AggregatorLie.SPLIT_SURVIVORS | AggregatorLie.SCATTER, VoteList():
                return [msgspec.structs.replace(message, votes=self.votes_for(owner))]
            case AggregatorLie.SPLIT_KEYS, KeyList() if owner in self.group:
                return [msgspec.structs.replace(message, keys=self.cut(message.keys))]
            case AggregatorLie.OWN_KEYS, KeyList():
                own = rules.secrets_from(random.randbytes(32), message.session, self.victim)
                keys = tuple(
                    msgspec.structs.replace(
                        each, cipher_key=own.public_cipher_key, mask_key=own.public_mask_key
                    ) if each.owner == self.victim else each
                    for each in message.keys
                )  # fmt: skip
                return [msgspec.structs.replace(message, keys=keys)]
            case AggregatorLie.FEW_VOTES, VoteList():
                few = message.votes[: self.terms.threshold - 1]
                return [msgspec.structs.replace(message, votes=random.choice((few, (*few, *few[-1:]))))]
            case AggregatorLie.REPLAY, SurvivorList():
                return [message, self.without_victim(message)]
            case AggregatorLie.REPLAY, VoteList():
                return [
                    message,
                    self.without_victim(SurvivorList(message.session, self.dealers, self.survivors)),
                    message,
                ]
        return honest

    @property
    def dealers(self) -> tuple[int, ...]:
        return tuple(self.state.lists[1])

    @property
    def survivors(self) -> tuple[int, ...]:
        return tuple(self.state.lists[2])

    def without_victim(self, message: SurvivorList) -> SurvivorList:
        rest = tuple(each for each in message.survivors if each != self.victim)
        return msgspec.structs.replace(message, survivors=rest)

    def scattered(self, owner: int, message: SurvivorList) -> SurvivorList:
        """As few survivors as may be: those that were left out least so far are left out next."""
        spare = self.size - self.terms.threshold
        out = sorted((each for each in self.missed if each != owner), key=lambda each: self.missed[each])[:spare]
        for each in out:
            self.missed[each] += 1
        rest = tuple(each for each in message.survivors if each not in out)
        return msgspec.structs.replace(message, survivors=rest)

    def cut(self, keys: tuple[KeyAnnouncement, ...]) -> tuple[KeyAnnouncement, ...]:
        return tuple(each for each in keys if self.random.random() < 0.7)

    def votes_for(self, owner: int) -> tuple[SurvivorVote, ...]:
        """The votes that suit what this owner was told; if they are too few, forged ones too."""
        told = self.clients[owner].survivors
        statement = rules.survivor_statement(
            self.state.session, rules.key_list_hash(self.clients[owner].keys), self.clients[owner].dealers, told
        )
        votes = {}
        for voter in told:
            if voter in self.coalition:
                votes[voter] = SurvivorVote(self.state.session, voter, rules.sign(node(voter), statement))
            elif isinstance(vote := self.last.get(voter), SurvivorVote) and self.clients[voter].survivors == told:
                votes[voter] = vote
        if len(votes) < self.terms.threshold:
            votes |= {voter: SurvivorVote(self.state.session, voter, bytes(64)) for voter in told if voter not in votes}
        return tuple(votes[voter] for voter in sorted(votes))

    def take(self, event: aggregator.AggregatorEvent) -> None:
        # This aggregator checks no votes: it takes the owners' own for the list of everybody.
        if (
            isinstance(event, aggregator.Received)
            and isinstance(event.message, SurvivorVote)
            and self.lie in (AggregatorLie.SPLIT_SURVIVORS, AggregatorLie.SCATTER)
            and event.owner in self.state.awaited
        ):
            answers = {**self.state.answers, event.owner: event.message}
            self.state = replace(self.state, awaited=self.state.awaited - {event.owner}, answers=answers)
            super().take(aggregator.Gone(-1))
            return
        super().take(event)

    def violations(self) -> list[str]:
        return self.unmasked(self.coalition)


def flipped(message: Message, random: Random) -> Message | None:
    """The message with one bit of its encoding changed; None where that is no message any more."""
    number, body = pack(message)
    changed = bytearray(body)
    changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    try:
        return unpack(number, bytes(changed))
    except MalformedMessage:
        return None


def _dealers(shares: tuple[OpenedShare, ...]) -> set[int]:
    return {share.dealer for share in shares}


def _signed(owner: int, unsigned: Unmasking) -> Unmasking:
    signature = rules.sign(node(owner), rules.unmasking_statement(unsigned))
    return msgspec.structs.replace(unsigned, signature=signature)
