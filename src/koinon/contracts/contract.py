"""What the typed clients have in common: one deployed contract, its calls and its events."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Generic, Self, TypeVar

from koinon.contracts.abi import Entry, Interface, build, decode, encode, snake_case
from koinon.contracts.artifacts import Artifact, artifact
from koinon.contracts.client import ChainClient, Log, Receipt
from koinon.kernel.errors import MalformedMessage
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import Height, TokenAmount


class Event:
    """Base of event dataclasses; the class has the name of the event, and its fields in the same order."""


E = TypeVar("E", bound=Event)


@dataclass(frozen=True, slots=True)
class Found(Generic[E]):
    """An event and where it stands on the chain."""

    event: E
    log: Log


@cache
def interface(name: str) -> Interface:
    """The ABI of one contract of the suite."""
    return Interface(artifact(name))


class Contract:
    """One deployed contract of the suite.

    Attributes:
        client: through which it is called; its key sends.
        address: where it is deployed.
    """

    NAME: ClassVar[str]

    def __init__(self, client: ChainClient, address: Address) -> None:
        self.client = client
        self.address = address

    def through(self, client: ChainClient) -> Self:
        """The same contract, called by another account."""
        return type(self)(client, self.address)

    @classmethod
    async def _deploy(cls, client: ChainClient, *arguments: object) -> Address:
        return await deploy(client, artifact(cls.NAME), *arguments)

    async def _read(self, kind: Any, function: str, *arguments: object) -> Any:
        """Call a view. One output is built as ``kind``; of several, ``kind`` is a sequence with one entry each."""
        contract = interface(self.NAME)
        data = contract.encode_call(function, *arguments)
        answer = await self.client.call(self.address, data, f"{self.NAME} refused {function}")
        outputs = contract.functions[function].outputs
        values = decode(outputs, answer, f"{self.NAME}.{function}")
        if len(outputs) == 1:
            return build(kind, values[0])
        return tuple(build(each, value) for each, value in zip(kind, values, strict=True))

    async def _write(self, function: str, *arguments: object) -> Receipt:
        name = function.partition("(")[0]
        data = interface(self.NAME).encode_call(function, *arguments)
        return await self.client.send(self.address, data, doing=f"{self.NAME} refused {name}")

    async def read_address(self, getter: str) -> Address:
        """Value of a public address of the contract, such as ``token``."""
        return Address(await self._read(Address, getter))

    # -------------------------------------------------------------------------------------------- events

    def read_events(self, kind: type[E], logs: Sequence[Log]) -> list[Found[E]]:
        """The events of one kind that this contract left among ``logs``, such as those of a receipt."""
        topic = interface(self.NAME).events[kind.__name__].hash
        return [
            Found(decode_event(self.NAME, kind, log), log)
            for log in logs
            if log.address == self.address and log.topics and log.topics[0] == topic
        ]

    async def events(
        self, kind: type[E], from_height: Height | int = 0, to_height: Height | int | None = None, **indexed: object
    ) -> list[Found[E]]:
        """Events of one kind on the chain, oldest first.

        Args:
            indexed: values that indexed fields must have, by field name, such as ``study_id=3``.
        """
        contract = interface(self.NAME)
        topics: list[list[Hash32] | None] = [[contract.events[kind.__name__].hash]]
        for entry in contract.events[kind.__name__].inputs:
            if not entry["indexed"]:
                continue
            name = snake_case(entry["name"])
            if name in indexed:
                topics.append([Hash32(encode([entry], [indexed.pop(name)], f"{self.NAME}.{kind.__name__}"))])
            else:
                topics.append(None)
        if indexed:
            raise TypeError(f"{kind.__name__} has no indexed field {', '.join(indexed)}")
        logs = await self.client.logs([self.address], topics, from_height, to_height)
        return self.read_events(kind, logs)

    def _only(self, kind: type[E], receipt: Receipt) -> E:
        """The one event of this kind that a call is bound to leave."""
        found = self.read_events(kind, receipt.logs)
        if len(found) != 1:
            raise MalformedMessage(f"{self.NAME} left {len(found)} {kind.__name__} events where one is due")
        return found[0].event


def decode_event(contract: str, kind: type[E], log: Log) -> E:
    """Read an event of ``contract`` from a log. Raises MalformedMessage where it is another."""
    method = interface(contract).events[kind.__name__]
    indexed = [entry for entry in method.inputs if entry["indexed"]]
    plain = [entry for entry in method.inputs if not entry["indexed"]]
    what = f"event {contract}.{kind.__name__}"
    if not log.topics or log.topics[0] != method.hash or len(log.topics) != len(indexed) + 1:
        raise MalformedMessage(f"a log is no {what}")
    words = decode(indexed, b"".join(log.topics[1:]), what)
    rest = decode(plain, log.data, what)
    values: dict[str, Any] = {}
    for entry in method.inputs:
        values[entry["name"]] = (words if entry["indexed"] else rest).pop(0)
    return build(kind, tuple(values.values()))


async def deploy(client: ChainClient, compiled: Artifact, *arguments: object) -> Address:
    """Create a contract. Raises Reverted where its constructor refuses."""
    constructor: tuple[Entry, ...] = Interface(compiled).constructor
    data = compiled.bytecode + encode(constructor, arguments, f"the constructor of {compiled.name}")
    receipt = await client.send(None, data, doing=f"{compiled.name} refused its deployment")
    if receipt.created is None:
        raise MalformedMessage(f"the chain names no address for the {compiled.name} it created")
    return receipt.created


@dataclass(frozen=True, slots=True)
class Credited(Event):
    """An account earned or got back ``amount``; ``withdraw`` pays it."""

    account: Address
    amount: TokenAmount
    reason: str
    subject: int


@dataclass(frozen=True, slots=True)
class Withdrawn(Event):
    """An account took its credit."""

    account: Address
    amount: TokenAmount


class PaysCredit(Contract):
    """A contract that owes money until it is withdrawn."""

    async def credit_of(self, account: Address) -> TokenAmount:
        """What ``withdraw`` would pay to ``account``."""
        return TokenAmount(await self._read(int, "creditOf", account))

    async def total_held(self) -> TokenAmount:
        """Escrow, stakes and deposits that are nobody's credit yet."""
        return TokenAmount(await self._read(int, "totalHeld"))

    async def total_credit(self) -> TokenAmount:
        """Sum of all credits."""
        return TokenAmount(await self._read(int, "totalCredit"))

    async def withdraw(self) -> Receipt:
        """Pay the caller's credit to the caller. Raises Reverted (NothingToWithdraw) where there is none."""
        return await self._write("withdraw")
