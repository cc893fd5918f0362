"""This node has strangers multiply matrices, and believes none of them.

    open and pay → OfferProduct → check the signed product → settle, or refute and ask the next worker → close

Products are checked with Freivalds' method, so that one worker is enough; a wrong number is proved on the chain, where
everybody sees its row and its column. A matrix that is to be hidden is cut into two that add up to it modulo 2⁶⁴, of
which each alone is random: workers multiply such parts, and none is given two of a matrix. Wrong numbers are then shown
to nobody unless the operator says so, since whoever has the other part would learn the row.
"""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from koinon.contracts.eip712 import Domain
from koinon.contracts.products import Products, ProductTerms, product_digest
from koinon.crypto.signature import recover_address
from koinon.kernel.codec import decode
from koinon.kernel.effects import Rng
from koinon.kernel.errors import InvalidInput, KoinonError, MalformedMessage, Unavailable
from koinon.kernel.ids import Address, Hash32, to_hex
from koinon.kernel.quantities import UnixSeconds
from koinon.node import orders
from koinon.node.context import Context
from koinon.node.roles.outsourced_jobs import (
    PRODUCT,
    Job,
    allow,
    check_created,
    checked_products,
    collect,
    keep_job,
    kept_jobs,
    now,
)
from koinon.node.tasks import Narrator
from koinon.wire.discovery import Endpoint
from koinon.wire.encrypted import OfferProduct, SignedProduct

if TYPE_CHECKING:
    import numpy as np

ANSWER_SECONDS: Final = 900.0
HIDDEN: Final = ("", "left", "right", "both")
_CONTRACT: Final = b"products/contract/2"


class _Asked:
    """Two matrices to be multiplied, their words and their commitments. Raises InvalidInput for sizes beyond any.

    ``wraps`` says that they are parts of others and salted.
    """

    def __init__(self, left: "np.ndarray", right: "np.ndarray", *, wraps: bool) -> None:
        from koinon.jobs.products import row_root
        from koinon.privacy.multiplication import check_sizes, to_words

        check_sizes(left.shape[0], left.shape[1], right.shape[1])
        self.left, self.right, self.wraps = left, right, wraps
        self.left_root, self.right_root = row_root(left), row_root(right.T)
        self.words = to_words(left), to_words(right)

    def wrong_in(self, claimed: "np.ndarray", rng: Rng) -> tuple[int, int] | None:
        """Row and column of a wrong number; None where the product is right."""
        from koinon.privacy.encrypted.freivalds import wrong_number, wrong_word

        return (wrong_word if self.wraps else wrong_number)(self.left, self.right, claimed, rng)

    def opened(self, product: "np.ndarray") -> "np.ndarray":
        """What was wanted of the product."""
        from koinon.privacy.multiplication import unsalted

        return unsalted(product) if self.wraps else product


@dataclass
class _Signed:
    """What a worker sent: a product, its commitment, and a signature that has been checked."""

    claimed: "np.ndarray"
    product: Hash32
    signature: bytes


@dataclass
class _Course:
    """How the work goes: workers that were given nothing yet, and what came of the others."""

    waiting: list[tuple[Address, Endpoint]]
    paid: list[Address] = field(default_factory=list)
    jobs: list[int] = field(default_factory=list)
    wrong: list[Address] = field(default_factory=list)
    charged: list[Address] = field(default_factory=list)
    silent: list[Address] = field(default_factory=list)


class ProductRole:
    """What this node has others do."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def attach(self) -> None:
        """Take orders; get back what is left of jobs that a restart has interrupted."""
        self._context.board.offer("work.multiply", self._multiply)
        for job in kept_jobs(self._context, PRODUCT):
            if job.client == self._context.keys.node.node_id:
                self._context.spawn(collect(self._context, job), f"product {job.number}")

    async def _multiply(self, argument: bytes, narrator: Narrator) -> orders.Multiplied:
        """Have workers multiply, others after those that fail, until the product is right.

        Raises:
            InvalidInput: files that hold no two matrices whose product can be checked, or too few workers.
            Unavailable: no worker sent the product.
        """
        from koinon.node.matrix_files import check_new, write_product

        order, context = decode(orders.Multiply, argument), self._context
        check_new(Path(order.out))
        asked = await asyncio.to_thread(self._prepared, order)
        if len(set(order.workers)) != len(order.workers) or len(order.workers) < len(asked):
            raise InvalidInput(f"name {len(asked)} different workers or more; {len(order.workers)} were given")
        course = _Course([(worker, (await context.record_of(worker)).endpoint) for worker in order.workers])
        contract = await self._contract(order, narrator)
        total = None
        for one in asked:
            product = await self._multiplied(contract, one, course, order, narrator)
            total = product if total is None else total + product
        assert total is not None  # a product has one part or more
        await asyncio.to_thread(write_product, Path(order.out), total, order.fraction_bits)
        narrator.say("the product is right, and paid for", 1.0)
        return orders.Multiplied(
            contract=contract.address,
            jobs=tuple(course.jobs),
            workers=tuple(course.paid),
            rows=total.shape[0],
            columns=total.shape[1],
            wrong=tuple(course.wrong),
            charged=tuple(course.charged),
            silent=tuple(course.silent),
        )

    def _prepared(self, order: orders.Multiply) -> list[_Asked]:
        """What workers are to multiply: products that add up to the one that is wanted. Raises InvalidInput."""
        from koinon.node.matrix_files import read_matrix
        from koinon.privacy.encrypted.freivalds import check_factors
        from koinon.privacy.multiplication import hidden, salted

        if order.hide not in HIDDEN:
            raise InvalidInput("a product hides the left matrix, the right one, both or none")
        left, right = [read_matrix(Path(path), order.fraction_bits) for path in (order.left, order.right)]
        check_factors(left, right)
        lefts = hidden(left, self._context.rng) if order.hide in ("left", "both") else (left,)
        rights = hidden(right, self._context.rng) if order.hide in ("right", "both") else (right,)
        if not order.hide:
            return [_Asked(left, right, wraps=False)]
        pairs = [salted(one, other, self._context.rng) for one in lefts for other in rights]
        return [_Asked(one, other, wraps=True) for one, other in pairs]

    async def _multiplied(
        self, contract: Products, asked: _Asked, course: _Course, order: orders.Multiply, narrator: Narrator
    ) -> "np.ndarray":
        """One product that is right. Raises Unavailable where no worker is left."""
        while course.waiting:
            worker, endpoint = course.waiting.pop(0)
            number = await self._open(contract, asked, worker, order)
            try:
                sent = await self._ask(contract, number, asked, worker, endpoint)
            except KoinonError as problem:
                narrator.say(f"{to_hex(worker)} sent no product: {problem}")
                course.silent.append(worker)
                continue
            wrong = await asyncio.to_thread(asked.wrong_in, sent.claimed, self._context.rng)
            if wrong is not None:
                course.wrong.append(worker)
                if order.charge:
                    await self._charge(contract, number, asked, sent, wrong)
                    course.charged.append(worker)
                narrator.say(f"{to_hex(worker)} signed a wrong product{'; it is charged' if order.charge else ''}")
                continue
            await contract.settle(number, sent.product, sent.signature)
            course.paid.append(worker)
            course.jobs.append(number)
            return asked.opened(sent.claimed)
        raise Unavailable(
            f"no worker is left: {len(course.paid)} sent a right product and were paid, {len(course.wrong)} a wrong"
            f" one, of whom {len(course.charged)} lost their bonds, {len(course.silent)} none; unpaid fees come back"
            " after the deadlines"
        )

    async def _open(self, contract: Products, asked: _Asked, worker: Address, order: orders.Multiply) -> int:
        context = self._context
        terms = ProductTerms(
            worker=worker,
            rows=asked.left.shape[0],
            inner=asked.left.shape[1],
            columns=asked.right.shape[1],
            left=asked.left_root,
            right=asked.right_root,
            fee=order.fee,
            bond=order.bond,
            deadline=UnixSeconds(await now(context) + order.seconds),
            claim_seconds=order.claim_seconds,
        )
        await allow(context, contract, order.fee)
        number = await contract.open(terms)
        chain_id, own = int(await context.client.chain_id()), context.keys.node.node_id
        job = Job(chain_id, contract.address, number, 1, terms.closes, own, (), PRODUCT)
        keep_job(context, job)
        context.spawn(collect(context, job), f"product {number}")
        return number

    async def _ask(
        self, contract: Products, number: int, asked: _Asked, worker: Address, endpoint: Endpoint
    ) -> _Signed:
        """What a worker signed. Raises KoinonError where it sends nothing of the kind."""
        offer = OfferProduct(contract.address, number, *asked.words)
        reply = await self._context.transport.call(endpoint, offer, ANSWER_SECONDS)
        if not isinstance(reply, SignedProduct):
            raise MalformedMessage("the node did not answer with a signed product")
        return await asyncio.to_thread(_opened, await contract.domain(), number, asked, worker, reply)

    async def _charge(
        self, contract: Products, number: int, asked: _Asked, sent: _Signed, wrong: tuple[int, int]
    ) -> None:
        from koinon.jobs.products import evidence

        cell = await asyncio.to_thread(evidence, asked.left, asked.right, sent.claimed, *wrong)
        await contract.refute(number, sent.product, sent.signature, cell)

    async def _contract(self, order: orders.Multiply, narrator: Narrator) -> Products:
        """The contract that the operator names, or one that this node deploys once for all its work."""
        context = self._context
        named = order.contract or context.memory.get(_CONTRACT)
        if named:
            found = await checked_products(context, Address(named))
            await check_created(context, found, context.account)  # as workers do
            return found
        contract = await Products.deploy(context.client, context.suite.token.address)
        context.memory.write({_CONTRACT: contract.address})
        narrator.say(f"a contract of its own is at {to_hex(contract.address)}", 0.1)
        return contract


def _opened(domain: Domain, number: int, asked: _Asked, worker: Address, reply: SignedProduct) -> _Signed:
    from koinon.jobs.products import row_root
    from koinon.privacy.multiplication import from_words

    claimed = from_words(reply.words, asked.left.shape[0], asked.right.shape[1])
    product = row_root(claimed)
    if recover_address(product_digest(domain, number, product), reply.signature) != worker:
        raise MalformedMessage("the product is not signed by that worker's account")
    return _Signed(claimed, product, reply.signature)
