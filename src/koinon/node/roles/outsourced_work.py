"""What this node does for strangers' pay: it answers encrypted questions under contracts, with models it is shown.

    OfferWork → check the contract and its terms → bond → GiveModel, of the whole model or parts → answer → collect

A model is named by its hash, also in what is signed, so that nobody can have two workers sign different answers to what
looks like one question.
"""

import asyncio
import logging
from typing import TYPE_CHECKING, Final

import msgspec

from koinon.contracts.eip712 import Domain
from koinon.contracts.outsourcing import OUTSOURCING_NAME
from koinon.contracts.tokens import format_amount
from koinon.jobs.outsourcing import Task, job_name, job_of, model_name, receipts_of
from koinon.kernel.codec import decode
from koinon.kernel.errors import Refused
from koinon.kernel.ids import Address, NodeId, to_hex
from koinon.kernel.quantities import ChainId, TokenAmount
from koinon.node import orders
from koinon.node.context import Context
from koinon.node.roles.encrypted_models import EncryptedModelsRole
from koinon.node.roles.outsourced_jobs import (
    Job,
    allow,
    check_created,
    check_offer,
    checked_contract,
    collect,
    keep_job,
    kept_jobs,
    set_terms,
    takes_work,
)
from koinon.node.tasks import Narrator
from koinon.wire.catalogue import Done, Message
from koinon.wire.encrypted import EncryptedQuestion, FetchEncryptedOffer, GiveModel, OfferWork

if TYPE_CHECKING:
    from koinon.privacy.encrypted.models import EncryptedModel

journal = logging.getLogger("koinon.outsourcing")

MOST_JOBS: Final = 16
MOST_MODELS: Final = 16
"""Models, or parts of one, that a client gives for one job."""
MOST_ASKED: Final = 2
"""Questions to one piece that are answered: one, and one more where an answer was lost on the way."""
LARGEST_MODEL: Final = 4 << 20


class WorkRole:
    """What this node does for others: it answers encrypted questions under contracts whose terms its operator set."""

    def __init__(self, context: Context, models: EncryptedModelsRole) -> None:
        self._context = context
        self._models = models
        self._jobs: dict[str, Job] = {}
        self._asked: dict[tuple[str, int], int] = {}
        self._taking = asyncio.Lock()

    def attach(self) -> None:
        """Take offers and the operator's terms; go on with the jobs that a restart has interrupted."""
        self._context.board.offer("work.take", self._set_terms)
        self._context.transport.handle(OfferWork, self._offered)
        self._context.transport.handle(GiveModel, self._given)
        jobs = [job for job in kept_jobs(self._context) if job.client != self._context.keys.node.node_id]
        for job in jobs:
            self._add(job)
            for content in job.models:
                self._show(job, content, _decoded(content))

    def report(self) -> list[str]:
        """The work this node took, for its status."""
        return [f"work {job.number} for {to_hex(job.client)[:18]}" for job in self._jobs.values()]

    async def _set_terms(self, argument: bytes, narrator: Narrator) -> orders.Nothing:
        terms = decode(orders.TakeWork, argument)
        set_terms(self._context, terms)
        taken = (
            f"from {format_amount(terms.least_fee)} tokens a piece, with bonds up to {format_amount(terms.most_bond)}"
        )
        narrator.say(f"work is taken {taken}" if terms.most_bond else "no more work is taken", 1.0)
        return orders.Nothing()

    # ------------------------------------------------------------------------------------- messages of other nodes

    async def _offered(self, sender: NodeId, offer: OfferWork) -> Message:
        """Put up the bond for work whose terms the operator accepts. Raises Refused for any other."""
        context, own = self._context, takes_work(self._context)
        async with self._taking:
            contract = await checked_contract(context, Address(offer.contract))
            if job_name(contract.address, offer.job) in self._jobs:
                return Done()
            if len(self._jobs) >= MOST_JOBS:
                raise Refused(f"this node works on {MOST_JOBS} jobs already; ask again later")
            terms, state = await contract.terms_of(offer.job), await contract.job_of(offer.job)
            if context.account not in terms.workers:
                raise Refused("the work's terms do not name this node's account")
            await check_offer(context, own, sender, state.client, terms)
            await check_created(context, contract, state.client)
            chain_id = int(await context.client.chain_id())
            job = Job(chain_id, contract.address, offer.job, terms.pieces, terms.closes, sender)
            keep_job(context, job)  # before the bond leaves, so that it is asked back whatever happens
            if not await contract.is_bonded(offer.job, context.account):
                await allow(context, contract, TokenAmount(int(terms.bond)))
                await contract.join(offer.job)
            self._add(job)
        journal.info("took work %d of %s", offer.job, to_hex(sender)[:18])
        return Done()

    async def _given(self, sender: NodeId, given: GiveModel) -> Message:
        """Answer with this model too, for the client of a job that this node took. Raises Refused for any other."""
        job = self._jobs.get(job_name(Address(given.contract), given.job))
        if job is None or sender != job.client:
            raise Refused("only the client of the work that this node took may give it models")
        if given.model in job.models:
            return Done()
        if len(job.models) >= MOST_MODELS:
            raise Refused(f"this node takes {MOST_MODELS} models for one job; it has been given as many")
        model = _decoded(given.model)
        job = msgspec.structs.replace(job, models=(*job.models, given.model))
        keep_job(self._context, job)
        self._jobs[job.name] = job
        self._show(job, given.model, model)
        return Done()

    def _add(self, job: Job) -> None:
        self._jobs[job.name] = job
        domain = Domain(OUTSOURCING_NAME, ChainId(job.chain_id), job.contract)
        receipts = receipts_of(self._context.keys.account, domain, {job.number})
        self._models.take_on(job.name, self._admit, receipts)
        self._context.spawn(self._see_through(job), f"work {job.number}")

    def _show(self, job: Job, content: bytes, model: "EncryptedModel") -> None:
        self._models.show(model_name(job.contract, job.number, content), model)

    async def _see_through(self, job: Job) -> None:
        await collect(self._context, job)
        self._models.let_go(job.name)
        del self._jobs[job.name]
        self._asked = {key: count for key, count in self._asked.items() if key[0] != job.name}

    def _admit(self, caller: NodeId, asked: FetchEncryptedOffer | EncryptedQuestion) -> None:
        """Its client alone asks, and about the pieces that are paid for. Raises Refused."""
        job = self._jobs[job_of(asked.model)]
        if caller != job.client:
            raise Refused("only the client of the work that this node took may ask")
        if isinstance(asked, FetchEncryptedOffer):
            return
        task = decode(Task, asked.task) if asked.task else None
        if task is None or job_name(task.contract, task.job) != job.name or not 0 <= task.piece < job.pieces:
            raise Refused("the question names no piece of the work that this node took")
        count = self._asked.get((job.name, task.piece), 0)
        if count >= MOST_ASKED:
            raise Refused(f"this node answers {MOST_ASKED} questions for a piece; it is paid for one")
        self._asked[job.name, task.piece] = count + 1


def _decoded(content: bytes) -> "EncryptedModel":
    """Raises InvalidInput for what is no model that can be evaluated on ciphertexts."""
    from koinon.privacy.encrypted.models import EncryptedModel

    model = decode(EncryptedModel, content, limit=LARGEST_MODEL)
    model.check()
    return model
