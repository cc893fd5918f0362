"""Vouchers: a payer's signature under a running total, in x402's ``batch-settlement`` types.

EIP-712 domain ``("x402 Batch Settlement", "1", chain id, contract)``, primary type
``Voucher(bytes32 channelId,uint128 maxClaimableAmount)``. Each voucher replaces the one before; the receiver settles
the highest on the chain whenever it likes.
"""

from typing import Final

from koinon.contracts.eip712 import Domain, voucher_digest
from koinon.crypto.signature import AccountKey, recover_address
from koinon.kernel.codec import Record
from koinon.kernel.errors import InvalidInput
from koinon.kernel.ids import Address, Hash32, parse_hash
from koinon.kernel.quantities import TokenAmount
from koinon.market.payments import MAXIMUM_AMOUNT

SIGNATURE_BYTES: Final = 65
_LONGEST_AMOUNT: Final = 39


class Voucher(Record, frozen=True):
    """A payer's promise: the receiver of ``channel`` may claim up to ``cumulative`` token units in total."""

    channel: Hash32
    cumulative: TokenAmount
    signature: bytes


def sign_voucher(key: AccountKey, domain: Domain, channel: Hash32, cumulative: TokenAmount) -> Voucher:
    """Sign a running total in ``contracts.eip712.channels_domain``.

    A payer uses ``channels.Purse``, which never signs above the deposit.
    """
    return Voucher(channel, cumulative, key.sign_digest(voucher_digest(domain, channel, cumulative)))


def signer_of(domain: Domain, voucher: Voucher) -> Address:
    """Who signed a voucher. Raises Forged where the signature belongs to no key at all."""
    return recover_address(voucher_digest(domain, voucher.channel, voucher.cumulative), voucher.signature)


def format_voucher(voucher: Voucher) -> str:
    """The value of the ``Koinon-Voucher`` header: ``channel:cumulative:signature``, hexadecimal and decimal."""
    return f"{voucher.channel.hex()}:{voucher.cumulative}:{voucher.signature.hex()}"


def parse_voucher(text: str) -> Voucher:
    """Read a ``Koinon-Voucher`` header.

    Raises:
        InvalidInput: not three fields, or one of them is not what ``format_voucher`` writes.
    """
    fields = text.split(":")
    if len(fields) != 3:
        raise InvalidInput("Koinon-Voucher must be CHANNEL:TOTAL:SIGNATURE; see the service's terms")
    channel, amount, signature = fields
    if not (amount.isascii() and amount.isdigit()) or len(amount) > _LONGEST_AMOUNT or int(amount) > MAXIMUM_AMOUNT:
        raise InvalidInput("the total in Koinon-Voucher must be a decimal number of token units below 2^128")
    digits = signature.removeprefix("0x")
    if len(digits) != 2 * SIGNATURE_BYTES or any(c not in "0123456789abcdefABCDEF" for c in digits):
        raise InvalidInput(f"the signature in Koinon-Voucher must be {2 * SIGNATURE_BYTES} hexadecimal digits")
    return Voucher(parse_hash(channel), TokenAmount(int(amount)), bytes.fromhex(digits))
