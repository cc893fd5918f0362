"""Everything one page is made of, and the small questions that all pages ask of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from koinon.gateway.journal import Entry, Journal, about
from koinon.gateway.origins import of_entry, of_sum, of_view, verbatim
from koinon.gateway.reading import ChainReader
from koinon.gateway.status import NodeStatus
from koinon.gateway.views.parts import Event, Flow, Head, Origin, Party, Quantity, Sentence, Tone
from koinon.gateway.writing import exact_decimal, exact_time, shorten
from koinon.kernel.errors import InvalidInput

ROWS_OF_A_PAGE: Final = 200
"""Most rows of one table; the pages say where more exist."""


class Absent(InvalidInput):
    """What the address asks for is not on this chain."""


@dataclass(frozen=True, slots=True)
class Facts:
    """One moment of the chain as this site knows it.

    Attributes:
        head: where the chain stands.
        journal: the suite's events.
        reader: for what events do not say.
        statuses: what nodes answer to the operator of this site; empty where none can be asked.
    """

    head: Head
    journal: Journal
    reader: ChainReader
    statuses: tuple[NodeStatus, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)

    def party(self, account: str) -> Party:
        """An account with its name, where this site knows one."""
        return Party(account=account, name=self.labels.get(account.lower()))

    def event(self, entry: Entry, said: Sentence, actor: str | None, tone: Tone) -> Event:
        """What happened in a log entry, as a line of a timeline."""
        return Event(
            at=entry.at,
            height=entry.height,
            transaction=entry.transaction,
            sentence=said,
            actor=None if actor is None else self.party(actor),
            tone=tone,
        )

    def label(self, account: str) -> str:
        """The name of an account, or its shortened address: for sentences and drawings."""
        return self.labels.get(account.lower()) or shorten(account)

    def address(self, contract: str) -> str:
        """Address of a contract of the suite."""
        return self.reader.addresses[contract].lower()

    def amount(self, units: int) -> str:
        """Tokens as they are written inside a sentence."""
        return f"{exact_decimal(units, self.head.decimals, least=min(2, self.head.decimals))} {self.head.symbol}"

    def tokens(self, units: int, origin: Origin | None = None) -> Quantity:
        """An amount of the payment token."""
        return Quantity(value=units, unit="token", origin=origin)

    def from_entry(self, units: int, entry: Entry) -> Quantity:
        """An amount that one event states."""
        return self.tokens(units, of_entry(entry, self.reader.public_rpc))

    def from_entries(self, units: int, entries: Sequence[Entry]) -> Quantity:
        """An amount that is a sum over events."""
        if not entries:
            return self.tokens(units)
        return self.tokens(units, of_sum(tuple(entries), self.address(entries[0].contract), self.reader.public_rpc))

    def from_view(self, units: int, contract: str, function: str, *given: object) -> Quantity:
        """An amount that a contract answers."""
        data = self.reader.call_data(contract, function, *given)
        return self.tokens(units, of_view(contract, function, self.address(contract), data, self.reader.public_rpc))

    def paid_into(self, contract: str, transactions: Iterable[str]) -> tuple[Entry, ...]:
        """The token's own record of transfers to a contract of the suite within these transactions."""
        to = self.address(contract)
        return tuple(
            entry
            for transaction in dict.fromkeys(transactions)
            for entry in about(self.journal, "paid", transaction)
            if entry.values["to"].lower() == to
        )


def named(entries: Iterable[Entry], *events: str) -> tuple[Entry, ...]:
    """The entries that are one of these events."""
    return tuple(entry for entry in entries if entry.event in events)


def credited(entries: Iterable[Entry], contract: str) -> tuple[Entry, ...]:
    """The credits that a contract gave."""
    return tuple(entry for entry in entries if entry.event == "Credited" and entry.contract == contract)


def total(entries: Iterable[Entry], name: str = "amount") -> int:
    """Sum of one integer field."""
    return sum(entry.values[name] for entry in entries)


def grouped(entries: Iterable[Entry], *names: str) -> dict[tuple[str, ...], list[Entry]]:
    """Entries by the values of some fields, in the order of first appearance."""
    groups: dict[tuple[str, ...], list[Entry]] = {}
    for entry in entries:
        groups.setdefault(tuple(entry.values[name] for name in names), []).append(entry)
    return groups


def credit_flows(facts: Facts, entries: Sequence[Entry], source: str, layer: int) -> tuple[Flow, ...]:
    """What was credited from one place, for each payee and reason."""
    return tuple(
        Flow(
            payer=source,
            payee=facts.label(account),
            reason=reason,
            amount=facts.from_entries(total(group), group),
            layer=layer,
        )
        for (account, reason), group in grouped(entries, "account", "reason").items()
    )


def moment(unix: int) -> str:
    """A time inside a sentence."""
    return exact_time(unix)


def reason(text: str) -> Sentence:
    """A reason that a contract gives in plain words, so that it can be translated."""
    return verbatim(text)
