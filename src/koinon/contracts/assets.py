"""Assets: datasets, models and services with provenance and revenue split."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from koinon.contracts.client import ChainClient, Receipt
from koinon.contracts.contract import Event, PaysCredit
from koinon.kernel.ids import ZERO_HASH, Address, Hash32
from koinon.kernel.quantities import BasisPoints, TokenAmount, UnixSeconds


class AssetKind(IntEnum):
    """What an asset is."""

    DATASET = 0
    MODEL = 1
    SERVICE = 2


@dataclass(frozen=True, slots=True)
class Mint:
    """What to mint; see ``Assets.Mint`` in the source.

    Attributes:
        content_hash: dataset: root of its commitment; model: hash of weights or package; service: of its description.
        shares: for each payee, in basis points; they add up to 10,000.
        study_id: the completed study a model came from, which makes its provenance checked; 0 for none.
    """

    kind: AssetKind
    content_hash: Hash32
    uri: str
    parents: tuple[int, ...]
    payees: tuple[Address, ...]
    shares: tuple[BasisPoints, ...]
    code_hash: Hash32 = ZERO_HASH
    study_id: int = 0
    royalty: BasisPoints = BasisPoints(0)  # noqa: RUF009  # a NewType call gives the same int each time


@dataclass(frozen=True, slots=True)
class Asset:
    """An asset as minted; its present owner is ``Assets.owner_of``."""

    publisher: Address
    kind: AssetKind
    minted_at: UnixSeconds
    content_hash: Hash32
    code_hash: Hash32
    study_id: int
    uri: str
    parents: tuple[int, ...]
    payees: tuple[Address, ...]
    shares: tuple[BasisPoints, ...]


@dataclass(frozen=True, slots=True)
class Minted(Event):
    asset_id: int
    publisher: Address
    kind: AssetKind
    content_hash: Hash32
    study_id: int
    code_hash: Hash32
    parents: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SplitSet(Event):
    asset_id: int
    payees: tuple[Address, ...]
    shares: tuple[BasisPoints, ...]


@dataclass(frozen=True, slots=True)
class Distributed(Event):
    """Revenue was credited to the payees; ``remainder`` went to the publisher on top of its own share."""

    asset_id: int
    payer: Address
    amount: TokenAmount
    remainder: TokenAmount


@dataclass(frozen=True, slots=True)
class Notes:
    """How many commitments a publisher appended to an asset, and the head of their Keccak-256 chain."""

    count: int
    head: Hash32


@dataclass(frozen=True, slots=True)
class Noted(Event):
    """Commitment number ``sequence``, from 0, and the chain's head after it."""

    asset_id: int
    sequence: int
    commitment: Hash32
    head: Hash32


class Assets(PaysCredit):
    """Client of ``Assets``."""

    NAME = "Assets"

    @classmethod
    async def deploy(cls, client: ChainClient, token: Address, studies: Address) -> "Assets":
        """Create the contract."""
        return cls(client, await cls._deploy(client, token, studies))

    async def mint(self, request: Mint) -> int:
        """Mint to the caller and return the asset's id."""
        return self._only(Minted, await self._write("mint", request)).asset_id

    async def note(self, asset_id: int, sequence: int, commitments: Sequence[Hash32]) -> Receipt:
        """Append 1 to 64 commitments to the caller's asset, which has ``sequence`` of them already."""
        return await self._write("note", asset_id, sequence, list(commitments))

    async def notes_of(self, asset_id: int) -> Notes:
        """How many commitments an asset has, and their head."""
        found: Notes = await self._read(Notes, "notesOf", asset_id)
        return found

    async def distribute(self, asset_id: int, amount: TokenAmount) -> Receipt:
        """Pay revenue into the split; needs an allowance for this contract."""
        return await self._write("distribute", asset_id, amount)

    async def transfer(self, asset_id: int, to: Address) -> Receipt:
        """Give the caller's asset to another owner; publisher and split stay."""
        return await self._write("transferFrom", self.client.account, to, asset_id)

    async def count(self) -> int:
        """Number of assets; ids are 1 to this."""
        return int(await self._read(int, "count"))

    async def asset_of(self, asset_id: int) -> Asset:
        """An asset as minted."""
        asset: Asset = await self._read(Asset, "assetOf", asset_id)
        return asset

    async def owner_of(self, asset_id: int) -> Address:
        """Present owner."""
        return Address(await self._read(Address, "ownerOf", asset_id))

    async def interested_in(self, asset_id: int) -> tuple[Address, ...]:
        """Everybody who earns from the asset, and so may not evaluate it."""
        found: tuple[Address, ...] = await self._read(tuple[Address, ...], "interestedIn", asset_id)
        return found


def split(amount: TokenAmount, shares: tuple[BasisPoints, ...]) -> tuple[tuple[TokenAmount, ...], TokenAmount]:
    """What each payee gets of ``amount``, and the remainder for the publisher; the same integers as on the chain."""
    parts = tuple(TokenAmount(amount * share // 10_000) for share in shares)
    return parts, TokenAmount(amount - sum(parts))
