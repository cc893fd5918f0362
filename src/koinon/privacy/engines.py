"""Which engines could run a program, at what cost, against whom, and who learns what: to be read before anyone pays.

One row for each engine. An engine that cannot run a program says why instead of an estimate; a new engine adds a row.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from koinon.privacy import clear
from koinon.privacy.backend import Adversary, Program
from koinon.privacy.estimate import estimate
from koinon.privacy.rep4 import simulation

REP4: Final = "rep4"
START_SECONDS: Final = 1.5
"""Four workers that start, connect and agree on keys; measured with ``benchmarks/private.py``."""
_ROUND_SECONDS: Final = 1.3e-3
_BYTE_SECONDS: Final = 4e-9
_PRODUCT_SECONDS: Final = 6e-9
"""Of computing, on two cores for all four: each round, each byte over all parties, each product in a matrix product."""
_SETTING_UP_ROUNDS: Final = 14
"""Key agreement, check of the inputs, checkpoints and opening."""


@dataclass(frozen=True)
class Network:
    """How far the parties are from each other.

    Attributes:
        round_trip_seconds: between any two of them.
        bits_per_second: that each can send.
    """

    round_trip_seconds: float = 0.0
    bits_per_second: float = 1e9


@dataclass(frozen=True)
class Cost:
    """What a run takes: seconds from the shares' arrival to the opening, within about a factor of two; bytes over all
    parties; rounds of messages.
    """

    seconds: float
    traffic_bytes: int
    rounds: int


@dataclass(frozen=True)
class EngineOffer:
    """An engine as a study may choose it.

    Attributes:
        name: such as ``"rep4"``.
        adversary: against whom it protects.
        learns: who → what they learn, besides the public study file.
        refusal: program → why this engine does not run it in a study; empty where it does.
        cost: of a program that it runs. Raises Refused where the program could overflow.
    """

    name: str
    adversary: Adversary
    learns: Mapping[str, str]
    refusal: Callable[[Program], str]
    cost: Callable[[Program, Network], Cost]


def _rep4_cost(program: Program, network: Network) -> Cost:
    found = estimate(program)
    rounds = found.rounds + _SETTING_UP_ROUNDS
    # A third of all traffic leaves the busiest party.
    on_the_wire = found.traffic_bytes / 3 * 8 / network.bits_per_second
    waiting = rounds * (network.round_trip_seconds / 2 + _ROUND_SECONDS)
    computing = found.traffic_bytes * _BYTE_SECONDS + found.matrix_products * _PRODUCT_SECONDS
    return Cost(START_SECONDS + waiting + on_the_wire + computing, found.traffic_bytes, rounds)


def _clear_cost(program: Program, _: Network) -> Cost:
    return Cost(estimate(program).matrix_products * _PRODUCT_SECONDS / 4, 0, 0)


ENGINES: Final = (
    EngineOffer(
        name=REP4,
        adversary=simulation.ADVERSARY,
        learns={
            "owners": "of one another's rows nothing, unless the publisher shows them the result",
            "one committee member": "nothing of rows or result; a wrong value that it sends is caught",
            "two committee members together": "everything",
        },
        refusal=lambda _: "",
        cost=_rep4_cost,
    ),
    EngineOffer(
        name="clear",
        adversary=clear.ADVERSARY,
        learns={"whoever computes": "every row"},
        refusal=lambda _: "it is the reference for tests: no study may name it",
        cost=_clear_cost,
    ),
)
"""Every engine there is, the default first."""
