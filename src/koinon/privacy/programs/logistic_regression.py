"""``logistic-regression/1``: L2-penalised logistic regression on the joint rows of all owners.

The objective is scikit-learn's: Σ log-loss + ½ λ ‖w‖², λ = 1 / C, on columns standardised by their joint mean and
deviation; the intercept is not penalised. Standardisation, solving and the way back to the units of the input happen
inside; only the coefficients and the intercept are opened.

Solved by ``learn.logistic_solver``.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from koinon.kernel.codec import Record, encode
from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray
from koinon.privacy.backend import Program
from koinon.privacy.computation import Revealed, reveal
from koinon.privacy.differential.accountant import LARGEST_EPSILON
from koinon.privacy.differential.logistic import mechanism, noisy_logistic
from koinon.privacy.learn import aggregated
from koinon.privacy.learn.aggregated import ENOUGH_ROWS
from koinon.privacy.learn.logistic_solver import check_settings, plan_of, solve
from koinon.privacy.programs import offer
from koinon.privacy.programs.offer import (
    FRACTION_BITS,
    Layout,
    Offer,
    OwnerSums,
    ResultTable,
    Target,
    check_layout,
    on_owners,
    on_paired_target,
    on_table,
    on_target,
    tables_of_line,
)
from koinon.privacy.programs.owner_sums import ROWS
from koinon.privacy.programs.planted import judged
from koinon.privacy.programs.preparation import PreparedSettings
from koinon.privacy.secret import (
    Claim,
    Machine,
    Product,
    Secret,
    joined,
    multiply,
    public,
    together,
)
from koinon.privacy.sharing import FRACTION_BITS_RANGE
from koinon.privacy.valuation.shapley import WORTH
from koinon.privacy.valuation.shapley import plan as coalitions
from koinon.privacy.valuation.worth import worth
from koinon.wire.committee import Column

NAME: Final = "logistic-regression/1"


class Parameters(Record, frozen=True):
    """Public parameters.

    Attributes:
        rows: of each owner, in party order.
        columns: the features, and last the target with range 0 to 1, whose values are 0 or 1.
        sources: numbers of the columns each owner brings, where owners hold different columns of the same people.
        penalty: λ = 1 / C of scikit-learn.
        iterations: accelerated steps; 30 come within 0.01 of scikit-learn's log-loss on 390 × 30 rows, 40 within 0.002.
        fraction_bits: of the inputs and of the solver.
        epsilon: 0 for the exact solution. Above 0, the model is learnt with noise (``differential.logistic``), which
            has its own number of steps and no penalty.
    """

    rows: tuple[int, ...]
    columns: tuple[Column, ...]
    penalty: float = 1.0
    iterations: int = 30
    fraction_bits: int = FRACTION_BITS
    epsilon: float = 0.0
    sources: tuple[tuple[int, ...], ...] = ()

    @property
    def layout(self) -> Layout:
        """The same rows and columns as every program has them."""
        return Layout(self.rows, self.columns, self.columns[-1].name, self.sources, self.fraction_bits)


class Settings(PreparedSettings, frozen=True):
    """Attributes:
    penalty: λ = 1 / C of scikit-learn.
    iterations: accelerated steps.
    penalties: several to choose from instead, by cross-validation inside the computation; nobody learns which it was.
    folds: parts of the rows for that.
    solver: whether owners share "rows", or "sums" of their own rows (``owner_sums``).
    """

    penalty: float = 1.0
    iterations: int = 30
    penalties: tuple[float, ...] = ()
    folds: int = 5
    solver: str = ROWS


def program(parameters: Parameters) -> Program:
    """The program for these parameters.

    Raises:
        InvalidInput: parameters out of their ranges.
        Refused: rows, columns or penalty with which the solver could overflow or lose all precision.
    """
    _check(parameters)
    if parameters.epsilon:
        return _noisy(parameters)
    rows, features = parameters.layout.people, len(parameters.columns) - 1
    plan = plan_of(rows, features, parameters.penalty, parameters.iterations, parameters.fraction_bits)
    return Program(
        name=NAME,
        shapes=parameters.layout.shapes,
        columns=parameters.columns,
        fraction_bits=parameters.fraction_bits,
        flags=(plan.features,),
        output=(("coefficients", (plan.features,)), ("intercept", (1,))),
        compute=lambda machine, inputs: solve(machine, inputs, plan, parameters.sources),
        sources=parameters.sources,
    )


def in_study(parameters: Parameters) -> bytes:
    """The same parameters as a study encodes them, with both outputs opened."""
    settings = Settings(penalty=parameters.penalty, iterations=parameters.iterations)
    return encode(
        offer.Parameters(parameters.layout, encode(settings), ("coefficients", "intercept"), parameters.epsilon)
    )


def to_raw_units(coefficients: np.ndarray, intercept: float, columns: Sequence[Column]) -> tuple[np.ndarray, float]:
    """The same model for numbers in the columns' own units instead of [−1, 1].

    Args:
        coefficients: shape (d,), as opened.
        columns: the d features' columns, without the target.
    """
    low = np.array([column.low for column in columns])
    high = np.array([column.high for column in columns])
    raw = coefficients / ((high - low) / 2)
    return raw, float(intercept - raw @ ((low + high) / 2))


def _check(parameters: Parameters) -> None:
    if len(parameters.columns) < 2:
        raise InvalidInput(f"{NAME} needs a feature and the target; {len(parameters.columns)} columns are declared")
    check_layout(parameters.layout)
    if parameters.layout.people < 2:
        raise InvalidInput(f"{NAME} needs at least 2 rows together")
    target = parameters.columns[-1]
    if (target.low, target.high) != (0.0, 1.0):
        raise InvalidInput(f"the target {target.name!r} is the last column and must have the range 0 to 1")
    check_settings(parameters.penalty, parameters.iterations)
    if not 0.0 <= parameters.epsilon <= LARGEST_EPSILON:
        raise InvalidInput(f"ε must be from 0 (exact) to {LARGEST_EPSILON:g}; got {parameters.epsilon:g}")
    if parameters.fraction_bits < FRACTION_BITS_RANGE.start + 8:
        raise InvalidInput(f"{NAME} needs at least {FRACTION_BITS_RANGE.start + 8} fraction bits")


def _noisy(parameters: Parameters) -> Program:
    return on_table(
        NAME,
        parameters.layout,
        ("coefficients", "intercept"),
        lambda rows: noisy_logistic((rows,), parameters.epsilon),
        (len(parameters.columns) - 1,),
    )


def _offered(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Program:
    return _noisily(layout, settings, outputs, 0.0)


def _noisily(layout: Layout, settings: Settings, outputs: tuple[str, ...], epsilon: float) -> Program:
    if layout.target != layout.columns[-1].name:
        raise InvalidInput(f"{NAME} takes the target as the last column")
    if layout.planted:
        return _judged(layout, settings, outputs)
    if WORTH not in outputs:
        return _model(layout, settings, outputs, epsilon)
    if epsilon:
        raise InvalidInput(f"the output {WORTH!r} carries no noise; set epsilon to 0 (exact) or do not open it")
    if layout.sources:
        raise InvalidInput("rows have a worth where each owner brings rows of its own, not columns of the same people")
    flags = (len(layout.columns) - 1,)
    valued = on_owners(
        NAME, layout, lambda *tables: reveal(**{WORTH: worth(tables, coalitions(len(tables)))[0]}), flags
    )
    if set(outputs) == {WORTH}:
        return valued
    model = _model(layout, settings, outputs, epsilon)

    def compute(machine: Machine, inputs: Sequence[Secret]) -> Generator[None, None, list[Secret]]:
        results, values = yield from together(model.compute(machine, inputs), valued.compute(machine, inputs))
        return [*results, *values]

    return replace(model, output=(*model.output, *valued.output), compute=compute)


def _judged(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Program:
    """The model, held back where it gives back the labels of planted rows."""
    if set(outputs) != {"coefficients", "intercept"}:
        raise InvalidInput(f"with planted rows, {NAME} opens coefficients and intercept, and nothing else")
    plan = plan_of(layout.people, len(layout.columns) - 1, settings.penalty, settings.iterations, layout.fraction_bits)

    def answers(rows: Secret, results: Sequence[Secret]) -> Generator[None, None, Secret]:
        ones = public(rows.machine, np.ones((rows.shape[0], 1)), rows.fraction_bits).within(Claim("ONE", 1.0))
        weights = joined(results, 0).reshape(plan.features + 1, 1)
        # LR-LOGIT: planted rows are rows of the table; a tenth more for the roundings on the way to input units.
        claim = Claim("LR-LOGIT", 2.2 * plan.radius)
        design = joined([rows, ones], 1)
        bits = min(layout.fraction_bits, weights.fraction_bits)
        return (yield from multiply(design, weights, kind=Product.MATRIX, fraction_bits=bits, claim=claim))

    return judged(_model(layout, settings, ("coefficients", "intercept"), 0.0), layout, answers)


def _chosen(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Program:
    """The model with the penalty whose log-loss is least on rows it was not fitted to."""
    from koinon.privacy.learn.logistic import LogisticRegression
    from koinon.privacy.learn.selection import check_penalties, chosen

    check_penalties(NAME, settings.penalties, settings.folds, layout.people)
    for penalty in settings.penalties:
        check_settings(penalty, settings.iterations)

    def compute(rows: SecretArray, target: SecretArray) -> Revealed:
        fits = [LogisticRegression(one, settings.iterations).fit for one in settings.penalties]
        model = chosen(fits, lambda fitted, x, y: -fitted.log_loss(x, y), rows, target > 0.0, settings.folds)
        made = {"coefficients": model.coefficients, "intercept": model.intercept.reshape(1)}
        return reveal(**{name: made[name] for name in outputs})

    return on_target(NAME, layout, outputs, compute, Target.BINARY)


def _model(layout: Layout, settings: Settings, outputs: tuple[str, ...], epsilon: float) -> Program:
    outputs = tuple(name for name in outputs if name != WORTH)
    if settings.penalties and epsilon:
        raise InvalidInput(f"{NAME}: noise covers one fit; give one penalty, or set epsilon to 0 (exact)")
    if settings.penalties:
        return _chosen(layout, settings, outputs)
    whole = program(
        Parameters(
            layout.rows,
            layout.columns,
            settings.penalty,
            settings.iterations,
            layout.fraction_bits,
            epsilon,
            layout.sources,
        )
    )
    opened = [place for place, (name, _) in enumerate(whole.output) if name in outputs]

    def compute(machine: Machine, inputs: Sequence[Secret]) -> Generator[None, None, list[Secret]]:
        results = yield from whole.compute(machine, inputs)
        return [results[place] for place in opened]

    return replace(whole, output=tuple(whole.output[place] for place in opened), compute=compute)


def _paired(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Program:
    """As the exact program, of the people whom an oblivious join finds with all owners.

    Two classes of the multinomial model, whose weights are each other's negative: half of the difference w for each, so
    that λ ‖w‖² / 2 is its penalty for 2 λ.
    """
    from koinon.privacy.learn.logistic import Counted, MultinomialRegression

    if settings.penalties or WORTH in outputs:
        raise InvalidInput(f"{NAME} takes one penalty on an oblivious join, and opens coefficients and intercept only")
    if layout.target != layout.columns[-1].name:
        raise InvalidInput(f"{NAME} takes the target as the last column")
    check_settings(settings.penalty, settings.iterations)

    def compute(rows: SecretArray, target: SecretArray, both: SecretArray) -> Revealed:
        solver = MultinomialRegression(2, 2.0 * settings.penalty, settings.iterations)
        model = solver.fit(rows, target > 0.0, Counted(both, layout.pairs))
        made = {
            "coefficients": lambda: model.coefficients[:, 1] - model.coefficients[:, 0],
            "intercept": lambda: (model.intercepts[1] - model.intercepts[0]).reshape(1),
        }
        return reveal(**{name: made[name]() for name in outputs})

    return on_paired_target(NAME, layout, outputs, compute)


def _without_sums(_: Layout, settings: Settings, outputs: tuple[str, ...]) -> str:
    if settings.penalties:
        return "choosing among penalties takes the rows of every fold apart; name one"
    if WORTH in outputs:
        return f"the output {WORTH!r} takes the rows of every owner apart; do not open it"
    return ""


def _sums_length(layout: Layout, _: Settings) -> int:
    if layout.target != layout.columns[-1].name or len(layout.columns) < 2:
        raise InvalidInput(f"{NAME} takes the target as the last column, after a feature")
    if len(layout.features) > aggregated.MOST_COLUMNS:
        raise InvalidInput(
            f"{NAME}: owners add up products of pairs of at most {aggregated.MOST_COLUMNS} columns; share rows"
        )
    return aggregated.sums_length(len(layout.features))


def _local(rows: np.ndarray, layout: Layout, settings: Settings) -> np.ndarray:
    answers = (rows[:, -1] + 1.0) / 2.0
    shared = aggregated.local_curvature(rows[:, :-1], answers, len(layout.rows), settings.penalty)
    return np.asarray(shared.values[0])


def _joint(sums: Sequence[SecretArray], layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Revealed:
    check_settings(settings.penalty, settings.iterations)
    model = aggregated.joint_model(sums, layout.rows, settings.penalty)
    made = {"coefficients": model.coefficients, "intercept": model.intercept.reshape(1)}
    return reveal(**{name: made[name] for name in outputs})


def _present(outputs: Mapping[str, np.ndarray], layout: Layout, _: Settings) -> tuple[ResultTable, ...]:
    """In the units of the columns where both parts were opened; else as opened, for columns in [−1, 1]."""
    features = layout.columns[:-1]
    found = dict(outputs)
    values = found.pop(WORTH, None)
    if len(found) == 2:
        slopes, bias = to_raw_units(found["coefficients"], float(found["intercept"][0]), features)
        found = {"coefficients": slopes, "intercept": np.array([bias])}
    tables = [*tables_of_line(found, features, "log-odds")]
    if values is not None:
        owners = tuple(f"owner {number + 1}" for number in range(len(values)))
        tables.append(ResultTable(WORTH, owners, ("value",), values.reshape(-1, 1)))
    return tuple(tables)


OFFER: Final = Offer(
    name=NAME,
    summary="logistic regression with L2 penalty; makes a model",
    target=Target.BINARY,
    outputs=("coefficients", "intercept", WORTH),
    settings=Settings,
    build=_offered,
    noisy=_noisily,
    cost=lambda _, epsilon: mechanism(epsilon),
    judges_planted=True,
    present=_present,
    paired=_paired,
    sums=OwnerSums(
        length=_sums_length,
        least=lambda layout: ENOUGH_ROWS * len(layout.columns),
        refusal=_without_sums,
        local=_local,
        joint=_joint,
    ),
)
