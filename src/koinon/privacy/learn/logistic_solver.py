"""The solver of ``logistic-regression/1`` and of the estimator of that name, on shares of the whole table.

Nesterov's accelerated gradient, preconditioned by the inverse V of Böhning's bound H = XᵀX/4 + λI ≥ Hessian, which is
computed once by scaled Newton–Schulz steps. The number of steps is public and fixed, so nothing about the data shows in
the running time. Bounds of every number: docs/spec/rep4.md, lemmas LR-*.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from math import ceil, isfinite, log2, sqrt
from typing import Final

import numpy as np

from koinon.kernel.errors import InvalidInput, Refused
from koinon.privacy.approximations import (
    COARSE_SIGMOID_BITS,
    LARGEST_INVERSE_ROOT,
    coarse_sigmoid,
    inverse_square_root,
)
from koinon.privacy.inverse import SLACK, inverse, quarters
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

_MOST_ITERATIONS: Final = 150
"""With more, LR-RADIUS would not cover the error of the sigmoid."""
_PENALTY_RANGE: Final = (1e-3, 1e6)
_LN_2: Final = 0.6931471805599453
_LARGEST_CONDITION: Final = 2.0**13
_MOMENTUM_BITS: Final = 8
_PENALTY_BITS: Final = 16
_MOST_STEP_BITS: Final = 22
_LEAST_BITS: Final = 10


@dataclass(frozen=True, slots=True)
class Plan:
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
    plan = plan_of(table.shape[0], table.shape[1] - 1, penalty, iterations, table.fraction_bits)
    slopes, intercept = yield from solve(table.machine, [table], plan, ())
    return joined([slopes, intercept], 0)


def plan_of(rows: int, features: int, penalty: float, iterations: int, bits: int) -> Plan:
    """What follows from public numbers; ``bits`` are fraction bits of the rows.

    Raises:
        Refused: too few of them would be left, or a number could overflow.
    """
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
            f"logistic regression on {rows} rows and {features} columns leaves too few fraction bits;"
            " use fewer rows, iterations or fraction bits, or a larger penalty"
        )
    return Plan(
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


def solve(
    machine: Machine, inputs: Sequence[Secret], plan: Plan, sources: tuple[tuple[int, ...], ...]
) -> Generator[None, None, tuple[Secret, Secret]]:
    """Coefficients (d,) and intercept (1,) for columns in [−1, 1], of the owners' tables with the target last.

    Args:
        sources: numbers of the columns that each table holds; empty where every table holds all of them.
    """
    order = np.argsort([number for source in sources for number in source])
    table = joined(inputs, 1)[:, order] if sources else joined(inputs, 0)
    features, target = table[:, : plan.features], table[:, plan.features :]
    mean, scale, standard = yield from _standardised(features, plan)
    bound_inverse = yield from _inverse_of_bound(machine, standard, plan)
    weights = yield from _solved(machine, standard, target, bound_inverse, plan)
    return (yield from _in_input_units(weights, mean, scale, plan))


def _standardised(features: Secret, plan: Plan) -> Generator[None, None, tuple[Secret, Secret, Secret]]:
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


def _inverse_of_bound(machine: Machine, standard: Secret, plan: Plan) -> Generator[None, None, Secret]:
    """V = (XᵀX/4 + λ'I)⁻¹ (d, d), or a little less."""
    bits, factor = plan.inverse_bits, quarters(1 / plan.condition)
    gram = yield from multiply(standard, standard, kind=Product.GRAM, claim=Claim("LR-GRAM", 1.02 * plan.rows + 1))
    shrunk = yield from truncate(gram.times(factor).halved(4 + plan.scale_bits), bits)
    ridge = public(machine, np.eye(plan.features) * (factor / 4 / plan.condition), bits)
    return (yield from inverse(shrunk + ridge, plan.condition)).halved(plan.scale_bits)


def _solved(
    machine: Machine, standard: Secret, target: Secret, bound_inverse: Secret, plan: Plan
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
    weights: Secret, mean: Secret, scale: Secret, plan: Plan
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
