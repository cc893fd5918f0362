"""Jobs under contracts that this node opened or took: kept until the contract has given back what is left of them."""

import asyncio
import logging
from typing import Final

from koinon.contracts.artifacts import artifact
from koinon.contracts.outsourcing import Outsourcing
from koinon.contracts.refusals import Reverted
from koinon.contracts.token import UNLIMITED
from koinon.jobs.outsourcing import job_name
from koinon.kernel.codec import Record, decode, encode
from koinon.kernel.errors import Forged, Unavailable
from koinon.kernel.ids import Address, NodeId
from koinon.kernel.quantities import TokenAmount
from koinon.node.context import Context

journal = logging.getLogger("koinon.outsourcing")

POLL_SECONDS: Final = 5.0
NOBODY: Final = Address(bytes(18) + b"\xde\xad")
"""Gets the bonds of outvoted workers: an account without a key, which is part of no work."""
_JOBS: Final = b"outsourcing/job/"


class Job(Record, frozen=True):
    """A job on disk. ``client`` is the only node that is answered; ``models`` are those it gave this node."""

    chain_id: int
    contract: Address
    number: int
    pieces: int
    closes: int
    client: NodeId
    models: tuple[bytes, ...] = ()

    @property
    def name(self) -> str:
        """What names it among all jobs."""
        return job_name(self.contract, self.number)


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


async def allow(context: Context, contract: Outsourcing, amount: TokenAmount) -> None:
    """Let the contract take so much from this node's account."""
    if await context.suite.token.allowance(context.account, contract.address) < amount:
        await context.suite.token.approve(contract.address, UNLIMITED)
