"""The shape of a method: its name, its parameters and how each is read, what it costs, and what it runs."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from koinon.kernel.errors import InvalidInput
from koinon.ledger.rpc.limits import Client

Json = Any
"""A value as JSON has it; read piece by piece by ``readers``."""
Reader = Callable[[Json, str], Any]
"""Makes a value of JSON, given the name of what is read for the error; raises InvalidInput."""


class Outlet(Protocol):
    """A connection on which the node may speak without being asked."""

    subscriptions: dict[str, Callable[[], None]]
    """By identifier, what ends each."""

    def notify(self, subscription: str, result: Json) -> None:
        """Send what a subscription found; the connection is closed if its client does not read."""
        ...


@dataclass(frozen=True)
class Caller:
    """Who sends a request.

    Attributes:
        outlet: the WebSocket connection it came over, None over HTTP.
    """

    client: Client
    outlet: Outlet | None = None


class _Required:
    pass


REQUIRED: Final = _Required()


@dataclass(frozen=True)
class Parameter:
    """One parameter of a method.

    Attributes:
        name: as it appears in errors.
        default: stands for a parameter left out or null; ``REQUIRED`` if there must be one.
    """

    name: str
    read: Reader
    default: Any = REQUIRED


@dataclass(frozen=True)
class Method:
    """One method.

    Attributes:
        run: takes the caller and the values of the parameters; gives JSON, or an awaitable of it.
        cost: units of the client's budget.
    """

    name: str
    parameters: tuple[Parameter, ...]
    run: Callable[..., Any]
    cost: int = 1

    async def call(self, caller: Caller, given: list[Json]) -> Json:
        """Read the parameters and run. Raises what reading or running raises."""
        result = self.run(caller, *self._values(given))
        return await result if inspect.isawaitable(result) else result

    def _values(self, given: list[Json]) -> list[Any]:
        least = sum(parameter.default is REQUIRED for parameter in self.parameters)
        most = len(self.parameters)
        if not least <= len(given) <= most:
            wanted = str(least) if least == most else f"{least} to {most}"
            raise InvalidInput(f"{self.name} takes {wanted} parameters; got {len(given)}")
        padded = [*given, *[None] * (most - len(given))]
        return [
            parameter.read(value, parameter.name)
            if value is not None or parameter.default is REQUIRED
            else parameter.default
            for parameter, value in zip(self.parameters, padded, strict=True)
        ]


Table = Mapping[str, Method]


def table_of(*groups: Iterable[Method]) -> Table:
    """One table of several groups; a name may occur once."""
    table: dict[str, Method] = {}
    for method in (method for group in groups for method in group):
        assert method.name not in table, f"two methods are called {method.name}"
        table[method.name] = method
    return table


def constant(name: str, value: Json) -> Method:
    """A method without parameters whose answer never changes."""
    return Method(name, (), lambda _caller: value)
