"""How likely chance alone gives a test statistic as large: p-values, of opened statistics, by whoever reads a result.

Nothing here is secret and nothing more is opened for it. All are two-sided but χ²'s. A statistic without a degree of
freedom says nothing, and its p-value is 1.
"""

import numpy as np


def of_student(statistics: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """P(|T| ≥ |t|) for Student's t with these degrees of freedom, elementwise (through the incomplete beta function).

    Args:
        freedom: not negative, whole or not; where it is 0, the answer is 1.
    """
    from scipy.special import stdtr

    known = freedom > 0
    return np.where(known, 2.0 * stdtr(np.where(known, freedom, 1.0), -np.abs(statistics)), 1.0)


def of_chi_square(statistics: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """P(X ≥ x) for χ² with these degrees of freedom, elementwise (through the incomplete gamma function)."""
    from scipy.special import chdtrc

    known = freedom > 0
    return np.where(known, chdtrc(np.where(known, freedom, 1.0), np.maximum(statistics, 0.0)), 1.0)


def of_normal(statistics: np.ndarray) -> np.ndarray:
    """P(|Z| ≥ |z|) for a standard normal Z, elementwise."""
    from scipy.special import ndtr

    return np.asarray(2.0 * ndtr(-np.abs(statistics)))


def of_correlation(coefficients: np.ndarray, people: int) -> np.ndarray:
    """That of Pearson's r, elementwise: t = r √((n − 2) / (1 − r²)) with n − 2 degrees of freedom.

    Args:
        coefficients: in [−1, 1] but for roundings.
        people: n, from 1 on.
    """
    r = np.clip(coefficients, -1.0, 1.0)
    freedom = max(people - 2, 0)
    # A coefficient of ±1 has a t beyond any number that it is compared with.
    t = np.abs(r) * np.sqrt(freedom / np.maximum(1.0 - r * r, 1e-300))
    return of_student(t, np.full(r.shape, float(freedom)))
