"""This node multiplies matrices for others' pay, on the terms that its operator set for all work.

OfferProduct → check the contract, terms and commitments → bond → multiply in a child, sign → close, collect
"""

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from koinon.contracts.products import ProductTerms, product_digest
from koinon.kernel.errors import Refused
from koinon.kernel.ids import Address, NodeId, to_hex
from koinon.kernel.quantities import TokenAmount
from koinon.node.context import Context
from koinon.node.roles.outsourced_jobs import (
    PRODUCT,
    Job,
    allow,
    check_created,
    check_offer,
    checked_products,
    collect,
    keep_job,
    kept_jobs,
    takes_work,
)
from koinon.wire.encrypted import OfferProduct, SignedProduct

if TYPE_CHECKING:
    from koinon.privacy.multiplication import Factors

journal = logging.getLogger("koinon.products")

MOST_JOBS: Final = 16
MOST_ASKED: Final = 2
"""Times that one product is computed: one, and one more where the answer was lost on the way."""


class MultiplyRole:
    """What this node does for others, on the terms that its operator set for all work."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._asked: dict[str, int] = {}
        self._turn = asyncio.Lock()

    def attach(self) -> None:
        """Take offers; get back the bonds of jobs that a restart has interrupted."""
        self._context.transport.handle(OfferProduct, self._offered)
        for job in kept_jobs(self._context, PRODUCT):
            if job.client != self._context.keys.node.node_id:
                self._see_through(job)

    async def _offered(self, sender: NodeId, offer: OfferProduct) -> SignedProduct:
        """Multiply for a fee, against a bond. Raises Refused for terms that the operator does not accept."""
        from koinon.jobs.products import row_root
        from koinon.privacy.multiplication import Factors, from_words

        context, own = self._context, takes_work(self._context)
        async with self._turn:
            contract = await checked_products(context, Address(offer.contract))
            terms, state = await contract.terms_of(offer.job), await contract.job_of(offer.job)
            if terms.worker != context.account:
                raise Refused("the work's terms do not name this node's account")
            await check_offer(context, own, sender, state.client, terms)
            await check_created(context, contract, state.client)
            factors = Factors(terms.rows, terms.inner, terms.columns, offer.left, offer.right)
            await asyncio.to_thread(_check_commitments, terms, factors)
            job = Job(
                int(await context.client.chain_id()), contract.address, offer.job, 1, terms.closes, sender, (), PRODUCT
            )
            self._count(job)
            if not state.bonded:
                keep_job(context, job)  # before the bond leaves, so that it is asked back whatever happens
                self._see_through(job)
                await allow(context, contract, TokenAmount(int(terms.bond)))
                await contract.join(offer.job)
            words = await self._product(factors)
            product = await asyncio.to_thread(lambda: row_root(from_words(words, terms.rows, terms.columns)))
            signature = context.keys.account.sign_digest(product_digest(await contract.domain(), offer.job, product))
        journal.info("multiplied for work %d of %s", offer.job, to_hex(sender)[:18])
        return SignedProduct(words, signature)

    async def _product(self, factors: "Factors") -> bytes:
        from koinon.privacy.multiplication import multiply

        return await multiply(factors)

    def _count(self, job: Job) -> None:
        """Raises Refused where there is too much to do, or this has been done often enough."""
        if job.name not in self._asked and len(self._asked) >= MOST_JOBS:
            raise Refused(f"this node works on {MOST_JOBS} products already; ask again later")
        if self._asked.get(job.name, 0) >= MOST_ASKED:
            raise Refused(f"this node computes a product {MOST_ASKED} times; it is paid for one")
        self._asked[job.name] = self._asked.get(job.name, 0) + 1

    def _see_through(self, job: Job) -> None:
        async def to_its_end() -> None:
            await collect(self._context, job)
            self._asked.pop(job.name, None)

        self._asked.setdefault(job.name, 0)
        self._context.spawn(to_its_end(), f"product {job.number}")


def _check_commitments(terms: ProductTerms, factors: "Factors") -> None:
    """Raises Refused where the matrices are not those of the terms, which a right product could then be refuted by."""
    from koinon.jobs.products import row_root
    from koinon.privacy.multiplication import check_sizes, from_words

    check_sizes(factors.rows, factors.inner, factors.columns)
    left = from_words(factors.left, factors.rows, factors.inner)
    right = from_words(factors.right, factors.inner, factors.columns)
    if (row_root(left), row_root(right.T)) != (terms.left, terms.right):
        raise Refused("the matrices are not those that the work's terms commit to")
