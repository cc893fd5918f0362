"""Programs by name, and the hash that pins what a name means.

The algorithm hash covers the name and the source text of every module that determines the result, so that two nodes
that report the same hash run the same computation, and a change of one line is a different algorithm.
"""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from koinon.crypto.hash import tagged_hash
from koinon.kernel.codec import decode
from koinon.kernel.errors import InvalidInput, Unavailable
from koinon.kernel.ids import Hash32
from koinon.privacy.backend import Program
from koinon.privacy.programs import logistic_regression

_DOMAIN: Final = "koinon/algorithm/1"
_LONGEST_PARAMETERS: Final = 1024 * 1024

_ARITHMETIC: Final = (
    "koinon.privacy.approximations",
    "koinon.privacy.differential.noise",
    "koinon.privacy.opening",
    "koinon.privacy.rep4.agreement",
    "koinon.privacy.rep4.arithmetic",
    "koinon.privacy.rep4.checkpoint",
    "koinon.privacy.rep4.comparison",
    "koinon.privacy.rep4.domain",
    "koinon.privacy.rep4.machine",
    "koinon.privacy.rep4.party",
    "koinon.privacy.rep4.products",
    "koinon.privacy.rep4.ring",
    "koinon.privacy.rep4.session",
    "koinon.privacy.rep4.shares",
    "koinon.privacy.rep4.shuffling",
    "koinon.privacy.rep4.streams",
    "koinon.privacy.secret",
    "koinon.privacy.sharing",
)
"""Modules whose text every program's result depends on."""


def _logistic_regression(parameters: bytes) -> Program:
    return logistic_regression.program(decode(logistic_regression.Parameters, parameters, limit=_LONGEST_PARAMETERS))


_ARRAYS: Final = (
    "koinon.privacy.arrays",
    "koinon.privacy.computation",
    "koinon.privacy.elementary",
    "koinon.privacy.graph",
)
"""What programs written on secret arrays depend on besides."""

_PROGRAMS: Final[dict[str, tuple[Callable[[bytes], Program], tuple[str, ...]]]] = {
    logistic_regression.NAME: (
        _logistic_regression,
        (
            *_ARRAYS,
            "koinon.privacy.differential.accountant",
            "koinon.privacy.differential.logistic",
            "koinon.privacy.programs.logistic_regression",
        ),
    ),
}


def names() -> tuple[str, ...]:
    """The programs there are."""
    return tuple(sorted(_PROGRAMS))


def load(name: str, parameters: bytes) -> Program:
    """The program of this name for the canonical encoding of its parameters.

    Raises:
        InvalidInput: no such program, or parameters out of range.
        MalformedMessage: not an encoding of its parameters.
        Refused: with these parameters it could overflow.
    """
    return _entry(name)[0](parameters)


def modules(name: str) -> tuple[str, ...]:
    """The modules whose text the algorithm hash covers, in order. Raises InvalidInput for an unknown program."""
    return tuple(sorted((*_ARITHMETIC, *_entry(name)[1])))


@cache
def algorithm_hash(name: str) -> Hash32:
    """BLAKE3 over the name and the source text of the modules that define the result. Raises InvalidInput."""
    parts: list[bytes] = [name.encode()]
    for module in modules(name):
        parts += [module.encode(), _source(module)]
    return tagged_hash(_DOMAIN, *parts)


def _entry(name: str) -> tuple[Callable[[bytes], Program], tuple[str, ...]]:
    if name not in _PROGRAMS:
        raise InvalidInput(f"there is no program {name[:80]!r}; this node offers {', '.join(names())}")
    return _PROGRAMS[name]


def _source(module: str) -> bytes:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise Unavailable(f"the source text of {module} is needed for its hash; install the package with its sources")
    return Path(spec.origin).read_bytes().replace(b"\r\n", b"\n")
