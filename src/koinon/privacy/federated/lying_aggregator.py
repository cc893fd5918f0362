"""The simulated aggregator that lies, with as many owners on its side as a round's terms tolerate."""

from dataclasses import replace
from enum import Enum
from random import Random

import msgspec

from koinon.privacy.federated import aggregator, client
from koinon.privacy.federated import session as rules
from koinon.privacy.federated.game import Game, Scenario, flipped, node
from koinon.wire.catalogue import Message
from koinon.wire.federated import (
    KeyAnnouncement,
    KeyList,
    RoundTerms,
    SurvivorList,
    SurvivorVote,
    Unmasking,
    VoteList,
)


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


class AggregatorGame(Game):
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
