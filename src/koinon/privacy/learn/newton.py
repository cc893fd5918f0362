"""Newton's method on secret sums: a convex objective's gradient and curvature go in, a bounded step comes out.

The curvature is divided by its own trace, so that what is inverted has the trace 1 whatever the data; a public ridge of
2⁻¹² of it keeps the inverse representable. The gradient is the true one, so the ridge slows steps in directions with
little curvature and moves no minimum. Every component of a step is cut at ±2, far steps of the first iterations too
long for the quadratic model. Bounds: docs/spec/rep4.md, lemmas NEWTON-*.
"""

from typing import Final

import numpy as np

from koinon.privacy.arrays import SecretArray, clip, matrix_product, product, reciprocal, refined
from koinon.privacy.learn.linear import inverse_of
from koinon.privacy.secret import Claim, Product

LONGEST_STEP: Final = 2.0
_LEAST_TRACE: Final = 2.0**-10
_RIDGE: Final = 2.0**-12
_STEEPEST: Final = 16.0
_BITS: Final = 24
_INVERSE_BITS: Final = 18


def newton_step(gradient: SecretArray, curvature: SecretArray) -> SecretArray:
    """−(curvature + ridge)⁻¹ gradient, cut at ±LONGEST_STEP; (p,).

    Args:
        gradient: (p,).
        curvature: (p, p) symmetric, not negative; below a trace of 2⁻¹¹ the step is 0.
    """
    width = gradient.size
    trace = curvature[np.arange(width), np.arange(width)].sum()
    inverse_trace = refined(reciprocal(trace.reshape(1), _LEAST_TRACE), _BITS)
    shape = product(curvature, inverse_trace, Product.ELEMENTWISE, Claim("NEWTON-SHAPE", 1.02), _BITS)
    slope = clip(gradient * inverse_trace, -_STEEPEST, _STEEPEST)
    inverse = inverse_of(shape + np.eye(width) * _RIDGE, 1.02 + _RIDGE, _RIDGE)
    step = matrix_product(refined(inverse, _INVERSE_BITS), refined(slope, _INVERSE_BITS))
    return clip(-step, -LONGEST_STEP, LONGEST_STEP)
