"""The chain as a source of pages: it follows the suite's events and answers what each page asks.

It keeps one ``Journal`` and brings it up to date in the background and before every page, so that a page never shows
less than the chain node had when it was asked for. A chain that was cut back (a reorganisation, a reset test
chain) is noticed by the hashes of earlier readings.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, TypeVar

import msgspec

from koinon.gateway.facts import Facts
from koinon.gateway.journal import DEFAULT_CAPACITY, Entry, Journal, cut_back, extend
from koinon.gateway.live import Change, Changes
from koinon.gateway.origins import sentence
from koinon.gateway.pages import budget, chain, models, money, network, studies
from koinon.gateway.pages.budget import Ledgers
from koinon.gateway.reading import RANGE_BLOCKS, ChainReader, Requests
from koinon.gateway.status import NodeStatus, PublicOnly, StatusSource
from koinon.gateway.views.budget import BudgetPage, BudgetsPage
from koinon.gateway.views.chain import BlockPage, BlocksPage, TransactionPage
from koinon.gateway.views.models import ModelPage, ModelsPage
from koinon.gateway.views.money import ReceiptsPage, SettlementPage
from koinon.gateway.views.network import NetworkPage
from koinon.gateway.views.parts import Head, Sentence
from koinon.gateway.views.studies import StudiesPage, StudyPage
from koinon.kernel.errors import KoinonError, MalformedMessage, Unavailable

POLL_SECONDS: Final = 1.0
STATUS_SECONDS: Final = 2.0
"""For so long a node's answer is taken as current."""
TRIES: Final = 3

_V = TypeVar("_V")


class ChainSource:
    """Pages about one suite on one chain.

    Args:
        requests: a chain client; only ``request`` is used, and nothing is ever sent to the chain.
        addresses: ``0x`` address of each contract by its name, as ``Suite.contracts`` names them.
        status: whom to ask how nodes are.
        first_height: block before which the suite did not exist.
        public_rpc: see ``ChainReader``.
        capacity: events kept; see ``Journal``.
        ledgers: privacy ledgers that their owners opened to this site.

    Use inside ``async with source.following()``, which keeps it up to date.
    """

    def __init__(
        self,
        requests: Requests,
        addresses: dict[str, str],
        status: StatusSource | None = None,
        *,
        first_height: int = 0,
        public_rpc: str | None = None,
        capacity: int = DEFAULT_CAPACITY,
        poll_seconds: float = POLL_SECONDS,
        ledgers: Ledgers | None = None,
    ) -> None:
        self._ledgers = dict(ledgers or {})
        self.changes = Changes()
        self._reader = ChainReader(requests, addresses, public_rpc)
        self._status = status or PublicOnly()
        self._journal = Journal(capacity=capacity, height=first_height - 1)
        self._first = first_height
        self._poll_seconds = poll_seconds
        self._labels = {address.lower(): name for name, address in addresses.items()}
        self._head: Head | None = None
        self._problem: Sentence | None = None
        self._statuses: tuple[NodeStatus, ...] = ()
        self._asked_at = float("-inf")
        self._reading = asyncio.Lock()

    # ------------------------------------------------------------------------------------------------- following

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Follow the chain in the background for as long as the context lasts."""
        task = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            with suppress(KoinonError):  # catch_up says it on every page; the chain may answer next time
                await self.catch_up()
            await asyncio.sleep(self._poll_seconds)

    async def catch_up(self) -> None:
        """Read what is new. Raises what the chain node failed with; every page then says so."""
        async with self._reading:
            try:
                await self._catch_up()
            except KoinonError as problem:
                self._problem = sentence(
                    "The chain cannot be read now ({problem}). What you see is as of block {height}.",
                    problem=str(problem),
                    height=f"{max(0, self._journal.height):,}",
                )
                raise
            self._problem = None

    async def _catch_up(self) -> None:
        tip = await self._reader.block("latest")
        if tip is None:
            raise Unavailable("the chain node has no latest block; is it still starting?")
        await self._cut_back_where_changed(tip.height, tip.hash)
        before = self._journal.height
        found: list[Entry] = []
        while self._journal.height < tip.height:
            first = self._journal.height + 1
            last = min(tip.height, first + RANGE_BLOCKS - 1)
            entries = await self._reader.entries(first, last)
            end = tip if last == tip.height else await self._reader.block(last)
            if end is None:
                raise Unavailable(f"the chain node does not give block {last}; it may be behind")
            extend(self._journal, entries, last, end.hash)
            found += entries
            await self._tell_head(tip.height, tip.timestamp)
        head = await self._tell_head(tip.height, tip.timestamp)
        if tip.height != before:
            subjects = tuple(dict.fromkeys(f"{entry.contract}.{entry.event}" for entry in found))[:32]
            self.changes.tell(Change(height=tip.height, final_height=head.final_height, events=subjects))

    async def _cut_back_where_changed(self, height: int, tip_hash: str) -> None:
        """Go back to the last reading that the chain still agrees with."""
        checkpoints = self._journal.checkpoints
        while checkpoints:
            known, known_hash = checkpoints[-1]
            if known == height:
                found: str | None = tip_hash
            else:
                block = await self._reader.block(known) if known < height else None
                found = None if block is None else block.hash
            if found == known_hash:
                return
            checkpoints.pop()
            cut_back(self._journal, checkpoints[-1][0] if checkpoints else self._first - 1)
            checkpoints = self._journal.checkpoints
            self._reader.forget()

    async def _tell_head(self, height: int, timestamp: int) -> Head:
        known = self._head
        if known is None:
            client = await self._reader.requests.request("web3_clientVersion")
            known = Head(
                chain_id=await self._reader.number("eth_chainId"),
                height=height,
                final_height=0,
                indexed_height=0,
                timestamp=timestamp,
                client=str(client)[:80],
                symbol=str(await self._reader.view("Token", "symbol", since=None))[:12],
                decimals=min(30, await self._reader.view("Token", "decimals", since=None)),
            )
        self._head = msgspec.structs.replace(
            known,
            height=height,
            timestamp=timestamp,
            final_height=await self._reader.final_height(),
            indexed_height=self._journal.height,
        )
        return self._head

    # ------------------------------------------------------------------------------------------------- pages

    async def network(self) -> NetworkPage:
        """``/``."""
        return await self._page(network.network_page)

    async def studies(self) -> StudiesPage:
        """``/studies``."""

        async def build(facts: Facts) -> StudiesPage:
            return studies.studies_page(facts)

        return await self._page(build)

    async def study(self, number: int) -> StudyPage:
        """``/studies/{number}``. Raises Absent."""
        return await self._page(lambda facts: studies.study_page(facts, number))

    async def models(self) -> ModelsPage:
        """``/models``."""
        return await self._page(models.models_page)

    async def model(self, name: str) -> ModelPage:
        """``/models/{name}``. Raises Absent."""
        return await self._page(lambda facts: models.model_page(facts, name))

    async def budgets(self) -> BudgetsPage:
        """``/budgets``."""
        return await self._page(lambda facts: budget.budgets_page(facts, self._ledgers))

    async def budget(self, asset: int) -> BudgetPage:
        """``/budgets/{asset}``. Raises Absent."""
        return await self._page(lambda facts: budget.budget_page(facts, self._ledgers, asset))

    async def receipts(self) -> ReceiptsPage:
        """``/receipts``."""
        return await self._page(money.receipts_page)

    async def settlement(self, service: int) -> SettlementPage:
        """``/settlement/{service}``. Raises Absent."""
        return await self._page(lambda facts: money.settlement_page(facts, service))

    async def blocks(self, before: int | None = None) -> BlocksPage:
        """``/blocks``; with ``before``, the blocks under that height."""
        return await self._page(lambda facts: chain.blocks_page(facts, before))

    async def block(self, height: int) -> BlockPage:
        """``/blocks/{height}``. Raises Absent."""
        return await self._page(lambda facts: chain.block_page(facts, height))

    async def transaction(self, identifier: str) -> TransactionPage:
        """``/transactions/{hash}``. Raises Absent."""
        return await self._page(lambda facts: chain.transaction_page(facts, identifier))

    async def find(self, text: str) -> str | None:
        """Address of the page about a height, a hash, a name or ``study 3``; None where nothing is known by it."""
        facts = await self._facts()
        return await chain.find(facts, text)

    async def health(self) -> Head:
        """Where the chain stands. Raises Unavailable where it cannot be read."""
        await self.catch_up()
        assert self._head is not None, "catch_up sets it or raises"
        return self._head

    async def _page(self, build: Callable[[Facts], Awaitable[_V]]) -> _V:
        """Build a page from one moment of the chain: where a block arrived meanwhile, build it again."""
        for _ in range(TRIES - 1):
            facts = await self._facts()
            page = await build(facts)
            if facts.head.problem is not None or await self._reader.number("eth_blockNumber") == facts.head.height:
                return page
        return await build(await self._facts())

    async def _facts(self) -> Facts:
        try:
            await self.catch_up()
        except (Unavailable, MalformedMessage):
            if self._head is None:
                raise  # nothing was ever read: there is no page to show
        assert self._head is not None, "catch_up sets it or raises"
        statuses = await self._ask_nodes()
        labels = self._labels | {status.account.lower(): status.name[:64] for status in statuses if status.name}
        head = self._head
        if self._problem is not None:
            head = msgspec.structs.replace(head, problem=self._problem)
        elif self._journal.forgotten_to >= 0:
            head = msgspec.structs.replace(
                head,
                problem=sentence(
                    "This site keeps the newest {count} events; what happened up to block {height} is not shown.",
                    count=f"{self._journal.capacity:,}",
                    height=f"{self._journal.forgotten_to:,}",
                ),
            )
        return Facts(head=head, journal=self._journal, reader=self._reader, statuses=statuses, labels=labels)

    async def _ask_nodes(self) -> tuple[NodeStatus, ...]:
        now = time.monotonic()
        if now - self._asked_at >= STATUS_SECONDS:
            self._statuses = await self._status.nodes()
            self._asked_at = now
        return self._statuses
