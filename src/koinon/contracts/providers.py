"""Providers of computation, evaluation and serving, and their stakes."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntFlag

from koinon.contracts.client import ChainClient, Receipt
from koinon.contracts.contract import Event, PaysCredit
from koinon.kernel.ids import Address, Hash32, NodeId
from koinon.kernel.quantities import Height, TokenAmount, UnixSeconds


class Role(IntFlag):
    """What a provider does; one provider may do several."""

    COMPUTE = 1
    EVALUATE = 2
    SERVE = 4


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider as the chain knows it; all zero where the account never registered.

    Attributes:
        operator: hash that names who runs it; no two drawn together share one.
        locks: assignments that have not ended; ``withdraw`` waits for them.
        unstake_at: when money asked back can be withdrawn.
    """

    node_id: NodeId
    operator: Hash32
    roles: int
    locks: int
    unstake_at: UnixSeconds
    stake: TokenAmount
    unstaking: TokenAmount


@dataclass(frozen=True, slots=True)
class Candidate:
    """A provider in the pool of a role, and the height at which it joined with its present record."""

    account: Address
    joined_at: Height


@dataclass(frozen=True, slots=True)
class Registered(Event):
    """A provider's record was made or changed."""

    account: Address
    node_id: NodeId
    operator: Hash32
    roles: int


@dataclass(frozen=True, slots=True)
class Staked(Event):
    """A stake grew by ``amount`` to ``stake``."""

    account: Address
    amount: TokenAmount
    stake: TokenAmount


@dataclass(frozen=True, slots=True)
class UnstakeRequested(Event):
    """Money was asked back."""

    account: Address
    amount: TokenAmount
    available_at: UnixSeconds


@dataclass(frozen=True, slots=True)
class PoolChanged(Event):
    """A provider can be drawn for a role from now on, or no longer."""

    role: int
    account: Address
    joined: bool


@dataclass(frozen=True, slots=True)
class Sampled(Event):
    """A draw, with all that is needed to repeat it but the operators, which ``Registered`` holds."""

    drawn_for: Address
    role: int
    seed: Hash32
    latest_join: Height
    pool: tuple[Candidate, ...]
    excluded: tuple[Address, ...]
    chosen: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Unlocked(Event):
    """An assignment ended; ``locks`` are left."""

    account: Address
    locks: int


@dataclass(frozen=True, slots=True)
class Slashed(Event):
    """A provider lost stake over study or request ``subject`` of contract ``by``."""

    account: Address
    by: Address
    amount: TokenAmount
    subject: int


class Providers(PaysCredit):
    """Client of ``Providers``."""

    NAME = "Providers"

    @classmethod
    async def deploy(
        cls, client: ChainClient, token: Address, minimum_stake: TokenAmount, freeze_seconds: int
    ) -> "Providers":
        """Create the contract; ``wire`` must follow."""
        return cls(client, await cls._deploy(client, token, minimum_stake, freeze_seconds))

    async def wire(self, authorised: Sequence[Address]) -> Receipt:
        """Name the contracts that may draw and slash; the deployer, once."""
        return await self._write("wire", authorised)

    async def is_wired(self) -> bool:
        """Whether ``wire`` was called."""
        return bool(await self._read(bool, "wired"))

    async def is_authorised(self, contract: Address) -> bool:
        """Whether ``contract`` may draw and slash."""
        return bool(await self._read(bool, "isAuthorised", contract))

    async def minimum_stake(self) -> TokenAmount:
        """Stake from which on a provider can be drawn."""
        return TokenAmount(await self._read(int, "minimumStake"))

    async def register(self, node_id: NodeId, operator: Hash32, roles: Role) -> Receipt:
        """Enter or change the caller's record."""
        return await self._write("register", node_id, operator, int(roles))

    async def stake(self, amount: TokenAmount) -> Receipt:
        """Add to the caller's stake; needs an allowance for this contract."""
        return await self._write("stake", amount)

    async def request_unstake(self, amount: TokenAmount) -> Receipt:
        """Ask money back; ``withdraw`` pays it after the freeze, once no assignment is left."""
        return await self._write("requestUnstake", amount)

    async def provider_of(self, account: Address) -> Provider:
        """The record of an account."""
        found: Provider = await self._read(Provider, "providerOf", account)
        return found

    async def eligible(self, role: Role) -> tuple[Candidate, ...]:
        """Who can be drawn for a role now."""
        found: tuple[Candidate, ...] = await self._read(tuple[Candidate, ...], "eligible", int(role))
        return found

    async def sample(
        self, role: Role, seed: Hash32, count: int, excluded: Sequence[Address], latest_join: Height
    ) -> tuple[Address, ...]:
        """What a draw with this seed would choose now."""
        chosen: tuple[Address, ...] = await self._read(
            tuple[Address, ...], "sample", int(role), seed, count, excluded, latest_join
        )
        return chosen
