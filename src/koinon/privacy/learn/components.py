"""Principal components of secret rows.

The leading direction of a covariance C is what is left of C² , C⁴, C⁸ … when each is divided by its trace: after s
squarings another direction is smaller by (λ₂/λ₁)^(2^s). It is taken off and the next one found the same way
(deflation). The number of squarings is public. Bounds: docs/spec/rep4.md, lemmas PCA-*.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import (
    SecretArray,
    bounded,
    concatenate,
    matrix_product,
    maximum,
    product,
    reciprocal,
    refined,
    square_root,
)
from koinon.privacy.learn.choice import one_hot_of_largest
from koinon.privacy.learn.moments import Moments, moments
from koinon.privacy.secret import Claim, Product
from koinon.privacy.statistics import SMALLEST_VARIANCE

_BITS: Final = 26


@dataclass(frozen=True)
class FittedComponents:
    """Attributes:
    components: (k, d) directions of length 1, still secret; the largest entry of each is positive.
    variances: (k,) of the rows along them, falling.
    total: sum of all columns' variances.
    means: (d,) of the rows.
    """

    components: SecretArray
    variances: SecretArray
    total: SecretArray
    means: SecretArray

    def transform(self, rows: SecretArray) -> SecretArray:
        """(n, k) coordinates of (n, d) rows."""
        return (rows - self.means) @ self.components.T

    def explained(self) -> SecretArray:
        """(k,) shares of the total variance."""
        inverse = reciprocal(refined(self.total, _BITS).reshape(1), SMALLEST_VARIANCE)
        return product(self.variances, inverse, Product.ELEMENTWISE, Claim("PART", 1.05))


@dataclass(frozen=True)
class PrincipalComponents:
    """Attributes:
    count: k.
    squarings: 12 tell apart directions whose variances differ by a few thousandths of themselves.
    """

    count: int
    squarings: int = 12

    def fit(self, rows: SecretArray) -> FittedComponents:
        """Fit (n, d) rows in [−1, 1]. Raises InvalidInput for shapes or settings that do not fit."""
        return self.fit_moments(moments(rows))

    def fit_moments(self, known: Moments) -> FittedComponents:
        """Fit the rows that left these moments. Beyond the rows' rank components and variances are 0.

        Raises:
            InvalidInput: more components than columns, or unusable settings.
        """
        width = known.means.size
        if not 1 <= self.count <= width or not 1 <= self.squarings <= 20:
            raise InvalidInput(
                f"{width} columns have 1 to {width} components, found with 1 to 20 squarings; got {self.count},"
                f" {self.squarings}"
            )
        left = refined(known.covariance, _BITS)
        components, variances = [], []
        for _ in range(self.count):
            direction = self._leading(left)
            column = direction.reshape(-1, 1)
            along = matrix_product(left, column, Claim("PCA-RANGE", 1.05 * width))
            length = matrix_product(column.T, along, Claim("PCA-RANGE", 1.05 * width)).reshape(1)
            variance = bounded(maximum(length, 0.0), "PCA-RANGE", 1.05 * width)
            taken = product(column * variance, column.T, Product.ELEMENTWISE, Claim("PCA-RANGE", 1.05))
            left = bounded(left - taken, "PCA-RANGE", 1.05)
            components.append(direction.reshape(1, -1))
            variances.append(variance)
        return FittedComponents(concatenate(components), concatenate(variances), known.variances.sum(), known.means)

    def _leading(self, matrix: SecretArray) -> SecretArray:
        """(d,) direction of length 1 with the largest variance; 0 where all variance is below SMALLEST_VARIANCE."""
        power = _to_trace_one(matrix, SMALLEST_VARIANCE, 1.05 * matrix.shape[0])
        for _ in range(self.squarings):
            square = matrix_product(power, power, Claim("PCA-POWER", 1.05))
            power = _to_trace_one(square, 0.5 / matrix.shape[0], 1.05)
        # The power is v vᵀ; its column with the largest diagonal is v times v's largest entry.
        largest = one_hot_of_largest(_diagonal(power).reshape(1, -1), -2.0)
        column = (power @ largest.T).reshape(-1)
        length = square_root((column * column).sum().reshape(1), 0.25 / matrix.shape[0] ** 2)
        inverse = reciprocal(length, 0.5 / matrix.shape[0])
        return product(column, inverse, Product.ELEMENTWISE, Claim("PCA-POWER", 1.05))


def _diagonal(matrix: SecretArray) -> SecretArray:
    places = np.arange(matrix.shape[0])
    return matrix[places, places]


def _to_trace_one(matrix: SecretArray, lowest: float, highest: float) -> SecretArray:
    trace = bounded(maximum(_diagonal(matrix).sum().reshape(1), 0.0), "PCA-RANGE", highest)
    return product(matrix, reciprocal(trace, lowest), Product.ELEMENTWISE, Claim("PCA-POWER", 1.05))
