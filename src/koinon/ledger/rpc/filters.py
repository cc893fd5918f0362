"""Logs, and filters that remember what a client has been told (``eth_newFilter`` and its kin)."""

import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from koinon.kernel.errors import InvalidInput, Unavailable
from koinon.kernel.ids import Hash32
from koinon.kernel.quantities import Height
from koinon.ledger.rpc import readers
from koinon.ledger.rpc.failures import LimitExceeded
from koinon.ledger.rpc.forms import data
from koinon.ledger.rpc.limits import Client
from koinon.ledger.rpc.logs import find_logs
from koinon.ledger.rpc.readers import BlockChoice, LogCriteria
from koinon.ledger.rpc.table import Caller, Json, Method, Parameter
from koinon.ledger.rpc.view import LedgerView
from koinon.ledger.transaction import Transaction
from koinon.ledger.types import header_hash

_MOST_FILTERS: Final = 4096
_MOST_HASHES: Final = 4096
_LOGS_COST: Final = 20

_CRITERIA = Parameter("a log filter", readers.log_criteria)
_NAME = Parameter("the filter's id", readers.text)


@dataclass
class Filter:
    """One filter.

    Attributes:
        criteria: of a log filter; None for one of blocks or of waiting transactions.
        told: up to this final block, its client has been told everything.
        asked_at: monotonic seconds.
        hashes: of transactions that came in since it was asked; None unless that is what it is for.
    """

    owner: Client
    criteria: LogCriteria | None
    told: Height
    asked_at: float
    hashes: deque[Hash32] | None = None


@dataclass
class Filters:
    """All filters of a node, by id; 128 random bits, so that nobody guesses another client's."""

    view: LedgerView
    now: Callable[[], float]
    _filters: dict[str, Filter] = field(default_factory=dict)

    def final(self, height: Height) -> None:
        """Blocks are looked up when a client asks."""

    def waiting(self, transaction: Transaction) -> None:
        for one in self._filters.values():
            if one.hashes is not None:
                one.hashes.append(transaction.hash)

    def new_log_filter(self, caller: Caller, criteria: LogCriteria) -> Json:
        return self._add(caller, Filter(caller.client, criteria, self.view.chain.final_height, self.now()))

    def new_block_filter(self, caller: Caller) -> Json:
        return self._add(caller, Filter(caller.client, None, self.view.chain.final_height, self.now()))

    def new_transaction_filter(self, caller: Caller, _whole: bool) -> Json:
        hashes: deque[Hash32] = deque(maxlen=_MOST_HASHES)
        return self._add(caller, Filter(caller.client, None, self.view.chain.final_height, self.now(), hashes))

    async def changes(self, caller: Caller, name: str) -> Json:
        """What there is since the client asked last."""
        one = self._filter(name)
        one.asked_at = self.now()
        if one.hashes is not None:
            hashes = [data(found) for found in one.hashes]
            one.hashes.clear()
            return hashes
        first, last = one.told + 1, self.view.chain.final_height
        if one.criteria is None:
            one.told = last
            return [data(header_hash(self.view.chain.header_at(height))) for height in range(first, last + 1)]
        span = self._span(one.criteria)
        found = await self._find(caller, one.criteria, max(first, span[0]), min(last, span[1]))
        one.told = last
        return found

    async def logs_of(self, caller: Caller, name: str) -> Json:
        """Everything a log filter matches."""
        one = self._filter(name)
        if one.criteria is None:
            raise InvalidInput("only a log filter has logs; ask this one for its changes")
        one.asked_at = self.now()
        return await self.logs(caller, one.criteria)

    def uninstall(self, _caller: Caller, name: str) -> Json:
        one = self._filters.pop(name, None)
        if one is not None:
            one.owner.filters -= 1
        return one is not None

    async def logs(self, caller: Caller, criteria: LogCriteria) -> Json:
        """Logs of final blocks that match now."""
        if criteria.block is not None:
            height = self.view.chain.height_of(criteria.block)
            if height is None:
                raise Unavailable("the block of the log filter is not known or not final")
            return await self._find(caller, criteria, height, height)
        latest = self.view.chain.final_height
        first, last = self._span(criteria)
        first = first if criteria.first is not None else min(latest, last)
        if first > last:
            raise InvalidInput(f"the log filter ends at block {last}, before it begins at {first}")
        return await self._find(caller, criteria, first, min(last, latest))

    def _span(self, criteria: LogCriteria) -> tuple[int, int]:
        """First and last height that the criteria allow; the newest final block stands for what is open or to come."""

        def height(choice: BlockChoice | None, default: int) -> int:
            if choice is None:
                return default
            if isinstance(choice, int):
                return choice
            found = self.view.final_height(choice)
            if found is None:
                raise Unavailable("the block of the log filter is not known or not final")
            return found

        return height(criteria.first, 0), height(criteria.last, self.view.chain.final_height)

    async def _find(self, caller: Caller, criteria: LogCriteria, first: int, last: int) -> Json:
        if first > last:
            return []
        chain = self.view.chain
        return await self.view.lane.run(
            caller, lambda: find_logs(chain, first, last, criteria.addresses, criteria.topics, self.view.deadline())
        )

    def _filter(self, name: str) -> Filter:
        self._expire()
        one = self._filters.get(name)
        if one is None:
            raise Unavailable("filter not found; it was never installed here, or nobody asked it for too long")
        return one

    def _add(self, caller: Caller, one: Filter) -> str:
        self._expire()
        if caller.client.filters >= self.view.lane.limits.filters or len(self._filters) >= _MOST_FILTERS:
            raise LimitExceeded("too many filters are installed; uninstall one you do not need")
        name = "0x" + secrets.token_hex(16)
        self._filters[name] = one
        caller.client.filters += 1
        return name

    def _expire(self) -> None:
        oldest = self.now() - self.view.lane.limits.filter_seconds
        for name in [name for name, one in self._filters.items() if one.asked_at < oldest]:
            self._filters.pop(name).owner.filters -= 1


def filter_methods(view: LedgerView, now: Callable[[], float]) -> tuple[Method, ...]:
    """The methods."""
    filters = Filters(view, now)
    view.announcements.listen(filters)
    whole = Parameter("whether to give whole transactions", readers.boolean, default=False)
    return (
        Method("eth_getLogs", (_CRITERIA,), filters.logs, _LOGS_COST),
        Method("eth_newFilter", (_CRITERIA,), filters.new_log_filter),
        Method("eth_newBlockFilter", (), filters.new_block_filter),
        Method("eth_newPendingTransactionFilter", (whole,), filters.new_transaction_filter),
        Method("eth_getFilterChanges", (_NAME,), filters.changes, 5),
        Method("eth_getFilterLogs", (_NAME,), filters.logs_of, _LOGS_COST),
        Method("eth_uninstallFilter", (_NAME,), filters.uninstall),
    )
