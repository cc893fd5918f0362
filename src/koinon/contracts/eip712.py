"""EIP-712 digests: what owners, committee members, payers and token holders sign.

A digest is ``keccak256(0x19 01 || domain separator || struct hash)``; every field here is one 32-byte word.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from koinon.crypto.hash import keccak256
from koinon.kernel.errors import InvalidInput
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import ChainId, TokenAmount, UnixSeconds

DOMAIN_TYPE: Final = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
CONSENT_TYPE: Final = (
    "Consent(uint256 studyId,bytes32 specHash,bytes32 datasetHash,bytes32 nonceCommitment,uint256 deadline)"
)
RESULT_TYPE: Final = "Result(uint256 studyId,uint256 attempt,bytes32 outputDigest)"
HANDED_TYPE: Final = (
    "Handed(uint256 studyId,uint256 attempt,uint256 position,bytes32 first,bytes32 second,bytes32 third)"
)
VOUCHER_TYPE: Final = "Voucher(bytes32 channelId,uint128 maxClaimableAmount)"
PERMIT_TYPE: Final = "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"
_AUTHORIZATION_FIELDS: Final = (
    "(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
)
TRANSFER_TYPE: Final = "TransferWithAuthorization" + _AUTHORIZATION_FIELDS
RECEIVE_TYPE: Final = "ReceiveWithAuthorization" + _AUTHORIZATION_FIELDS
CANCEL_TYPE: Final = "CancelAuthorization(address authorizer,bytes32 nonce)"

STUDIES_NAME: Final = "Koinon Studies"
JUDGEMENTS_NAME: Final = "Koinon Judgements"
CHANNELS_NAME: Final = "x402 Batch Settlement"
TOKEN_NAME: Final = "Koinon Credit"  # noqa: S105  # the name of a currency
VERSION: Final = "1"


@dataclass(frozen=True, slots=True)
class Domain:
    """Where a signature counts: one contract on one chain."""

    name: str
    chain_id: ChainId
    contract: Address

    @property
    def separator(self) -> Hash32:
        """Hash of the domain."""
        return _separator(self)

    def digest(self, struct_hash: Hash32) -> Hash32:
        """What is signed."""
        return keccak256(b"\x19\x01" + self.separator + struct_hash)


@cache
def _separator(domain: Domain) -> Hash32:
    return struct_hash(
        DOMAIN_TYPE,
        keccak256(domain.name.encode()),
        keccak256(VERSION.encode()),
        domain.chain_id,
        domain.contract,
    )


def struct_hash(kind: str, *values: int | bytes) -> Hash32:
    """Hash of a struct of static fields: ints, addresses, 32-byte words. Raises InvalidInput where one does not fit."""
    return keccak256(keccak256(kind.encode()) + b"".join(map(_word, values)))


def _word(value: int | bytes) -> bytes:
    if isinstance(value, int):
        if not 0 <= value < 1 << 256:
            raise InvalidInput(f"a signed number is between 0 and 2^256 - 1; got {value}")
        return value.to_bytes(32, "big")
    if len(value) not in (20, 32):
        raise InvalidInput(f"a signed field is an address of 20 or a hash of 32 bytes; got {len(value)}")
    return value.rjust(32, b"\0")


def studies_domain(chain_id: ChainId, studies: Address) -> Domain:
    """Domain of consents and results."""
    return Domain(STUDIES_NAME, chain_id, studies)


def judgements_domain(chain_id: ChainId, judgements: Address) -> Domain:
    """Domain of what members sign of the components that they hand to the result party."""
    return Domain(JUDGEMENTS_NAME, chain_id, judgements)


def channels_domain(chain_id: ChainId, market: Address) -> Domain:
    """Domain of vouchers, as x402's batch settlement names it."""
    return Domain(CHANNELS_NAME, chain_id, market)


def token_domain(chain_id: ChainId, token: Address) -> Domain:
    """Domain of permits and authorisations."""
    return Domain(TOKEN_NAME, chain_id, token)


def consent_digest(
    domain: Domain,
    study_id: int,
    spec_hash: Hash32,
    dataset_hash: Hash32,
    nonce_commitment: Hash32,
    deadline: UnixSeconds,
) -> Hash32:
    """An owner's consent; ``deadline`` is the consent deadline of the study's terms."""
    return domain.digest(struct_hash(CONSENT_TYPE, study_id, spec_hash, dataset_hash, nonce_commitment, deadline))


def result_digest(domain: Domain, study_id: int, attempt: int, output_digest: Hash32) -> Hash32:
    """A committee member's word on the output."""
    return domain.digest(struct_hash(RESULT_TYPE, study_id, attempt, output_digest))


def handed_digest(domain: Domain, study_id: int, attempt: int, position: int, handed: Sequence[Hash32]) -> Hash32:
    """A committee member's word on the components it hands to the result party, by the digests of its three."""
    return domain.digest(struct_hash(HANDED_TYPE, study_id, attempt, position, *handed))


def voucher_digest(domain: Domain, channel_id: Hash32, cumulative: TokenAmount) -> Hash32:
    """A payer's running total in a channel."""
    if not 0 <= cumulative < 1 << 128:
        raise InvalidInput(f"a voucher's total is between 0 and 2^128 - 1; got {cumulative}")
    return domain.digest(struct_hash(VOUCHER_TYPE, channel_id, cumulative))


def permit_digest(
    domain: Domain, owner: Address, spender: Address, value: TokenAmount, nonce: int, deadline: UnixSeconds
) -> Hash32:
    """EIP-2612 allowance; ``nonce`` is ``Token.permit_nonce(owner)``."""
    return domain.digest(struct_hash(PERMIT_TYPE, owner, spender, value, nonce, deadline))


@dataclass(frozen=True, slots=True)
class Authorization:
    """EIP-3009: a transfer that anyone (or, for ``receive``, the payee) may submit after one and before the other time.

    ``nonce`` is random, 32 bytes, and works once for each payer.
    """

    payer: Address
    payee: Address
    value: TokenAmount
    valid_after: UnixSeconds
    valid_before: UnixSeconds
    nonce: Hash32

    def _struct_hash(self, kind: str) -> Hash32:
        return struct_hash(kind, self.payer, self.payee, self.value, self.valid_after, self.valid_before, self.nonce)

    def transfer_digest(self, domain: Domain) -> Hash32:
        """For ``transferWithAuthorization``."""
        return domain.digest(self._struct_hash(TRANSFER_TYPE))

    def receive_digest(self, domain: Domain) -> Hash32:
        """For ``receiveWithAuthorization``."""
        return domain.digest(self._struct_hash(RECEIVE_TYPE))


def cancel_digest(domain: Domain, authorizer: Address, nonce: Hash32) -> Hash32:
    """For ``cancelAuthorization``."""
    return domain.digest(struct_hash(CANCEL_TYPE, authorizer, nonce))
