"""Programs by name, and the hash that pins what a name means.

The algorithm hash covers the names and the source text of every module of this room that the program or the engine
imports, directly or not, so that two nodes that report the same hash run the same computation, and a change of one line
is a different algorithm.
"""

import ast
from dataclasses import replace
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import msgspec

from koinon.crypto.hash import tagged_hash
from koinon.kernel.codec import decode, encode
from koinon.kernel.errors import InvalidInput, Unavailable
from koinon.kernel.ids import Hash32
from koinon.privacy.backend import Program
from koinon.privacy.programs import crossed
from koinon.privacy.programs.offer import PREPARATION, Offer, Parameters, check_layout, decode_settings, is_prepared

_DOMAIN: Final = "koinon/algorithm/3"
_LONGEST_PARAMETERS: Final = 1024 * 1024
_ROOM: Final = "koinon.privacy."
WORTH: Final = "worth"
"""The output that says what each owner's rows are worth; see ``valuation.shapley``."""

REP4: Final = "rep4"
FEDERATED: Final = "federated"
HE: Final = "he"
_ENGINES: Final = {
    REP4: "koinon.privacy.rep4.session",
    FEDERATED: "koinon.privacy.federated.member",
    HE: "koinon.privacy.encrypted.member",
}
"""The engines that a study may name, the default first, and what a run on each consists of, whatever it computes."""

_PROGRAMS: Final = {
    "boosted-regression/1": ("koinon.privacy.programs.gradient_boosting", "REGRESSION"),
    "comparison/1": ("koinon.privacy.programs.comparison", "OFFER"),
    "convolutional-network/1": ("koinon.privacy.programs.convolutional_network", "OFFER"),
    "contingency/1": ("koinon.privacy.programs.contingency", "OFFER"),
    "cox-regression/1": ("koinon.privacy.programs.cox_regression", "OFFER"),
    "decision-tree/1": ("koinon.privacy.programs.decision_tree", "OFFER"),
    "function/1": ("koinon.privacy.programs.function", "OFFER"),
    "gradient-boosting/1": ("koinon.privacy.programs.gradient_boosting", "OFFER"),
    "k-means/1": ("koinon.privacy.programs.k_means", "OFFER"),
    "kaplan-meier/1": ("koinon.privacy.programs.kaplan_meier", "OFFER"),
    "linear-regression/1": ("koinon.privacy.programs.linear_regression", "OFFER"),
    "logistic-regression/1": ("koinon.privacy.programs.logistic_regression", "OFFER"),
    "multinomial-regression/1": ("koinon.privacy.programs.multinomial_regression", "OFFER"),
    "naive-bayes/1": ("koinon.privacy.programs.naive_bayes", "OFFER"),
    "nearest-neighbours/1": ("koinon.privacy.programs.nearest_neighbours", "OFFER"),
    "noisy-network/1": ("koinon.privacy.programs.noisy_network", "OFFER"),
    "perceptron/1": ("koinon.privacy.programs.perceptron", "OFFER"),
    "poisson-regression/1": ("koinon.privacy.programs.poisson_regression", "OFFER"),
    "principal-components/1": ("koinon.privacy.programs.principal_components", "OFFER"),
    "random-forest/1": ("koinon.privacy.programs.random_forest", "OFFER"),
    "recurrent-network/1": ("koinon.privacy.programs.recurrent_network", "OFFER"),
    "regression-forest/1": ("koinon.privacy.programs.random_forest", "REGRESSION"),
    "regression-tree/1": ("koinon.privacy.programs.decision_tree", "REGRESSION"),
    "statistics/1": ("koinon.privacy.programs.statistics", "OFFER"),
}
"""Each program's module, and what describes the program there."""


def names() -> tuple[str, ...]:
    """The programs there are."""
    return tuple(sorted(_PROGRAMS))


@cache
def offer(name: str) -> Offer:
    """What a program says about itself. Raises InvalidInput for an unknown one."""
    module, described = _place(name)
    found: Offer = getattr(import_module(module), described)
    return found


def load(name: str, parameters: bytes) -> Program:
    """The program of this name for the canonical encoding of its ``offer.Parameters``.

    Raises:
        InvalidInput: no such program, or parameters out of range.
        MalformedMessage: not an encoding of its parameters.
        Refused: with these parameters it could overflow.
    """
    found = offer(name)
    given = decode(Parameters, parameters, limit=_LONGEST_PARAMETERS)
    check_layout(given.layout)
    settings = decode_settings(found, given.settings)
    check_outputs(found, given.outputs, settings)
    if given.layout.parts:
        if WORTH in given.outputs:
            raise InvalidInput("rows have a worth where each owner brings rows of its own, with all columns")
        whole = msgspec.structs.replace(given, layout=crossed.inside(given.layout))
        return replace(crossed.assembled(load(name, encode(whole)), given.layout), parameters=parameters)
    if found.sums is not None:
        # Programs that have this choice import it themselves: the hashes of others do not cover it.
        from koinon.privacy.programs import owner_sums

        if owner_sums.solver_of(settings) != owner_sums.ROWS:
            return replace(owner_sums.program(found, given, settings), parameters=parameters)
    if given.layout.planted and (given.epsilon or not found.judges_planted):
        raise InvalidInput(
            f"{name} cannot be tried on planted rows{' with noise' if given.epsilon else ''}; plant none"
        )
    if is_prepared(settings) and (given.layout.pairs or given.epsilon):
        raise InvalidInput(f"{name} prepares no columns with noise or of an oblivious join; leave that out of settings")
    if given.layout.pairs:
        if found.paired is None or given.epsilon:
            raise InvalidInput(f"{name} opens no such outputs of an oblivious join; use another join or program")
        return found.paired(given.layout, settings, given.outputs)
    if given.epsilon == 0 and not found.exact:
        raise InvalidInput(f"{name} learns through noise only; set epsilon above 0")
    if is_prepared(settings):
        # Only where it is asked for: the hashes of other programs do not cover it.
        from koinon.privacy.programs.preparation import prepared

        made = prepared(found.build, given.layout, settings, given.outputs)
    elif given.epsilon == 0:
        made = found.build(given.layout, settings, given.outputs)
    elif found.noisy is not None:
        made = found.noisy(given.layout, settings, given.outputs, given.epsilon)
    else:
        raise InvalidInput(f"{name} cannot add noise to what it opens; set epsilon to 0 (exact) or name another")
    return replace(made, parameters=parameters)


def outputs_of(found: Offer, settings: Any) -> tuple[str, ...]:
    """Everything that the program can open with these settings."""
    if found.named is not None:
        return found.named(settings)
    return (*found.outputs, PREPARATION) if is_prepared(settings) else found.outputs


def check_outputs(found: Offer, outputs: tuple[str, ...], settings: Any) -> None:
    """Refuse outputs that the program does not have, or none at all. Raises InvalidInput."""
    able = outputs_of(found, settings)
    if not outputs or len(set(outputs)) != len(outputs) or not set(outputs) <= set(able):
        raise InvalidInput(f"outputs must be among {', '.join(able)}, each once")


def engines() -> tuple[str, ...]:
    """The engines that a study may name, the default first."""
    return tuple(_ENGINES)


@cache
def modules(name: str, engine: str = REP4) -> tuple[str, ...]:
    """The modules whose text the algorithm hash covers, in order. Raises InvalidInput for what is unknown."""
    if engine not in _ENGINES:
        raise InvalidInput(f"there is no engine {engine[:80]!r}; a study names one of {', '.join(engines())}")
    found: set[str] = set()
    waiting = [_ENGINES[engine], _place(name)[0]]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += _imported(module)
    return tuple(sorted(found))


@cache
def algorithm_hash(name: str, engine: str = REP4) -> Hash32:
    """BLAKE3 over both names and the source text of the modules that define the result. Raises InvalidInput."""
    parts: list[bytes] = [name.encode(), engine.encode()]
    for module in modules(name, engine):
        parts += [module.encode(), _source(module)]
    return tagged_hash(_DOMAIN, *parts)


def _place(name: str) -> tuple[str, str]:
    if name not in _PROGRAMS:
        raise InvalidInput(f"there is no program {name[:80]!r}; this node offers {', '.join(names())}")
    return _PROGRAMS[name]


@cache
def _imported(module: str) -> tuple[str, ...]:
    """Modules of this room that a module imports anywhere in its text, in functions too, and its own package."""
    found = [module.rpartition(".")[0]]
    for node in ast.walk(ast.parse(_source(module))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            # ``from package import name`` may name a module of the package.
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(name for name in found if name.startswith(_ROOM) and _origin(name) is not None)


def _origin(module: str) -> Path | None:
    try:
        spec = find_spec(module)
    except ModuleNotFoundError:
        return None  # a name inside a module, not a module
    return Path(spec.origin) if spec is not None and spec.origin is not None else None


def _source(module: str) -> bytes:
    path = _origin(module)
    if path is None:
        raise Unavailable(f"the source text of {module} is needed for its hash; install the package with its sources")
    return path.read_bytes().replace(b"\r\n", b"\n")
