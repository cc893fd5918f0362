"""Client of ``Outsourcing``: encrypted work for several strangers, paid where they agree, charged where they lie."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from koinon.contracts.artifacts import artifact
from koinon.contracts.client import ChainClient, Receipt
from koinon.contracts.contract import Event, PaysCredit
from koinon.contracts.created import deploy_salted
from koinon.contracts.eip712 import Domain, struct_hash
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import TokenAmount, UnixSeconds

ANSWER_TYPE: Final = "Answer(uint256 jobId,uint256 piece,bytes32 question,bytes32 answer)"
OUTSOURCING_NAME: Final = "Koinon Outsourcing"


@dataclass(frozen=True, slots=True)
class OutsourcingTerms:
    """One client's work.

    Attributes:
        workers: who may join, 2 to 16.
        pieces: 1 to 100,000, each paid to ``agree`` workers.
        agree: how many must sign the same answer.
        fee: to each of them for a piece.
        bond: put up by each worker that joins; lost for a wrong answer.
        deadline: until which workers join and pieces are settled.
        claim_seconds: after it, in which wrong answers are charged.
    """

    workers: tuple[Address, ...]
    pieces: int
    agree: int
    fee: TokenAmount
    bond: TokenAmount
    deadline: UnixSeconds
    claim_seconds: int

    @property
    def closes(self) -> int:
        """Unix seconds after which everything that is left goes back."""
        return int(self.deadline) + self.claim_seconds


@dataclass(frozen=True, slots=True)
class Job:
    """Where the work stands."""

    client: Address
    settled: int
    closed: bool


@dataclass(frozen=True, slots=True)
class Settlement:
    """What enough workers signed for a piece; zeros before."""

    question: Hash32
    answer: Hash32


@dataclass(frozen=True, slots=True)
class Opened(Event):
    job_id: int
    client: Address


@dataclass(frozen=True, slots=True)
class Charged(Event):
    """A worker lost its bond; the reason is ``contradiction`` or ``outvoted``."""

    job_id: int
    worker: Address
    piece: int
    reason: str


@dataclass(frozen=True, slots=True)
class SignedAnswer:
    """What one worker signed for a piece."""

    question: Hash32
    answer: Hash32
    signature: bytes


def answer_digest(domain: Domain, job_id: int, piece: int, question: Hash32, answer: Hash32) -> Hash32:
    """What a worker signs with its account."""
    return domain.digest(struct_hash(ANSWER_TYPE, job_id, piece, question, answer))


class Outsourcing(PaysCredit):
    """Client of ``Outsourcing``, which anybody may deploy; it is no part of the suite."""

    NAME = "Outsourcing"

    @classmethod
    async def deploy(cls, client: ChainClient, token: Address, sink: Address) -> "Outsourcing":
        """Create the contract.

        Args:
            sink: receives the bonds of outvoted workers; somebody with no part in any work, such as a treasury.
        """
        return cls(client, await deploy_salted(client, artifact(cls.NAME), token, sink))

    async def domain(self) -> Domain:
        """Where answers' signatures count."""
        return Domain(OUTSOURCING_NAME, await self.client.chain_id(), self.address)

    async def open(self, terms: OutsourcingTerms) -> int:
        """Offer work and pay for all of it in advance; returns its number. Raises Reverted where a field is wrong."""
        return self._only(Opened, await self._write("open", terms)).job_id

    async def join(self, job_id: int) -> Receipt:
        """Put up the caller's bond. Raises Reverted where the terms do not name it, or it is too late."""
        return await self._write("join", job_id)

    async def settle(
        self, job_id: int, piece: int, question: Hash32, answer: Hash32, signatures: Sequence[bytes]
    ) -> Receipt:
        """Pay who signed this answer.

        Args:
            signatures: one for each worker in the order of the terms; empty where it did not sign.
        """
        return await self._write("settle", job_id, piece, question, answer, list(signatures))

    async def contradict(
        self, job_id: int, piece: int, worker: Address, one: SignedAnswer, other: SignedAnswer
    ) -> Receipt:
        """Charge a worker for two answers to one question; its bond goes to the client."""
        return await self._write(
            "contradict",
            job_id,
            piece,
            worker,
            one.question,
            one.answer,
            other.answer,
            one.signature,
            other.signature,
        )

    async def outvote(self, job_id: int, piece: int, worker: Address, signed: SignedAnswer) -> Receipt:
        """Charge a worker for another answer than the one that was settled; its bond goes to the sink."""
        return await self._write("outvote", job_id, piece, worker, signed.answer, signed.signature)

    async def close(self, job_id: int) -> Receipt:
        """After the time for claims: everything that is left goes back to who paid it."""
        return await self._write("close", job_id)

    async def job_of(self, job_id: int) -> Job:
        """Where the work stands. Raises Reverted (Unknown)."""
        found: Job = await self._read(Job, "jobOf", job_id)
        return found

    async def terms_of(self, job_id: int) -> OutsourcingTerms:
        """What was offered. Raises Reverted (Unknown)."""
        found: OutsourcingTerms = await self._read(OutsourcingTerms, "termsOf", job_id)
        return found

    async def piece_of(self, job_id: int, piece: int) -> Settlement:
        """What was settled for a piece; zeros where nothing was."""
        found: Settlement = await self._read(Settlement, "pieceOf", job_id, piece)
        return found

    async def is_bonded(self, job_id: int, worker: Address) -> bool:
        """Whether a worker's bond is here."""
        return bool(await self._read(bool, "isBonded", job_id, worker))
