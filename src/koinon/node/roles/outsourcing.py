"""Encrypted work for strangers, both ends: this node works for others, and has others work for it.

    client: open and pay → OfferWork to each worker → questions, answers, receipts → settle, charge → close
    worker: OfferWork → check the contract and its terms → bond → answer this client only → close, collect

Both keep a job until the contract has given back what is left of it, so that a restart loses no money.
"""

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final

from koinon.contracts.artifacts import artifact
from koinon.contracts.eip712 import Domain
from koinon.contracts.outsourcing import OUTSOURCING_NAME, Outsourcing, OutsourcingTerms
from koinon.contracts.refusals import Reverted
from koinon.contracts.token import UNLIMITED
from koinon.contracts.tokens import format_amount
from koinon.jobs.outsourcing import Task, job_name, paid_work, receipts_of, settle
from koinon.kernel.codec import Record, decode, encode
from koinon.kernel.errors import Forged, InvalidInput, KoinonError, Refused, Unavailable
from koinon.kernel.ids import Address, NodeId, to_hex
from koinon.kernel.quantities import ChainId, Seconds, TokenAmount, UnixSeconds
from koinon.node import orders
from koinon.node.context import Context
from koinon.node.roles.encrypted_models import EncryptedModelsRole
from koinon.node.tasks import Narrator
from koinon.wire.catalogue import Done, Message
from koinon.wire.discovery import Endpoint
from koinon.wire.encrypted import EncryptedQuestion, FetchEncryptedOffer, OfferWork

if TYPE_CHECKING:
    import numpy as np

    from koinon.privacy.encrypted.models import EncryptedModel
    from koinon.privacy.encrypted.outsourcing import Outsourced

journal = logging.getLogger("koinon.outsourcing")

MOST_JOBS: Final = 16
MOST_ASKED: Final = 2
"""Questions to one piece that are answered: one, and one more where an answer was lost on the way."""
POLL_SECONDS: Final = 5.0
OFFER_SECONDS: Final = Seconds(60.0)
LEAST_SECONDS: Final = 60
LARGEST_MODEL: Final = 4 << 20
NOBODY: Final = Address(bytes(18) + b"\xde\xad")
"""Gets the bonds of outvoted workers: an account without a key, which is part of no work."""
_TERMS: Final = b"outsourcing/terms"
_CONTRACT: Final = b"outsourcing/contract"
_JOBS: Final = b"outsourcing/job/"


class Job(Record, frozen=True):
    """A job on disk. ``model`` is empty at the client's node; ``client`` is the only node that is answered."""

    chain_id: int
    contract: Address
    number: int
    pieces: int
    closes: int
    client: NodeId
    model: bytes = b""

    @property
    def name(self) -> str:
        """What questions call the model."""
        return job_name(self.contract, self.number)


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
        jobs = [job for job in kept_jobs(self._context) if job.model]
        for job in jobs:
            self._add(job, _decoded(job.model))

    def report(self) -> list[str]:
        """The work this node took, for its status."""
        return [f"work {job.number} for {to_hex(job.client)[:18]}" for job in self._jobs.values()]

    async def _set_terms(self, argument: bytes, narrator: Narrator) -> orders.Nothing:
        terms = decode(orders.TakeWork, argument)
        self._context.memory.write({_TERMS: encode(terms)})
        taken = (
            f"from {format_amount(terms.least_fee)} tokens a piece, with bonds up to {format_amount(terms.most_bond)}"
        )
        narrator.say(f"encrypted work is taken {taken}" if terms.most_bond else "no more work is taken", 1.0)
        return orders.Nothing()

    # ------------------------------------------------------------------------------------- messages of other nodes

    async def _offered(self, sender: NodeId, offer: OfferWork) -> Message:
        """Put up the bond for work whose terms the operator accepts. Raises Refused for any other."""
        context, stored = self._context, self._context.memory.get(_TERMS)
        own = decode(orders.TakeWork, stored) if stored else None
        if own is None or not own.most_bond:
            raise Refused("this node takes no encrypted work; its operator decides with: koinon model work")
        model = _decoded(offer.model)
        async with self._taking:
            contract = await checked_contract(context, Address(offer.contract))
            if job_name(contract.address, offer.job) in self._jobs:
                return Done()
            if len(self._jobs) >= MOST_JOBS:
                raise Refused(f"this node works on {MOST_JOBS} jobs already; ask again later")
            terms, state = await contract.terms_of(offer.job), await contract.job_of(offer.job)
            now = max((await context.client.block()).timestamp, context.clock.unix())
            if context.account not in terms.workers:
                raise Refused("the work's terms do not name this node's account")
            if (await context.directory.find_node(sender)).claim.account != state.client:
                raise Refused("work is offered by the node whose account opened it")
            if terms.fee < own.least_fee or terms.bond > own.most_bond:
                raise Refused(
                    f"this node works from {format_amount(own.least_fee)} tokens a piece and puts up at most"
                    f" {format_amount(own.most_bond)}"
                )
            if terms.deadline < now + LEAST_SECONDS:
                raise Refused(f"the work's deadline leaves less than {LEAST_SECONDS} s")
            chain_id = int(await context.client.chain_id())
            job = Job(chain_id, contract.address, offer.job, terms.pieces, _closes(terms), sender, offer.model)
            keep_job(context, job)  # before the bond leaves, so that it is asked back whatever happens
            if not await contract.is_bonded(offer.job, context.account):
                await _allow(context, contract, TokenAmount(int(terms.bond)))
                await contract.join(offer.job)
            self._add(job, model)
        journal.info("took work %d of %s", offer.job, to_hex(sender)[:18])
        return Done()

    def _add(self, job: Job, model: "EncryptedModel") -> None:
        self._jobs[job.name] = job
        domain = Domain(OUTSOURCING_NAME, ChainId(job.chain_id), job.contract)
        receipts = receipts_of(self._context.keys.account, domain, {job.number})
        self._models.take_on(job.name, model, self._admit, receipts)
        self._context.spawn(self._see_through(job), f"work {job.number}")

    async def _see_through(self, job: Job) -> None:
        await collect(self._context, job)
        self._models.let_go(job.name)
        del self._jobs[job.name]
        self._asked = {key: count for key, count in self._asked.items() if key[0] != job.name}

    def _admit(self, caller: NodeId, asked: FetchEncryptedOffer | EncryptedQuestion) -> None:
        """Its client alone asks, and about the pieces that are paid for. Raises Refused."""
        job = self._jobs[asked.model]
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


class OutsourceRole:
    """What this node has others do: they answer about rows that they do not see."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def attach(self) -> None:
        """Take orders; get back what is left of jobs that a restart has interrupted."""
        self._context.board.offer("work.outsource", self._outsource)
        for job in kept_jobs(self._context):
            if not job.model:
                self._context.spawn(collect(self._context, job), f"work {job.number}")

    async def _outsource(self, argument: bytes, narrator: Narrator) -> orders.WorkDone:
        order, context = decode(orders.Outsource, argument), self._context
        model, rows = await asyncio.to_thread(self._prepared, order)
        pieces = -(-len(rows) // order.piece_rows)
        if len(set(order.workers)) != len(order.workers) or len(order.workers) < order.agree:
            raise InvalidInput(f"name {order.agree} different workers or more; {len(order.workers)} were given")
        records = [await context.record_of(worker) for worker in order.workers]
        contract = await self._contract(order, narrator)
        now = max((await context.client.block()).timestamp, context.clock.unix())
        terms = OutsourcingTerms(
            workers=order.workers,
            pieces=pieces,
            agree=order.agree,
            fee=order.fee,
            bond=order.bond,
            deadline=UnixSeconds(now + order.seconds),
            claim_seconds=order.claim_seconds,
        )
        await _allow(context, contract, TokenAmount(pieces * order.agree * order.fee))
        number = await contract.open(terms)
        chain_id = int(await context.client.chain_id())
        job = Job(chain_id, contract.address, number, pieces, _closes(terms), context.keys.node.node_id)
        keep_job(context, job)
        context.spawn(collect(context, job), f"work {number}")
        narrator.say(f"job {number} is open: {pieces} pieces, {order.agree} equal answers to each", 0.2)

        joined: list[tuple[Address, Endpoint]] = []
        for worker, record in zip(order.workers, records, strict=True):
            try:
                offer = OfferWork(contract.address, number, encode(model))
                await context.transport.call(record.endpoint, offer, OFFER_SECONDS)
                joined.append((worker, record.endpoint))
            except KoinonError as problem:
                narrator.say(f"{to_hex(worker)} does not take part: {problem}")
        if len(joined) < order.agree:
            raise Unavailable(
                f"{len(joined)} of {len(order.workers)} workers take part and {order.agree} are needed; the fees come"
                " back after the deadline"
            )
        result = await self._done(job, contract, model, rows, joined, order)
        accounts = [account for account, _ in joined]
        narrator.say("every piece was answered alike by enough workers", 0.8)
        settled = await settle(contract, number, accounts, result)
        narrator.say(f"{len(settled.pieces)} pieces are paid for, {len(settled.charged)} workers charged", 1.0)
        values = tuple(float(value) for value in result.answers.reshape(-1))
        silent = tuple(account for account, endpoint in joined if endpoint.node_id in result.silent)
        return orders.WorkDone(contract.address, number, model.outputs, values, settled.charged, silent)

    async def _done(
        self,
        job: Job,
        contract: Outsourcing,
        model: "EncryptedModel",
        rows: "np.ndarray",
        joined: list[tuple[Address, Endpoint]],
        order: orders.Outsource,
    ) -> "Outsourced":
        from koinon.privacy.encrypted.outsourcing import outsource

        context = self._context
        paid = paid_work(await contract.domain(), job.number, [account for account, _ in joined])
        endpoints = [endpoint for _, endpoint in joined]
        return await outsource(
            context.transport,
            endpoints,
            job.name,
            model,
            rows,
            context.rng,
            agree=order.agree,
            piece_rows=order.piece_rows,
            paid=paid,
        )

    def _prepared(self, order: orders.Outsource) -> "tuple[EncryptedModel, np.ndarray]":
        """The model and the rows. Raises InvalidInput."""
        from koinon.data.table import read_features
        from koinon.node.onnx_files import read_onnx
        from koinon.privacy.encrypted.ckks import rows_for
        from koinon.privacy.encrypted.onnx_layers import layers_of

        model = layers_of(read_onnx(Path(order.model)))
        if not 1 <= order.piece_rows <= rows_for(model.depth):
            raise InvalidInput(f"a piece has 1 to {rows_for(model.depth)} rows, not {order.piece_rows}")
        rows = read_features(Path(order.path), ())
        if rows.shape[1] != model.features:
            raise InvalidInput(
                f"the model takes rows of {model.features} numbers; the file has {rows.shape[1]} columns"
            )
        return model, rows

    async def _contract(self, order: orders.Outsource, narrator: Narrator) -> Outsourcing:
        """The contract that the operator names, or one that this node deploys once for all its work."""
        context = self._context
        named = order.contract or context.memory.get(_CONTRACT)
        if named:
            return await checked_contract(context, Address(named))
        contract = await Outsourcing.deploy(context.client, context.suite.token.address, NOBODY)
        context.memory.write({_CONTRACT: contract.address})
        narrator.say(f"a contract of its own is at {to_hex(contract.address)}", 0.1)
        return contract


async def checked_contract(context: Context, address: Address) -> Outsourcing:
    """The contract at an address somebody named.

    Raises:
        Forged: it is another, pays in another token, or gives outvoted bonds to somebody.
    """
    if len(address) != 20 or not artifact("Outsourcing").is_code(await context.client.code(address)):
        raise Forged("there is no Outsourcing contract of this version at that address")
    contract = Outsourcing(context.client, address)
    if await contract.read_address("token") != context.suite.token.address:
        raise Forged("the contract pays in another token than this network's")
    if await contract.read_address("sink") != NOBODY:
        raise Forged("the contract gives the bonds of outvoted workers to somebody; take one of the node's own")
    return contract


def keep_job(context: Context, job: Job) -> None:
    """Remember a job until ``collect`` is through with it."""
    context.memory.write({_JOBS + job.name.encode(): encode(job)})


def kept_jobs(context: Context) -> list[Job]:
    """The jobs that are not over."""
    return [decode(Job, stored) for _, stored in list(context.memory.scan(_JOBS))]


async def collect(context: Context, job: Job) -> None:
    """Once the time for claims is over, have the contract give everything back and pay this node what it owes."""
    contract = Outsourcing(context.client, job.contract)
    while True:
        try:
            now = max((await context.client.block()).timestamp, context.clock.unix())
            if now > job.closes + 1:
                if not (await contract.job_of(job.number)).closed:
                    await contract.close(job.number)
                if await contract.credit_of(context.account):
                    await contract.withdraw()
                context.memory.write({}, [_JOBS + job.name.encode()])
                journal.info("work %d is over", job.number)
                return
        except Reverted as refusal:
            journal.info("work %d: %s", job.number, refusal)  # the other side was faster
        except Unavailable as problem:
            journal.warning("work %d: %s; trying again", job.number, problem)
        await asyncio.sleep(POLL_SECONDS)


def _closes(terms: OutsourcingTerms) -> int:
    return int(terms.deadline) + terms.claim_seconds


def _decoded(content: bytes) -> "EncryptedModel":
    """Raises InvalidInput for what is no model that can be evaluated on ciphertexts."""
    from koinon.privacy.encrypted.models import EncryptedModel

    model = decode(EncryptedModel, content, limit=LARGEST_MODEL)
    model.check()
    return model


async def _allow(context: Context, contract: Outsourcing, amount: TokenAmount) -> None:
    if await context.suite.token.allowance(context.account, contract.address) < amount:
        await context.suite.token.approve(contract.address, UNLIMITED)
