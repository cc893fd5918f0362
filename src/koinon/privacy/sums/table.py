"""Which programs follow from sums over rows, and how."""

from collections.abc import Callable
from typing import Any, Final

from koinon.kernel.errors import InvalidInput, Refused
from koinon.privacy.programs import (
    comparison,
    contingency,
    linear_regression,
    naive_bayes,
    principal_components,
    statistics,
)
from koinon.privacy.programs.offer import Layout, Parameters, decode_settings
from koinon.privacy.programs.registry import offer
from koinon.privacy.sums.form import RowSums
from koinon.privacy.sums.groups import bayes_sums, comparison_sums, contingency_sums
from koinon.privacy.sums.moments import component_sums, line_sums, statistics_sums

_PROGRAMS: Final[dict[str, Callable[[Layout, Any, tuple[str, ...]], RowSums]]] = {
    comparison.NAME: comparison_sums,
    contingency.NAME: contingency_sums,
    linear_regression.NAME: line_sums,
    naive_bayes.NAME: bayes_sums,
    principal_components.NAME: component_sums,
    statistics.NAME: statistics_sums,
}


def names() -> tuple[str, ...]:
    """The programs that follow from sums over rows."""
    return tuple(sorted(_PROGRAMS))


def sums_of(name: str, parameters: Parameters) -> RowSums:
    """A study's program as sums over rows; how many rows the owners have makes no difference.

    Raises:
        Refused: the program, or an output, does not follow from sums, or the sums say more than the study opens.
        InvalidInput: settings out of range.
    """
    if name not in _PROGRAMS:
        raise Refused(f"{name} does not follow from sums over rows; {', '.join(names())} do")
    if parameters.layout.sources:
        raise Refused("every owner must bring all columns of its own people; owners of different columns choose rep4")
    if parameters.epsilon:
        raise Refused("noise that nobody knows is added inside a computation; choose rep4, or exact outputs")
    return _PROGRAMS[name](parameters.layout, decode_settings(offer(name), parameters.settings), parameters.outputs)


def refusal(name: str, parameters: Parameters) -> str:
    """Why a study's program is no sum over rows; empty where it is."""
    try:
        sums_of(name, parameters)
    except InvalidInput as problem:
        return str(problem)
    return ""
