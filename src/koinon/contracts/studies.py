"""Studies: proposal, consents, draw of the committee, result, payment, and every way out of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from koinon.contracts.abi import encode
from koinon.contracts.client import ChainClient, Receipt
from koinon.contracts.contract import Event, PaysCredit
from koinon.contracts.eip712 import Domain, studies_domain
from koinon.crypto.hash import keccak256
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import BasisPoints, Height, TokenAmount, UnixSeconds

COMMITTEE_SIZE: Final = 4
SIGNATURES_NEEDED: Final = 3
_NO_BACKUP: Final = COMMITTEE_SIZE


class StudyPhase(IntEnum):
    """Where a study stands."""

    NONE = 0
    PROPOSED = 1
    LOCKED = 2
    DRAWING = 3
    RUNNING = 4
    COMPLETED = 5
    ENDED = 6


@dataclass(frozen=True, slots=True)
class StudyTerms:
    """What everybody agrees to; see ``Studies.Terms`` in the source.

    Attributes:
        committee_fee: for each of the four members of the attempt that completes.
        owner_fee: for each owner on completion.
        bond: put up by the publisher and by each owner against not opening their nonces.
        run_seconds: time to draw a committee, and again for the committee to deliver.
        maximum_attempts: 1 to 16.
    """

    spec_hash: Hash32
    algorithm_hash: Hash32
    owners: tuple[Address, ...]
    result_party: Address
    committee_fee: TokenAmount
    owner_fee: TokenAmount
    bond: TokenAmount
    consent_deadline: UnixSeconds
    reveal_seconds: int
    run_seconds: int
    challenge_seconds: int
    maximum_attempts: int

    @property
    def escrow(self) -> TokenAmount:
        """What ``propose`` pulls from the publisher."""
        fees = COMMITTEE_SIZE * self.committee_fee + len(self.owners) * self.owner_fee
        return TokenAmount(fees + self.bond)


@dataclass(frozen=True, slots=True)
class Study:
    """State of a study.

    Attributes:
        deadline: of the present phase; after it anyone may call ``expire``. Zero when the study is over.
        draw_height: nonces open, and a re-run is drawn, once a block after this one exists.
        held: escrow and bonds.
    """

    publisher: Address
    phase: StudyPhase
    attempt: int
    reschedules: int
    consents: int
    reveals: int
    open_challenges: int
    draw_height: Height
    deadline: UnixSeconds
    held: TokenAmount
    entropy: Hash32
    seed: Hash32
    output_digest: Hash32
    committee: tuple[Address, ...]
    excluded: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Party:
    """What one party committed to and opened."""

    nonce_commitment: Hash32
    nonce: Hash32
    dataset_hash: Hash32
    consented: bool
    revealed: bool


@dataclass(frozen=True, slots=True)
class Challenge:
    """A challenge of one committee member; ``deadline`` is zero where there is none."""

    challenger: Address
    deadline: UnixSeconds
    answered: bool


@dataclass(frozen=True, slots=True)
class Proposed(Event):
    study_id: int
    publisher: Address
    spec_hash: Hash32
    algorithm_hash: Hash32
    nonce_commitment: Hash32


@dataclass(frozen=True, slots=True)
class Consented(Event):
    study_id: int
    owner: Address
    dataset_hash: Hash32
    nonce_commitment: Hash32
    signature: bytes


@dataclass(frozen=True, slots=True)
class Refused(Event):
    """An owner said no; ``reason_hash`` is of the reason it gave to the publisher."""

    study_id: int
    owner: Address
    reason_hash: Hash32


@dataclass(frozen=True, slots=True)
class LockedIn(Event):
    study_id: int
    draw_height: Height
    deadline: UnixSeconds


@dataclass(frozen=True, slots=True)
class DrawScheduled(Event):
    study_id: int
    attempt: int
    draw_height: Height
    deadline: UnixSeconds


@dataclass(frozen=True, slots=True)
class EntropyCaptured(Event):
    study_id: int
    height: Height
    entropy: Hash32


@dataclass(frozen=True, slots=True)
class Revealed(Event):
    study_id: int
    party: Address
    nonce: Hash32


@dataclass(frozen=True, slots=True)
class Seeded(Event):
    study_id: int
    seed: Hash32


@dataclass(frozen=True, slots=True)
class Drawn(Event):
    study_id: int
    attempt: int
    seed: Hash32
    committee: tuple[Address, ...]
    deadline: UnixSeconds


@dataclass(frozen=True, slots=True)
class Complained(Event):
    """``backup`` is the zero address where the frame had none; nobody else is excluded then."""

    study_id: int
    attempt: int
    sender: Address
    backup: Address
    receiver: Address


@dataclass(frozen=True, slots=True)
class Declined(Event):
    study_id: int
    attempt: int
    member: Address


@dataclass(frozen=True, slots=True)
class Challenged(Event):
    study_id: int
    attempt: int
    member: Address
    position: int
    challenger: Address
    deadline: UnixSeconds


@dataclass(frozen=True, slots=True)
class Answered(Event):
    study_id: int
    attempt: int
    member: Address
    position: int


@dataclass(frozen=True, slots=True)
class ChallengeExpired(Event):
    study_id: int
    attempt: int
    member: Address
    slashed: TokenAmount


@dataclass(frozen=True, slots=True)
class Contradicted(Event):
    study_id: int
    attempt: int
    member: Address
    slashed: TokenAmount


@dataclass(frozen=True, slots=True)
class AttemptFailed(Event):
    study_id: int
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class Completed(Event):
    study_id: int
    attempt: int
    output_digest: Hash32
    signers: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Ended(Event):
    study_id: int
    reason: str


def nonce_commitment(party: Address, spec_hash: Hash32, nonce: Hash32) -> Hash32:
    """What a party commits to when it chooses ``nonce`` (32 fresh random bytes)."""
    return keccak256(bytes(12) + party + spec_hash + nonce)


def first_seed(nonces: Sequence[Hash32], entropy: Hash32) -> Hash32:
    """Seed of attempt 0, from the opened nonces in party order and the block randomness."""
    parameters = [{"type": "bytes32[]", "name": "nonces"}, {"type": "bytes32", "name": "entropy"}]
    return keccak256(encode(parameters, [list(nonces), entropy], "the seed of a study"))


def later_seed(seed: Hash32, attempt: int, block_hash: Hash32) -> Hash32:
    """Seed of attempt 1 and later, from the first seed and the hash of the new draw height."""
    return keccak256(seed + attempt.to_bytes(32, "big") + block_hash)


class Studies(PaysCredit):
    """Client of ``Studies``. Positions in the committee are 0 to 3; party 0 is the publisher, owners follow."""

    NAME = "Studies"

    @classmethod
    async def deploy(
        cls, client: ChainClient, token: Address, providers: Address, draw_delay: int, slash_share: BasisPoints
    ) -> "Studies":
        """Create the contract."""
        return cls(client, await cls._deploy(client, token, providers, draw_delay, slash_share))

    async def domain(self) -> Domain:
        """EIP-712 domain of consents and results."""
        return studies_domain(await self.client.chain_id(), self.address)

    async def propose(self, terms: StudyTerms, commitment: Hash32) -> int:
        """Propose a study and return its id. Needs an allowance of ``terms.escrow``."""
        receipt = await self._write("propose", terms, commitment)
        return self._only(Proposed, receipt).study_id

    async def consent(
        self, study_id: int, owner: Address, dataset_hash: Hash32, commitment: Hash32, signature: bytes
    ) -> Receipt:
        """Relay an owner's consent (signature over ``eip712.consent_digest``); pulls its bond by allowance. The
        last one locks the study."""
        return await self._write("consent", study_id, owner, dataset_hash, commitment, signature)

    async def refuse(self, study_id: int, reason_hash: Hash32) -> Receipt:
        """An owner's no, before the lock; ends the study."""
        return await self._write("refuse", study_id, reason_hash)

    async def cancel(self, study_id: int) -> Receipt:
        """The publisher takes the proposal back, before the lock."""
        return await self._write("cancel", study_id)

    async def capture(self, study_id: int) -> Receipt:
        """Fix the block randomness of a locked study, or schedule the draw anew where it is out of reach."""
        return await self._write("capture", study_id)

    async def reveal(self, study_id: int, party: int, nonce: Hash32) -> Receipt:
        """Open a party's nonce; only once a block after ``draw_height`` exists (``client.advance_past``)."""
        return await self._write("reveal", study_id, party, nonce)

    async def draw(self, study_id: int) -> tuple[Address, ...]:
        """Draw the committee of the current attempt; empty where the draw was scheduled anew instead. A re-run needs a
        block after ``draw_height``."""
        receipt = await self._write("draw", study_id)
        found = self.read_events(Drawn, receipt.logs)
        return found[0].event.committee if found else ()

    async def complain(self, study_id: int, attempt: int, sender: int, backup: int | None, receiver: int) -> Receipt:
        """A member (the receiver) met a wrong or missing frame: those named are excluded, and the study is drawn again.

        Args:
            backup: None where the frame had none, as with a silent sender.
        """
        third = _NO_BACKUP if backup is None else backup
        return await self._write("complain", study_id, attempt, sender, third, receiver)

    async def decline(self, study_id: int, attempt: int) -> Receipt:
        """A member cannot run this study: it is excluded, nobody is slashed, and the study is drawn again."""
        return await self._write("decline", study_id, attempt)

    async def challenge(self, study_id: int, attempt: int, position: int) -> Receipt:
        """Ask a member for a sign of life."""
        return await self._write("challenge", study_id, attempt, position)

    async def answer(self, study_id: int, attempt: int) -> Receipt:
        """The challenged member's sign of life."""
        return await self._write("answer", study_id, attempt)

    async def expire_challenge(self, study_id: int, attempt: int, position: int) -> Receipt:
        """Slash and exclude a member that did not answer in time; the study is drawn again."""
        return await self._write("expireChallenge", study_id, attempt, position)

    async def contradict(
        self,
        study_id: int,
        attempt: int,
        position: int,
        digests: tuple[Hash32, Hash32],
        signatures: tuple[bytes, bytes],
    ) -> Receipt:
        """Slash a member that signed two results of one attempt; a running study is drawn again without it.

        Args:
            digests: two different output digests.
            signatures: the member's, over ``eip712.result_digest`` of each.
        """
        return await self._write("contradict", study_id, attempt, position, *digests, *signatures)

    async def complete(
        self, study_id: int, attempt: int, output_digest: Hash32, signatures: Sequence[bytes]
    ) -> Receipt:
        """Hand in the result.

        Args:
            signatures: four, by position, over ``eip712.result_digest``; ``b""`` where a member did not sign, once.
        """
        return await self._write("complete", study_id, attempt, output_digest, list(signatures))

    async def expire(self, study_id: int) -> Receipt:
        """After the deadline of the present phase: draw again, or give the money back."""
        return await self._write("expire", study_id)

    async def count(self) -> int:
        """Number of studies; ids are 1 to this."""
        return int(await self._read(int, "count"))

    async def draw_delay(self) -> int:
        """Blocks between the lock and the block whose hash is used."""
        return int(await self._read(int, "drawDelay"))

    async def study_of(self, study_id: int) -> Study:
        """State of a study."""
        study: Study = await self._read(Study, "studyOf", study_id)
        return study

    async def terms_of(self, study_id: int) -> StudyTerms:
        """Terms of a study."""
        terms: StudyTerms = await self._read(StudyTerms, "termsOf", study_id)
        return terms

    async def party_of(self, study_id: int, party: int) -> Party:
        """Commitments of a party."""
        found: Party = await self._read(Party, "partyOf", study_id, party)
        return found

    async def committee_of(self, study_id: int, attempt: int) -> tuple[Address, ...]:
        """Who was drawn for an attempt, by position, whatever became of it; empty where nobody was yet."""
        found: tuple[Address, ...] = await self._read(tuple[Address, ...], "committeeOf", study_id, attempt)
        return found

    async def challenge_of(self, study_id: int, attempt: int, position: int) -> Challenge:
        """The challenge of a member, if there is one."""
        found: Challenge = await self._read(Challenge, "challengeOf", study_id, attempt, position)
        return found
