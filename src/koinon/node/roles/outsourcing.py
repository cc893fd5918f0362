"""What this node has strangers do: they answer about rows that they do not see, with a model or parts of one.

open and pay → OfferWork to each worker → GiveModel, questions, answers, receipts → settle, charge → close
"""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final

from koinon.contracts.outsourcing import Outsourcing, OutsourcingTerms
from koinon.jobs.outsourcing import model_name, paid_work, settle
from koinon.kernel.codec import decode, encode
from koinon.kernel.errors import InvalidInput, KoinonError, Unavailable
from koinon.kernel.ids import Address, to_hex
from koinon.kernel.quantities import Seconds, TokenAmount, UnixSeconds
from koinon.node import orders
from koinon.node.context import Context
from koinon.node.roles.outsourced_jobs import (
    NOBODY,
    Job,
    allow,
    check_created,
    checked_contract,
    collect,
    keep_job,
    kept_jobs,
    now,
)
from koinon.node.tasks import Narrator
from koinon.wire.discovery import Endpoint
from koinon.wire.encrypted import GiveModel, OfferWork

if TYPE_CHECKING:
    import numpy as np

    from koinon.privacy.encrypted.models import EncryptedModel
    from koinon.privacy.encrypted.outsourcing import Outsourced
    from koinon.privacy.encrypted.parts import Division

OFFER_SECONDS: Final = Seconds(60.0)
_CONTRACT: Final = b"outsourcing/contract/2"


class OutsourceRole:
    """What this node has others do: they answer about rows that they do not see."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def attach(self) -> None:
        """Take orders; get back what is left of jobs that a restart has interrupted."""
        self._context.board.offer("work.outsource", self._outsource)
        for job in kept_jobs(self._context):
            if job.client == self._context.keys.node.node_id:
                self._context.spawn(collect(self._context, job), f"work {job.number}")

    async def _outsource(self, argument: bytes, narrator: Narrator) -> orders.WorkDone:
        from koinon.node.onnx_files import read_encrypted_work
        from koinon.privacy.encrypted.parts import parts_for
        from koinon.privacy.encrypted.replication import is_enough

        order, context = decode(orders.Outsource, argument), self._context
        files = Path(order.model), Path(order.path)
        model, rows = await asyncio.to_thread(read_encrypted_work, *files, order.piece_rows)
        parts = parts_for(model, order.split, len(order.workers), order.agree)
        pieces = -(-len(rows) // order.piece_rows) * parts
        if len(set(order.workers)) != len(order.workers) or len(order.workers) < order.agree:
            raise InvalidInput(f"name {order.agree} different workers or more; {len(order.workers)} were given")
        records = [await context.record_of(worker) for worker in order.workers]
        contract = await self._contract(order, narrator)
        terms = OutsourcingTerms(
            workers=order.workers,
            pieces=pieces,
            agree=order.agree,
            fee=order.fee,
            bond=order.bond,
            deadline=UnixSeconds(await now(context) + order.seconds),
            claim_seconds=order.claim_seconds,
        )
        await allow(context, contract, TokenAmount(pieces * order.agree * order.fee))
        number = await contract.open(terms)
        chain_id = int(await context.client.chain_id())
        job = Job(chain_id, contract.address, number, pieces, terms.closes, context.keys.node.node_id)
        keep_job(context, job)
        context.spawn(collect(context, job), f"work {number}")
        narrator.say(f"job {number} is open: {pieces} pieces, {order.agree} equal answers to each", 0.2)
        if parts > 1:
            narrator.say(f"the model is cut into {parts} parts, and no worker is shown all of them")

        joined: list[tuple[Address, Endpoint]] = []
        for worker, record in zip(order.workers, records, strict=True):
            try:
                await context.transport.call(record.endpoint, OfferWork(contract.address, number), OFFER_SECONDS)
                joined.append((worker, record.endpoint))
            except KoinonError as problem:
                narrator.say(f"{to_hex(worker)} does not take part: {problem}")
        if len(joined) < order.agree or not is_enough(len(joined), order.agree, parts):
            raise Unavailable(
                f"{len(joined)} of {len(order.workers)} workers take part and {order.agree} are needed"
                f"{' for each part of the model' if parts > 1 else ''}; the fees come back after the deadline"
            )
        result = await self._done(job, contract, _division(job, model, parts), rows, joined, order)
        accounts = [account for account, _ in joined]
        narrator.say("every piece was answered alike by enough workers", 0.8)
        settled = await settle(contract, number, accounts, result)
        narrator.say(f"{len(settled.pieces)} pieces are paid for, {len(settled.charged)} workers charged", 1.0)
        values = tuple(float(value) for value in result.answers.reshape(-1))
        silent = tuple(account for account, endpoint in joined if endpoint.node_id in result.silent)
        return orders.WorkDone(contract.address, number, pieces, model.outputs, values, settled.charged, silent)

    async def _done(
        self,
        job: Job,
        contract: Outsourcing,
        division: "Division",
        rows: "np.ndarray",
        joined: list[tuple[Address, Endpoint]],
        order: orders.Outsource,
    ) -> "Outsourced":
        from koinon.privacy.encrypted.outsourcing import outsource

        context = self._context
        paid = paid_work(await contract.domain(), job.number, [account for account, _ in joined])
        endpoints = [endpoint for _, endpoint in joined]

        async def give(stranger: int, part: int) -> None:
            given = GiveModel(job.contract, job.number, encode(division.parts[part].model))
            await context.transport.call(endpoints[stranger], given, OFFER_SECONDS)

        return await outsource(
            context.transport,
            endpoints,
            division,
            rows,
            context.rng,
            agree=order.agree,
            piece_rows=order.piece_rows,
            paid=paid,
            give=give,
        )

    async def _contract(self, order: orders.Outsource, narrator: Narrator) -> Outsourcing:
        """The contract that the operator names, or one that this node deploys once for all its work."""
        context = self._context
        named = order.contract or context.memory.get(_CONTRACT)
        if named:
            found = await checked_contract(context, Address(named))
            await check_created(context, found, context.account)  # as workers do
            return found
        contract = await Outsourcing.deploy(context.client, context.suite.token.address, NOBODY)
        context.memory.write({_CONTRACT: contract.address})
        narrator.say(f"a contract of its own is at {to_hex(contract.address)}", 0.1)
        return contract


def _division(job: Job, model: "EncryptedModel", parts: int) -> "Division":
    from koinon.privacy.encrypted.parts import divided, whole

    def name_of(part: "EncryptedModel") -> str:
        return model_name(job.contract, job.number, encode(part))

    return whole(model, name_of) if parts == 1 else divided(model, parts, name_of)
