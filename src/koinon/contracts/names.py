"""Names: from a readable name to weights, trust vector and live endpoints."""

from dataclasses import dataclass

from koinon.contracts.client import ChainClient, Receipt
from koinon.contracts.contract import Contract, Event
from koinon.kernel.ids import Address, Hash32


@dataclass(frozen=True, slots=True)
class ServiceEndpoint:
    """Where a service answers (at most 200 bytes), and the account of the node behind it."""

    url: str
    node: Address


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a name stands for; ``model_id`` is 0 where nothing was set, ``evaluation_id`` where there is none."""

    model_id: int
    weights_hash: Hash32
    evaluation_id: int
    endpoints: tuple[ServiceEndpoint, ...]


@dataclass(frozen=True, slots=True)
class NameRegistered(Event):
    name_hash: Hash32
    name: str
    owner: Address


@dataclass(frozen=True, slots=True)
class NameTransferred(Event):
    name_hash: Hash32
    name: str
    former: Address
    owner: Address


@dataclass(frozen=True, slots=True)
class ResolutionSet(Event):
    name_hash: Hash32
    name: str
    model_id: int
    weights_hash: Hash32
    evaluation_id: int


class Names(Contract):
    """Client of ``Names``."""

    NAME = "Names"

    @classmethod
    async def deploy(cls, client: ChainClient, assets: Address, evaluations: Address) -> "Names":
        """Create the contract."""
        return cls(client, await cls._deploy(client, assets, evaluations))

    async def register(self, name: str) -> Receipt:
        """Take a free name: 3 to 64 of a-z, 0-9, '-' and '.'; the last two not first, last or together."""
        return await self._write("register", name)

    async def set_resolution(self, name: str, resolution: Resolution) -> Receipt:
        """Say what the caller's name stands for, as a whole. The model must be the caller's, and the evaluation a
        finalised one of that model."""
        return await self._write("setResolution", name, resolution)

    async def transfer(self, name: str, to: Address) -> Receipt:
        """Give the name away; its resolution is cleared."""
        return await self._write("transfer", name, to)

    async def resolve(self, name: str) -> tuple[Address, Resolution]:
        """Owner and resolution. Raises Reverted (UnknownName) where nobody registered it."""
        owner, resolution = await self._read((Address, Resolution), "resolve", name)
        return owner, resolution
