"""Encrypted work under a contract: questions name the job, answers carry receipts, and the chain pays and charges.

    paid = paid_work(await contract.domain(), job, workers)
    result = await outsource(transport, endpoints, division, rows, rng, agree=2, paid=paid, give=give)
    report = await settle(contract, job, workers, result)

A worker gives ``serve`` its ``receipts_of``: it signs for jobs that it joined, and nothing else.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from koinon.contracts.eip712 import Domain
from koinon.contracts.outsourcing import Outsourcing, SignedAnswer, answer_digest
from koinon.crypto.hash import tagged_hash
from koinon.crypto.signature import AccountKey, recover_address
from koinon.kernel.codec import Record, decode, encode
from koinon.kernel.errors import KoinonError, Refused
from koinon.kernel.ids import Address, Hash32, to_hex

if TYPE_CHECKING:
    from koinon.privacy.encrypted.outsourcing import Outsourced, PaidWork, SignedPiece


class Task(Record, frozen=True):
    """What a question of paid work names."""

    chain_id: int
    contract: Address
    job: int
    piece: int


def job_name(contract: Address, job: int) -> str:
    """What names a job among all."""
    return f"{to_hex(contract)}/{job}"


def model_name(contract: Address, job: int, model: bytes) -> str:
    """What questions of a job call a model, by its encoding: who signs for a question signs for the model too."""
    return f"{job_name(contract, job)}/{to_hex(tagged_hash('koinon/outsourced-model/1', model))}"


def job_of(model: str) -> str:
    """The name of the job in which a model is called so; of no job for the name of a model outside any."""
    return model.rpartition("/")[0]


@dataclass(frozen=True)
class Settled:
    """What the chain did: pieces that were paid for, and workers that lost their bonds."""

    pieces: tuple[int, ...]
    charged: tuple[Address, ...]


def receipts_of(key: AccountKey, domain: Domain, jobs: Collection[int]) -> Callable[[bytes, Hash32, Hash32], bytes]:
    """A worker's receipts, for ``serve``.

    Args:
        domain: of the contract.
        jobs: those this worker joined; the collection may grow while it serves.
    """

    def signed(named: bytes, question: Hash32, answer: Hash32) -> bytes:
        task = decode(Task, named)
        if (task.chain_id, task.contract) != (domain.chain_id, domain.contract) or task.job not in jobs:
            raise Refused("this node did not join the work that the question names")
        return key.sign_digest(answer_digest(domain, task.job, task.piece, question, answer))

    return signed


def paid_work(domain: Domain, job: int, workers: Sequence[Address]) -> "PaidWork":
    """A client's side of paid work, for ``outsource``.

    Args:
        workers: accounts of the endpoints, in their order.
    """

    from koinon.privacy.encrypted.outsourcing import PaidWork

    def is_receipt(stranger: int, piece: int, question: Hash32, answer: Hash32, receipt: bytes) -> bool:
        try:
            return recover_address(answer_digest(domain, job, piece, question, answer), receipt) == workers[stranger]
        except KoinonError:
            return False

    def task(piece: int) -> bytes:
        return encode(Task(domain.chain_id, domain.contract, job, piece))

    return PaidWork(task, is_receipt)


async def settle(contract: Outsourcing, job: int, workers: Sequence[Address], result: "Outsourced") -> Settled:
    """Put every settled piece on the chain, which pays for it, and charge each worker that signed another answer.

    Args:
        workers: accounts of the endpoints, in their order.

    Raises:
        Refused: the chain does not take a piece, such as after the deadline.
    """
    order = (await contract.terms_of(job)).workers
    paid = []
    for piece in sorted({one.piece for one in result.signed if one.settled}):
        agreeing = {workers[one.stranger]: one for one in result.signed if one.piece == piece and one.settled}
        any_of = next(iter(agreeing.values()))
        signatures = [agreeing[worker].receipt if worker in agreeing else b"" for worker in order]
        await contract.settle(job, piece, any_of.question, any_of.answer, signatures)
        paid.append(piece)
    charged: list[Address] = []
    for one in result.signed:
        worker = workers[one.stranger]
        if not one.settled and one.piece in paid and worker not in charged:
            await contract.outvote(job, one.piece, worker, _answer(one))
            charged.append(worker)
    return Settled(tuple(paid), tuple(charged))


def _answer(one: "SignedPiece") -> SignedAnswer:
    return SignedAnswer(one.question, one.answer, one.receipt)
