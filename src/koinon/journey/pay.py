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
from koinon.kernel.errors import Expired, Forged, Refused
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


async def pay(stranger: Stranger, served: Served, rows: "Rows", calls: int) -> Paid:
    """Buy a pass, make ``calls`` calls with one row each, close the channels, account for every unit.

    Half of the calls go to each of the name's endpoints, so that one payment channel for each receiver is exercised.

    Raises:
        Refused: too little money, or an endpoint asks for more than the offer on the chain.
        Forged: a receipt or an answer does not hold.
        Expired: a service node does not settle in time; the deposit comes back at the channel's expiry.
    """
    suite, say = stranger.suite, stranger.say
    buyer = suite.client.account
    first_block = await suite.client.block_number()
    resolution = await resolve(suite, served.named.name)
    offer = await suite.market.offer_of(served.service)
    await suite.token.approve(suite.market.address, UNLIMITED)
    price = await suite.market.price_of(served.service, calls, DAY_SECONDS)
    pass_number = await suite.market.buy(served.service, calls, DAY_SECONDS, price)
    say(f"bought pass {pass_number} for {format_amount(price)} tokens: {calls} calls within a day", 0.1)
    purses, channels = await _open_channels(stranger, served, resolution, calls, offer.voucher_price)
    answers = await _call(stranger, resolution, rows, calls, purses, pass_number, offer.voucher_price)
    say(f"{calls} calls answered; receipts checked; closing {len(channels)} channels", 0.8)
    claimed = await _close(stranger, channels)
    payees = await _payees(suite, first_block)
    spent = TokenAmount(price + claimed)
    if sum(payee.amount for payee in payees) != spent:
        raise Forged(f"{format_amount(spent)} tokens were spent and other sums were credited; do not trust this market")
    say(f"{format_amount(spent)} tokens spent, every unit accounted for", 1.0)
    last = {answer.endpoint: answer for answer in answers}
    return Paid(
        served=served,
        buyer=buyer,
        calls=calls,
        pass_number=pass_number,
        channels=tuple(channels),
        spent=spent,
        payees=payees,
        samples=tuple((answer.node, answer.sequence) for answer in last.values()),
        first_answer=float(answers[0].values[0]),
    )


async def _open_channels(
    stranger: Stranger, served: Served, resolution: Resolution, calls: int, price: TokenAmount
) -> tuple[dict[Address, Purse], list[Hash32]]:
    suite = stranger.suite
    domain = await suite.market.domain()
    deposit = TokenAmount(max(price * calls, 1))
    expiry = UnixSeconds((await suite.client.block()).timestamp + CHANNEL_SECONDS)
    purses: dict[Address, Purse] = {}
    channels: list[Hash32] = []
    for endpoint in resolution.endpoints:
        salt = Hash32(stranger.rng.bytes(32))
        channel = await suite.market.open(endpoint.account, served.service, deposit, expiry, salt)
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
            if number % max(calls // CHECKED_RECEIPTS, 1) == 0:
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
