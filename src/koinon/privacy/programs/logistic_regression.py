"""``logistic-regression/1``: L2-penalised logistic regression on the joint rows of all owners.

The objective is scikit-learn's: Σ log-loss + ½ λ ‖w‖², λ = 1 / C, on columns standardised by their joint mean and
deviation; the intercept is not penalised. Standardisation, solving and the way back to the units of the input happen
inside; only the coefficients and the intercept are opened.

Solver: Nesterov's accelerated gradient, preconditioned by the inverse V of Böhning's bound H = XᵀX/4 + λI ≥ Hessian,
which is computed once by scaled Newton–Schulz steps. The number of steps is public and fixed, so nothing about the data
shows in the running time. Bounds of every number: docs/spec/rep4.md, lemmas LR-*.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, isfinite, log2, sqrt
from typing import Final

import numpy as np

from koinon.kernel.codec import Record, encode
from koinon.kernel.errors import InvalidInput, Refused
from koinon.privacy.approximations import (
    COARSE_SIGMOID_BITS,
    LARGEST_INVERSE_ROOT,
    coarse_sigmoid,
    inverse_square_root,
)
from koinon.privacy.arrays import SecretArray
from koinon.privacy.backend import Program
from koinon.privacy.computation import Revealed, reveal
from koinon.privacy.differential.accountant import LARGEST_EPSILON
from koinon.privacy.differential.logistic import mechanism, noisy_logistic
from koinon.privacy.inverse import SLACK, inverse, quarters
from koinon.privacy.programs import offer
from koinon.privacy.programs.offer import (
    FRACTION_BITS,
    Layout,
    Offer,
    ResultTable,
    Target,
    check_layout,
    on_owners,
    on_paired_target,
    on_table,
    on_target,
    tables_of_line,
)
from koinon.privacy.programs.planted import judged
from koinon.privacy.programs.preparation import PreparedSettings
from koinon.privacy.secret import (
    HEADROOM_BITS,
    Claim,
    Machine,
    Product,
    Secret,
    joined,
    multiply,
    public,
    together,
    truncate,
)
from koinon.privacy.sharing import FRACTION_BITS_RANGE
from koinon.privacy.valuation.shapley import WORTH
from koinon.privacy.valuation.shapley import plan as coalitions
from koinon.privacy.valuation.worth import worth
from koinon.wire.committee import Column

NAME: Final = "logistic-regression/1"
_MOST_ITERATIONS: Final = 150
"""With more, LR-RADIUS would not cover the error of the sigmoid."""
_PENALTY_RANGE: Final = (1e-3, 1e6)
_LN_2: Final = 0.6931471805599453
_LARGEST_CONDITION: Final = 2.0**13
_MOMENTUM_BITS: Final = 8
_PENALTY_BITS: Final = 16
_MOST_STEP_BITS: Final = 22
_LEAST_BITS: Final = 10


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
    """

    penalty: float = 1.0
    iterations: int = 30
    penalties: tuple[float, ...] = ()
    folds: int = 5


@dataclass(frozen=True, slots=True)
class _Plan:
    """Everything derived from the public parameters.

    Attributes:
        rows, features: n and d.
        penalty: λ.
        scale_bits: s; H is divided by 2^s ≥ its trace, so that its eigenvalues are in (0, 1].
        condition: 2^s / λ' where λ' ≥ λ is what the preconditioner adds to the diagonal.
        inverse_bits: fraction bits while inverting.
        radius: bound on ‖·‖_H of every iterate (LR-RADIUS).
        reach: bound on every coefficient and the intercept on standardised columns.
        step_bits: fraction bits of the step matrix.
        output_bits: fraction bits of the result.
    """

    rows: int
    features: int
    penalty: float
    iterations: int
    fraction_bits: int
    scale_bits: int
    condition: float
    inverse_bits: int
    radius: float
    reach: float
    step_bits: int
    output_bits: int


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
    plan = _plan(rows, features, parameters.penalty, parameters.iterations, parameters.fraction_bits)
    return Program(
        name=NAME,
        shapes=parameters.layout.shapes,
        columns=parameters.columns,
        fraction_bits=parameters.fraction_bits,
        flags=(plan.features,),
        output=(("coefficients", (plan.features,)), ("intercept", (1,))),
        compute=lambda machine, inputs: _compute(machine, inputs, plan, parameters.sources),
        sources=parameters.sources,
    )


def check_settings(penalty: float, iterations: int) -> None:
    """Raises InvalidInput for a penalty or a number of iterations out of its range."""
    low, high = _PENALTY_RANGE
    if not (isfinite(penalty) and low <= penalty <= high):
        raise InvalidInput(f"the penalty must be from {low:g} to {high:g}; got {penalty:g}")
    if not 1 <= iterations <= _MOST_ITERATIONS:
        raise InvalidInput(f"iterations must be from 1 to {_MOST_ITERATIONS}; got {iterations}")


def coefficients_of(table: Secret, penalty: float, iterations: int) -> Generator[None, None, Secret]:
    """Coefficients, then the intercept, (d + 1,), for rows (n, d + 1) whose last column holds only −1 and 1.

    The settings have passed ``check_settings``.

    Raises:
        Refused: numbers beyond [−1, 1], or rows, columns or penalty with which the solver could overflow.
    """
    if table.bound > 1.0:
        raise Refused(f"logistic regression takes columns scaled to [-1, 1]; these may reach {table.bound:.4g}")
    plan = _plan(table.shape[0], table.shape[1] - 1, penalty, iterations, table.fraction_bits)
    slopes, intercept = yield from _compute(table.machine, [table], plan, ())
    return joined([slopes, intercept], 0)


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


def _plan(rows: int, features: int, penalty: float, iterations: int, bits: int) -> _Plan:
    trace = 1.02 * rows * features / 4
    scale_bits = ceil(log2(trace + penalty + 1))
    ridge = max(penalty, 2.0**scale_bits / _LARGEST_CONDITION)
    condition = 2.0**scale_bits / ridge
    radius = SLACK * sqrt(2 * rows * _LN_2) * (iterations + 4) / 2
    reach = max(radius / sqrt(ridge), 2 * radius / sqrt(rows))
    step_bits = HEADROOM_BITS - _residual_bits(bits) - _MOMENTUM_BITS - ceil(log2(2 * reach) + 0.01)
    largest = reach * LARGEST_INVERSE_ROOT * sqrt(features)
    output_bits = HEADROOM_BITS - bits - ceil(log2(largest) + 0.01)
    if min(step_bits, output_bits) < _LEAST_BITS:
        raise Refused(
            f"{NAME} on {rows} rows and {features} columns leaves too few fraction bits;"
            " use fewer rows, iterations or fraction bits, or a larger penalty"
        )
    return _Plan(
        rows=rows,
        features=features,
        penalty=penalty,
        iterations=iterations,
        fraction_bits=bits,
        scale_bits=scale_bits,
        condition=condition,
        inverse_bits=(HEADROOM_BITS - 3 - ceil(log2(2 * SLACK * condition))) // 2,
        radius=radius,
        reach=reach,
        step_bits=min(step_bits, _MOST_STEP_BITS),
        output_bits=min(output_bits, bits),
    )


def _residual_bits(fraction_bits: int) -> int:
    """Of target minus chance: exact, so the finer of the two."""
    return max(fraction_bits + 1, COARSE_SIGMOID_BITS)


def _compute(
    machine: Machine, inputs: Sequence[Secret], plan: _Plan, sources: tuple[tuple[int, ...], ...]
) -> Generator[None, None, tuple[Secret, Secret]]:
    order = np.argsort([number for source in sources for number in source])
    table = joined(inputs, 1)[:, order] if sources else joined(inputs, 0)
    features, target = table[:, : plan.features], table[:, plan.features :]
    mean, scale, standard = yield from _standardised(features, plan)
    bound_inverse = yield from _inverse_of_bound(machine, standard, plan)
    weights = yield from _solved(machine, standard, target, bound_inverse, plan)
    return (yield from _in_input_units(weights, mean, scale, plan))


def _standardised(features: Secret, plan: _Plan) -> Generator[None, None, tuple[Secret, Secret, Secret]]:
    """Mean (d,), inverse deviation (d,), and standardised columns (n, d)."""
    # All the bits there are: what the mean is off moves narrow columns by many of their deviations (LR-RADIUS).
    bits = HEADROOM_BITS - 1 - plan.fraction_bits
    share_of_one = round(2.0**bits / plan.rows)
    mean = yield from truncate(features.sum(0).times(share_of_one).halved(bits), plan.fraction_bits)
    centred = features - mean.reshape(1, plan.features)
    squares = yield from multiply(centred, centred, kind=Product.COLUMN_DOT)
    scale = yield from inverse_square_root(squares.within(Claim("LR-SPREAD", 1.01 * plan.rows)), plan.rows)
    standard = yield from multiply(
        centred,
        scale.reshape(1, plan.features),
        fraction_bits=plan.fraction_bits,
        claim=Claim("LR-STANDARD", 1.1 * sqrt(plan.rows) + 1),
    )
    return mean, scale, standard


def _inverse_of_bound(machine: Machine, standard: Secret, plan: _Plan) -> Generator[None, None, Secret]:
    """V = (XᵀX/4 + λ'I)⁻¹ (d, d), or a little less."""
    bits, factor = plan.inverse_bits, quarters(1 / plan.condition)
    gram = yield from multiply(standard, standard, kind=Product.GRAM, claim=Claim("LR-GRAM", 1.02 * plan.rows + 1))
    shrunk = yield from truncate(gram.times(factor).halved(4 + plan.scale_bits), bits)
    ridge = public(machine, np.eye(plan.features) * (factor / 4 / plan.condition), bits)
    return (yield from inverse(shrunk + ridge, plan.condition)).halved(plan.scale_bits)


def _solved(
    machine: Machine, standard: Secret, target: Secret, bound_inverse: Secret, plan: _Plan
) -> Generator[None, None, Secret]:
    """Coefficients and intercept (d + 1, 1) on standardised columns."""
    bits, features, rows = plan.fraction_bits, plan.features, plan.rows
    design = joined([standard, public(machine, np.ones((rows, 1)), bits).within(Claim("ONE", 1.0))], 1)
    penalty = round(plan.penalty * 2.0**_PENALTY_BITS)
    ridge = plan.condition / 2.0**plan.scale_bits
    towards_rows, towards_zero = yield from together(
        multiply(
            bound_inverse,
            standard.T,
            kind=Product.MATRIX,
            fraction_bits=plan.step_bits,
            claim=Claim("LR-STEP", 2 * SLACK * sqrt(ridge)),
        ),
        truncate(-bound_inverse.times(penalty).halved(_PENALTY_BITS), plan.step_bits),
    )
    steps = joined([towards_rows, towards_zero], 1)
    steps = joined([steps, public(machine, np.zeros((1, rows + features)), plan.step_bits)], 0)
    residual_bits = _residual_bits(bits)
    no_bias = public(machine, np.zeros((features, 1)), residual_bits + plan.step_bits)
    bias_step = int(4 * 2**plan.step_bits / rows)
    current = ahead = public(machine, np.zeros((features + 1, 1)), bits)
    for iteration in range(plan.iterations):
        momentum = round(iteration / (iteration + 3) * 2**_MOMENTUM_BITS)
        logits = yield from multiply(design, ahead, kind=Product.MATRIX, claim=Claim("LR-LOGIT", 2 * plan.radius))
        expected = yield from coarse_sigmoid(logits)
        surplus = target.halved(1) + 0.5 - expected
        residual = joined([surplus, ahead[:features].widened(residual_bits - bits)], 0)
        bias = surplus.sum(0).reshape(1, 1).times(bias_step).halved(plan.step_bits)
        plain = joined([no_bias, bias], 0)
        factor = (1 << _MOMENTUM_BITS) + momentum
        drift = (ahead - current).times(momentum).halved(_MOMENTUM_BITS)
        far = plain.times(factor).halved(_MOMENTUM_BITS) + drift
        claim = Claim("LR-RADIUS", 2 * plan.reach)
        near_step, far_step = yield from together(
            multiply(steps, residual, kind=Product.MATRIX, fraction_bits=bits, plus=plain, claim=claim),
            multiply(
                steps.times(factor).halved(_MOMENTUM_BITS),
                residual,
                kind=Product.MATRIX,
                fraction_bits=bits,
                plus=far,
                claim=claim,
            ),
        )
        inside = Claim("LR-RADIUS", plan.reach)
        current, ahead = (ahead + near_step).within(inside), (ahead + far_step).within(inside)
    return current


def _in_input_units(
    weights: Secret, mean: Secret, scale: Secret, plan: _Plan
) -> Generator[None, None, tuple[Secret, Secret]]:
    """Coefficients (d,) and intercept (1,) for columns in [−1, 1]."""
    spare = ceil(log2(plan.reach * LARGEST_INVERSE_ROOT) + 0.01) + plan.fraction_bits
    scale_bits = min(scale.fraction_bits, HEADROOM_BITS - spare)
    coarse = yield from truncate(scale, scale_bits)
    slopes = weights[: plan.features].reshape(plan.features)
    coefficients = yield from multiply(slopes, coarse, fraction_bits=plan.output_bits)
    largest = plan.reach * LARGEST_INVERSE_ROOT * sqrt(plan.features)
    shift = yield from multiply(
        coefficients.reshape(plan.features, 1),
        mean.reshape(plan.features, 1),
        kind=Product.COLUMN_DOT,
        fraction_bits=plan.output_bits,
        claim=Claim("LR-OUTPUT", largest),
    )
    bias = yield from truncate(weights[plan.features], plan.output_bits)
    return coefficients, bias.reshape(1) - shift


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
    plan = _plan(layout.people, len(layout.columns) - 1, settings.penalty, settings.iterations, layout.fraction_bits)

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
)
