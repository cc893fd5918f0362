"""Which programs follow from sums over rows, and how."""

from collections.abc import Callable
from typing import Any, Final

from koinon.kernel.codec import Record
from koinon.kernel.errors import InvalidInput, Refused
from koinon.privacy.programs import (
    comparison,
    contingency,
    cox_regression,
    k_means,
    kaplan_meier,
    linear_regression,
    logistic_regression,
    multinomial_regression,
    naive_bayes,
    noisy_network,
    poisson_regression,
    principal_components,
    statistics,
)
from koinon.privacy.programs.offer import Layout, Parameters, decode_settings
from koinon.privacy.programs.preparation import PreparedSettings
from koinon.privacy.programs.registry import offer
from koinon.privacy.sums.descent import noisy_sums
from koinon.privacy.sums.form import RowSums
from koinon.privacy.sums.groups import bayes_sums, comparison_sums, contingency_sums
from koinon.privacy.sums.moments import component_sums, line_sums, statistics_sums
from koinon.privacy.sums.regressions import logistic_sums, multinomial_sums, poisson_sums

_PROGRAMS: Final[dict[str, Callable[[Layout, Any, tuple[str, ...]], RowSums]]] = {
    comparison.NAME: comparison_sums,
    contingency.NAME: contingency_sums,
    linear_regression.NAME: line_sums,
    logistic_regression.NAME: logistic_sums,
    multinomial_regression.NAME: multinomial_sums,
    naive_bayes.NAME: bayes_sums,
    noisy_network.NAME: noisy_sums,
    poisson_regression.NAME: poisson_sums,
    principal_components.NAME: component_sums,
    statistics.NAME: statistics_sums,
}

UNSOUND: Final = {
    k_means.NAME: "a group's sums change from round to round by as little as one person; choose rep4",
    cox_regression.NAME: "its sums are over those still at risk, who are few at late times; choose rep4",
    kaplan_meier.NAME: "its counts are of those still at risk, who are few at late times; choose rep4",
}
"""Programs that do follow from sums over rows, but from sums that say too much of single people."""


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
        why = UNSOUND.get(name) or f"it does not follow from sums over rows; {', '.join(names())} do"
        raise Refused(f"{name} is not for adding up: {why}")
    if parameters.layout.sources:
        raise Refused("every owner must bring all columns of its own people; owners of different columns choose rep4")
    if parameters.epsilon and offer(name).exact:
        raise Refused("noise that nobody knows is added inside a computation; choose rep4, or exact outputs")
    if not parameters.epsilon and not offer(name).exact:
        raise Refused(f"{name} learns through noise only; set epsilon above 0")
    settings = decode_settings(offer(name), parameters.settings)
    check_unprepared(settings)
    return _PROGRAMS[name](parameters.layout, settings, parameters.outputs)


def check_unprepared(settings: Record) -> None:
    """Raises Refused where columns are to be scaled, imputed or encoded first: that takes sums of its own."""
    if isinstance(settings, PreparedSettings) and settings.prepares:
        raise Refused("columns are prepared among shares; choose rep4, or leave scale, missing and encode out")


def refusal(name: str, parameters: Parameters) -> str:
    """Why a study's program is no sum over rows; empty where it is."""
    try:
        sums_of(name, parameters)
    except InvalidInput as problem:
        return str(problem)
    return ""
