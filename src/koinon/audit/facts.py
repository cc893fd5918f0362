"""From bytes to facts: transactions and events that a chain vouches for, decoded with the suite's own interfaces."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, Protocol

from koinon.contracts.abi import decode
from koinon.contracts.artifacts import SUITE
from koinon.contracts.contract import interface
from koinon.kernel.errors import Forged, InvalidInput
from koinon.kernel.ids import Address, Hash32, to_hex

_SELECTOR_BYTES: Final = 4


class RawLog(Protocol):
    """A log entry, wherever it was read."""

    @property
    def address(self) -> Address: ...

    @property
    def topics(self) -> Sequence[bytes]: ...

    @property
    def data(self) -> bytes: ...


@dataclass(frozen=True)
class Log:
    """A log entry as a receipt holds it."""

    address: Address
    topics: tuple[bytes, ...]
    data: bytes


@dataclass(frozen=True)
class ProvenTransaction:
    """A successful transaction that the chain's evidence covers."""

    hash: Hash32
    height: int
    index: int
    timestamp: int
    sender: Address
    to: Address | None
    data: bytes
    logs: tuple[Log, ...]


@dataclass(frozen=True)
class Event:
    """One event of a contract of the suite.

    Attributes:
        contract: its name in the suite.
        values: arguments by their Solidity names.
    """

    contract: str
    name: str
    values: Mapping[str, Any]
    transaction: ProvenTransaction

    def __getitem__(self, argument: str) -> Any:
        return self.values[argument]


@dataclass(frozen=True)
class Call:
    """A transaction's call of a function of the suite."""

    function: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Facts:
    """Everything the chain says in a bundle, in the chain's order."""

    contracts: Mapping[str, Address]
    events: tuple[Event, ...]
    block_hashes: Mapping[int, Hash32] = field(default_factory=dict)

    def all(self, contract: str, name: str, **wanted: object) -> Iterator[Event]:
        """Events of one kind whose arguments have the wanted values."""
        for event in self.events:
            if (event.contract, event.name) == (contract, name) and all(
                event[key] == value for key, value in wanted.items()
            ):
                yield event

    def one(self, contract: str, name: str, **wanted: object) -> Event:
        """The only event of its kind. Raises Forged where there is none, or several."""
        found = list(self.all(contract, name, **wanted))
        if len(found) != 1:
            shown = ", ".join(f"{key} {_show(value)}" for key, value in wanted.items())
            raise Forged(f"the bundle needs exactly one event {contract}.{name} with {shown}; it has {len(found)}")
        return found[0]

    def call(self, event: Event) -> Call:
        """The call that made an event. Raises Forged where the transaction did not call that contract itself."""
        transaction = event.transaction
        if transaction.to != self.contracts[event.contract]:
            raise Forged(f"{event.contract}.{event.name} was not made by a direct call, so its arguments are not shown")
        return decode_call(event.contract, transaction.data)


def read_facts(contracts: Mapping[str, Address], transactions: tuple[ProvenTransaction, ...]) -> Facts:
    """Decode the events of the suite's contracts.

    Raises:
        Forged: a contract of the network says nothing, or something its interface does not have.
    """
    names = {address: name for name, address in contracts.items()}
    if len(names) != len(contracts) or not set(contracts) <= set(SUITE):
        raise Forged("the network names a contract twice, or one that is not of the suite")
    events = tuple(
        _event(names[log.address], log, transaction)
        for transaction in transactions
        for log in transaction.logs
        if log.address in names
    )
    silent = set(contracts) - {event.contract for event in events}
    if silent:
        raise Forged(f"the network names {', '.join(sorted(silent))}, of which the bundle shows no event")
    return Facts(contracts, events)


def decode_call(contract: str, data: bytes) -> Call:
    """Read the calldata of a function. Raises Forged where the contract has no such function."""
    method = _functions(contract).get(data[:_SELECTOR_BYTES])
    if method is None:
        raise Forged(f"{contract} has no function {to_hex(data[:_SELECTOR_BYTES])}")
    values = decode(method.inputs, data[_SELECTOR_BYTES:], f"{contract}.{method.name}")
    return Call(method.name, _named(method.inputs, values))


def read_event(contract: str, log: RawLog) -> tuple[str, dict[str, Any]]:
    """Name and arguments of an event. Raises Forged where the contract has no such event."""
    method = _events(contract).get(log.topics[0]) if log.topics else None
    if method is None:
        raise Forged(f"{contract} at {to_hex(log.address)} made a log that the contract does not have")
    indexed = [entry for entry in method.inputs if entry["indexed"]]
    if len(indexed) != len(log.topics) - 1:
        raise Forged(f"an event {contract}.{method.name} has {len(log.topics) - 1} topics instead of {len(indexed)}")
    values: dict[str, Any] = {}
    for entry, topic in zip(indexed, log.topics[1:], strict=True):
        values[entry["name"]] = decode([entry], topic, f"{contract}.{method.name}")[0]
    rest = [entry for entry in method.inputs if not entry["indexed"]]
    values |= _named(rest, decode(rest, log.data, f"{contract}.{method.name}"))
    return method.name, values


@cache
def _functions(contract: str) -> dict[bytes, Any]:
    return {method.selector: method for method in interface(contract).functions.values()}


@cache
def _events(contract: str) -> dict[bytes, Any]:
    return {bytes(method.hash): method for method in interface(contract).events.values()}


def _event(contract: str, log: Log, transaction: ProvenTransaction) -> Event:
    name, values = read_event(contract, log)
    return Event(contract, name, values, transaction)


def _named(entries: Any, values: Any) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for entry, value in zip(entries, values, strict=True):
        named[entry["name"]] = _named(entry["components"], value) if entry["type"] == "tuple" else value
    return named


def _show(value: object) -> str:
    return to_hex(value)[:18] if isinstance(value, bytes) else str(value)


def text_of(word: bytes) -> str:
    """A short ASCII text kept in a bytes32. Raises InvalidInput for anything else."""
    text = word.rstrip(b"\0")
    if not text.isascii():
        raise InvalidInput("a bytes32 that should be a short text is none")
    return text.decode()
