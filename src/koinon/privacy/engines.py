"""Which engines could run a program, at what cost, against whom, and who learns what: to be read before anyone pays.

One row for each engine. An engine that cannot run a program says why instead of an estimate; a new engine adds a row.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from koinon.kernel.errors import InvalidInput
from koinon.privacy import clear
from koinon.privacy.backend import Adversary, Program
from koinon.privacy.differential.accountant import Gaussian
from koinon.privacy.encrypted import studies as encrypted
from koinon.privacy.estimate import PRODUCT_SECONDS, estimate
from koinon.privacy.federated import studies as federated
from koinon.privacy.federated.approvals import ENOUGH_APPROVALS, WITNESSES
from koinon.privacy.federated.strategies import ADAM, AVERAGE
from koinon.privacy.programs import logistic_regression, perceptron
from koinon.privacy.programs.offer import Parameters, decode_settings
from koinon.privacy.programs.owner_sums import ROWS
from koinon.privacy.programs.registry import FEDERATED, HE, REP4
from koinon.privacy.rep4 import simulation
from koinon.privacy.rep4.cost import run_cost
from koinon.privacy.sums import table as sums

START_SECONDS: Final = 1.5
"""Four workers that start, connect and agree on keys; measured with ``benchmarks/private.py``."""
_HANDING_OVER: Final = 2
"""One way each: from the owners to the four, and from these to the result party."""
_NEWTON_ROUNDS: Final = 10
"""What Newton's method takes to stand still, about, from zero."""
_FEDERATED_STAGES: Final = 5
_STATEMENT_BYTES: Final = (574, 822)
_ACCOUNT_BYTES: Final = (508, 258)
"""Of keys, sealed shares, votes and opened shares in a round, for each owner and for each pair: to and from the owners,
and to each of three witnesses. Counted; ``tests/privacy/test_engine_costs.py`` counts again."""
_APPROVAL_BYTES: Final = 204
"""A member's signature on the model of a round, to the leader and to every owner: counted there too."""
_PAIR_SECONDS: Final = 2.5e-3
_WORD_SECONDS: Final = 7e-8
_ROUND_SECONDS: Final = 0.01
"""Of the processor in a round: for each pair of owners and each word of each, at the owners, at the leader and at three
members that repeat it, and for the links between them. ``benchmarks/federated.py``, ``benchmarks/engines.py``."""
_OWNER_SECONDS: Final = 0.3
"""Of the processor, for an owner's child to start."""

_CIPHERTEXT_BYTES: Final = 331_100
_PUBLIC_KEY_BYTES: Final = 464_700
_KEEPER_SECONDS: Final = 0.35
"""Of the processor, for a child that makes keys, encrypts or opens: ``benchmarks/encrypted.py``."""
_ENCRYPTED_ROUNDS: Final = 3
"""The key is fetched, ciphertexts are handed over, the sum is."""
_CORES: Final = 2


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
        learns: name and parameters of a program that it runs → who → what they learn, besides the public study file.
        refusal: name and parameters of a program → why this engine does not run it in a study; empty where it does.
        cost: of a program that it runs. Raises Refused where the program could overflow.
        worker: what a committee member's disposable child runs; empty where no study may name the engine.
    """

    name: str
    adversary: Adversary
    learns: Callable[[str, Parameters], Mapping[str, str]]
    refusal: Callable[[str, Parameters], str]
    cost: Callable[[Program, Parameters, Network], Cost]
    worker: str = ""
    missing: Callable[[], str] = lambda: ""
    """What must be installed on this machine before it can take part; empty where nothing is."""
    noise: Callable[[str, bytes, float], Gaussian] | None = None
    """Name and settings of a program, and ε → what a run with noise costs each row, where the program does not say."""


def _rep4_cost(program: Program, _: Parameters, network: Network) -> Cost:
    found = run_cost(program)
    # A third of all traffic leaves the busiest party.
    on_the_wire = found.traffic_bytes / 3 * 8 / network.bits_per_second
    waiting = (found.rounds + _HANDING_OVER) * network.round_trip_seconds / 2
    computing = found.program.computing_seconds + found.checks.computing_seconds
    return Cost(START_SECONDS + computing + waiting + on_the_wire, found.traffic_bytes, found.rounds)


def _federated_cost(program: Program, parameters: Parameters, network: Network) -> Cost:
    plan = federated.plan_of(program.name, parameters)
    owners, length = len(parameters.layout.rows), federated.update_length(plan)
    fixed = plan.server.kind in (AVERAGE, ADAM) or plan.noise is not None
    rounds = plan.rounds if fixed else min(plan.rounds, _NEWTON_ROUNDS)
    model = 8 * owners * federated.model_size(plan)
    # Every owner sends its words and is told the model and the sum; the leader passes all words on to three members.
    heard, told = (owners * each + owners**2 * pair for each, pair in (_STATEMENT_BYTES, _ACCOUNT_BYTES))
    round_bytes = model + 16 * owners * length + heard + WITNESSES * (8 * owners * length + told)
    # Before every round but the first, three members vouch for its model, and every owner is told of two of them.
    approvals = (rounds - 1) * (WITNESSES + owners * ENOUGH_APPROVALS) * _APPROVAL_BYTES
    traffic = rounds * round_bytes + model + approvals
    stages = rounds * _FEDERATED_STAGES + rounds - 1
    in_a_round = owners**2 * _PAIR_SECONDS + owners * length * _WORD_SECONDS + _ROUND_SECONDS
    computing = rounds * in_a_round + owners * _OWNER_SECONDS
    # The leader sends or receives every byte.
    on_the_wire = traffic * 8 / network.bits_per_second
    seconds = START_SECONDS + computing / _CORES + stages * network.round_trip_seconds + on_the_wire
    return Cost(seconds, traffic, stages)


def _encrypted_cost(program: Program, parameters: Parameters, network: Network) -> Cost:
    del program
    owners = len(parameters.layout.rows)
    dealt = 4 * owners * _CIPHERTEXT_BYTES
    # A member hands over three components, of which one is the ciphertext and the others are as long.
    opened = 4 * 3 * _CIPHERTEXT_BYTES
    fetched = owners * _PUBLIC_KEY_BYTES
    on_the_wire = max(4 * _CIPHERTEXT_BYTES, fetched, opened) * 8 / network.bits_per_second
    waiting = _ENCRYPTED_ROUNDS * network.round_trip_seconds
    # Keys are made, then all owners encrypt, then one opens.
    children = (2 + owners / _CORES) * _KEEPER_SECONDS
    return Cost(START_SECONDS + children + waiting + on_the_wire, dealt + opened + fetched, _ENCRYPTED_ROUNDS)


def _clear_cost(program: Program, _: Parameters, __: Network) -> Cost:
    return Cost(estimate(program).matrix_products * PRODUCT_SECONDS / 4, 0, 0)


def _rep4_refusal(name: str, parameters: Parameters) -> str:
    if name == perceptron.NAME:
        settings = decode_settings(perceptron.OFFER, parameters.settings)
        if settings.strategy and settings.solver == ROWS:
            return "a strategy says how owners' networks are combined, and shares of rows make one: leave it empty"
    return ""


def _rep4_learns(_: str, __: Parameters) -> dict[str, str]:
    return {
        "owners": "of one another's rows nothing, unless the publisher shows them the result",
        "one committee member": "nothing of rows or result; a wrong value that it sends is caught",
        "two committee members together": "everything",
    }


def _federated_learns(name: str, parameters: Parameters) -> dict[str, str]:
    alone = "the leading member with an owner on its side"
    if name in sums.names():
        said = sums.sums_of(name, parameters).tells
        return {
            "owners and every committee member": said,
            alone: "with three owners, possibly the same over one owner's rows",
        }
    added = "gradients and Hessians" if name == logistic_regression.NAME else "what their rows change in it"
    return {
        "owners": "the joint model of every round; of one another's rows what these models say",
        "every committee member": f"the joint model of every round, and sums over owners of {added}",
        alone: "with three owners, possibly the same of one owner",
    }


def _encrypted_learns(name: str, parameters: Parameters) -> dict[str, str]:
    return {
        "owners": "nothing of one another's rows, unless the publisher shows them the result",
        "committee members, all four together": "nothing of rows or result",
        "publisher": f"{sums.sums_of(name, parameters).tells}; and nothing else",
        "publisher and one committee member together": "every owner's sums",
    }


ENGINES: Final = (
    EngineOffer(
        name=REP4,
        adversary=simulation.ADVERSARY,
        learns=_rep4_learns,
        refusal=_rep4_refusal,
        cost=_rep4_cost,
        worker="koinon.privacy.rep4.worker:main",
    ),
    EngineOffer(
        name=FEDERATED,
        adversary=federated.ADVERSARY,
        learns=_federated_learns,
        refusal=federated.refusal,
        cost=_federated_cost,
        worker="koinon.privacy.federated.member:main",
        noise=federated.mechanism,
    ),
    EngineOffer(
        name=HE,
        adversary=encrypted.ADVERSARY,
        learns=_encrypted_learns,
        refusal=encrypted.refusal,
        cost=_encrypted_cost,
        worker="koinon.privacy.encrypted.member:main",
        missing=encrypted.missing,
    ),
    EngineOffer(
        name="clear",
        adversary=clear.ADVERSARY,
        learns=lambda _, __: {"whoever computes": "every row"},
        refusal=lambda _, __: "it is the reference for tests: no study may name it",
        cost=_clear_cost,
    ),
)
"""Every engine there is, the default first."""


def engine_named(name: str) -> EngineOffer:
    """The engine that a study names. Raises InvalidInput for one that none may name."""
    for one in ENGINES:
        if one.name == name and one.worker:
            return one
    offered = ", ".join(one.name for one in ENGINES if one.worker)
    raise InvalidInput(f"no engine is called {name[:80]!r}; a study names one of {offered}")
