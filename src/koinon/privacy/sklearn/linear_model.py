"""Linear models of scikit-learn whose ``fit`` runs on secret rows."""

from typing import Any, Self

import numpy as np
from sklearn import linear_model
from sklearn.utils.validation import check_X_y

from koinon.kernel.errors import InvalidInput
from koinon.privacy import computation
from koinon.privacy.arrays import SecretArray
from koinon.privacy.backend import PlainInput
from koinon.privacy.computation import Revealed, reveal, table
from koinon.privacy.learn import linear, logistic


class LogisticRegression(linear_model.LogisticRegression):  # type: ignore[misc]
    """``sklearn.linear_model.LogisticRegression`` fitted on secret rows, with columns standardised in secret.

    The penalty weighs standardised columns, so that coefficients differ a little from scikit-learn's on others.
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803  # scikit-learn's name
        """Fit rows (n, d) to labels (n,); the labels' names and the coefficients are what becomes known.

        Raises:
            InvalidInput: rows, labels or settings that cannot be used.
        """
        if sample_weight is not None or not self.fit_intercept or self.class_weight is not None:
            raise InvalidInput("a private logistic regression has an intercept and weighs all rows alike")
        features, labels = _table(X, y)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise InvalidInput("labels of one class only leave nothing to be told apart")
        rows = _with_target(features, codes.astype(np.float64), float(len(self.classes_)))
        penalty = 1.0 / self.C
        if len(self.classes_) == 2:

            def fit(x: SecretArray) -> Revealed:
                fitted = logistic.LogisticRegression(penalty).fit(x[:, :-1], x[:, -1] > 0.5 / len(self.classes_))
                return reveal(slopes=fitted.coefficients, offset=fitted.intercept)
        else:

            def fit(x: SecretArray) -> Revealed:
                model = logistic.MultinomialRegression(len(self.classes_), penalty)
                several = model.fit(x[:, :-1], x[:, -1].times(len(self.classes_)))
                return reveal(slopes=several.coefficients.T, offset=several.intercepts)

        found = computation.run(fit, [rows], scaled=True).outputs
        self.coef_, self.intercept_ = _in_units(found["slopes"], found["offset"], rows)
        self.n_features_in_ = features.shape[1]
        return self


class LinearRegression(linear_model.LinearRegression):  # type: ignore[misc]
    """``sklearn.linear_model.LinearRegression`` fitted on secret rows."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803  # scikit-learn's name
        """Fit rows (n, d) to numbers (n,). Raises InvalidInput as the other one does."""
        if sample_weight is not None or not self.fit_intercept or self.positive:
            raise InvalidInput("a private linear regression has an intercept, any signs, and weighs all rows alike")
        features, target = _table(X, y)
        rows = table(np.column_stack([features, target]))

        def fit(x: SecretArray) -> Revealed:
            line = linear.LinearRegression().fit(x[:, :-1], x[:, -1])
            return reveal(slopes=line.coefficients, offset=line.intercept)

        found = computation.run(fit, [rows], scaled=True).outputs
        self.coef_, self.intercept_ = linear.to_units(
            found["slopes"], float(found["offset"]), rows.columns[:-1], rows.columns[-1]
        )
        self.n_features_in_ = features.shape[1]
        return self


def _table(features: Any, target: Any) -> tuple[np.ndarray, np.ndarray]:
    try:
        return check_X_y(features, target, dtype=np.float64)  # type: ignore[no-any-return]
    except ValueError as problem:
        raise InvalidInput(f"rows and targets cannot be used: {problem}") from None


def _with_target(features: np.ndarray, codes: np.ndarray, top: float) -> PlainInput:
    """A table with codes last. Ranges of the features are the next power of two around each column's numbers."""
    measured = table(features)
    ranges = [(column.low, column.high) for column in measured.columns]
    return table(np.column_stack([features, codes]), ranges=[*ranges, (-top, top)])


def _in_units(slopes: np.ndarray, offset: np.ndarray, rows: PlainInput) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients of columns scaled to [−1, 1], for the columns' own units: (classes, d) and (classes,)."""
    low, high = np.array([(column.low, column.high) for column in rows.columns[:-1]]).T
    scaled = np.atleast_2d(slopes) * 2 / (high - low)
    return scaled, np.atleast_1d(offset) - scaled @ ((low + high) / 2)
