"""Encrypted work for strangers: who agrees is paid, who answers otherwise loses its bond, and money is conserved."""

import asyncio
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from contracts_chain import EvmChain
from contracts_world import UNIT, World, digest_of, fresh_world, key_of
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from koinon.contracts.eip712 import Domain
from koinon.contracts.outsourcing import Charged, Outsourcing, OutsourcingTerms, SignedAnswer, answer_digest
from koinon.contracts.refusals import Reverted
from koinon.contracts.token import UNLIMITED
from koinon.crypto.random import SystemRng
from koinon.crypto.signature import NodeKey
from koinon.jobs.outsourcing import Task, paid_work, receipts_of, settle
from koinon.kernel.codec import encode
from koinon.kernel.errors import MalformedMessage, Refused
from koinon.kernel.ids import ZERO_ADDRESS, ZERO_HASH, Address
from koinon.kernel.quantities import TokenAmount, UnixSeconds
from koinon.net.transport import Transport
from koinon.privacy.encrypted.ckks import generate
from koinon.privacy.encrypted.models import EncryptedModel, Link, layer
from koinon.privacy.encrypted.outsourcing import outsource
from koinon.privacy.encrypted.parts import whole
from koinon.privacy.encrypted.service import ask, serve
from koinon.privacy.rep4.adversary import SeededRng
from koinon.wire.encrypted import EncryptedQuestion

WORKERS = ("provider-0", "provider-1", "provider-2", "provider-3")
SINK = "buyer"
EVERYBODY = ("publisher", *WORKERS, SINK, "stranger")
FEE, BOND = 3 * UNIT + 1, 50 * UNIT
PIECES, AGREE = 3, 2
LASTING, CLAIMS = 500, 200


class Works:
    """The contract on a chain, as each person calls it."""

    def __init__(self, world: World, contract: Outsourcing) -> None:
        self.world, self.contract = world, contract

    @classmethod
    async def deploy(cls, world: World) -> "Works":
        publisher = world.by("publisher")
        found = cls(world, await Outsourcing.deploy(publisher.client, world.suite.token.address, world.address(SINK)))
        for name in ("publisher", *WORKERS):
            await world.by(name).token.approve(found.contract.address, UNLIMITED)
        return found

    def by(self, name: str) -> Outsourcing:
        return self.contract.through(self.world.client.with_key(key_of(name)))

    async def terms(self) -> OutsourcingTerms:
        return OutsourcingTerms(
            workers=tuple(self.world.address(name) for name in WORKERS),
            pieces=PIECES,
            agree=AGREE,
            fee=TokenAmount(FEE),
            bond=TokenAmount(BOND),
            deadline=UnixSeconds(await self.world.now() + LASTING),
            claim_seconds=CLAIMS,
        )

    async def open(self, joined: tuple[str, ...] = WORKERS) -> int:
        job = await self.by("publisher").open(await self.terms())
        for name in joined:
            await self.by(name).join(job)
        return job

    async def signed(self, job: int, piece: int, name: str, answer: str, question: str = "rows") -> SignedAnswer:
        asked, said = digest_of(question), digest_of(answer)
        digest = answer_digest(await self.contract.domain(), job, piece, asked, said)
        return SignedAnswer(asked, said, key_of(name).sign_digest(digest))

    async def settle(self, job: int, piece: int, answer: str = "right", signing: tuple[str, ...] = WORKERS[:2]) -> None:
        signatures = [
            (await self.signed(job, piece, name, answer)).signature if name in signing else b"" for name in WORKERS
        ]
        await self.by("stranger").settle(job, piece, digest_of("rows"), digest_of(answer), signatures)

    async def wealth(self) -> dict[str, int]:
        """What everybody has, in the purse and as credit."""
        token = self.world.suite.token
        return {
            name: await token.balance_of(self.world.address(name))
            + await self.contract.credit_of(self.world.address(name))
            for name in EVERYBODY
        }

    async def check(self) -> None:
        held, credit = await self.contract.total_held(), await self.contract.total_credit()
        assert await self.world.suite.token.balance_of(self.contract.address) == held + credit
        assert credit == sum([await self.contract.credit_of(self.world.address(name)) for name in EVERYBODY])


@pytest.fixture
async def works(world: World) -> Works:
    return await Works.deploy(world)


async def test_those_who_agree_are_paid_and_the_rest_goes_back(works: Works, chain: EvmChain) -> None:
    before = await works.wealth()
    job = await works.open()
    await works.settle(job, 0, signing=WORKERS[:3])
    await works.settle(job, 2, signing=("provider-1", "provider-3"))
    assert (await works.contract.job_of(job)).settled == 2
    assert (await works.contract.piece_of(job, 2)).answer == digest_of("right")
    with pytest.raises(Reverted, match="TooEarly"):
        await works.by("publisher").close(job)
    chain.sleep(LASTING + CLAIMS + 2)
    await works.by("stranger").close(job)
    after = await works.wealth()
    gained = {name: after[name] - before[name] for name in EVERYBODY if after[name] != before[name]}
    # The first two who signed are paid for each piece; the third signature is not needed.
    assert gained == {"publisher": -4 * FEE, "provider-0": FEE, "provider-1": 2 * FEE, "provider-3": FEE}
    assert await works.contract.total_held() == 0
    await works.check()
    for name in ("provider-0", "publisher"):
        await works.by(name).withdraw()
    await works.check()


async def test_two_answers_to_one_question_cost_the_bond_and_pay_the_client(works: Works) -> None:
    job = await works.open()
    one, other = [await works.signed(job, 1, "provider-2", answer) for answer in ("right", "wrong")]
    before = await works.wealth()
    await works.by("stranger").contradict(job, 1, works.world.address("provider-2"), one, other)
    after = await works.wealth()
    assert {name for name in EVERYBODY if after[name] != before[name]} == {"publisher"}
    assert after["publisher"] - before["publisher"] == BOND
    (told,) = await works.contract.events(Charged, job_id=job)
    assert (told.event.worker, told.event.piece) == (works.world.address("provider-2"), 1)
    with pytest.raises(Reverted, match="NotAllowed"):
        await works.by("stranger").contradict(job, 1, works.world.address("provider-2"), one, other)
    with pytest.raises(Reverted, match="NotAllowed"):
        await works.settle(job, 0, signing=("provider-1", "provider-2"))
    await works.check()


async def test_an_answer_that_enough_others_did_not_give_costs_the_bond_and_pays_nobody_in_the_work(
    works: Works,
) -> None:
    job = await works.open()
    wrong = await works.signed(job, 0, "provider-3", "wrong")
    with pytest.raises(Reverted, match="Unknown"):
        await works.by("publisher").outvote(job, 0, works.world.address("provider-3"), wrong)
    await works.settle(job, 0)
    before = await works.wealth()
    await works.by("publisher").outvote(job, 0, works.world.address("provider-3"), wrong)
    after = await works.wealth()
    assert {name: after[name] - before[name] for name in EVERYBODY if after[name] != before[name]} == {SINK: BOND}
    await works.check()


async def test_a_client_that_asks_two_questions_proves_nothing(works: Works) -> None:
    """An honest worker answers what it is asked; the signatures name the question."""
    job = await works.open()
    worker = works.world.address("provider-3")
    one = await works.signed(job, 0, "provider-3", "first answer", "first question")
    other = await works.signed(job, 0, "provider-3", "second answer", "second question")
    with pytest.raises(Reverted, match="BadSignature"):
        await works.by("publisher").contradict(job, 0, worker, one, other)
    await works.settle(job, 0)
    with pytest.raises(Reverted, match="BadSignature"):
        await works.by("publisher").outvote(job, 0, worker, one)


BAD_TERMS: dict[str, tuple[dict[str, object], str]] = {
    "one worker": ({"workers": (key_of("provider-0").address,)}, "workers"),
    "17 workers": ({"workers": tuple(Address(bytes([9] * 19 + [n])) for n in range(17))}, "workers"),
    "nobody": ({"workers": (ZERO_ADDRESS, key_of("provider-0").address)}, "workers"),
    "itself": ({"workers": (key_of("publisher").address, key_of("provider-0").address)}, "workers"),
    "a worker twice": ({"workers": (key_of("provider-0").address,) * 2}, "AlreadyDone"),
    "no piece": ({"pieces": 0}, "pieces"),
    "too many pieces": ({"pieces": 100_001}, "pieces"),
    "one is enough": ({"agree": 1}, "agree"),
    "more than there are": ({"agree": 5}, "agree"),
    "a fee beyond the chain": ({"fee": 2**96}, "fee"),
    "a deadline that passed": ({"deadline": 5}, "TooLate"),
    "a deadline in years": ({"deadline": 2**40}, "deadline"),
    "no time for claims": ({"claim_seconds": 0}, "claimSeconds"),
    "years for claims": ({"claim_seconds": 2**32 - 1}, "claimSeconds"),
}


@pytest.mark.parametrize("case", BAD_TERMS)
async def test_terms_that_cannot_be_are_refused_and_cost_nothing(works: Works, case: str) -> None:
    change, sentence = BAD_TERMS[case]
    before = await works.wealth()
    with pytest.raises(Reverted, match=sentence):
        await works.by("publisher").open(replace(await works.terms(), **change))  # type: ignore[arg-type]
    assert await works.wealth() == before


async def test_steps_out_of_place_are_refused(works: Works, chain: EvmChain) -> None:
    job = await works.open(WORKERS[:2])
    worker = works.world.address("provider-0")
    right, wrong = [await works.signed(job, 0, "provider-0", answer) for answer in ("right", "wrong")]
    steps: list[tuple[Awaitable[Any], str]] = [
        (works.by("stranger").join(job), "NotAllowed"),
        (works.by("provider-0").join(job), "AlreadyDone"),
        (works.by("provider-0").join(99), "Unknown"),
        (works.settle(job, 0, signing=("provider-0",)), "TooFewSignatures"),
        (works.settle(job, 0, signing=("provider-0", "provider-3")), "NotAllowed"),
        (works.settle(job, PIECES), "BadField"),
        (works.by("stranger").settle(job, 0, digest_of("rows"), digest_of("right"), [b""] * 3), "BadField"),
        (works.by("stranger").settle(job, 0, ZERO_HASH, digest_of("right"), [b""] * 4), "BadField"),
        (works.by("stranger").settle(job, 0, digest_of("rows"), ZERO_HASH, [b""] * 4), "BadField"),
        (
            works.by("stranger").settle(job, 0, digest_of("rows"), digest_of("x"), [right.signature] * 2 + [b""] * 2),
            "BadSignature",
        ),
        (works.by("stranger").contradict(job, 0, worker, right, right), "BadField"),
        (works.by("stranger").contradict(job, 1, worker, right, wrong), "BadSignature"),
        (works.by("stranger").contradict(job, 0, works.world.address("provider-3"), right, wrong), "NotAllowed"),
        (works.by("stranger").contradict(job, 0, works.world.address("provider-1"), right, wrong), "BadSignature"),
    ]
    for step, sentence in steps:
        with pytest.raises(Reverted, match=sentence):
            await step
    await works.settle(job, 0)
    with pytest.raises(Reverted, match="AlreadyDone"):
        await works.settle(job, 0)
    with pytest.raises(Reverted, match="BadField"):
        await works.by("stranger").outvote(job, 0, worker, right)
    chain.sleep(LASTING + 2)
    for late in (works.by("provider-2").join(job), works.settle(job, 1)):
        with pytest.raises(Reverted, match="TooLate"):
            await late
    # Claims are still open, and after them nothing can be charged any more.
    chain.sleep(CLAIMS + 1)
    await works.by("stranger").close(job)
    with pytest.raises(Reverted, match="AlreadyDone"):
        await works.by("stranger").close(job)
    with pytest.raises(Reverted, match="NotAllowed"):
        await works.by("stranger").contradict(job, 0, worker, right, wrong)
    await works.check()


piece = st.integers(0, PIECES)
worker = st.sampled_from(WORKERS)
answer = st.sampled_from(("right", "wrong"))


class Money(RuleBasedStateMachine):
    """Every step by anybody in any order: nothing is made or lost, and after the end nothing is held."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.chain, world = fresh_world()
        self.works = self.run(Works.deploy(world))
        self.total = self.run(self.sum())
        self.jobs = [self.run(self.works.open(WORKERS[:3]))]

    def run(self, step: Awaitable[Any]) -> Any:
        return self.loop.run_until_complete(step)  # type: ignore[arg-type]  # every step here is a coroutine

    def attempt(self, step: Awaitable[Any]) -> None:
        try:
            self.run(step)
        except Reverted:
            return

    async def sum(self) -> int:
        return sum((await self.works.wealth()).values()) + await self.works.contract.total_held()

    @rule(seconds=st.sampled_from((1, 201, 501)))
    def wait(self, seconds: int) -> None:
        self.chain.sleep(seconds)

    @rule(name=worker)
    def join(self, name: str) -> None:
        self.attempt(self.works.by(name).join(self.jobs[-1]))

    @rule()
    def open(self) -> None:
        self.jobs.append(self.run(self.works.open(())))

    @rule(place=piece, said=answer, signing=st.sets(worker))
    def settle(self, place: int, said: str, signing: set[str]) -> None:
        self.attempt(self.works.settle(self.jobs[-1], place, said, tuple(signing)))

    @rule(place=piece, name=worker, said=answer)
    def outvote(self, place: int, name: str, said: str) -> None:
        signed = self.run(self.works.signed(self.jobs[-1], place, name, said))
        self.attempt(self.works.by("stranger").outvote(self.jobs[-1], place, self.works.world.address(name), signed))

    @rule(place=piece, name=worker, one=answer, other=answer)
    def contradict(self, place: int, name: str, one: str, other: str) -> None:
        both = [self.run(self.works.signed(self.jobs[-1], place, name, each)) for each in (one, other)]
        account = self.works.world.address(name)
        self.attempt(self.works.by("stranger").contradict(self.jobs[-1], place, account, *both))

    @rule(which=st.integers(0, 5))
    def close(self, which: int) -> None:
        self.attempt(self.works.by("stranger").close(self.jobs[which % len(self.jobs)]))

    @rule(name=st.sampled_from(EVERYBODY))
    def withdraw(self, name: str) -> None:
        self.attempt(self.works.by(name).withdraw())

    @invariant()
    def conserved(self) -> None:
        self.run(self.works.check())
        assert self.run(self.sum()) == self.total

    def teardown(self) -> None:
        self.chain.sleep(LASTING + CLAIMS + 2)
        for job in self.jobs:
            self.attempt(self.works.by("stranger").close(job))
        assert self.run(self.works.contract.total_held()) == 0
        self.conserved()
        self.loop.close()


def test_money_is_conserved_in_every_order() -> None:
    run_state_machine_as_test(
        Money,
        settings=settings(
            max_examples=4, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


MODEL = EncryptedModel((layer(np.array([[0.5, -2.0]]), np.array([0.25])),), Link.IDENTITY)
LIAR = EncryptedModel((layer(np.array([[0.5, -2.0 + 1e-6]]), np.array([0.25])),), Link.IDENTITY)


async def test_encrypted_rows_are_answered_paid_for_and_the_liar_is_charged(works: Works) -> None:
    """The whole way: three nodes over TLS, one of which computes something else, and the contract between them."""
    rng, rows = SystemRng(), np.random.default_rng(1).normal(size=(9, 2))
    names = WORKERS[:3]
    workers = tuple(works.world.address(name) for name in names)
    terms = replace(await works.terms(), workers=workers)
    job = await works.by("publisher").open(terms)
    domain = await works.contract.domain()
    for name in names:
        await works.by(name).join(job)
    async with AsyncExitStack() as stack:
        keys = [NodeKey.generate(rng) for _ in names]
        nodes = [await stack.enter_async_context(Transport.open(key, "127.0.0.1", 0)) for key in keys]
        client = await stack.enter_async_context(Transport.open(NodeKey.generate(rng), "127.0.0.1", 0))
        for number, (node, key) in enumerate(zip(nodes, keys, strict=True)):
            receipts = receipts_of(key_of(names[number]), domain, {job})
            serve(node.handle, key, {"risk": LIAR if number == 1 else MODEL}, receipts=receipts)
        endpoints = [node.endpoint for node in nodes]
        # With this draw the liar is asked about one piece or more.
        result = await outsource(
            client,
            endpoints,
            whole(MODEL, lambda _: "risk"),
            rows,
            SeededRng(b"draw"),
            piece_rows=3,
            paid=paid_work(domain, job, workers),
        )
        with pytest.raises(Refused, match="did not join the work"):
            await ask(client, endpoints[0], question_of(domain, job + 1))
        unpaid = await stack.enter_async_context(Transport.open(NodeKey.generate(rng), "127.0.0.1", 0))
        serve(unpaid.handle, keys[0], {"risk": MODEL})
        with pytest.raises(Refused, match="takes no paid work"):
            await ask(client, unpaid.endpoint, question_of(domain, job))
    np.testing.assert_allclose(result.answers, MODEL.in_the_clear(rows), atol=1e-3)
    before = await works.wealth()
    done = await settle(works.by("publisher"), job, workers, result)
    assert done.pieces == (0, 1, 2)
    assert done.charged == (workers[1],)
    after = await works.wealth()
    gained = {name: after[name] - before[name] for name in EVERYBODY if after[name] != before[name]}
    assert gained == {names[0]: 3 * FEE, names[2]: 3 * FEE, SINK: BOND}
    await works.check()


def question_of(domain: Domain, job: int) -> EncryptedQuestion:
    keys = generate(MODEL.depth)
    task = encode(Task(domain.chain_id, domain.contract, job, 0))
    return EncryptedQuestion("risk", keys.public, tuple(keys.encrypt(np.ones((1, 2)))), task)


async def test_a_receipt_of_another_piece_or_account_is_none(works: Works) -> None:
    domain = await works.contract.domain()
    workers = tuple(works.world.address(name) for name in WORKERS)
    paid = paid_work(domain, 1, workers)
    good = await works.signed(1, 0, "provider-0", "right")
    assert paid.is_receipt(0, 0, good.question, good.answer, good.signature)
    for stranger, piece, receipt in ((1, 0, good.signature), (0, 1, good.signature), (0, 0, b""), (0, 0, bytes(65))):
        assert not paid.is_receipt(stranger, piece, good.question, good.answer, receipt)
    elsewhere = paid_work(replace(domain, contract=works.world.address("stranger")), 1, workers)
    assert not elsewhere.is_receipt(0, 0, good.question, good.answer, good.signature)


async def test_a_worker_signs_for_nothing_but_its_own_jobs(works: Works) -> None:
    domain = await works.contract.domain()
    sign = receipts_of(key_of("provider-0"), domain, {1})
    question, said = digest_of("rows"), digest_of("right")
    assert sign(encode(Task(domain.chain_id, domain.contract, 1, 0)), question, said)
    for task in (
        Task(domain.chain_id, domain.contract, 2, 0),
        Task(domain.chain_id + 1, domain.contract, 1, 0),
        Task(domain.chain_id, works.world.address("stranger"), 1, 0),
    ):
        with pytest.raises(Refused, match="did not join the work"):
            sign(encode(task), question, said)
    with pytest.raises(MalformedMessage):
        sign(b"\x93\x01", question, said)
