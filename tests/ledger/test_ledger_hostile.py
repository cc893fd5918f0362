"""What a validator that lies can send to real ones, and a stranger who knows the words: each is dropped or refused,
counted, and the liar scored; the others go on with one chain. Three validators, and the key of the fourth in our hands.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest
import pytest_asyncio
from eth_account import Account as Wallet
from ledger_network import Keys, final_place, make_genesis, sign

from koinon.crypto.signature import NodeKey
from koinon.kernel.errors import Refused, Unavailable
from koinon.kernel.ids import Hash32
from koinon.kernel.quantities import BlockIndex, Epoch, Height, Milliseconds, UnixSeconds, View
from koinon.ledger.genesis import Genesis, Parameters
from koinon.ledger.giskard.certificates import genesis_certificate, proposal_message, vote_message
from koinon.ledger.types import header_hash
from koinon.ledger.validator import Validator, ValidatorConfig
from koinon.net.transport import Transport
from koinon.wire.catalogue import Message
from koinon.wire.consensus import (
    Block,
    Header,
    PrepareBlock,
    PrepareVote,
    QuorumCertificate,
    ViewChange,
    ViewEntry,
    ViewSync,
)
from koinon.wire.ledger import BlockRange, BlockRequest, RangeRequest, StatusRequest, TransactionBatch

pytestmark = pytest.mark.asyncio(loop_scope="module")

STRANGER = "0x" + "00" * 19 + "99"
LIAR = 3
KEYS = Keys.of(LIAR)
NOWHERE = Hash32(b"\xee" * 32)


@dataclass
class World:
    """Three honest validators, the transport of the liar, and of somebody who is no validator."""

    genesis: Genesis
    honest: list[Validator]
    transports: list[Transport]
    liar: Transport
    stranger: Transport
    nonces: Iterator[int] = field(default_factory=count)

    async def say(self, message: Message, sender: Transport | None = None) -> None:
        """Send to every honest validator."""
        for transport in self.transports:
            await (sender or self.liar).send(transport.endpoint, message)

    async def settle(self) -> None:
        """One more transfer becomes final everywhere, in the same block."""
        rich = Wallet.from_key(b"\x77" * 32)
        sent = self.honest[0].submit(sign(rich, next(self.nonces), STRANGER, value=1))
        async with asyncio.timeout(60):
            for validator in self.honest:
                place = await final_place(validator, sent.hash)
        assert len({header_hash(one.chain.header_at(place.height)) for one in self.honest}) == 1
        assert not any(one.consensus.state.halted for one in self.honest)

    def noticed(self) -> int:
        """How many messages the honest have refused, distrusted or held as evidence."""
        measures = [one.consensus.measures for one in self.honest]
        refused = sum(transport.measures.refused.total for transport in self.transports)
        return refused + sum(one.distrusted + one.contradictions for one in measures)

    @property
    def tip(self) -> Header:
        return self.honest[0].chain.final_header

    @property
    def view(self) -> View:
        return max(one.consensus.state.view for one in self.honest)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("hostile")
    rich = Wallet.from_key(b"\x77" * 32)
    async with AsyncExitStack() as stack:
        transports = [await stack.enter_async_context(Transport.open(Keys.of(number).node)) for number in range(4)]
        parameters = Parameters(blocks_per_view=5, base_timeout=Milliseconds(400))
        genesis = make_genesis(4, rich, [transport.endpoint.port for transport in transports], parameters)
        honest = []
        for number in range(3):
            keys = Keys.of(number)
            opening = Validator.open(
                ValidatorConfig(rpc_port=None),
                keys.bls,
                transports[number],
                keys.node.node_id,
                folder / str(number),
                genesis,
            )
            honest.append(await stack.enter_async_context(opening))
        stranger = await stack.enter_async_context(Transport.open(NodeKey.from_seed(b"\x55" * 32)))
        made = World(genesis, honest, transports[:3], transports[LIAR], stranger)
        await made.settle()
        yield made


# What the liar can make.


def vote(
    world: World, *, height: int = 1, view: int = 0, index: int = 0, block: Hash32 = NOWHERE, voter: int = LIAR
) -> PrepareVote:
    """A vote with the liar's true signature, so many heights and views ahead of the honest."""
    place = (Epoch(0), View(world.view + view), BlockIndex(index), Height(world.tip.height + height))
    signature = KEYS.bls.sign(vote_message(world.genesis.chain_id, *place, block))
    return PrepareVote(*place, block, voter, signature)


def proposal(world: World, **changes: object) -> PrepareBlock:
    """A block on the last final one in the next view of the liar, with its true signature."""
    tip = world.tip
    view = world.view + (LIAR - world.view) % 4 + 4
    fields: dict[str, object] = {
        "height": Height(tip.height + 1),
        "view": View(view),
        "index": BlockIndex(0),
        "proposer": LIAR,
        "parent": header_hash(tip),
        "timestamp": tip.timestamp,
    }
    header = Header(**{**{name: getattr(tip, name) for name in tip.__struct_fields__}, **fields, **changes})  # type: ignore[arg-type]
    return PrepareBlock(Block(header, ()), None, None, KEYS.bls.sign(proposal_message(world.genesis.chain_id, header)))


def false_certificate(world: World, **changes: object) -> QuorumCertificate:
    """A certificate that nobody but the liar has signed."""
    true = world.honest[0].chain.certificate_at(world.tip.height)
    fields = {name: getattr(true, name) for name in true.__struct_fields__}
    return QuorumCertificate(**{**fields, "view": world.view, "height": Height(world.tip.height + 9), **changes})


def view_change(world: World, *, sender: int = LIAR, highest: QuorumCertificate | None = None) -> ViewChange:
    known = highest or world.honest[0].chain.certificate_at(world.tip.height)
    return ViewChange(Epoch(0), world.view, sender, known, ViewEntry(known, None), KEYS.bls.sign(b"another statement"))


ATTEMPTS = 10
"""A lie that comes when the honest have just gone on to another view is a late message, which is dropped."""
Lie = Callable[[World], list[Message]]

# What is sent, and whether it must be noticed: what honest validators also send, only late, is dropped without a word.
LIES: dict[str, tuple[Lie, bool]] = {
    "another's vote": (lambda w: [vote(w, voter=0)], True),
    "a vote for a place that is none": (lambda w: [vote(w, index=999)], True),
    "two votes for one place": (lambda w: [vote(w), vote(w, block=Hash32(b"\xdd" * 32))], True),
    # An offender is reported once in an epoch; ``test_ledger_evidence`` has each contradiction alone.
    "two votes for one height": (lambda w: [vote(w, index=1), vote(w, index=2, block=Hash32(b"\xdd" * 32))], False),
    "a vote for the far future": (lambda w: [vote(w, view=10**9, height=10**9)], False),
    "a vote of long ago": (lambda w: [vote(w, view=-w.view, height=-w.tip.height)], False),
    "one vote a hundred times": (lambda w: [vote(w, height=2)] * 100, False),
    "a vote with a false signature": (lambda w: [_changed(vote(w, height=3), signature=b"\x01" * 96)], False),
    "a block dated in the future": (lambda w: [proposal(w, timestamp=UnixSeconds(int(time.time()) + 60))], True),
    "a block in another's turn": (lambda w: [proposal(w, proposer=0)], True),
    "a block of another chain": (lambda w: [proposal(w, chain_id=5)], True),
    "a block of another validator set": (lambda w: [proposal(w, validators=NOWHERE)], True),
    "a block that was altered": (lambda w: [_altered(proposal(w))], True),
    "a block on nothing": (lambda w: [proposal(w, parent=NOWHERE)], True),
    "a block with a false certificate": (
        lambda w: [_changed(proposal(w), parent_certificate=false_certificate(w, block=header_hash(w.tip)))],
        True,
    ),
    "a block with another's certificate": (
        lambda w: [_changed(proposal(w, parent=NOWHERE), parent_certificate=false_certificate(w))],
        True,
    ),
    "a view change with a false signature": (lambda w: [view_change(w)], True),
    "another's view change": (lambda w: [view_change(w, sender=0)], True),
    "a view change on a false certificate": (lambda w: [view_change(w, highest=false_certificate(w))], True),
    "an entry by a false certificate": (lambda w: [ViewSync(ViewEntry(false_certificate(w), None))], True),
    "an entry by nothing": (lambda _: [ViewSync(ViewEntry(None, None))], False),
    "an entry of the first view": (
        lambda w: [ViewSync(ViewEntry(genesis_certificate(w.genesis.header(), 4, 5), None))],
        False,
    ),
    "transactions that are none": (lambda _: [TransactionBatch((b"\x02garbage", b"\xc0", b"\x7f" * 1000))], False),
    "a flood": (lambda w: [vote(w, height=10 + number) for number in range(1000)], False),
}


def _changed(message: PrepareBlock | PrepareVote, **changes: object) -> Message:
    fields = {name: getattr(message, name) for name in message.__struct_fields__}
    return type(message)(**{**fields, **changes})  # type: ignore[arg-type]


def _altered(message: PrepareBlock) -> Message:
    header = message.block.header
    fields = {name: getattr(header, name) for name in header.__struct_fields__}
    other = Header(**{**fields, "state_root": NOWHERE})
    return PrepareBlock(Block(other, ()), None, None, message.signature)


@pytest.mark.parametrize("name", LIES)
async def test_a_lie_does_no_harm(name: str, world: World) -> None:
    make, is_noticed = LIES[name]
    before = world.noticed()
    for _ in range(ATTEMPTS):
        for message in make(world):
            await world.say(message)
        await world.settle()
        if world.noticed() > before or not is_noticed:
            return
    raise AssertionError(f"{name}: nobody noticed")


@pytest.mark.parametrize(
    "name", ["another's vote", "a block in another's turn", "a flood", "transactions that are none"]
)
async def test_a_stranger_is_told_that_it_has_no_say(name: str, world: World) -> None:
    def refusals() -> int:
        return sum(transport.measures.refused.total for transport in world.transports)

    before = refusals()
    messages = LIES[name][0](world)[:50]
    for message in messages:
        await world.say(message, world.stranger)
    # Its questions are answered all the same, and after what it said before.
    for transport in world.transports:
        assert await world.stranger.call(transport.endpoint, StatusRequest())
    assert refusals() >= before + 3 * len(messages)
    await world.settle()


async def test_questions_about_nothing_are_answered_with_nothing(world: World) -> None:
    for transport in world.transports:
        answer = await world.stranger.call(transport.endpoint, RangeRequest(Height(2**40), 256))
        assert isinstance(answer, BlockRange)
        assert answer.blocks == answer.certificates == ()
        unknown = await world.stranger.call(transport.endpoint, BlockRequest(NOWHERE))
        assert unknown.proposal is None  # type: ignore[attr-defined]


async def test_a_liar_is_hung_up_on_and_let_in_again_later(world: World) -> None:
    for _ in range(40):
        await world.say(vote(world, voter=0))
    async with asyncio.timeout(120):
        while not all(transport.standings().get(KEYS.node.node_id) == 100.0 for transport in world.transports):
            await world.settle()
    async with asyncio.timeout(120):
        with pytest.raises(Refused, match="offended too often"):
            await ask_until_refused(world)
    await world.settle()


async def ask_until_refused(world: World) -> None:
    """Ask again where the old connection broke under the question."""
    while True:
        try:
            await world.liar.call(world.transports[0].endpoint, StatusRequest())
        except Unavailable:
            continue


async def test_two_nodes_with_one_key_stop_signing_and_harm_nobody(tmp_path: Path) -> None:
    rich = Wallet.from_key(b"\x77" * 32)
    async with AsyncExitStack() as stack:
        transports = [await stack.enter_async_context(Transport.open(Keys.of(number).node)) for number in range(4)]
        parameters = Parameters(blocks_per_view=5, base_timeout=Milliseconds(400))
        genesis = make_genesis(4, rich, [one.endpoint.port for one in transports], parameters)
        twin = await stack.enter_async_context(Transport.open(KEYS.node))
        validators = []
        for place, (number, transport) in enumerate([*enumerate(transports), (LIAR, twin)]):
            keys = Keys.of(number)
            opening = Validator.open(
                ValidatorConfig(rpc_port=None),
                keys.bls,
                transport,
                keys.node.node_id,
                tmp_path / f"{place}" / "l",
                genesis,
            )
            validators.append(await stack.enter_async_context(opening))
        single, doubled = validators[:3], validators[3:]
        nonces = count()
        async with asyncio.timeout(120):
            while not any(one.consensus.state.halted for one in doubled):
                sent = single[0].submit(sign(rich, next(nonces), STRANGER, value=1))
                await final_place(single[0], sent.hash)
        final = min(one.chain.final_height for one in single)
        for height in range(final + 1):
            assert len({header_hash(one.chain.header_at(height)) for one in single}) == 1
        assert not any(one.consensus.state.halted for one in single)
