"""Decision tree, random forest and gradient-boosted trees on secret rows, for classes and for numbers.

Rows are scaled to [−1, 1]. Candidates for splits are the quantiles of a publicly drawn sample of the rows, themselves
secret; depth, number of trees, bootstrap draws and the columns a node may look at are public and do not depend on data.
Boosting takes Newton steps on the log-loss (T. Chen, C. Guestrin, "XGBoost", 2016) or plain ones on the squared error
(J. Friedman, "Greedy function approximation", 2001).
"""

from dataclasses import dataclass
from math import sqrt
from typing import Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy import statistics
from koinon.privacy.arrays import SecretArray, bounded, clip, logarithm, reciprocal, sigmoid
from koinon.privacy.learn.growing import Bins, Grown, Targets, Trees, grow, quantile_bins
from koinon.privacy.learn.scores import accuracy, determination
from koinon.privacy.ordering import index_of_largest, one_hot

SMALLEST_CURVATURE: Final = 2.0**-6
"""A row's second derivative of the log-loss counts as at least this, so that no step is longer than 65."""
LARGEST_CURVATURE: Final = 0.26
MOST_TREES: Final = 1_000
_NEWTON_REACH: Final = 65.0
_RESIDUAL_REACH: Final = 4.0
_RAREST: Final = 2.0**-12
_PART: Final = 0.632
"""Of the rows, what drawing as many as there are with replacement leaves different ones."""


@dataclass(frozen=True)
class Shape:
    """What all trees share.

    Attributes:
        depth: of every tree, public.
        bins: candidates a column has, plus one.
        smallest: rows, or weight for boosted classes, that each side of a split has at least.
        sample: rows whose secret quantiles the candidates are.
        seed: of the public draws.
    """

    depth: int = 4
    bins: int = 16
    smallest: float = 1.0
    sample: int = 256
    seed: int = 0

    def binned(self, rows: SecretArray) -> Bins:
        """Rows compared with the candidates. Raises InvalidInput for unusable settings or rows."""
        return quantile_bins(rows, self.bins, self.sample, self.seed)


@dataclass(frozen=True)
class FittedClasses:
    """Trees whose leaves hold shares of classes.

    Attributes:
        trees: of one class (the share of class 1) or of as many as there are.
    """

    trees: Trees

    def predict_proba(self, rows: SecretArray) -> SecretArray:
        """(n,) share of class 1, or (n, c) shares of the classes, averaged over the trees."""
        shares = _averaged(self.trees, rows)
        return shares[:, 0] if shares.shape[1] == 1 else shares

    def predict(self, rows: SecretArray) -> SecretArray:
        """(n,) codes of the most likely classes."""
        shares = _averaged(self.trees, rows)
        return shares[:, 0] > 0.5 if shares.shape[1] == 1 else index_of_largest(shares)

    def score(self, rows: SecretArray, target: SecretArray) -> SecretArray:
        """Share of rows whose class is right."""
        return accuracy(self.predict(rows), target)


@dataclass(frozen=True)
class FittedNumbers:
    """Trees whose leaves hold means of numbers."""

    trees: Trees

    def predict(self, rows: SecretArray) -> SecretArray:
        """(n,) means, averaged over the trees."""
        return _averaged(self.trees, rows)[:, 0]

    def score(self, rows: SecretArray, target: SecretArray) -> SecretArray:
        """R² of the rows; see ``determination``."""
        return determination(self.predict(rows), target)


@dataclass(frozen=True)
class TreeClassifier:
    """One tree.

    Attributes:
        classes: codes 0 … classes − 1.
        shape: see ``Shape``.
    """

    classes: int = 2
    shape: Shape = Shape()

    def fit(self, rows: SecretArray, target: SecretArray, counted: SecretArray | None = None) -> FittedClasses:
        """Fit (n, d) rows in [−1, 1] to (n,) codes.

        Args:
            counted: (n,) bits of the rows that count; all of them where it is None.

        Raises:
            InvalidInput: shapes or settings that do not fit.
        """
        members = _members(rows, target, self.classes)
        targets = _targets(np.ones((1, rows.shape[0])), members.T.reshape(1, -1, rows.shape[0]), counted)
        return FittedClasses(grow(self.shape.binned(rows), targets, self.shape.depth, self.shape.smallest).trees)


@dataclass(frozen=True)
class TreeRegressor:
    """One tree. Attributes: see ``Shape``."""

    shape: Shape = Shape()

    def fit(self, rows: SecretArray, target: SecretArray, counted: SecretArray | None = None) -> FittedNumbers:
        """Fit (n, d) rows to an (n,) target, both in [−1, 1]; ``counted`` as ``TreeClassifier.fit``.

        Raises:
            InvalidInput: shapes or settings that do not fit.
        """
        _checked(rows, target)
        targets = _targets(np.ones((1, rows.shape[0])), _unit(target).reshape(1, 1, -1), counted)
        return FittedNumbers(grow(self.shape.binned(rows), targets, self.shape.depth, self.shape.smallest).trees)


@dataclass(frozen=True)
class ForestClassifier:
    """A random forest (L. Breiman, "Random forests", 2001), all trees grown at once.

    Attributes:
        classes: codes 0 … classes − 1.
        count: of trees.
        shape: see ``Shape``. Every node looks at √d publicly drawn columns.
        distinct: draw each tree's rows without replacement, so that what a leaf weighs is a number of rows.
    """

    classes: int = 2
    count: int = 20
    shape: Shape = Shape()
    distinct: bool = False

    def fit(self, rows: SecretArray, target: SecretArray) -> FittedClasses:
        """Fit (n, d) rows in [−1, 1] to (n,) codes. Raises InvalidInput for shapes or settings that do not fit."""
        members = _members(rows, target, self.classes)
        columns = max(1, round(sqrt(rows.shape[1])))
        return FittedClasses(_forest(rows, members, self.count, columns, self.shape, self.distinct).trees)


@dataclass(frozen=True)
class ForestRegressor:
    """A random forest of means. Attributes: see ``ForestClassifier``; every node looks at a third of the columns."""

    count: int = 20
    shape: Shape = Shape()
    distinct: bool = False

    def fit(self, rows: SecretArray, target: SecretArray) -> FittedNumbers:
        """Fit (n, d) rows to an (n,) target, both in [−1, 1]. Raises InvalidInput for shapes or settings."""
        _checked(rows, target)
        columns = max(1, round(rows.shape[1] / 3))
        parts = _unit(target).reshape(-1, 1)
        return FittedNumbers(_forest(rows, parts, self.count, columns, self.shape, self.distinct).trees)


@dataclass(frozen=True)
class FittedBoosting:
    """A sum of trees, still secret.

    Attributes:
        start: (c,) log-odds, or the mean, before the first tree.
        trees: in the order they were grown; each batch has one tree for every output.
        rate: what each tree's answer is multiplied by.
    """

    start: SecretArray
    trees: tuple[Trees, ...]
    rate: float

    def decision(self, rows: SecretArray) -> SecretArray:
        """(n, c) sums: log-odds of the classes, or predicted numbers."""
        steps = [each.means(rows) for each in self.trees]
        total = steps[0]
        for step in steps[1:]:
            total = total + step
        return total[:, :, 0].T.times(self.rate) + self.start


@dataclass(frozen=True)
class FittedBoostedClasses(FittedBoosting):
    """Boosted trees of classes."""

    def predict_proba(self, rows: SecretArray) -> SecretArray:
        """(n,) probabilities of class 1, or (n, c) of the classes."""
        likely = sigmoid(self.decision(rows))
        if likely.shape[1] == 1:
            return likely[:, 0]
        kept = clip(likely, _RAREST, 1.0)
        return kept * reciprocal(kept.sum(1), _RAREST).reshape(-1, 1)

    def predict(self, rows: SecretArray) -> SecretArray:
        """(n,) codes of the most likely classes."""
        sums = self.decision(rows)
        return sums[:, 0] > 0 if sums.shape[1] == 1 else index_of_largest(sums)

    def score(self, rows: SecretArray, target: SecretArray) -> SecretArray:
        """Share of rows whose class is right."""
        return accuracy(self.predict(rows), target)


@dataclass(frozen=True)
class FittedBoostedNumbers(FittedBoosting):
    """Boosted trees of numbers."""

    def predict(self, rows: SecretArray) -> SecretArray:
        """(n,) numbers."""
        return self.decision(rows)[:, 0]

    def score(self, rows: SecretArray, target: SecretArray) -> SecretArray:
        """R² of the rows; see ``determination``."""
        return determination(self.predict(rows), target)


@dataclass(frozen=True)
class BoostedClassifier:
    """Gradient boosting of the log-loss; for more than two classes, of each class against all others.

    Attributes:
        classes: codes 0 … classes − 1.
        count: of rounds of boosting.
        rate: above 0, at most 1.
        shape: see ``Shape``; ``smallest`` is a sum of second derivatives, at most ¼ a row.
    """

    classes: int = 2
    count: int = 20
    rate: float = 0.3
    shape: Shape = Shape()

    def fit(self, rows: SecretArray, target: SecretArray, counted: SecretArray | None = None) -> FittedBoostedClasses:
        """Fit (n, d) rows in [−1, 1] to (n,) codes; ``counted`` as ``TreeClassifier.fit``.

        Raises:
            InvalidInput: shapes or settings that do not fit.
        """
        members = _members(rows, target, self.classes).T
        _check_rounds(self.count, self.rate)
        bins = self.shape.binned(rows)
        # Between the rarest and the rest of all, as nobody is certain.
        outputs, count = members.shape
        share = (
            members.mean(1) if counted is None else statistics.part_of((members & counted).sum(1), counted.sum(), count)
        )
        common = clip(share, _RAREST, 1.0 - _RAREST)
        start = logarithm(common, _RAREST) - logarithm(1.0 - common, _RAREST)
        sums = start.reshape(-1, 1).broadcast_to(outputs, count)
        grown = []
        for _ in range(self.count):
            likely = sigmoid(sums)
            curvature = clip(likely * (1.0 - likely), SMALLEST_CURVATURE, LARGEST_CURVATURE)
            downhill = bounded(members - likely, "SIGMOID-RANGE", 1.001).reshape(outputs, 1, count)
            if counted is not None:
                curvature = bounded(curvature * counted, "SELECT", 0.262)
                downhill = bounded(downhill * counted, "SELECT", 1.001)
            targets = Targets(curvature, 0.262, downhill, _NEWTON_REACH)
            grown.append(grow(bins, targets, self.shape.depth, self.shape.smallest))
            sums = sums + grown[-1].fitted[:, :, 0].times(self.rate)
        return FittedBoostedClasses(start, tuple(each.trees for each in grown), self.rate)


@dataclass(frozen=True)
class BoostedRegressor:
    """Gradient boosting of the squared error.

    Attributes:
        count: of trees.
        rate: above 0, at most 1.
        shape: see ``Shape``.
    """

    count: int = 20
    rate: float = 0.3
    shape: Shape = Shape()

    def fit(self, rows: SecretArray, target: SecretArray, counted: SecretArray | None = None) -> FittedBoostedNumbers:
        """Fit (n, d) rows to an (n,) target, both in [−1, 1]; a residual beyond ±4 counts as that.

        Args:
            counted: (n,) bits of the rows that count, all others having the mean of these as target; all of them where
                it is None.

        Raises:
            InvalidInput: shapes or settings that do not fit.
        """
        _checked(rows, target)
        _check_rounds(self.count, self.rate)
        bins = self.shape.binned(rows)
        start = target.mean().reshape(1)
        weights = np.ones((1, rows.shape[0]))
        left = target - start
        grown = []
        for _ in range(self.count):
            residual = clip(left, -_RESIDUAL_REACH, _RESIDUAL_REACH).reshape(1, 1, -1)
            targets = _targets(weights, residual, counted, 1.01 * _RESIDUAL_REACH)
            grown.append(grow(bins, targets, self.shape.depth, self.shape.smallest))
            left = left - grown[-1].fitted[0, :, 0].times(self.rate)
        return FittedBoostedNumbers(start, tuple(each.trees for each in grown), self.rate)


def part_of(people: int) -> int:
    """How many of them a tree sees whose rows are drawn without replacement."""
    return max(1, round(_PART * people))


def _targets(weights: np.ndarray, moments: SecretArray, counted: SecretArray | None, reach: float = 1.0) -> Targets:
    """Targets of rows with public weights (t, n), of those that count only."""
    heaviest = float(weights.max())
    if counted is None:
        return Targets(weights, heaviest, moments, reach)
    heavy = counted.reshape(1, -1).broadcast_to(*weights.shape).times(weights)
    return Targets(heavy, heaviest, bounded(moments * counted, "SELECT", heaviest * reach), reach)


def _forest(rows: SecretArray, members: SecretArray, count: int, columns: int, shape: Shape, distinct: bool) -> Grown:
    if not 1 <= count <= MOST_TREES:
        raise InvalidInput(f"a forest has 1 to {MOST_TREES} trees; got {count}")
    people, outputs = members.shape
    random = np.random.default_rng(shape.seed)
    if distinct:
        weights = (random.random((count, people)).argsort(-1) < part_of(people)).astype(float)
    else:
        weights = random.multinomial(people, np.full(people, 1 / people), size=count).astype(float)
    looks = random.random((count, (1 << shape.depth) - 1, rows.shape[1])).argsort(-1)[..., :columns]
    moments = members.T.reshape(1, outputs, people).times(weights.reshape(count, 1, people))
    targets = Targets(weights, float(weights.max()), moments, 1.0)
    return grow(shape.binned(rows), targets, shape.depth, shape.smallest, np.sort(looks, -1))


def _averaged(trees: Trees, rows: SecretArray) -> SecretArray:
    """(n, s)."""
    means = trees.means(rows)
    return means.mean(0) if means.shape[0] > 1 else means[0]


def _members(rows: SecretArray, target: SecretArray, classes: int) -> SecretArray:
    """(n, 1) bits of class 1, or (n, c) bits of the classes."""
    _checked(rows, target)
    if not 2 <= classes <= 100:
        raise InvalidInput(f"there are 2 to 100 classes; got {classes}")
    if classes > 2:
        return one_hot(target, classes)
    return (target if target.is_bit else target > 0.5).reshape(-1, 1)


def _unit(target: SecretArray) -> SecretArray:
    return clip(target, -1.0, 1.0)


def _check_rounds(count: int, rate: float) -> None:
    if not 1 <= count <= MOST_TREES or not 0.0 < rate <= 1.0:
        raise InvalidInput(f"boosting takes 1 to {MOST_TREES} rounds at a rate in (0, 1]; got {count}, {rate:g}")


def _checked(rows: SecretArray, target: SecretArray) -> None:
    if rows.ndim != 2 or target.shape != rows.shape[:1] or rows.shape[0] < 2:
        raise InvalidInput(f"rows (n, d) and a target (n,) belong together; got {rows.shape} and {target.shape}")
