"""k nearest neighbours among secret rows (E. Fix, J. Hodges, "Discriminatory analysis", 1951)."""

from dataclasses import dataclass

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray, matrix_product, scaled_columns
from koinon.privacy.learn.scores import accuracy, determination
from koinon.privacy.ordering import index_of_largest, index_of_smallest, one_hot


@dataclass(frozen=True)
class FittedNeighbours:
    """Attributes:
    rows: (n, d), still secret.
    answers: (n, c) bits of classes, or (n, 1) numbers.
    count: k.
    """

    rows: SecretArray
    answers: SecretArray
    count: int

    def averages(self, asked: SecretArray) -> SecretArray:
        """(m, c) mean answers of the k rows nearest to each of (m, d); of equally near ones, the first."""
        if asked.ndim != 2 or asked.shape[1] != self.rows.shape[1]:
            raise InvalidInput(f"neighbours in {self.rows.shape[1]} columns are not those of rows {asked.shape}")
        asked = scaled_columns(asked)
        people, width = self.rows.shape
        distances = (self.rows * self.rows).sum(1) - (asked @ self.rows.T).times(2)
        total = None
        for _ in range(self.count):
            nearest = one_hot(index_of_smallest(distances), people)
            found = matrix_product(nearest, self.answers)
            total = found if total is None else total + found
            # Farther than any row in [−1, 1] can be.
            distances = distances + nearest.times(8 * width)
        assert total is not None
        return total.times(1.0 / self.count)


@dataclass(frozen=True)
class FittedClassNeighbours(FittedNeighbours):
    """Neighbours that vote for classes."""

    def predict(self, asked: SecretArray) -> SecretArray:
        """(m,) codes of the classes with most votes; the lowest of equal ones."""
        return index_of_largest(self.averages(asked))

    def score(self, asked: SecretArray, target: SecretArray) -> SecretArray:
        """Share of rows whose class is right."""
        return accuracy(self.predict(asked), target)


@dataclass(frozen=True)
class FittedNumberNeighbours(FittedNeighbours):
    """Neighbours whose numbers are averaged."""

    def predict(self, asked: SecretArray) -> SecretArray:
        """(m,) means."""
        return self.averages(asked)[:, 0]

    def score(self, asked: SecretArray, target: SecretArray) -> SecretArray:
        """R² of the rows; see ``determination``."""
        return determination(self.predict(asked), target)


@dataclass(frozen=True)
class NeighboursClassifier:
    """Attributes:
    classes: codes 0 … classes − 1.
    count: k.
    """

    classes: int
    count: int = 5

    def fit(self, rows: SecretArray, target: SecretArray) -> FittedClassNeighbours:
        """Keep (n, d) rows in [−1, 1] and (n,) codes. Raises InvalidInput for shapes or settings that do not fit."""
        _checked(rows, target, self.count)
        if not 2 <= self.classes <= 100:
            raise InvalidInput(f"there are 2 to 100 classes; got {self.classes}")
        return FittedClassNeighbours(scaled_columns(rows), one_hot(target, self.classes), self.count)


@dataclass(frozen=True)
class NeighboursRegressor:
    """Attributes:
    count: k.
    """

    count: int = 5

    def fit(self, rows: SecretArray, target: SecretArray) -> FittedNumberNeighbours:
        """Keep (n, d) rows in [−1, 1] and (n,) numbers. Raises InvalidInput for shapes or settings that do not fit."""
        _checked(rows, target, self.count)
        return FittedNumberNeighbours(scaled_columns(rows), target.reshape(-1, 1), self.count)


def _checked(rows: SecretArray, target: SecretArray, count: int) -> None:
    if rows.ndim != 2 or target.shape != rows.shape[:1]:
        raise InvalidInput(f"rows (n, d) and a target (n,) belong together; got {rows.shape} and {target.shape}")
    if not 1 <= count <= rows.shape[0]:
        raise InvalidInput(f"{rows.shape[0]} rows have 1 to {rows.shape[0]} neighbours; got {count}")
