"""The door of a service: who may call, and who pays. Composes passes, channels and what the chain says about them."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from koinon.contracts.eip712 import Domain
from koinon.kernel.effects import Clock
from koinon.kernel.errors import Forged, InvalidInput, Refused, Unavailable
from koinon.kernel.ids import ZERO_ADDRESS, Address, Hash32, to_hex
from koinon.kernel.quantities import Seconds, TokenAmount, UnixSeconds
from koinon.market import channels, passes
from koinon.market.channels import Account, Channel
from koinon.market.passes import Pass, PassAccount
from koinon.market.payments import Credentials, Payment, PaymentRequired, Terms, free_payment
from koinon.market.vouchers import Voucher, parse_voucher, signer_of

REFRESH_SECONDS: Final = Seconds(15.0)
"""How old a fact read from the chain may be; must stay below the market's dispute delay."""
TOPPED_UP_SECONDS: Final = Seconds(1.0)
"""The same where a voucher exceeds the deposit: the payer may just have topped the channel up."""
MOST_REMEMBERED: Final = 100_000
MOST_LOOKUPS: Final = 32


class MarketReader(Protocol):
    """What a gate needs to know from the chain; the node answers with the market contract's client."""

    async def channel(self, identifier: Hash32, /) -> Channel | None: ...

    async def pass_(self, number: int, /) -> Pass | None: ...


class Permit(Protocol):
    """Leave to answer one call: exactly one of ``answered`` and ``failed`` is called, once."""

    @property
    def payment(self) -> Payment: ...

    def answered(self) -> None:
        """The answer and its receipt are on disk."""

    def failed(self) -> None:
        """No answer will leave; the caller gets its money and quota back."""


class Gate(Protocol):
    """Decides about each call before the model sees it."""

    async def admit(self, credentials: Credentials, answers: int) -> Permit:
        """Leave for a call of ``answers`` rows.

        Raises:
            InvalidInput: a header cannot be read.
            PaymentRequired: no voucher, or one that does not pay for the call.
            Refused: not the caller's pass or channel, expired or exhausted.
            Unavailable: the chain cannot be asked now.
        """
        ...


@dataclass(frozen=True)
class _FreePermit:
    payment: Payment

    def answered(self) -> None:
        pass

    def failed(self) -> None:
        pass


class FreeGate:
    """Lets everybody in: private deployments, where reaching the port is the right to call."""

    async def admit(self, credentials: Credentials, answers: int) -> Permit:
        """Always leave; credentials are ignored."""
        return _FreePermit(free_payment(answers))


_Key = TypeVar("_Key", bound=Hashable)
_Fact = TypeVar("_Fact")


class _Remembered(Generic[_Key, _Fact]):
    """Facts of the chain, read once for all who wait, kept for ``REFRESH_SECONDS``, bounded in number."""

    def __init__(self, read: Callable[[_Key], Awaitable[_Fact | None]], clock: Clock) -> None:
        self._read = read
        self._clock = clock
        self._facts: OrderedDict[_Key, tuple[float, _Fact | None]] = OrderedDict()
        self._reading: dict[_Key, asyncio.Task[_Fact | None]] = {}

    async def get(self, key: _Key, *, oldest: Seconds = REFRESH_SECONDS) -> _Fact | None:
        """The fact, not older than ``oldest`` seconds. Raises Unavailable where too many are being read."""
        known = self._facts.get(key)
        if known is not None and self._clock.monotonic() - known[0] < oldest:
            return known[1]
        reading = self._reading.get(key)
        if reading is None:
            if len(self._reading) >= MOST_LOOKUPS:
                raise Unavailable(
                    "too many channels and passes are being looked up on the chain; try again in a second"
                )
            reading = self._reading[key] = asyncio.create_task(self._ask(key))
        return await asyncio.shield(reading)

    async def _ask(self, key: _Key) -> _Fact | None:
        try:
            fact = await self._read(key)
        finally:
            del self._reading[key]
        self._facts[key] = (self._clock.monotonic(), fact)
        self._facts.move_to_end(key)
        while len(self._facts) > MOST_REMEMBERED:
            self._facts.popitem(last=False)
        return fact


class MeteredGate:
    """Asks for a voucher on a channel to this receiver and, where the terms say so, a pass of the same owner.

    Args:
        domain: market contract and chain that vouchers are for.
        receiver: this node's account, to which channels must be open.
        reader: reads channels and passes from the chain.
        history: payments of answered calls from the receipt log, in order; the books start from them.
    """

    def __init__(
        self,
        terms: Terms,
        domain: Domain,
        receiver: Address,
        reader: MarketReader,
        clock: Clock,
        history: Iterable[Payment] = (),
    ) -> None:
        if terms.free:
            raise InvalidInput("a service with a price of 0 needs no metering; use FreeGate")
        self.terms = terms
        self._domain = domain
        self._receiver = receiver
        self._clock = clock
        self._channels: _Remembered[Hash32, Channel] = _Remembered(reader.channel, clock)
        self._passes: _Remembered[int, Pass] = _Remembered(reader.pass_, clock)
        self._accounts: dict[Hash32, Account] = {}
        self._used: dict[int, int] = {}
        for payment in history:
            self._replay(payment)

    async def admit(self, credentials: Credentials, answers: int) -> Permit:
        """See ``Gate.admit``. Nothing changes unless it returns."""
        price = TokenAmount(self.terms.price * answers)
        if not credentials.voucher_header:
            raise PaymentRequired(
                f"this call costs {price} token units; open a channel and send a Koinon-Voucher header", price
            )
        voucher = parse_voucher(credentials.voucher_header)
        number = passes.parse_pass_number(credentials.pass_header) if credentials.pass_header else 0
        if self.terms.pass_required and not number:
            raise PaymentRequired(
                f"service {self.terms.service} asks for a pass; buy one and send a Koinon-Pass header"
            )
        try:
            signer = signer_of(self._domain, voucher)
        except Forged:
            raise Refused("the voucher's signature is not valid; sign it for this chain and market contract") from None
        channel = await self._channel(voucher)
        held = await self._pass(number) if number else None
        # From here on nothing waits, so no other call can come between the checks and the counting.
        now = self._clock.unix()
        counted = None
        if held is not None:
            before = PassAccount(held, self._used.get(number, 0))
            counted = passes.use(before, caller=signer, service=self.terms.service, answers=answers, now=now)
        account, _ = channels.step(self._account(channel), channels.Seen(channel))
        offer = channels.Offered(voucher, signer, price, now, self.terms.settle_seconds)
        account, effects = channels.step(account, offer)
        charged = next(effect.amount for effect in effects if isinstance(effect, channels.Charge))
        self._accounts[channel.identifier] = account
        if counted is not None:
            self._used[number] = counted.used
        return _MeteredPermit(
            self, Payment(voucher.channel, voucher.cumulative, voucher.signature, charged, number, answers)
        )

    def floor(self, channel: Hash32) -> TokenAmount:
        """Total that calls in this channel have used, those in flight included."""
        account = self._accounts.get(channel)
        return account.floor if account else TokenAmount(0)

    def used(self, number: int) -> int:
        """Answers counted against a pass, those in flight included."""
        return self._used.get(number, 0)

    async def claims(self) -> tuple[Voucher, ...]:
        """The highest voucher of each channel that is covered by answers and not yet settled on the chain.

        Raises:
            Unavailable: the chain cannot be asked now.
        """
        for identifier in list(self._accounts):
            channel = await self._channels.get(identifier)
            if channel is not None:
                self._accounts[identifier], _ = channels.step(self._accounts[identifier], channels.Seen(channel))
        return tuple(
            account.claimable
            for account in self._accounts.values()
            if account.claimable is not None and account.claimable.cumulative > account.channel.settled
        )

    def earned(self) -> TokenAmount:
        """Token units charged for answers, over all channels."""
        return TokenAmount(sum(account.earned for account in self._accounts.values()))

    def _settle_permit(self, payment: Payment, event: channels.Answered | channels.Failed) -> None:
        account = self._accounts[payment.channel]
        self._accounts[payment.channel], _ = channels.step(account, event)
        if isinstance(event, channels.Failed) and payment.pass_number:
            self._used[payment.pass_number] -= payment.answers

    async def _channel(self, voucher: Voucher) -> Channel:
        channel = await self._channels.get(voucher.channel)
        if channel is not None and voucher.cumulative > channel.deposit:
            channel = await self._channels.get(voucher.channel, oldest=TOPPED_UP_SECONDS)
        if channel is None:
            raise PaymentRequired(f"channel {to_hex(voucher.channel)[:18]}… is not open on the chain; open it first")
        if channel.receiver != self._receiver:
            raise Refused(f"the channel pays {to_hex(channel.receiver)}, not this node {to_hex(self._receiver)}")
        if channel.service != self.terms.service:
            raise Refused(f"the channel is for service {channel.service}, not {self.terms.service}")
        return channel

    async def _pass(self, number: int) -> Pass:
        held = await self._passes.get(number)
        if held is None:
            raise Refused(f"pass {number} does not exist; buy one")
        return held

    def _account(self, channel: Channel) -> Account:
        account = self._accounts.get(channel.identifier)
        return Account(channel) if account is None else account

    def _replay(self, payment: Payment) -> None:
        if payment.pass_number:
            self._used[payment.pass_number] = self._used.get(payment.pass_number, 0) + payment.answers
        if not payment.charged:
            return
        account = self._accounts.get(payment.channel) or Account(_unread(payment.channel, self._receiver, self.terms))
        self._accounts[payment.channel] = channels.replay(account, payment)


class _MeteredPermit:
    def __init__(self, gate: MeteredGate, payment: Payment) -> None:
        self._gate = gate
        self._open = True
        self.payment = payment

    def answered(self) -> None:
        self._close(channels.Answered(self.payment))

    def failed(self) -> None:
        self._close(channels.Failed(self.payment))

    def _close(self, event: channels.Answered | channels.Failed) -> None:
        if not self._open:
            raise RuntimeError("a permit is closed once")
        self._open = False
        self._gate._settle_permit(self.payment, event)


def _unread(identifier: Hash32, receiver: Address, terms: Terms) -> Channel:
    """A channel known from the log but not yet read from the chain again: no new voucher fits into it."""
    nothing = TokenAmount(0)
    return Channel(identifier, ZERO_ADDRESS, receiver, terms.service, nothing, nothing, ends=UnixSeconds(0))
