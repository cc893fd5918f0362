"""k-means on secret rows (Lloyd's algorithm; S. Lloyd, "Least squares quantization in PCM", 1982)."""

from dataclasses import dataclass

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray, bounded, clip, matrix_product, scaled_columns, where
from koinon.privacy.learn.choice import one_hot_of_largest
from koinon.privacy.ordering import index_of_smallest, smallest
from koinon.privacy.statistics import deviation, part_of


@dataclass(frozen=True)
class FittedClusters:
    """Attributes: centres (k, d), still secret."""

    centres: SecretArray

    def predict(self, rows: SecretArray) -> SecretArray:
        """The nearest centre of each of (n, d) rows, as secret whole numbers."""
        return index_of_smallest(_distances(rows, self.centres))

    def score(self, rows: SecretArray) -> SecretArray:
        """Minus the sum of squared distances to the nearest centres, as scikit-learn has it."""
        return -(smallest(_distances(rows, self.centres)).sum() + (rows * rows).sum())


@dataclass(frozen=True)
class KMeans:
    """Attributes:
    clusters: k, from 2 on.
    iterations: public and fixed, so that time tells nothing.
    seed: of the rows that the centres start from; which rows is public, what they hold is not.
    """

    clusters: int
    iterations: int = 10
    seed: int = 0

    def fit(self, rows: SecretArray, counted: SecretArray | None = None) -> FittedClusters:
        """Fit (n, d) rows in [−1, 1]. A cluster that loses all its rows keeps its centre.

        Args:
            counted: (n,) bits of the places that hold somebody, all others having the mean of these; all of them where
                it is None. Centres then start from publicly drawn numbers of deviations beside the mean.

        Raises:
            InvalidInput: fewer rows than clusters, or unusable settings.
        """
        if rows.ndim != 2 or not 2 <= self.clusters <= rows.shape[0] or not 1 <= self.iterations <= 1_000:
            raise InvalidInput(
                f"rows of shape {rows.shape} cannot make {self.clusters} clusters in {self.iterations} iterations"
            )
        rows = scaled_columns(rows)
        random = np.random.default_rng(self.seed)
        if counted is None:
            centres = rows[np.sort(random.choice(rows.shape[0], self.clusters, replace=False))]
        else:
            apart = random.standard_normal((self.clusters, rows.shape[1])).clip(-2.0, 2.0)
            spread = deviation(rows).reshape(1, -1).broadcast_to(*apart.shape)
            centres = clip(spread.times(apart) + rows.mean(0), -1.0, 1.0)
        for _ in range(self.iterations):
            # With columns in [−1, 1] no distance less the row's square is above 3 d.
            nearest = one_hot_of_largest(-_distances(rows, centres), -4.0 * rows.shape[1])
            if counted is not None:
                nearest = bounded(nearest * counted.reshape(-1, 1), "BIT", 1.0)
            counts = nearest.sum(0)
            # PART: a sum over some rows of numbers in [−1, 1], divided by their count, is in [−1, 1].
            means = part_of(matrix_product(nearest.T, rows), counts.reshape(-1, 1), rows.shape[0])
            centres = where((counts < 0.5).reshape(-1, 1), centres, means)
        return FittedClusters(centres)


def _distances(rows: SecretArray, centres: SecretArray) -> SecretArray:
    """(n, k) squared distances, less the square of the row, which is the same for all centres."""
    return (centres * centres).sum(1) - (rows @ centres.T).times(2)
