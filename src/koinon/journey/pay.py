"""pay: a stranger with a new key buys a pass, asks, pays by voucher, and sees who got what of the money.

The stranger is no node of the network: it has an account, the chain's RPC, and HTTP.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from koinon.contracts.contract import Credited
from koinon.contracts.market import ChannelClosed
from koinon.contracts.suite import Suite
from koinon.contracts.token import UNLIMITED
from koinon.contracts.tokens import format_amount
from koinon.journey.results import Paid, Payee, Served
from koinon.kernel.effects import Clock, Rng
from koinon.kernel.errors import Expired, Forged, KoinonError, Refused
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import Seconds, TokenAmount, UnixSeconds
from koinon.market.channels import Purse
from koinon.serving.client import Answer, Buyer
from koinon.serving.http_client import open_http
from koinon.serving.names import Endpoint, Resolution, nearest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Rows = NDArray[np.float32]

DAY_SECONDS: Final = 24 * 60 * 60
CHANNEL_SECONDS: Final = 60 * 60
SETTLE_SECONDS: Final = Seconds(60.0)
POLL_SECONDS: Final = 0.2
CHECKED_RECEIPTS: Final = 4
"""Receipts that the stranger fetches and checks while it calls; all others can be checked the same way."""


@dataclass(frozen=True)
class Stranger:
    """A buyer. ``suite`` sends with the buyer's key."""

    suite: Suite
    clock: Clock
    rng: Rng
    say: Callable[[str, float], None]


async def resolve(suite: Suite, name: str) -> Resolution:
    """What a name stands for, with the keys that its service nodes registered.

    Raises:
        Refused: nobody registered the name, or it stands for nothing yet.
    """
    owner, found = await suite.names.resolve(name)
    if not found.model_id:
        raise Refused(f"the name {name} stands for nothing yet")
    endpoints = []
    for endpoint in found.endpoints:
        provider = await suite.providers.provider_of(endpoint.node)
        endpoints.append(Endpoint(endpoint.url, endpoint.node, provider.node_id))
    return Resolution(name, owner, found.model_id, found.weights_hash, found.evaluation_id, tuple(endpoints))


@dataclass(frozen=True, slots=True)
class Quote:
    """What calls of a service cost.

    Attributes:
        pass_price: of a pass for a day with these calls.
        voucher_price: of one answer.
        deposits: locked in channels meanwhile; what is not spent comes back.
    """

    pass_price: TokenAmount
    voucher_price: TokenAmount
    deposits: TokenAmount


@dataclass(frozen=True)
class Purchase:
    """Calls that were made and paid for.

    ``spent`` is the pass and what the service nodes claimed from the channels.
    """

    pass_number: int
    channels: tuple[Hash32, ...]
    spent: TokenAmount
    answers: tuple[Answer, ...]


async def quote(suite: Suite, resolution: Resolution, service: int, calls: int) -> Quote:
    """The price on the chain. Raises Refused where the owner offers nothing now."""
    offer = await suite.market.offer_of(service)
    if not offer.open:
        raise Refused(f"the owner of {resolution.name} offers nothing now; ask again later")
    price = await suite.market.price_of(service, calls, DAY_SECONDS)
    deposits = len(resolution.endpoints) * _deposit(calls, offer.voucher_price)
    return Quote(price, offer.voucher_price, TokenAmount(deposits))


async def purchase(
    stranger: Stranger,
    resolution: Resolution,
    service: int,
    rows: "Rows",
    calls: int,
    price: Quote,
    checked: int = CHECKED_RECEIPTS,
) -> Purchase:
    """Buy a pass, make ``calls`` calls with one row each, pay by voucher, close the channels.

    The calls are shared among the name's endpoints, so that one payment channel for each receiver is exercised. Where
    a call fails, the channels are asked to close before the error goes on.

    Args:
        checked: about how many receipts are fetched and checked while calling, 1 to ``calls``.

    Raises:
        Refused: too little money, or an endpoint asks for more than the offer on the chain.
        Forged: a receipt or an answer does not hold.
        Expired: a service node does not settle in time; the deposit comes back at the channel's expiry.
    """
    suite, say = stranger.suite, stranger.say
    await suite.token.approve(suite.market.address, UNLIMITED)
    pass_number = await suite.market.buy(service, calls, DAY_SECONDS, price.pass_price)
    say(f"bought pass {pass_number} for {format_amount(price.pass_price)} tokens: {calls} calls within a day", 0.1)
    purses, channels = await _open_channels(stranger, service, resolution, calls, price.voucher_price)
    try:
        answers = await _call(stranger, resolution, rows, calls, purses, pass_number, price.voucher_price, checked)
    except KoinonError:
        await asyncio.gather(*(suite.market.request_close(channel) for channel in channels))
        raise
    say(f"{calls} calls answered; receipts checked; closing {len(channels)} channels", 0.8)
    claimed = await _close(stranger, channels)
    return Purchase(pass_number, tuple(channels), TokenAmount(price.pass_price + claimed), tuple(answers))


async def pay(stranger: Stranger, served: Served, rows: "Rows", calls: int) -> Paid:
    """As ``purchase``, on a market where nobody else buys meanwhile; and account for every unit.

    Raises:
        Forged: besides, other sums were credited than were spent.
    """
    suite, say = stranger.suite, stranger.say
    first_block = await suite.client.block_number()
    resolution = await resolve(suite, served.named.name)
    price = await quote(suite, resolution, served.service, calls)
    bought = await purchase(stranger, resolution, served.service, rows, calls, price)
    payees = await _payees(suite, first_block)
    if sum(payee.amount for payee in payees) != bought.spent:
        raise Forged(
            f"{format_amount(bought.spent)} tokens were spent and other sums were credited; do not trust this market"
        )
    say(f"{format_amount(bought.spent)} tokens spent, every unit accounted for", 1.0)
    last = {answer.endpoint: answer for answer in bought.answers}
    return Paid(
        served=served,
        buyer=suite.client.account,
        calls=calls,
        pass_number=bought.pass_number,
        channels=bought.channels,
        spent=bought.spent,
        payees=payees,
        samples=tuple((answer.node, answer.sequence) for answer in last.values()),
        first_answer=float(bought.answers[0].values[0]),
    )


def _deposit(calls: int, price: TokenAmount) -> TokenAmount:
    """Of each channel: any endpoint may come to answer every call."""
    return TokenAmount(max(price * calls, 1))


async def _open_channels(
    stranger: Stranger, service: int, resolution: Resolution, calls: int, price: TokenAmount
) -> tuple[dict[Address, Purse], list[Hash32]]:
    suite = stranger.suite
    domain = await suite.market.domain()
    deposit = _deposit(calls, price)
    # A chain that makes blocks on demand may have made its last one long ago.
    now = max((await suite.client.block()).timestamp, stranger.clock.unix())
    expiry = UnixSeconds(now + CHANNEL_SECONDS)
    purses: dict[Address, Purse] = {}
    channels: list[Hash32] = []
    for endpoint in resolution.endpoints:
        salt = Hash32(stranger.rng.bytes(32))
        channel = await suite.market.open(endpoint.account, service, deposit, expiry, salt)
        purses[endpoint.account] = Purse(domain, channel, deposit)
        channels.append(channel)
    stranger.say(f"one payment channel for each of {len(channels)} service nodes", 0.2)
    return purses, channels


async def _call(
    stranger: Stranger,
    resolution: Resolution,
    rows: "Rows",
    calls: int,
    purses: dict[Address, Purse],
    pass_number: int,
    price: TokenAmount,
    checked: int,
) -> list[Answer]:
    key = stranger.suite.client.key
    answers: list[Answer] = []
    async with open_http() as http:
        candidates = await nearest(resolution, http, stranger.clock)
        # One buyer for each endpoint, nearest first; each falls back to the others.
        turned = [(*candidates[n:], *candidates[:n]) for n in range(len(candidates))]
        buyers = [Buyer(http, resolution, order, key, purses, pass_number, price) for order in turned]
        for number in range(calls):
            buyer = buyers[number * len(buyers) // calls]
            answer = await buyer.call(rows[number % len(rows)][None, :])
            answers.append(answer)
            if number % max(calls // checked, 1) == 0:
                await buyer.check(answer)
            if number % 10 == 9:
                stranger.say(f"{number + 1} of {calls} calls answered", 0.2 + 0.6 * (number + 1) / calls)
    return answers


async def _close(stranger: Stranger, channels: list[Hash32]) -> TokenAmount:
    """Ask to close, and wait until each service node has settled and closed. Returns what they claimed."""
    suite, clock = stranger.suite, stranger.clock
    await asyncio.gather(*(suite.market.request_close(channel) for channel in channels))
    until = clock.monotonic() + SETTLE_SECONDS
    claimed = 0
    for channel in channels:
        while not (closed := await suite.market.events(ChannelClosed, channel_id=channel)):
            if clock.monotonic() > until:
                raise Expired(
                    "a service node has not settled; the rest of the deposit comes back at the channel's expiry"
                )
            await asyncio.sleep(POLL_SECONDS)
        claimed += closed[0].event.claimed
    return TokenAmount(claimed)


async def _payees(suite: Suite, first_block: int) -> tuple[Payee, ...]:
    """Who was credited what since a block, from the events of the market and of the revenue split."""
    sums: dict[tuple[Address, str], int] = {}
    for contract in (suite.market, suite.assets):
        for found in await contract.events(Credited, first_block + 1):
            event = found.event
            if event.reason != "deposit returned":
                key = (event.account, event.reason)
                sums[key] = sums.get(key, 0) + event.amount
    return tuple(Payee(account, reason, TokenAmount(amount)) for (account, reason), amount in sorted(sums.items()))
