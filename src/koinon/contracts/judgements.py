"""Judgements: which member of a committee deviated, of two or accused alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from koinon.contracts.client import ChainClient, Receipt
from koinon.contracts.contract import Event, PaysCredit
from koinon.contracts.eip712 import Domain, judgements_domain
from koinon.kernel.ids import ZERO_ADDRESS, Address, Hash32
from koinon.kernel.quantities import BasisPoints, Height, TokenAmount, UnixSeconds

JUDGES: Final = 3
"""Judges of each accused that is heard; two that agree decide."""


class JudgedOutcome(IntEnum):
    """What judges found about an accused member; NONE where they have not decided."""

    NONE = 0
    KEPT = 1
    DEVIATED = 2
    UNOPENED = 3
    UNPROVEN = 4


class HearingStage(IntEnum):
    """Where the hearing of one accused stands."""

    NONE = 0
    WAITING = 1
    SITTING = 2
    OVER = 3


@dataclass(frozen=True, slots=True)
class Case:
    """A proven lie of one of two members, or of one.

    Attributes:
        deadline: for pleading; begins anew when one of the two is cleared.
        accuser: who brought it, and pays for the judges of a member accused alone.
        accused: sender and backup of the disputed value; or one member, and the zero address.
        outcomes: of their hearings.
    """

    study_id: int
    attempt: int
    closed: bool
    deadline: UnixSeconds
    evidence_hash: Hash32
    accuser: Address
    accused: tuple[Address, ...]
    outcomes: tuple[JudgedOutcome, ...]

    @property
    def is_about_one(self) -> bool:
        """Whether one member is accused alone; it has one hearing, which ends the case."""
        return self.accused[1] == ZERO_ADDRESS


@dataclass(frozen=True, slots=True)
class Hearing:
    """The hearing of one accused by judges of its own."""

    stage: HearingStage
    reschedules: int
    draw_height: Height
    deadline: UnixSeconds
    judges: tuple[Address, ...]
    votes: tuple[JudgedOutcome, ...]


@dataclass(frozen=True, slots=True)
class Accused(Event):
    case_id: int
    study_id: int
    attempt: int
    sender: Address
    backup: Address
    evidence_hash: Hash32
    deadline: UnixSeconds


@dataclass(frozen=True, slots=True)
class Pleaded(Event):
    case_id: int
    side: int
    member: Address
    draw_height: Height


@dataclass(frozen=True, slots=True)
class Convened(Event):
    case_id: int
    side: int
    judges: tuple[Address, ...]
    deadline: UnixSeconds


@dataclass(frozen=True, slots=True)
class Voted(Event):
    case_id: int
    side: int
    judge: Address
    outcome: JudgedOutcome


@dataclass(frozen=True, slots=True)
class Decided(Event):
    case_id: int
    side: int
    member: Address
    outcome: JudgedOutcome


@dataclass(frozen=True, slots=True)
class Convicted(Event):
    case_id: int
    member: Address
    slashed: TokenAmount


@dataclass(frozen=True, slots=True)
class Closed(Event):
    case_id: int


@dataclass(frozen=True, slots=True)
class Misdelivered(Event):
    study_id: int
    attempt: int
    member: Address
    slashed: TokenAmount


class Judgements(PaysCredit):
    """Client of ``Judgements``.

    ``side`` is 0 for the sender of a disputed value or a member accused alone, 1 for a backup.
    """

    NAME = "Judgements"

    @classmethod
    async def deploy(
        cls,
        client: ChainClient,
        token: Address,
        providers: Address,
        studies: Address,
        draw_delay: int,
        slash_share: BasisPoints,
        judge_fee: TokenAmount,
        plead_seconds: int,
        judge_seconds: int,
    ) -> "Judgements":
        """Create the contract."""
        address = await cls._deploy(
            client, token, providers, studies, draw_delay, slash_share, judge_fee, plead_seconds, judge_seconds
        )
        return cls(client, address)

    async def accuse(self, study_id: int, attempt: int, sender: int, backup: int, evidence_hash: Hash32) -> int:
        """Bring a stopped attempt before the judges and return the case's id.

        Args:
            sender: position in the committee of that attempt; likewise ``backup``.
            evidence_hash: ``privacy.rep4.hearing.evidence_hash`` of the evidence.
        """
        receipt = await self._write("accuse", study_id, attempt, sender, backup, evidence_hash)
        return self._only(Accused, receipt).case_id

    async def accuse_one(self, study_id: int, attempt: int, position: int, evidence_hash: Hash32) -> int:
        """Bring one member of a stopped attempt before judges; pulls their fees from the caller. Returns the case's id.

        Args:
            evidence_hash: of evidence that names this member alone.
        """
        receipt = await self._write("accuseOne", study_id, attempt, position, evidence_hash)
        return self._only(Accused, receipt).case_id

    async def contradict_output(
        self,
        study_id: int,
        position: int,
        digests: Sequence[Hash32],
        handed: Sequence[Hash32],
        signature: bytes,
    ) -> TokenAmount:
        """Take stake from a member whose signature is on other components than the committee agreed on; how much.

        Args:
            digests: of the four components of the output on the chain.
            handed: of the three that the member handed over, in order of their indices.
            signature: the member's over ``eip712.handed_digest``.
        """
        receipt = await self._write("contradictOutput", study_id, position, list(digests), list(handed), signature)
        return self._only(Misdelivered, receipt).slashed

    async def domain(self) -> Domain:
        """In which members sign what they hand over."""
        return judgements_domain(await self.client.chain_id(), self.address)

    async def plead(self, case_id: int, side: int) -> Receipt:
        """Ask for three judges of one's own; pulls their fees."""
        return await self._write("plead", case_id, side)

    async def convene(self, case_id: int, side: int) -> tuple[Address, ...]:
        """Draw the judges of a plea; empty where the block hash was out of reach and the draw was scheduled anew."""
        receipt = await self._write("convene", case_id, side)
        found = self.read_events(Convened, receipt.logs)
        return found[0].event.judges if found else ()

    async def vote(self, case_id: int, side: int, outcome: JudgedOutcome) -> Receipt:
        """Say, as a judge, what repeating the accused's part showed. Two equal votes decide."""
        return await self._write("vote", case_id, side, int(outcome))

    async def adjourn(self, case_id: int, side: int) -> Receipt:
        """End a hearing whose time is over: who voted is paid, the rest goes back."""
        return await self._write("adjourn", case_id, side)

    async def close(self, case_id: int) -> Receipt:
        """End a case; who let the other be cleared and did not plead, or opened nothing, pays."""
        return await self._write("close", case_id)

    async def judge_fee(self) -> TokenAmount:
        """What an accused that pleads, or who accuses one member, pays to each of three judges that votes."""
        return TokenAmount(await self._read(int, "judgeFee"))

    async def judge_seconds(self) -> int:
        """How long a hearing lasts."""
        return int(await self._read(int, "judgeSeconds"))

    async def case_of(self, case_id: int) -> Case:
        """State of a case."""
        found: Case = await self._read(Case, "caseOf", case_id)
        return found

    async def hearing_of(self, case_id: int, side: int) -> Hearing:
        """State of the hearing of one side."""
        found: Hearing = await self._read(Hearing, "hearingOf", case_id, side)
        return found
