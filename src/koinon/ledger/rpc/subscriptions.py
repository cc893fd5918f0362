"""``eth_subscribe``: what a client on a WebSocket is told without asking."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from koinon.kernel.errors import InvalidInput, Refused
from koinon.kernel.quantities import Height
from koinon.ledger.execution import Log
from koinon.ledger.rpc import forms, readers
from koinon.ledger.rpc.failures import LimitExceeded
from koinon.ledger.rpc.forms import data
from koinon.ledger.rpc.logs import all_logs, matches
from koinon.ledger.rpc.network import syncing_form
from koinon.ledger.rpc.readers import LogCriteria
from koinon.ledger.rpc.table import Caller, Json, Method, Outlet, Parameter
from koinon.ledger.rpc.view import LedgerView
from koinon.ledger.transaction import Transaction

_MOST_BLOCKS_AT_ONCE: Final = 128
"""A node that catches up tells of the last of many new blocks only; nobody follows it for the ones between."""


@dataclass
class NewestBlock:
    """The forms of the block that all subscriptions are told of now, made once for all of them."""

    view: LedgerView
    _header: tuple[int, Json] = (-1, None)
    _logs: tuple[int, list[tuple[Log, Json]]] = field(default_factory=lambda: (-1, []))

    def header(self, height: int) -> Json:
        if self._header[0] != height:
            self._header = (height, forms.header_form(self.view.chain.header_at(height)))
        return self._header[1]

    def logs(self, height: int) -> list[tuple[Log, Json]]:
        if self._logs[0] != height:
            self._logs = (height, all_logs(self.view.chain, height))
        return self._logs[1]


@dataclass
class Subscription:
    """One subscription, which listens until it is ended.

    Attributes:
        told: up to this final block, the client has been told everything.
    """

    view: LedgerView
    newest: NewestBlock
    outlet: Outlet
    name: str
    told: Height

    def final(self, height: Height) -> None:
        # Below the oldest body there is nothing to tell: a snapshot may lie in between.
        first = max(self.told + 1, height - _MOST_BLOCKS_AT_ONCE + 1, self.view.chain.oldest_body)
        self.told = height
        for number in range(first, height + 1):
            self.block(number)

    def waiting(self, transaction: Transaction) -> None:
        """Nothing, unless the subscription is for transactions."""

    def block(self, height: int) -> None:
        """A block became final."""


class NewHeads(Subscription):
    def block(self, height: int) -> None:
        self.outlet.notify(self.name, self.newest.header(height))


@dataclass
class Logs(Subscription):
    criteria: LogCriteria

    def block(self, height: int) -> None:
        for log, form in self.newest.logs(height):
            if matches(log, self.criteria.addresses, self.criteria.topics):
                self.outlet.notify(self.name, form)


@dataclass
class NewTransactions(Subscription):
    whole: bool

    def waiting(self, transaction: Transaction) -> None:
        form: Json = forms.transaction_form(transaction, None, 0, 0) if self.whole else data(transaction.hash)
        self.outlet.notify(self.name, form)


@dataclass
class Syncing(Subscription):
    lagging: bool

    def block(self, height: int) -> None:
        progress = self.view.progress()
        if (progress is not None) != self.lagging:
            self.lagging = progress is not None
            status = syncing_form(progress)
            self.outlet.notify(self.name, {"syncing": True, "status": status} if self.lagging else False)


def subscription_methods(view: LedgerView) -> tuple[Method, ...]:
    """The methods."""
    newest = NewestBlock(view)

    def subscribe(caller: Caller, kind: str, argument: Json) -> Json:
        outlet = _outlet(caller)
        if len(outlet.subscriptions) >= view.lane.limits.subscriptions:
            raise LimitExceeded(f"a connection has at most {view.lane.limits.subscriptions} subscriptions")
        make = _KINDS.get(kind)
        if make is None:
            raise InvalidInput(f"there is no subscription {readers.shown(kind)}; there are {', '.join(_KINDS)}")
        name = "0x" + secrets.token_hex(16)
        stop = view.announcements.listen(make(view, newest, outlet, name, argument))

        def end() -> None:
            stop()
            del outlet.subscriptions[name]

        outlet.subscriptions[name] = end
        return name

    def unsubscribe(caller: Caller, name: str) -> Json:
        end = _outlet(caller).subscriptions.get(name)
        if end is None:
            raise Refused("subscription not found on this connection")
        end()
        return True

    kind = Parameter("the kind of subscription", readers.text)
    return (
        Method("eth_subscribe", (kind, Parameter("its argument", readers.anything, default=None)), subscribe),
        Method("eth_unsubscribe", (Parameter("the subscription's id", readers.text),), unsubscribe),
    )


def _outlet(caller: Caller) -> Outlet:
    if caller.outlet is None:
        raise Refused("notifications not supported: subscribe over a WebSocket, or poll a filter")
    return caller.outlet


def _new_heads(view: LedgerView, newest: NewestBlock, outlet: Outlet, name: str, _argument: Json) -> Subscription:
    return NewHeads(view, newest, outlet, name, view.chain.final_height)


def _logs(view: LedgerView, newest: NewestBlock, outlet: Outlet, name: str, argument: Json) -> Subscription:
    criteria = LogCriteria() if argument is None else readers.log_criteria(argument, "a log filter")
    return Logs(view, newest, outlet, name, view.chain.final_height, criteria)


def _new_transactions(view: LedgerView, newest: NewestBlock, outlet: Outlet, name: str, argument: Json) -> Subscription:
    whole = argument is not None and readers.boolean(argument, "whether to give whole transactions")
    return NewTransactions(view, newest, outlet, name, view.chain.final_height, whole)


def _syncing(view: LedgerView, newest: NewestBlock, outlet: Outlet, name: str, _argument: Json) -> Subscription:
    return Syncing(view, newest, outlet, name, view.chain.final_height, view.progress() is not None)


_KINDS: Final[dict[str, Callable[[LedgerView, NewestBlock, Outlet, str, Json], Subscription]]] = {
    "newHeads": _new_heads,
    "logs": _logs,
    "newPendingTransactions": _new_transactions,
    "syncing": _syncing,
}
