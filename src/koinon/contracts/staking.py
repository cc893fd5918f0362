"""The staking contract of our own chains: candidates, delegations, rewards, evidence, votes."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from koinon.contracts.client import ChainClient, Receipt
from koinon.contracts.contract import Contract, interface
from koinon.kernel.ids import Address, NodeId
from koinon.kernel.quantities import Epoch, UnixSeconds, Wei
from koinon.ledger.staking.contract import STAKING

STUDY_UNITS: Final = 10
EVALUATION_UNITS: Final = 3


class Status(IntEnum):
    """How a candidate stands."""

    NONE = 0
    ACTIVE = 1
    LEAVING = 2
    EXPELLED = 3


class Action(IntEnum):
    """What a proposal is about."""

    ADMIT = 0
    REMOVE = 1
    AUTHORISE = 2
    REVOKE = 3


@dataclass(frozen=True, slots=True)
class StakingCandidate:
    """A candidate as the contract holds it; its source says what each field means."""

    owner: Address
    status: int
    share: int
    share_set_in: int
    jailed_until: int
    node_id: NodeId
    key_high: bytes
    key_low: bytes
    stake: Wei
    unstaking: Wei
    free_in: int
    pending_in: int
    alternate_from: int
    alternate_in: int
    active: Wei
    pending: Wei
    reserve: Wei
    era_fees: Wei
    bonus: int
    era_blocks: int
    work: int
    place: int
    seat: int
    since: int
    per_unit: int

    @property
    def delegated(self) -> Wei:
        """All that others added to its weight."""
        return Wei(self.active + self.pending)


@dataclass(frozen=True, slots=True)
class Delegation:
    """What one account added to a candidate's weight: what earns already and what does from the next era on."""

    active: Wei
    pending: Wei
    pending_in: int
    paid_per_unit: int


@dataclass(frozen=True, slots=True)
class Frozen:
    """A sum that can be withdrawn from era ``free_in`` on."""

    amount: Wei
    free_in: int


@dataclass(frozen=True, slots=True)
class Proposal:
    """What members or validators vote on until ``deadline``."""

    action: int
    done: bool
    deadline: UnixSeconds
    subject: Address
    number: int
    node_id: NodeId
    key_high: bytes
    key_low: bytes


class Staking(Contract):
    """Client of ``Staking``, which every chain with epochs has at the same address."""

    NAME = "Staking"

    @classmethod
    def on(cls, client: ChainClient) -> "Staking":
        """The contract of the client's chain."""
        return cls(client, STAKING)

    async def exists(self) -> bool:
        """Whether the chain has epochs."""
        return bool(await self.client.code(self.address))

    async def epoch(self) -> Epoch:
        """The epoch of the last block."""
        return Epoch(await self._read(int, "epoch"))

    async def era(self) -> int:
        """The era, counted from 1."""
        return int(await self._read(int, "era"))

    async def pool(self) -> Wei:
        """What rewards are paid from."""
        return Wei(await self._read(int, "pool"))

    async def supply(self) -> Wei:
        """Coins that exist."""
        return Wei(await self._read(int, "supply"))

    async def owed(self, account: Address) -> Wei:
        """What ``withdraw`` would pay an account, apart from what is frozen."""
        return Wei(await self._read(int, "owed", account))

    async def number_of(self, owner: Address) -> int:
        """The owner's candidate; 0 where it has none."""
        return int(await self._read(int, "numberOf", owner))

    async def live(self) -> tuple[int, ...]:
        """Numbers of all candidates that have not left."""
        found: tuple[int, ...] = await self._read(tuple[int, ...], "live")
        return found

    async def candidate(self, number: int) -> StakingCandidate:
        """One candidate; all zero where there is none."""
        found: StakingCandidate = await self._read(StakingCandidate, "candidateOf", number)
        return found

    async def delegation(self, delegator: Address, number: int) -> Delegation:
        """What an account delegated to a candidate."""
        found: Delegation = await self._read(Delegation, "delegationOf", delegator, number)
        return found

    async def frozen(self, delegator: Address) -> tuple[Frozen, ...]:
        """Delegations taken back and not yet withdrawn."""
        found: tuple[Frozen, ...] = await self._read(tuple[Frozen, ...], "frozenOf", delegator)
        return found

    async def proposal(self, number: int) -> Proposal:
        """One proposal; all zero where there is none."""
        kinds = (int, bool, UnixSeconds, Address, int, NodeId, bytes, bytes)
        return Proposal(*await self._read(kinds, "proposals", number))

    async def proposal_count(self) -> int:
        """Proposals are numbered from 1 to this."""
        return int(await self._read(int, "proposalCount"))

    async def register(self, node_id: NodeId, key: bytes, proof: bytes, share: int, stake: Wei) -> Receipt:
        """Become a candidate; ``proof`` as ``registration_proof`` makes it."""
        return await self._pay(stake, "register", node_id, key[:32], key[32:], proof, share)

    async def add_stake(self, amount: Wei) -> Receipt:
        """Add to the caller's stake."""
        return await self._pay(amount, "addStake")

    async def unstake(self, amount: Wei) -> Receipt:
        """Take stake back; all of it to leave."""
        return await self._write("unstake", amount)

    async def set_share(self, share: int) -> Receipt:
        """Change the delegators' share, in basis points."""
        return await self._write("setShare", share)

    async def delegate(self, number: int, amount: Wei) -> Receipt:
        """Add to a candidate's weight."""
        return await self._pay(amount, "delegate", number)

    async def undelegate(self, number: int, amount: Wei) -> Receipt:
        """Take a delegation back."""
        return await self._write("undelegate", number, amount)

    async def claim(self, number: int) -> Receipt:
        """Move what was earned by delegating to what is owed."""
        return await self._write("claim", number)

    async def withdraw(self) -> Receipt:
        """Pay the caller all that is owed and free."""
        return await self._write("withdraw")

    async def report(self, number: int, evidence: bytes) -> Receipt:
        """Report double signing; ``evidence`` as ``encode_evidence`` makes it."""
        return await self._write("report", number, evidence)

    async def work_for(self, number: int) -> Receipt:
        """Let the caller's verified work count for a candidate."""
        return await self._write("workFor", number)

    async def propose_admission(self, subject: Address, node_id: NodeId, key: bytes, proof: bytes) -> Receipt:
        """Propose a new member, where members are fixed."""
        return await self._write("proposeAdmission", subject, node_id, key[:32], key[32:], proof)

    async def propose_removal(self, number: int) -> Receipt:
        """Propose to remove a member, where members are fixed."""
        return await self._write("proposeRemoval", number)

    async def propose_authority(self, subject: Address, granted: bool) -> Receipt:
        """Propose that a contract may credit useful work, or may no longer."""
        return await self._write("proposeAuthority", subject, granted)

    async def approve(self, proposal: int) -> Receipt:
        """Vote for a proposal."""
        return await self._write("approve", proposal)

    async def _pay(self, value: Wei, function: str, *arguments: object) -> Receipt:
        data = interface(self.NAME).encode_call(function, *arguments)
        return await self.client.send(self.address, data, value, doing=f"{self.NAME} refused {function}")


class Work(Contract):
    """Client of ``Work``, which credits the providers of finished studies and evaluations."""

    NAME = "Work"

    @classmethod
    async def deploy(
        cls,
        client: ChainClient,
        studies: Address,
        evaluations: Address,
        study_units: int = STUDY_UNITS,
        evaluation_units: int = EVALUATION_UNITS,
    ) -> "Work":
        """Create the contract; the validators or members must then authorise it."""
        return cls(client, await cls._deploy(client, STAKING, studies, evaluations, study_units, evaluation_units))

    async def credit_study(self, study_id: int) -> Receipt:
        """Credit the committee of a completed study, once."""
        return await self._write("creditStudy", study_id)

    async def credit_evaluation(self, request_id: int) -> Receipt:
        """Credit the evaluators that a finalised request paid, once."""
        return await self._write("creditEvaluation", request_id)
