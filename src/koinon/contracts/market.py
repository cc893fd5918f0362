"""The market of services: offers, passes and payment channels."""

from dataclasses import dataclass

from koinon.contracts.client import ChainClient, Receipt
from koinon.contracts.contract import Event, PaysCredit
from koinon.contracts.eip712 import Domain, channels_domain
from koinon.crypto.hash import keccak256
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import BasisPoints, ChainId, TokenAmount, UnixSeconds


@dataclass(frozen=True, slots=True)
class Offer:
    """What the owner of a service asks.

    Attributes:
        price_per_call: of a pass, for each call of its quota.
        price_per_day: of a pass, for each day begun.
        voucher_price: what a service node asks for a call, by voucher in a channel.
        node_share: part of channel revenue that goes to the service node, in basis points.
    """

    price_per_call: TokenAmount
    price_per_day: TokenAmount
    voucher_price: TokenAmount
    node_share: BasisPoints
    open: bool


@dataclass(frozen=True, slots=True)
class Pass:
    """The right to ``quota`` calls of a service until ``expires_at``; its owner is ``Market.pass_owner``."""

    service_id: int
    quota: int
    expires_at: UnixSeconds


@dataclass(frozen=True, slots=True)
class PaymentChannel:
    """A deposit of ``payer`` for ``receiver``; ``claimed`` of it is paid. ``close_at`` is 0 until the payer asks."""

    payer: Address
    node_share: BasisPoints
    closed: bool
    receiver: Address
    service_id: int
    deposit: TokenAmount
    claimed: TokenAmount
    expiry: UnixSeconds
    close_at: UnixSeconds


@dataclass(frozen=True, slots=True)
class OfferSet(Event):
    service_id: int
    price_per_call: TokenAmount
    price_per_day: TokenAmount
    voucher_price: TokenAmount
    node_share: BasisPoints
    open: bool


@dataclass(frozen=True, slots=True)
class PassBought(Event):
    pass_id: int
    service_id: int
    buyer: Address
    quota: int
    expires_at: UnixSeconds
    price: TokenAmount


@dataclass(frozen=True, slots=True)
class ChannelOpened(Event):
    channel_id: Hash32
    payer: Address
    receiver: Address
    service_id: int
    deposit: TokenAmount
    expiry: UnixSeconds


@dataclass(frozen=True, slots=True)
class ChannelToppedUp(Event):
    channel_id: Hash32
    deposit: TokenAmount
    expiry: UnixSeconds


@dataclass(frozen=True, slots=True)
class ChannelSettled(Event):
    channel_id: Hash32
    claimed: TokenAmount
    to_node: TokenAmount
    to_split: TokenAmount


@dataclass(frozen=True, slots=True)
class ChannelCloseRequested(Event):
    channel_id: Hash32
    close_at: UnixSeconds


@dataclass(frozen=True, slots=True)
class ChannelClosed(Event):
    channel_id: Hash32
    claimed: TokenAmount
    refunded: TokenAmount


def channel_id(chain_id: ChainId, market: Address, payer: Address, receiver: Address, salt: Hash32) -> Hash32:
    """Id of a channel; the same as ``channelIdOf`` on the chain."""
    padding = bytes(12)
    return keccak256(chain_id.to_bytes(32, "big") + padding + market + padding + payer + padding + receiver + salt)


def node_part(offer_share: BasisPoints, claimed_before: TokenAmount, claimed_after: TokenAmount) -> TokenAmount:
    """What a settlement pays to the node; the rest goes to the service's split."""
    return TokenAmount(claimed_after * offer_share // 10_000 - claimed_before * offer_share // 10_000)


class Market(PaysCredit):
    """Client of ``Market``."""

    NAME = "Market"

    @classmethod
    async def deploy(cls, client: ChainClient, assets: Address, close_delay: int) -> "Market":
        """Create the contract; ``close_delay`` is in seconds."""
        return cls(client, await cls._deploy(client, assets, close_delay))

    async def domain(self) -> Domain:
        """EIP-712 domain of vouchers."""
        return channels_domain(await self.client.chain_id(), self.address)

    async def set_offer(self, service_id: int, offer: Offer) -> Receipt:
        """Set or close the offer of the caller's service."""
        return await self._write("setOffer", service_id, offer)

    async def offer_of(self, service_id: int) -> Offer:
        """The offer; closed and zero where none was set."""
        offer: Offer = await self._read(Offer, "offerOf", service_id)
        return offer

    async def price_of(self, service_id: int, quota: int, period: int) -> TokenAmount:
        """Price of a pass; ``period`` in seconds, each day begun counted whole."""
        return TokenAmount(await self._read(int, "priceOf", service_id, quota, period))

    async def buy(self, service_id: int, quota: int, period: int, maximum_price: TokenAmount) -> int:
        """Buy a pass and return its id. Needs an allowance of the price."""
        return self._only(PassBought, await self._write("buy", service_id, quota, period, maximum_price)).pass_id

    async def renew(self, pass_id: int, duration: int) -> Receipt:
        """ERC-5643: more time for the caller's pass."""
        return await self._write("renewSubscription", pass_id, duration)

    async def cancel(self, pass_id: int) -> Receipt:
        """ERC-5643: give the rest of the caller's pass up."""
        return await self._write("cancelSubscription", pass_id)

    async def pass_of(self, pass_id: int) -> Pass:
        """A pass. Raises Reverted (Unknown) where there is none."""
        found: Pass = await self._read(Pass, "passOf", pass_id)
        return found

    async def pass_owner(self, pass_id: int) -> Address:
        """Present owner of a pass."""
        return Address(await self._read(Address, "ownerOf", pass_id))

    async def open(
        self, receiver: Address, service_id: int, deposit: TokenAmount, expiry: UnixSeconds, salt: Hash32
    ) -> Hash32:
        """Open a channel of the caller and return its id. Needs an allowance of the deposit."""
        receipt = await self._write("open", receiver, service_id, deposit, expiry, salt)
        return self._only(ChannelOpened, receipt).channel_id

    async def top_up(self, channel: Hash32, amount: TokenAmount, expiry: UnixSeconds) -> Receipt:
        """Add to the deposit (0 for nothing) and put the expiry off; takes back a request to close."""
        return await self._write("topUp", channel, amount, expiry)

    async def settle(self, channel: Hash32, cumulative: TokenAmount, signature: bytes) -> Receipt:
        """Receiver only: claim a voucher (signature over ``eip712.voucher_digest``)."""
        return await self._write("settle", channel, cumulative, signature)

    async def request_close(self, channel: Hash32) -> Receipt:
        """Payer only: ask to close; the receiver has ``close_delay`` seconds left to settle."""
        return await self._write("requestClose", channel)

    async def close(self, channel: Hash32) -> Receipt:
        """Close and credit the rest to the payer: the receiver at any time, anyone when its time has come."""
        return await self._write("close", channel)

    async def channel_of(self, channel: Hash32) -> PaymentChannel:
        """State of a channel. Raises Reverted (Unknown) where there is none."""
        found: PaymentChannel = await self._read(PaymentChannel, "channelOf", channel)
        return found

    async def close_delay(self) -> int:
        """Seconds between a request to close and the close."""
        return int(await self._read(int, "closeDelay"))
