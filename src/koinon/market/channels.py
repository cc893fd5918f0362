"""Payment channels, off the chain: the receiver's books as a pure state machine, and the payer's purse.

The receiver raises the channel's ``floor`` when it takes a voucher, remembers the charge as earned when the answer has
left, and gives it back when the call failed. Two properties hold after every step:

    CHANNEL-MONEY-1   0 ≤ earned ≤ floor ≤ highest total ever accepted ≤ deposit
    CHANNEL-MONEY-2   the receiver claims only a total it was signed and has answered for: claimable ≤ earned

Durability: the driver writes the call's ``Payment`` to disk with its receipt, and only then raises ``Answered``
and lets the answer leave. A crash therefore loses at most calls that nobody was answered for; the buyer's next voucher
may carry the same total again, so the loss is the seller's, never the buyer's.
"""

from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from koinon.contracts.eip712 import Domain
from koinon.crypto.signature import AccountKey
from koinon.kernel.errors import InvalidInput, Refused
from koinon.kernel.ids import Address, Hash32, to_hex
from koinon.kernel.quantities import TokenAmount, UnixSeconds
from koinon.market.payments import MAXIMUM_AMOUNT, Payment, PaymentRequired
from koinon.market.vouchers import Voucher, sign_voucher

MOST_HELD: Final = 256
"""Vouchers kept above the claimable one; more are in flight only where calls fail without end, and cost the seller."""
_NOTHING: Final = TokenAmount(0)


@dataclass(frozen=True)
class Channel:
    """A channel as the market contract shows it.

    Attributes:
        ends: when the payer can take the rest of the deposit back: expiry, or earlier once it asked to close.
        settled: total already paid out to the receiver.
    """

    identifier: Hash32
    payer: Address
    receiver: Address
    service: int
    deposit: TokenAmount
    settled: TokenAmount
    ends: UnixSeconds


@dataclass(frozen=True)
class Account:
    """The receiver's books for one channel.

    Attributes:
        floor: total that the vouchers taken so far cover; the next one must exceed it by the price.
        earned: sum of charges whose answers have left.
        held: accepted vouchers above ``claimable`` that later answers may make claimable, by total.
        claimable: highest voucher covered by ``earned``.
    """

    channel: Channel
    floor: TokenAmount = _NOTHING
    earned: TokenAmount = _NOTHING
    held: tuple[Voucher, ...] = ()
    claimable: Voucher | None = None


@dataclass(frozen=True)
class Offered:
    """A caller shows a voucher, whose ``signer`` has been recovered, for a call that costs ``price``."""

    voucher: Voucher
    signer: Address
    price: TokenAmount
    now: UnixSeconds
    settle_seconds: int


@dataclass(frozen=True)
class Answered:
    """The answer that ``payment`` paid for, and its receipt, are on disk."""

    payment: Payment


@dataclass(frozen=True)
class Failed:
    """The call that ``payment`` was meant for got no answer."""

    payment: Payment


@dataclass(frozen=True)
class Seen:
    """The chain was read again."""

    channel: Channel


@dataclass(frozen=True)
class Charge:
    """The call may run; ``amount`` is what it will have cost."""

    amount: TokenAmount


@dataclass(frozen=True)
class Claim:
    """``voucher`` became the highest one worth settling."""

    voucher: Voucher


Event: TypeAlias = Offered | Answered | Failed | Seen
Effect: TypeAlias = Charge | Claim


def step(account: Account, event: Event) -> tuple[Account, tuple[Effect, ...]]:
    """Advance one channel's books.

    Raises:
        PaymentRequired: the voucher does not pay for the call; says what would.
        Refused: the channel is not usable here, or the voucher is not its payer's.
    """
    match event:
        case Offered():
            return _take(account, event)
        case Answered(payment):
            return _earn(account, payment)
        case Failed(payment):
            return replace(account, floor=TokenAmount(account.floor - payment.charged)), ()
        case Seen(channel):
            # Only a receiver that lost its own log can find the chain ahead of its books.
            missed = TokenAmount(max(0, channel.settled - account.earned))
            return replace(
                account,
                channel=channel,
                floor=TokenAmount(account.floor + missed),
                earned=TokenAmount(account.earned + missed),
            ), ()


def replay(account: Account, payment: Payment) -> Account:
    """Books after one call read back from the log: as if it had been offered and answered."""
    voucher = Voucher(payment.channel, payment.cumulative, payment.signature)
    raised = replace(
        account,
        floor=TokenAmount(account.floor + payment.charged),
        held=_insert(account.held, voucher, account.claimable),
    )
    return _earn(raised, payment)[0]


def _take(account: Account, offer: Offered) -> tuple[Account, tuple[Effect, ...]]:
    channel, voucher = account.channel, offer.voucher
    if voucher.channel != channel.identifier:
        raise InvalidInput("the voucher is for another channel")
    if offer.signer != channel.payer:
        raise Refused(
            f"the voucher is not signed by the channel's payer {to_hex(channel.payer)}; sign it with that key"
        )
    if offer.now + offer.settle_seconds > channel.ends:
        raise PaymentRequired(
            f"channel {to_hex(channel.identifier)[:18]}… ends in less than {offer.settle_seconds} s; open a new one"
        )
    due = TokenAmount(account.floor + offer.price)
    if voucher.cumulative < due:
        raise PaymentRequired(
            f"the voucher's total {voucher.cumulative} was used before or is too low; this call needs at least {due}",
            due,
        )
    if voucher.cumulative > channel.deposit:
        raise PaymentRequired(
            f"the voucher's total {voucher.cumulative} is above the channel's deposit {channel.deposit}; top it up", due
        )
    charge = TokenAmount(voucher.cumulative - account.floor)
    raised = replace(account, floor=voucher.cumulative, held=_insert(account.held, voucher, account.claimable))
    return raised, (Charge(charge),)


def _earn(account: Account, payment: Payment) -> tuple[Account, tuple[Effect, ...]]:
    earned = TokenAmount(account.earned + payment.charged)
    covered = [voucher for voucher in account.held if voucher.cumulative <= earned]
    above = tuple(voucher for voucher in account.held if voucher.cumulative > earned)
    if not covered:
        return replace(account, earned=earned), ()
    return replace(account, earned=earned, held=above, claimable=covered[-1]), (Claim(covered[-1]),)


def _insert(held: tuple[Voucher, ...], voucher: Voucher, claimable: Voucher | None) -> tuple[Voucher, ...]:
    if claimable is not None and voucher.cumulative <= claimable.cumulative:
        return held
    others = [known for known in held if known.cumulative != voucher.cumulative]
    return tuple(sorted([*others, voucher], key=lambda known: known.cumulative))[-MOST_HELD:]


@dataclass(frozen=True)
class Purse:
    """The payer's side of one channel: signs the next voucher and never more than the deposit. One call at a time.

    Attributes:
        spent: total of answered calls, as far as this side knows.
        signed: highest total ever signed: what the receiver could claim at worst.
    """

    domain: Domain
    channel: Hash32
    deposit: TokenAmount
    spent: TokenAmount = _NOTHING
    signed: TokenAmount = _NOTHING

    def __post_init__(self) -> None:
        if not 0 <= self.spent <= self.signed <= self.deposit <= MAXIMUM_AMOUNT:
            raise InvalidInput(
                f"a purse holds 0 ≤ spent ≤ signed ≤ deposit; got {self.spent}, {self.signed}, {self.deposit}"
            )

    @property
    def left(self) -> TokenAmount:
        """Token units of the deposit not yet spent."""
        return TokenAmount(self.deposit - self.spent)


def pay(purse: Purse, key: AccountKey, price: TokenAmount) -> tuple[Purse, Voucher]:
    """Sign for one call that costs ``price``. A failed call's voucher may be signed again: the total does not grow.

    Raises:
        InvalidInput: the price is negative.
        Refused: the deposit does not cover it.
    """
    if price < 0:
        raise InvalidInput(f"a price cannot be negative; got {price}")
    total = TokenAmount(purse.spent + price)
    if total > purse.deposit:
        raise Refused(f"the channel's deposit has {purse.left} token units left and the call costs {price}; top it up")
    voucher = sign_voucher(key, purse.domain, purse.channel, total)
    return replace(purse, signed=TokenAmount(max(purse.signed, total))), voucher


def paid(purse: Purse, voucher: Voucher) -> Purse:
    """The call that ``voucher`` paid for was answered. Raises InvalidInput for a total this purse never signed."""
    if not purse.spent <= voucher.cumulative <= purse.signed:
        raise InvalidInput(f"this purse signed totals from {purse.spent} to {purse.signed}, not {voucher.cumulative}")
    return replace(purse, spent=voucher.cumulative)


def catch_up(purse: Purse, floor: TokenAmount) -> Purse:
    """Accept the receiver's word that totals up to ``floor`` are used, because an answer may have been lost on the way.

    Raises:
        Refused: the receiver names a total above everything this purse ever signed.
    """
    if floor > purse.signed:
        raise Refused(f"the service claims {floor} was used, but this purse never signed above {purse.signed}")
    return replace(purse, spent=TokenAmount(max(purse.spent, floor)))
