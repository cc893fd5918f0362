"""Evaluations: evaluators are drawn, commit, reveal, and agree on a trust vector."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from koinon.contracts.abi import encode
from koinon.contracts.client import ChainClient, Receipt
from koinon.contracts.contract import Event, PaysCredit
from koinon.crypto.hash import keccak256
from koinon.kernel.ids import ZERO_HASH, Address, Hash32
from koinon.kernel.quantities import BasisPoints, Height, PartsPerMillion, TokenAmount, UnixSeconds


class EvaluationPhase(IntEnum):
    """Where a request stands."""

    NONE = 0
    REQUESTED = 1
    COMMITTING = 2
    REVEALING = 3
    FINALISED = 4
    ENDED = 5


@dataclass(frozen=True, slots=True)
class Score:
    """One criterion in parts per million of its unit, with its interval: low ≤ value ≤ high, signed 64 bits."""

    value: PartsPerMillion
    low: PartsPerMillion
    high: PartsPerMillion


@dataclass(frozen=True, slots=True)
class EvaluationTerms:
    """What is asked for.

    Attributes:
        criteria: short ASCII names, at most 32 letters each, at most 32 of them.
        tolerances: for each criterion, how far from the median an interval may end without being wilful.
        fee: for each evaluator that reveals and is no outlier.
        evaluators: 3 to 9.
    """

    model_id: int
    criteria: tuple[str, ...]
    tolerances: tuple[PartsPerMillion, ...]
    fee: TokenAmount
    evaluators: int
    commit_seconds: int
    reveal_seconds: int

    @property
    def escrow(self) -> TokenAmount:
        """What ``request`` pulls."""
        return TokenAmount(self.fee * self.evaluators)


@dataclass(frozen=True, slots=True)
class EvaluationRequest:
    """State of a request."""

    requester: Address
    phase: EvaluationPhase
    reschedules: int
    commits: int
    reveals: int
    draw_height: Height
    deadline: UnixSeconds
    nonce_deadline: UnixSeconds
    held: TokenAmount
    nonce_commitment: Hash32
    entropy: Hash32
    seed: Hash32
    evaluators: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What one evaluator committed to and revealed."""

    commitment: Hash32
    evidence_hash: Hash32
    revealed: bool
    scores: tuple[Score, ...]


@dataclass(frozen=True, slots=True)
class Requested(Event):
    request_id: int
    model_id: int
    requester: Address
    nonce_commitment: Hash32
    draw_height: Height
    nonce_deadline: UnixSeconds


@dataclass(frozen=True, slots=True)
class DrawScheduled(Event):
    request_id: int
    draw_height: Height
    nonce_deadline: UnixSeconds


@dataclass(frozen=True, slots=True)
class EntropyCaptured(Event):
    request_id: int
    height: Height
    entropy: Hash32


@dataclass(frozen=True, slots=True)
class Drawn(Event):
    """``nonce`` is the commitment itself where the requester did not open it."""

    request_id: int
    nonce: Hash32
    seed: Hash32
    evaluators: tuple[Address, ...]
    deadline: UnixSeconds


@dataclass(frozen=True, slots=True)
class Committed(Event):
    request_id: int
    evaluator: Address
    commitment: Hash32


@dataclass(frozen=True, slots=True)
class RevealOpened(Event):
    request_id: int
    deadline: UnixSeconds


@dataclass(frozen=True, slots=True)
class Revealed(Event):
    request_id: int
    evaluator: Address
    evidence_hash: Hash32
    scores: tuple[Score, ...]


@dataclass(frozen=True, slots=True)
class Outlier(Event):
    request_id: int
    evaluator: Address
    slashed: TokenAmount


@dataclass(frozen=True, slots=True)
class Absent(Event):
    request_id: int
    evaluator: Address
    slashed: TokenAmount


@dataclass(frozen=True, slots=True)
class Finalised(Event):
    request_id: int
    model_id: int
    vector: tuple[Score, ...]


@dataclass(frozen=True, slots=True)
class Ended(Event):
    request_id: int
    reason: str


_SCORES = {
    "type": "tuple[]",
    "name": "scores",
    "components": [{"type": "int64", "name": name} for name in ("value", "low", "high")],
}


def nonce_commitment(requester: Address, model_id: int, nonce: Hash32) -> Hash32:
    """What a requester commits to when it chooses ``nonce`` (32 fresh random bytes, not zero)."""
    return keccak256(bytes(12) + requester + model_id.to_bytes(32, "big") + nonce)


def draw_seed(nonce: Hash32, entropy: Hash32) -> Hash32:
    """Seed of the draw."""
    return keccak256(nonce + entropy)


def report_commitment(
    request_id: int, evaluator: Address, scores: Sequence[Score], evidence_hash: Hash32, salt: Hash32
) -> Hash32:
    """What an evaluator commits to; ``salt`` is 32 fresh random bytes."""
    scores_hash = keccak256(encode([_SCORES], [list(scores)], "a report"))
    return keccak256(request_id.to_bytes(32, "big") + bytes(12) + evaluator + scores_hash + evidence_hash + salt)


class Evaluations(PaysCredit):
    """Client of ``Evaluations``."""

    NAME = "Evaluations"

    @classmethod
    async def deploy(
        cls,
        client: ChainClient,
        token: Address,
        providers: Address,
        assets: Address,
        draw_delay: int,
        outlier_share: BasisPoints,
        absent_share: BasisPoints,
    ) -> "Evaluations":
        """Create the contract."""
        address = await cls._deploy(client, token, providers, assets, draw_delay, outlier_share, absent_share)
        return cls(client, address)

    async def request(self, terms: EvaluationTerms, commitment: Hash32) -> int:
        """Ask for an evaluation and return its id. Needs an allowance of ``terms.escrow``."""
        return self._only(Requested, await self._write("request", terms, commitment)).request_id

    async def capture(self, request_id: int) -> Receipt:
        """Fix the block randomness, or schedule the draw anew where it is out of reach."""
        return await self._write("capture", request_id)

    async def draw(self, request_id: int, nonce: Hash32 = ZERO_HASH) -> tuple[Address, ...]:
        """Open the requester's nonce and draw; needs a block after ``draw_height`` (``client.advance_past``). Without a
        nonce only after ``nonce_deadline``."""
        return self._only(Drawn, await self._write("draw", request_id, nonce)).evaluators

    async def commit(self, request_id: int, commitment: Hash32) -> Receipt:
        """An evaluator's ``report_commitment``."""
        return await self._write("commit", request_id, commitment)

    async def reveal(self, request_id: int, scores: Sequence[Score], evidence_hash: Hash32, salt: Hash32) -> Receipt:
        """Open the caller's commitment, once all have committed or the time to commit is over."""
        return await self._write("reveal", request_id, list(scores), evidence_hash, salt)

    async def finalise(self, request_id: int) -> Receipt:
        """Compute the vector, pay and slash."""
        return await self._write("finalise", request_id)

    async def expire(self, request_id: int) -> Receipt:
        """Give the fees back where nobody drew in time."""
        return await self._write("expire", request_id)

    async def count(self) -> int:
        """Number of requests; ids are 1 to this."""
        return int(await self._read(int, "count"))

    async def request_of(self, request_id: int) -> EvaluationRequest:
        """State of a request."""
        found: EvaluationRequest = await self._read(EvaluationRequest, "requestOf", request_id)
        return found

    async def terms_of(self, request_id: int) -> EvaluationTerms:
        """What was asked for."""
        found: EvaluationTerms = await self._read(EvaluationTerms, "termsOf", request_id)
        return found

    async def report_of(self, request_id: int, evaluator: Address) -> Report:
        """What an evaluator committed to and revealed; all zero where it did neither."""
        found: Report = await self._read(Report, "reportOf", request_id, evaluator)
        return found

    async def vector_of(self, request_id: int) -> tuple[int, tuple[Score, ...]]:
        """Model and agreed vector, by criterion in the order of the terms. Reverts unless it is finalised."""
        model_id, vector = await self._read((int, tuple[Score, ...]), "vectorOf", request_id)
        return model_id, vector
