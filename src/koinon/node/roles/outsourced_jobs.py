"""Jobs under contracts that this node opened or took: kept until the contract has given back what is left of them."""

import asyncio
import logging
from typing import Final

from koinon.contracts.artifacts import artifact
from koinon.contracts.created import creation_code, is_created
from koinon.contracts.outsourcing import Outsourcing, OutsourcingTerms
from koinon.contracts.products import Products, ProductTerms
from koinon.contracts.refusals import Reverted
from koinon.contracts.rpc import quantity
from koinon.contracts.token import UNLIMITED
from koinon.contracts.tokens import format_amount
from koinon.jobs.outsourcing import job_name
from koinon.kernel.codec import Record, decode, encode
from koinon.kernel.errors import Forged, Refused, Unavailable
from koinon.kernel.ids import Address, NodeId, to_hex
from koinon.kernel.quantities import TokenAmount
from koinon.node.context import Context
from koinon.node.orders import TakeWork

journal = logging.getLogger("koinon.outsourcing")

POLL_SECONDS: Final = 5.0
NOBODY: Final = Address(bytes(18) + b"\xde\xad")
"""Gets the bonds of outvoted workers: an account without a key, which is part of no work."""
LEAST_SECONDS: Final = 60
MOST_DAYS: Final = 30
"""For which a worker leaves its bond with a contract."""
ROWS: Final = "rows"
PRODUCT: Final = "product"
"""Kinds of jobs: rows to be answered, under ``Outsourcing``; a product, under ``Products``."""
_JOBS: Final = b"outsourcing/job/"
_TERMS: Final = b"outsourcing/terms"


class Job(Record, frozen=True):
    """A job on disk. ``client`` is the only node that is answered; ``models`` are those it gave this node."""

    chain_id: int
    contract: Address
    number: int
    pieces: int
    closes: int
    client: NodeId
    models: tuple[bytes, ...] = ()
    kind: str = ROWS

    @property
    def name(self) -> str:
        """What names it among all jobs."""
        return job_name(self.contract, self.number)


async def checked_contract(context: Context, address: Address) -> Outsourcing:
    """The contract for encrypted rows at an address somebody named.

    Raises:
        Forged: it is another, pays in another token, or gives outvoted bonds to somebody.
    """
    contract = Outsourcing(context.client, address)
    await _check_code(context, contract)
    if await contract.read_address("sink") != NOBODY:
        raise Forged("the contract gives the bonds of outvoted workers to somebody; take one of the node's own")
    return contract


async def checked_products(context: Context, address: Address) -> Products:
    """The contract for products at an address somebody named. Raises Forged where it is another."""
    contract = Products(context.client, address)
    await _check_code(context, contract)
    return contract


async def _check_code(context: Context, contract: Outsourcing | Products) -> None:
    address = contract.address
    if len(address) != 20 or not artifact(contract.NAME).is_code(await context.client.code(address)):
        raise Forged(f"there is no {contract.NAME} contract of this version at that address")
    if await contract.read_address("token") != context.suite.token.address:
        raise Forged("the contract pays in another token than this network's")


async def check_created(context: Context, contract: Outsourcing | Products, creator: Address) -> None:
    """Raises Refused where a contract was not created by this account with the creation code of this version.

    The code on the chain alone says nothing of what a constructor left in storage, such as a credit for somebody.
    """
    token = context.suite.token.address
    arguments = (token,) if isinstance(contract, Products) else (token, NOBODY)
    code = creation_code(artifact(contract.NAME), *arguments)
    count = quantity(
        await context.client.request("eth_getTransactionCount", to_hex(creator), "latest"), "number of transactions"
    )
    if not await asyncio.to_thread(is_created, contract.address, creator, count, code):
        raise Refused("the contract was not created by the client's own node; have it take one of its own")


def set_terms(context: Context, terms: TakeWork) -> None:
    """On which terms this node takes work from now on."""
    context.memory.write({_TERMS: encode(terms)})


def takes_work(context: Context) -> TakeWork:
    """The operator's terms. Raises Refused where it takes no work."""
    stored = context.memory.get(_TERMS)
    terms = decode(TakeWork, stored) if stored else None
    if terms is None or not terms.most_bond:
        raise Refused("this node takes no work for others; its operator decides with: koinon model work")
    return terms


async def check_offer(
    context: Context, own: TakeWork, sender: NodeId, client: Address, offered: OutsourcingTerms | ProductTerms
) -> None:
    """Raises Refused for work that another account opened, on worse terms than the operator's, or too late."""
    if (await context.directory.find_node(sender)).claim.account != client:
        raise Refused("work is offered by the node whose account opened it")
    if offered.fee < own.least_fee or offered.bond > own.most_bond:
        raise Refused(
            f"this node works from {format_amount(own.least_fee)} tokens a piece and puts up at most"
            f" {format_amount(own.most_bond)}"
        )
    current = await now(context)
    if offered.deadline < current + LEAST_SECONDS:
        raise Refused(f"the work's deadline leaves less than {LEAST_SECONDS} s")
    if offered.closes > current + MOST_DAYS * 86_400:
        raise Refused(f"the work would keep this node's bond for more than {MOST_DAYS} days")


async def now(context: Context) -> int:
    """Unix seconds by the chain's clock or this node's, whichever is ahead."""
    return max(int((await context.client.block()).timestamp), int(context.clock.unix()))


def keep_job(context: Context, job: Job) -> None:
    """Remember a job until ``collect`` is through with it."""
    context.memory.write({_JOBS + job.name.encode(): encode(job)})


def kept_jobs(context: Context, kind: str = ROWS) -> list[Job]:
    """The jobs of one kind that are not over."""
    jobs = [decode(Job, stored) for _, stored in list(context.memory.scan(_JOBS))]
    return [job for job in jobs if job.kind == kind]


async def collect(context: Context, job: Job) -> None:
    """Once the time for claims is over, have the contract give everything back and pay this node what it owes."""
    contract = (Products if job.kind == PRODUCT else Outsourcing)(context.client, job.contract)
    while True:
        try:
            if await now(context) > job.closes + 1:
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


async def allow(context: Context, contract: Outsourcing | Products, amount: TokenAmount) -> None:
    """Let the contract take so much from this node's account."""
    if await context.suite.token.allowance(context.account, contract.address) < amount:
        await context.suite.token.approve(contract.address, UNLIMITED)
