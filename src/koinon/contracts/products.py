"""Client of ``Products``: a product of matrices by one stranger, whose bond pays for a number that is wrong."""

from dataclasses import dataclass
from typing import Final

from koinon.contracts.artifacts import artifact
from koinon.contracts.client import ChainClient, Receipt
from koinon.contracts.contract import Event, PaysCredit
from koinon.contracts.created import deploy_salted
from koinon.contracts.eip712 import Domain, struct_hash
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import TokenAmount, UnixSeconds

PRODUCT_TYPE: Final = "Product(uint256 jobId,bytes32 product)"
PRODUCTS_NAME: Final = "Koinon Products"


@dataclass(frozen=True, slots=True)
class ProductTerms:
    """One product.

    Attributes:
        worker: who computes it.
        rows: of the left matrix, 1 to 65,536.
        inner: columns of the left matrix and rows of the right one, 1 to 4,096.
        columns: of the right matrix, 1 to 4,096.
        left, right: commitments, see ``jobs.products``.
        bond: put up by the worker; lost for a wrong product.
        deadline: until which the worker joins and is paid.
        claim_seconds: after it, in which a wrong product is charged.
    """

    worker: Address
    rows: int
    inner: int
    columns: int
    left: Hash32
    right: Hash32
    fee: TokenAmount
    bond: TokenAmount
    deadline: UnixSeconds
    claim_seconds: int

    @property
    def closes(self) -> int:
        """Unix seconds after which everything that is left goes back."""
        return int(self.deadline) + self.claim_seconds


@dataclass(frozen=True, slots=True)
class ProductJob:
    """Where a product stands; ``bonded`` while the worker's bond is here, ``charged`` once it was lost."""

    client: Address
    bonded: bool
    charged: bool
    paid: bool
    closed: bool


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of a product, with the row and the column that it is the inner product of, and proofs of all three.

    Attributes:
        row, column: of the product, from 0.
        left, right, product: the left matrix's row, the right one's column, the product's row, as words.
    """

    row: int
    column: int
    left: bytes
    left_proof: tuple[Hash32, ...]
    right: bytes
    right_proof: tuple[Hash32, ...]
    product: bytes
    product_proof: tuple[Hash32, ...]


@dataclass(frozen=True, slots=True)
class Opened(Event):
    job_id: int
    client: Address
    worker: Address


@dataclass(frozen=True, slots=True)
class Refuted(Event):
    """A worker lost its bond for this number."""

    job_id: int
    worker: Address
    row: int
    column: int


def product_digest(domain: Domain, job_id: int, product: Hash32) -> Hash32:
    """What a worker signs with its account for a product of this commitment."""
    return domain.digest(struct_hash(PRODUCT_TYPE, job_id, product))


class Products(PaysCredit):
    """Client of ``Products``, which anybody may deploy; it is no part of the suite."""

    NAME = "Products"

    @classmethod
    async def deploy(cls, client: ChainClient, token: Address) -> "Products":
        """Create the contract."""
        return cls(client, await deploy_salted(client, artifact(cls.NAME), token))

    async def domain(self) -> Domain:
        """Where signatures count."""
        return Domain(PRODUCTS_NAME, await self.client.chain_id(), self.address)

    async def open(self, terms: ProductTerms) -> int:
        """Offer work and pay for it in advance; returns its number. Raises Reverted where a field is wrong."""
        return self._only(Opened, await self._write("open", terms)).job_id

    async def join(self, job_id: int) -> Receipt:
        """Put up the caller's bond. Raises Reverted where the terms do not name it, or it is too late."""
        return await self._write("join", job_id)

    async def settle(self, job_id: int, product: Hash32, signature: bytes) -> Receipt:
        """Pay the worker for what it signed. Raises Reverted for anybody but the client, and after the deadline."""
        return await self._write("settle", job_id, product, signature)

    async def refute(self, job_id: int, product: Hash32, signature: bytes, cell: Cell) -> Receipt:
        """Charge the worker for a number that is wrong; its bond goes to the client.

        Raises:
            Reverted: BadField ``cell`` where the number is right, others where the evidence is not of this product.
        """
        return await self._write("refute", job_id, product, signature, cell)

    async def close(self, job_id: int) -> Receipt:
        """After the time for claims: everything that is left goes back to who paid it."""
        return await self._write("close", job_id)

    async def job_of(self, job_id: int) -> ProductJob:
        """Where the product stands. Raises Reverted (Unknown)."""
        found: ProductJob = await self._read(ProductJob, "jobOf", job_id)
        return found

    async def terms_of(self, job_id: int) -> ProductTerms:
        """What was offered. Raises Reverted (Unknown)."""
        found: ProductTerms = await self._read(ProductTerms, "termsOf", job_id)
        return found
