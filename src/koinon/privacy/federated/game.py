"""One simulated round of secure aggregation, move by move: links, drop-outs, owners that lie, and what must hold."""

from collections import deque
from dataclasses import replace
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
    MaskedUpdate,
    OpenedShare,
    RoundTerms,
    ShareOffer,
    Unmasking,
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


@cache
def node(owner: int) -> NodeKey:
    """The key of a simulated owner."""
    return NodeKey.from_seed(bytes([1 + owner]) * 32)


class Game:
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
