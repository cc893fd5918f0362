"""The payment token: ERC-20 with permits and authorisations."""

from dataclasses import dataclass
from typing import Final

from koinon.contracts.client import ChainClient, Receipt
from koinon.contracts.contract import Contract, Event
from koinon.contracts.eip712 import Authorization, Domain, permit_digest, token_domain
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import TokenAmount, UnixSeconds

UNLIMITED: Final = TokenAmount(2**256 - 1)
_AUTHORIZED: Final = "(address,address,uint256,uint256,uint256,bytes32,bytes)"


@dataclass(frozen=True, slots=True)
class Transfer(Event):
    """Tokens moved; from or to the zero address where they were made."""

    sender: Address
    recipient: Address
    amount: TokenAmount


class Token(Contract):
    """Client of ``Token``."""

    NAME = "Token"

    @classmethod
    async def deploy(cls, client: ChainClient, supply: TokenAmount) -> "Token":
        """Create a token whose whole supply belongs to the deployer."""
        return cls(client, await cls._deploy(client, supply))

    async def domain(self) -> Domain:
        """EIP-712 domain of permits and authorisations."""
        return token_domain(await self.client.chain_id(), self.address)

    async def balance_of(self, account: Address) -> TokenAmount:
        """Tokens of an account."""
        return TokenAmount(await self._read(int, "balanceOf", account))

    async def total_supply(self) -> TokenAmount:
        """All tokens there are."""
        return TokenAmount(await self._read(int, "totalSupply"))

    async def allowance(self, owner: Address, spender: Address) -> TokenAmount:
        """What ``spender`` may still pull from ``owner``."""
        return TokenAmount(await self._read(int, "allowance", owner, spender))

    async def permit_nonce(self, owner: Address) -> int:
        """Nonce of the owner's next permit."""
        return int(await self._read(int, "nonces", owner))

    async def is_spent(self, authorizer: Address, nonce: Hash32) -> bool:
        """Whether an EIP-3009 nonce was used or cancelled."""
        return bool(await self._read(bool, "authorizationState", authorizer, nonce))

    async def transfer(self, to: Address, amount: TokenAmount) -> Receipt:
        """Pay from the caller."""
        return await self._write("transfer", to, amount)

    async def approve(self, spender: Address, amount: TokenAmount) -> Receipt:
        """Set what ``spender`` may pull from the caller."""
        return await self._write("approve", spender, amount)

    async def permit(
        self, owner: Address, spender: Address, amount: TokenAmount, deadline: UnixSeconds, signature: bytes
    ) -> Receipt:
        """Relay an EIP-2612 permit; ``signature`` is r, s, v in 65 bytes over ``permit_digest``."""
        return await self._write(
            "permit", owner, spender, amount, deadline, signature[64], signature[:32], signature[32:64]
        )

    async def sign_permit(self, spender: Address, amount: TokenAmount, deadline: UnixSeconds) -> bytes:
        """The caller's signed permit for ``spender``. Costs nothing; anyone may relay it once."""
        owner = self.client.account
        nonce = await self.permit_nonce(owner)
        assert self.client.key is not None
        return self.client.key.sign_digest(permit_digest(await self.domain(), owner, spender, amount, nonce, deadline))

    async def transfer_with_authorization(self, authorization: Authorization, signature: bytes) -> Receipt:
        """Relay an EIP-3009 transfer; the signature may be of an ERC-1271 account."""
        return await self._write(f"transferWithAuthorization{_AUTHORIZED}", *_fields(authorization), signature)

    async def receive_with_authorization(self, authorization: Authorization, signature: bytes) -> Receipt:
        """Take an EIP-3009 payment; the caller is the payee."""
        return await self._write(f"receiveWithAuthorization{_AUTHORIZED}", *_fields(authorization), signature)

    async def cancel_authorization(self, authorizer: Address, nonce: Hash32, signature: bytes) -> Receipt:
        """Make an EIP-3009 nonce worthless."""
        return await self._write("cancelAuthorization(address,bytes32,bytes)", authorizer, nonce, signature)


def _fields(authorization: Authorization) -> tuple[Address, Address, int, int, int, Hash32]:
    return (
        authorization.payer,
        authorization.payee,
        authorization.value,
        authorization.valid_after,
        authorization.valid_before,
        authorization.nonce,
    )
