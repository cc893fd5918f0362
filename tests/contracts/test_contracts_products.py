"""Products by strangers: a wrong number is proved and pays the client, a right one cannot be; money is conserved."""

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from contracts_chain import EvmChain
from contracts_world import UNIT, World, fresh_world, key_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from koinon.contracts.products import Products, ProductTerms, Refuted, product_digest
from koinon.contracts.refusals import Reverted
from koinon.contracts.token import UNLIMITED
from koinon.jobs.products import evidence, row_root
from koinon.kernel.ids import ZERO_ADDRESS, ZERO_HASH, Hash32
from koinon.kernel.quantities import TokenAmount, UnixSeconds

WORKER = "provider-0"
EVERYBODY = ("publisher", WORKER, "stranger")
FEE, BOND = 3 * UNIT + 1, 50 * UNIT
LASTING, CLAIMS = 500, 200
ROWS, INNER, COLUMNS = 5, 3, 4
LEFT = np.random.default_rng(1).integers(-(2**40), 2**40, (ROWS, INNER))
RIGHT = np.random.default_rng(2).integers(-(2**16), 2**16, (INNER, COLUMNS))
PRODUCT = LEFT @ RIGHT


def spoilt(row: int = 3, column: int = 2, error: int = 1) -> np.ndarray:
    """The product with one number that is wrong."""
    wrong = PRODUCT.copy()
    wrong[row, column] += error
    return wrong


WRONG = spoilt()


class Works:
    """The contract on a chain, as each person calls it."""

    def __init__(self, world: World, contract: Products) -> None:
        self.world, self.contract = world, contract

    @classmethod
    async def deploy(cls, world: World) -> "Works":
        client = world.by("publisher").client
        found = cls(world, await Products.deploy(client, world.suite.token.address))
        for name in ("publisher", WORKER):
            await world.by(name).token.approve(found.contract.address, UNLIMITED)
        return found

    def by(self, name: str) -> Products:
        return self.contract.through(self.world.client.with_key(key_of(name)))

    async def terms(self) -> ProductTerms:
        return ProductTerms(
            worker=self.world.address(WORKER),
            rows=ROWS,
            inner=INNER,
            columns=COLUMNS,
            left=row_root(LEFT),
            right=row_root(RIGHT.T),
            fee=TokenAmount(FEE),
            bond=TokenAmount(BOND),
            deadline=UnixSeconds(await self.world.now() + LASTING),
            claim_seconds=CLAIMS,
        )

    async def open(self) -> int:
        job = await self.by("publisher").open(await self.terms())
        await self.by(WORKER).join(job)
        return job

    async def signed(self, job: int, product: np.ndarray, name: str = WORKER) -> tuple[Hash32, bytes]:
        root = row_root(product)
        return root, key_of(name).sign_digest(product_digest(await self.contract.domain(), job, root))

    async def settle(self, job: int, product: np.ndarray = PRODUCT) -> None:
        await self.by("publisher").settle(job, *await self.signed(job, product))

    async def refute(self, job: int, claimed: np.ndarray, row: int, column: int) -> None:
        cell = evidence(LEFT, RIGHT, claimed, row, column)
        await self.by("stranger").refute(job, *await self.signed(job, claimed), cell)

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

    async def gained(self, before: dict[str, int]) -> dict[str, int]:
        after = await self.wealth()
        return {name: after[name] - before[name] for name in EVERYBODY if after[name] != before[name]}


@pytest.fixture
async def works(world: World) -> Works:
    return await Works.deploy(world)


async def test_a_product_is_paid_for_and_the_bond_goes_back(works: Works, chain: EvmChain) -> None:
    before = await works.wealth()
    job = await works.open()
    await works.settle(job)
    with pytest.raises(Reverted, match="TooEarly"):
        await works.by("publisher").close(job)
    chain.sleep(LASTING + CLAIMS + 2)
    await works.by("stranger").close(job)
    assert await works.gained(before) == {"publisher": -FEE, WORKER: FEE}
    assert await works.contract.total_held() == 0
    await works.check()


@pytest.mark.parametrize("paid", [False, True], ids=["unpaid", "paid by mistake"])
async def test_one_wrong_number_costs_the_bond_and_pays_the_client(works: Works, chain: EvmChain, paid: bool) -> None:
    before = await works.wealth()
    job = await works.open()
    if paid:
        await works.settle(job, WRONG)
    await works.refute(job, WRONG, 3, 2)
    (told,) = await works.contract.events(Refuted, job_id=job)
    assert (told.event.worker, told.event.row, told.event.column) == (works.world.address(WORKER), 3, 2)
    state = await works.contract.job_of(job)
    assert (state.bonded, state.charged, state.paid) == (False, True, paid)
    for step in (works.refute(job, WRONG, 3, 2), works.settle(job)):
        with pytest.raises(Reverted, match=r"AlreadyDone|NotAllowed"):
            await step
    with pytest.raises(Reverted, match="AlreadyDone"):
        await works.by(WORKER).join(job)
    chain.sleep(LASTING + CLAIMS + 2)
    await works.by("stranger").close(job)
    fee = FEE if paid else 0
    assert await works.gained(before) == {"publisher": BOND - fee, WORKER: fee - BOND}
    assert await works.contract.total_held() == 0
    await works.check()


async def test_a_right_number_is_no_evidence_wherever_it_stands(works: Works) -> None:
    job = await works.open()
    for row, column in [(0, 0), (ROWS - 1, COLUMNS - 1), (2, 1)]:
        with pytest.raises(Reverted, match="cell is missing or out of range"):
            await works.refute(job, PRODUCT, row, column)
    with pytest.raises(Reverted, match="cell is missing"):
        await works.refute(job, WRONG, 3, 1)
    assert (await works.contract.job_of(job)).bonded


BAD_CELLS: dict[str, tuple[dict[str, object], str]] = {
    "another row of the left matrix": ({"left": LEFT[0].astype(">i8").tobytes()}, "leftProof"),
    "a left row that is cut": ({"left": LEFT[3, :2].astype(">i8").tobytes()}, "left is missing"),
    "a left row that is longer": ({"left": bytes(8 * INNER + 1)}, "left is missing"),
    "another column of the right matrix": ({"right": RIGHT[:, 0].astype(">i8").tobytes()}, "rightProof"),
    "an empty right column": ({"right": b""}, "right is missing"),
    "another row of the product": ({"product": WRONG[0].astype(">i8").tobytes()}, "productProof"),
    "a product of other length": ({"product": bytes(8)}, "product is missing"),
    "another place": ({"row": 2}, "leftProof"),
    "a row that there is not": ({"row": ROWS}, "leftProof"),
    "a column that there is not": ({"column": COLUMNS}, "column is missing"),
    "another column's place": ({"column": 1}, "rightProof"),
    "no proof": ({"left_proof": ()}, "leftProof"),
    "a proof that is too long": ({"product_proof": (ZERO_HASH,) * 40}, "productProof"),
}


@pytest.mark.parametrize("case", BAD_CELLS)
async def test_evidence_of_something_else_is_refused(works: Works, case: str) -> None:
    change, sentence = BAD_CELLS[case]
    job = await works.open()
    cell = replace(evidence(LEFT, RIGHT, WRONG, 3, 2), **change)  # type: ignore[arg-type]
    with pytest.raises(Reverted, match=sentence):
        await works.by("publisher").refute(job, *await works.signed(job, WRONG), cell)
    assert (await works.contract.job_of(job)).bonded


async def test_only_what_the_worker_signed_for_this_job_counts(works: Works) -> None:
    job, other = await works.open(), await works.open()
    cell = evidence(LEFT, RIGHT, WRONG, 3, 2)
    root, of_another = await works.signed(other, WRONG)
    _, by_another = await works.signed(job, WRONG, "stranger")
    right_root, right = await works.signed(job, PRODUCT)
    for product, signature, sentence in (
        (root, of_another, "BadSignature"),
        (root, by_another, "BadSignature"),
        (root, right, "BadSignature"),
        (root, b"", "BadSignature"),
        (right_root, right, "productProof"),
    ):
        with pytest.raises(Reverted, match=sentence):
            await works.by("publisher").refute(job, product, signature, cell)
    with pytest.raises(Reverted, match="BadSignature"):
        await works.by("publisher").settle(job, root, right)


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_every_wrong_number_of_any_product_can_be_shown(data: st.DataObject) -> None:
    """Also sums that wrap: they are modulo 2⁶⁴ for both."""
    rows, inner, columns = [data.draw(st.integers(1, 9)) for _ in range(3)]
    words = st.integers(-(2**63), 2**63 - 1)
    left = np.array(data.draw(st.lists(words, min_size=rows * inner, max_size=rows * inner))).reshape(rows, inner)
    right = np.array(data.draw(st.lists(words, min_size=inner * columns, max_size=inner * columns)))
    right = right.reshape(inner, columns)
    row, column = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    error = data.draw(words.filter(bool))

    _, world = fresh_world()

    async def shown() -> None:
        works = await Works.deploy(world)
        shape = {"rows": rows, "inner": inner, "columns": columns}
        terms = replace(await works.terms(), **shape, left=row_root(left), right=row_root(right.T))
        job = await works.by("publisher").open(terms)
        await works.by(WORKER).join(job)
        claimed = left @ right
        signed, cell = await works.signed(job, claimed), evidence(left, right, claimed, row, column)
        with pytest.raises(Reverted, match="cell is missing"):
            await works.by("publisher").refute(job, *signed, cell)
        spoils = np.zeros_like(claimed)
        spoils[row, column] = error
        claimed = claimed + spoils
        cell = evidence(left, right, claimed, row, column)
        await works.by("publisher").refute(job, *await works.signed(job, claimed), cell)
        assert (await works.contract.job_of(job)).charged

    asyncio.run(shown())


BAD_TERMS: dict[str, tuple[dict[str, object], str]] = {
    "nobody": ({"worker": ZERO_ADDRESS}, "worker"),
    "itself": ({"worker": key_of("publisher").address}, "worker"),
    "no rows": ({"rows": 0}, "rows"),
    "too many rows": ({"rows": 65_537}, "rows"),
    "no inner size": ({"inner": 0}, "inner"),
    "too large an inner size": ({"inner": 4_097}, "inner"),
    "no columns": ({"columns": 0}, "columns"),
    "too many columns": ({"columns": 4_097}, "columns"),
    "no left matrix": ({"left": ZERO_HASH}, "left"),
    "no right matrix": ({"right": ZERO_HASH}, "right"),
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
    assert await works.gained(before) == {}


async def test_steps_out_of_place_are_refused(works: Works, chain: EvmChain) -> None:
    job = await works.by("publisher").open(await works.terms())
    steps: list[tuple[Awaitable[Any], str]] = [
        (works.by("stranger").join(job), "NotAllowed"),
        (works.by(WORKER).join(99), "Unknown"),
        (works.settle(job), "NotAllowed"),
        (works.refute(job, WRONG, 3, 2), "NotAllowed"),
        (works.by("publisher").close(99), "Unknown"),
    ]
    for step, sentence in steps:
        with pytest.raises(Reverted, match=sentence):
            await step
    await works.by(WORKER).join(job)
    with pytest.raises(Reverted, match="AlreadyDone"):
        await works.by(WORKER).join(job)
    signed = await works.signed(job, PRODUCT)
    with pytest.raises(Reverted, match="NotAllowed"):
        await works.by("stranger").settle(job, *signed)
    await works.settle(job)
    with pytest.raises(Reverted, match="AlreadyDone"):
        await works.settle(job)
    late = await works.open()
    alone = await works.by("publisher").open(await works.terms())
    chain.sleep(LASTING + 2)
    for step in (works.settle(late), works.by(WORKER).join(alone)):
        with pytest.raises(Reverted, match="TooLate"):
            await step
    # Claims are still open, and after them nothing can be charged any more.
    chain.sleep(CLAIMS + 1)
    await works.by("stranger").close(job)
    with pytest.raises(Reverted, match="AlreadyDone"):
        await works.by("stranger").close(job)
    with pytest.raises(Reverted, match="NotAllowed"):
        await works.refute(job, WRONG, 3, 2)
    await works.check()


claimed = st.sampled_from((PRODUCT, WRONG))


class Money(RuleBasedStateMachine):
    """Every step by anybody in any order: nothing is made or lost, and after the end nothing is held."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.chain, world = fresh_world()
        self.works = self.run(Works.deploy(world))
        self.total = self.run(self.sum())
        self.jobs = [self.run(self.works.open())]

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

    @rule()
    def open(self) -> None:
        self.jobs.append(self.run(self.works.by("publisher").open(self.run(self.works.terms()))))

    @rule()
    def join(self) -> None:
        self.attempt(self.works.by(WORKER).join(self.jobs[-1]))

    @rule(product=claimed)
    def settle(self, product: np.ndarray) -> None:
        self.attempt(self.works.settle(self.jobs[-1], product))

    @rule(product=claimed, column=st.integers(0, COLUMNS - 1))
    def refute(self, product: np.ndarray, column: int) -> None:
        self.attempt(self.works.refute(self.jobs[-1], product, 3, column))

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


@pytest.mark.long
def test_money_is_conserved_in_a_sample_of_all_orders() -> None:
    run_state_machine_as_test(
        Money,
        settings=settings(
            max_examples=4, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
