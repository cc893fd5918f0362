"""Whether owners share their rows or sums of their own, for programs that follow from either.

A study file that people write may say ``solver = "auto"``. Then the publisher's node takes the way that needs the least
time for the rows that owners announce, the columns, and the links between the committee's nodes; all of these are
public. What owners sign names the way.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from koinon.jobs.inputs import layout, parameters
from koinon.jobs.study import StudyFile
from koinon.kernel.codec import decode, encode
from koinon.kernel.errors import InvalidInput, Refused

if TYPE_CHECKING:
    from koinon.privacy.engines import Cost, Network

_REP4: Final = "rep4"


@dataclass(frozen=True)
class Way:
    """One way to compute a study.

    Attributes:
        solver: what owners share, ``"rows"`` or ``"sums"``.
        refusal: why it is none for this study; empty where it is one.
        cost: of a run; None where it is refused.
    """

    solver: str
    refusal: str
    cost: "Cost | None" = None


def solver_of(study: StudyFile) -> str:
    """``"rows"``, ``"sums"``, or in a draft ``"auto"``."""
    from koinon.privacy.programs import owner_sums, registry
    from koinon.privacy.programs.offer import decode_settings

    return owner_sums.solver_of(decode_settings(registry.offer(study.algorithm), study.settings))


def shares_sums(study: StudyFile) -> bool:
    """Whether owners share sums of their rows in place of the rows."""
    from koinon.privacy.programs import registry
    from koinon.privacy.programs.owner_sums import SUMS

    return registry.offer(study.algorithm).sums is not None and solver_of(study) == SUMS


def has_choice(study: StudyFile) -> bool:
    """Whether the study's program follows from either, on an engine that computes on shares."""
    from koinon.privacy.programs import registry

    return study.engine == _REP4 and registry.offer(study.algorithm).sums is not None


def with_solver(study: StudyFile, solver: str) -> StudyFile:
    """The same study, its owners sharing this. Raises InvalidInput where its program leaves no choice."""
    from koinon.privacy.programs import registry
    from koinon.privacy.programs.offer import decode_settings

    found = registry.offer(study.algorithm)
    if found.sums is None:
        raise InvalidInput(f"{study.algorithm} takes rows; leave the solver out of its settings")
    settings = msgspec.structs.replace(decode_settings(found, study.settings), solver=solver)
    return msgspec.structs.replace(study, settings=b"" if settings == found.settings() else encode(settings))


def least_rows(study: StudyFile) -> int:
    """Rows that every owner must have: the study's smallest group, or more where each needs a fit of its own."""
    if not shares_sums(study):
        return study.minimum_rows
    from koinon.privacy.programs import registry

    sums = registry.offer(study.algorithm).sums
    assert sums is not None
    return max(study.minimum_rows, sums.least(layout(study, (study.minimum_rows,) * len(study.owners))))


def problems(study: StudyFile) -> list[str]:
    """What is wrong with the solver of a study that is sound otherwise."""
    from koinon.privacy.programs import owner_sums, registry
    from koinon.privacy.programs.offer import Parameters, decode_settings

    found, solver = registry.offer(study.algorithm), solver_of(study)
    if found.sums is None or solver == owner_sums.ROWS:
        return []
    if solver not in owner_sums.SOLVERS:
        return [f"a solver is one of {', '.join(owner_sums.SOLVERS)}; got {solver[:80]!r}"]
    if study.engine != _REP4:
        return [f"the engine {study.engine} adds up sums of its own; leave the solver out, or name the engine rep4"]
    if solver == owner_sums.AUTO:
        return ["whether owners share rows or sums is still to be chosen; koinon study propose does"]
    given = decode(Parameters, parameters(study, (least_rows(study),) * len(study.owners)))
    problem = owner_sums.refusal(found, given, decode_settings(found, study.settings))
    return [f"owners cannot share sums here: {problem}"] if problem else []


def ways(study: StudyFile, rows: tuple[int, ...], network: "Network") -> tuple[Way, ...]:
    """Both ways with what they cost.

    Args:
        rows: of each owner, without planted ones.
    """
    from koinon.privacy.engines import engine_named
    from koinon.privacy.programs.offer import Parameters
    from koinon.privacy.programs.owner_sums import ROWS, SUMS
    from koinon.privacy.programs.registry import load

    found = []
    for solver in (ROWS, SUMS):
        one = with_solver(study, solver)
        encoded = parameters(one, tuple(count + study.planted for count in rows))
        try:
            given, engine = decode(Parameters, encoded), engine_named(_REP4)
            made = load(study.algorithm, encoded)
            refusal = engine.refusal(study.algorithm, given)
            found.append(Way(solver, refusal, None if refusal else engine.cost(made, given, network)))
        except InvalidInput as problem:
            found.append(Way(solver, str(problem)))
    return tuple(found)


def fastest(found: tuple[Way, ...]) -> Way:
    """The way that takes the least time; rows where both take the same. Raises Refused where there is none."""
    able = [(way.cost.seconds, number) for number, way in enumerate(found) if way.cost is not None]
    if not able:
        raise Refused(found[0].refusal)
    return found[min(able)[1]]


def settled(study: StudyFile, rows: tuple[int, ...], network: "Network") -> StudyFile:
    """The study as owners may sign it: a solver that was left to be chosen is. Raises Refused where no way is left."""
    from koinon.privacy.programs.owner_sums import AUTO

    if not has_choice(study) or solver_of(study) != AUTO:
        return study
    return with_solver(study, fastest(ways(study, rows, network)).solver)


def reason(found: tuple[Way, ...], taken: str) -> str:
    """Both ways and the one taken, in a sentence."""
    said = [
        f"{way.solver} {way.cost.seconds:.2f} s" if way.cost is not None else f"{way.solver} not ({way.refusal})"
        for way in found
    ]
    return f"owners share {taken}: {', '.join(said)}"
