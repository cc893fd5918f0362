"""What a call costs, who may ask, and what one answered call was paid with."""

from dataclasses import dataclass
from typing import Final

from koinon.kernel.codec import Record
from koinon.kernel.errors import InvalidInput, Refused
from koinon.kernel.ids import ZERO_HASH, Hash32
from koinon.kernel.quantities import TokenAmount

MAXIMUM_AMOUNT: Final = 2**128 - 1
"""A voucher's ``maxClaimableAmount`` is a uint128."""


FREE: Final = TokenAmount(0)


class PaymentRequired(Refused):
    """The call is fine but not paid for; HTTP answers it with status 402.

    Attributes:
        due: the smallest cumulative amount a voucher for this call may carry, or None where a voucher cannot help.
    """

    def __init__(self, reason: str, due: TokenAmount | None = None) -> None:
        self.due = due
        super().__init__(reason)


@dataclass(frozen=True)
class Terms:
    """Conditions of one service.

    Attributes:
        service: asset number of the service on the chain.
        price: token units for one answer; a call with n rows is n answers. 0 is free.
        pass_required: whether the caller must own a pass of the service with quota left.
        settle_seconds: a channel that ends sooner than this is not accepted: the receiver needs the time to claim.
    """

    service: int
    price: TokenAmount = FREE
    pass_required: bool = False
    settle_seconds: int = 60

    def __post_init__(self) -> None:
        if not 0 <= self.price <= MAXIMUM_AMOUNT:
            raise InvalidInput(f"the price of an answer is 0 to 2^128 − 1 token units; got {self.price}")
        if self.pass_required and self.price == 0:
            raise InvalidInput(
                "a service that asks for a pass needs a price of at least 1: the voucher proves who owns the pass"
            )
        if self.settle_seconds < 0:
            raise InvalidInput(f"the time to settle cannot be negative; got {self.settle_seconds}")

    @property
    def free(self) -> bool:
        """Whether anybody may call without paying: private deployments."""
        return self.price == 0


class Payment(Record, frozen=True):
    """What one answered call was paid with; zeros where the service is free.

    Attributes:
        channel: identifier of the payment channel.
        cumulative: running total the payer signed.
        signature: the voucher's 65 bytes.
        charged: what this call took from the channel: the price, or more where the payer skipped ahead.
        pass_number: token number of the pass, 0 for none.
        answers: rows answered, counted against the pass's quota.
    """

    channel: Hash32
    cumulative: TokenAmount
    signature: bytes
    charged: TokenAmount
    pass_number: int
    answers: int


def free_payment(answers: int) -> Payment:
    """The payment of a call to a free service."""
    return Payment(ZERO_HASH, TokenAmount(0), b"", TokenAmount(0), 0, answers)


@dataclass(frozen=True)
class Credentials:
    """What the caller sent in ``Koinon-Pass`` and ``Koinon-Voucher``, not yet parsed; empty where absent."""

    pass_header: str = ""
    voucher_header: str = ""
