"""Where a service's money comes in: what the gate asks the chain, which vouchers are settled when, receipts anchored.

anchor    whenever signed batches are not on the chain yet
settle    a voucher whose unsettled part has grown large, or whose channel ends soon
close     a channel whose payer asked for it: anchor, settle the highest voucher, close
"""

import asyncio
import logging
from dataclasses import dataclass
from typing import Final

from koinon.audit.receipts import Anchor
from koinon.contracts.client import Receipt
from koinon.contracts.market import Market
from koinon.contracts.receipts import Anchored
from koinon.contracts.refusals import Reverted
from koinon.kernel.errors import KoinonError
from koinon.kernel.ids import Hash32
from koinon.kernel.quantities import TokenAmount, UnixSeconds
from koinon.market.channels import Channel
from koinon.market.gate import MarketReader
from koinon.market.passes import Pass
from koinon.market.vouchers import Voucher
from koinon.node.context import Context
from koinon.serving.service import Service

journal = logging.getLogger("koinon.service")

ROUND_SECONDS: Final = 2.0
SETTLE_AT_ANSWERS: Final = 1_000
"""A voucher is settled once it covers the price of so many answers more than the chain has paid."""
SETTLE_BEFORE_SECONDS: Final = 120
_CLOSING: Final = b"channel-closing/"


class ChainMarket:
    """The gate's questions, answered by the market contract."""

    def __init__(self, market: Market) -> None:
        self._market = market

    async def channel(self, identifier: Hash32, /) -> Channel | None:
        """A channel as the chain shows it; None where there is none or it is closed."""
        try:
            found = await self._market.channel_of(identifier)
        except Reverted as refusal:
            if refusal.error == "Unknown":
                return None
            raise
        if found.closed:
            return None
        return Channel(
            identifier=identifier,
            payer=found.payer,
            receiver=found.receiver,
            service=found.service_id,
            deposit=found.deposit,
            settled=found.claimed,
            ends=UnixSeconds(min(found.expiry, found.close_at or found.expiry)),
        )

    async def pass_(self, number: int, /) -> Pass | None:
        """A pass as the chain shows it; None where there is none."""
        try:
            found = await self._market.pass_of(number)
            owner = await self._market.pass_owner(number)
        except Reverted as refusal:
            if refusal.error in ("Unknown", "ERC721NonexistentToken"):
                return None
            raise
        return Pass(number, found.service_id, owner, found.quota, found.expires_at)


def is_due(voucher: Voucher, channel: Channel, price: TokenAmount, now: UnixSeconds) -> bool:
    """Whether a voucher is worth a transaction now."""
    unsettled = voucher.cumulative - channel.settled
    if unsettled <= 0:
        return False
    return unsettled >= SETTLE_AT_ANSWERS * price or channel.ends - now <= SETTLE_BEFORE_SECONDS


@dataclass
class Till:
    """The chain's side of one running service."""

    context: Context
    service: Service
    reader: MarketReader

    @property
    def number(self) -> int:
        return self.service.config.terms.service

    async def keep(self) -> None:
        """Anchor, settle and close until cancelled. What fails is tried again in the next round."""
        while True:
            for step in (self.anchor, self.settle_due, self.close_asked):
                try:
                    await step()
                except KoinonError as problem:
                    journal.warning("service %d: %s", self.number, problem)
            await asyncio.sleep(ROUND_SECONDS)

    async def anchor(self) -> None:
        """Write every signed batch's root on the chain."""
        receipts, log = self.context.suite.receipts, self.service.receipts
        while pending := log.pending_anchors():
            oldest = pending[0]
            reached = await receipts.next_sequence(self.number, self.context.account)
            if reached > oldest.first_sequence:
                await self._catch_up(oldest)
                continue
            sent: Receipt = await receipts.anchor(self.number, oldest.root, oldest.count, oldest.first_sequence)
            await log.anchored(oldest, sent.transaction_hash)

    async def _catch_up(self, oldest: Anchor) -> None:
        """The chain took an anchor that this log did not live to note: note it. Raises InvalidInput for another's."""
        found = await self.context.suite.receipts.events(Anchored, service_id=self.number, node=self.context.account)
        entry = next(one for one in found if one.event.first_sequence == oldest.first_sequence)
        event = entry.event
        anchor = Anchor(oldest.service, oldest.node, event.root, event.count, event.first_sequence)
        await self.service.receipts.anchored(anchor, entry.log.transaction_hash)

    async def settle_due(self) -> None:
        """Settle what is large or pressing."""
        price, now = self.service.config.terms.price, self.context.clock.unix()
        for voucher in await self.service.claims():
            channel = await self.reader.channel(voucher.channel)
            if channel is not None and is_due(voucher, channel, price, now):
                await self._settle(voucher, channel)

    async def _settle(self, voucher: Voucher, channel: Channel) -> None:
        if voucher.cumulative <= channel.settled:
            return
        await self.context.suite.market.settle(voucher.channel, voucher.cumulative, voucher.signature)
        journal.info("service %d: settled %d token units", self.number, voucher.cumulative - channel.settled)

    async def close_asked(self) -> None:
        """Close every channel whose payer asked for it, with its receipts anchored and its last voucher paid."""
        for entry, stored in list(self.context.memory.scan(closing_entry(self.number, b""))):
            identifier = Hash32(stored)
            channel = await self.reader.channel(identifier)
            if channel is not None:
                await self.anchor()
                for voucher in await self.service.claims():
                    if voucher.channel == identifier:
                        await self._settle(voucher, channel)
                await self.context.suite.market.close(identifier)
                journal.info("service %d: closed channel 0x%s…", self.number, identifier.hex()[:16])
            self.context.memory.write({}, delete=[entry])


def note_closing(context: Context, service: int, channel: Hash32) -> None:
    """Note that a channel's payer wants its rest back; survives a restart."""
    context.memory.write({closing_entry(service, channel): channel})


def closing_entry(service: int, identifier: bytes) -> bytes:
    """Where it is noted that a channel of a service is to be closed."""
    return _CLOSING + service.to_bytes(8, "big") + identifier
