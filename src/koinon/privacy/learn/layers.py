"""Layers of networks on secret rows with their gradients written out: dense ones, and convolutions with pooling.

What a layer passes on may be cut to [0, ``TOP``]: a rectifier with an upper end, which keeps every bound of the
training finite and which the exported model has too. Gradients are those of D. Rumelhart et al., "Learning
representations by back-propagating errors", 1986; no framework is needed on the nodes that compute them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from math import prod
from typing import Final, Protocol

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray, bounded, concatenate, constant_like, stack, where

TOP: Final = 16.0
MOST_UNITS: Final = 1 << 12

Back = Callable[[SecretArray, bool], tuple[list[SecretArray], SecretArray | None]]
"""(gradient of what the layer gave, whether the one of what it took is wanted) → those of the weights, and that."""


class Layer(Protocol):
    """A part of a network, from (n, inputs) to (n, outputs) signals."""

    @property
    def inputs(self) -> int: ...

    @property
    def outputs(self) -> int: ...

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of its weights, in their order."""

    def start(self, random: np.random.Generator) -> list[np.ndarray]:
        """Public weights that training starts from."""

    def forward(self, weights: Sequence[SecretArray], signals: SecretArray) -> tuple[SecretArray, Back]:
        """What it gives for (n, inputs) signals, and how a gradient goes back through it."""


class Pooling(Enum):
    """What stands for the numbers of a window."""

    MAX = "max"
    MEAN = "mean"


@dataclass(frozen=True)
class Dense:
    """Attributes:
    inputs, outputs: numbers of units.
    cut: whether what it gives is cut to [0, TOP].
    """

    inputs: int
    outputs: int
    cut: bool = False

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        return (self.inputs, self.outputs), (self.outputs,)

    def start(self, random: np.random.Generator) -> list[np.ndarray]:
        return [drawn(random, self.inputs, self.shapes[0]), np.zeros(self.outputs)]

    def forward(self, weights: Sequence[SecretArray], signals: SecretArray) -> tuple[SecretArray, Back]:
        level = signals @ weights[0] + weights[1]
        given, inside = cut(level) if self.cut else (level, None)

        def back(slope: SecretArray, further: bool) -> tuple[list[SecretArray], SecretArray | None]:
            here = slope if inside is None else slope * inside
            return [signals.T @ here, here.sum(0)], here @ weights[0].T if further else None

        return given, back


@dataclass(frozen=True)
class Convolution:
    """Filters over an image, cut to [0, TOP], and pooled; a row holds height × width × channels, in this order.

    Attributes:
        image: height, width, channels.
        filters: how many.
        window: side of each filter; there is no padding.
        pool: side of the windows that are pooled, 1 for none; what is left over at the ends is left out.
    """

    image: tuple[int, int, int]
    filters: int
    window: int = 3
    pool: int = 2
    pooling: Pooling = Pooling.MAX

    @property
    def filtered(self) -> tuple[int, int, int]:
        """Height, width, channels before pooling."""
        return self.image[0] - self.window + 1, self.image[1] - self.window + 1, self.filters

    @property
    def pooled(self) -> tuple[int, int, int]:
        """Height, width, channels of what it gives."""
        height, width, channels = self.filtered
        return height // self.pool, width // self.pool, channels

    @property
    def inputs(self) -> int:
        return prod(self.image)

    @property
    def outputs(self) -> int:
        return prod(self.pooled)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        return (self.window**2 * self.image[2], self.filters), (self.filters,)

    def check(self) -> None:
        """Refuse what is no convolution. Raises InvalidInput."""
        if min(*self.image, self.filters, self.window, self.pool) < 1 or min(self.pooled) < 1:
            raise InvalidInput(
                f"an image of {self.image} is too small for windows of {self.window}, pooled by {self.pool}"
            )

    def start(self, random: np.random.Generator) -> list[np.ndarray]:
        return [drawn(random, self.shapes[0][0], self.shapes[0]), np.zeros(self.filters)]

    def forward(self, weights: Sequence[SecretArray], signals: SecretArray) -> tuple[SecretArray, Back]:
        self.check()
        rows, taps = signals.shape[0], self.shapes[0][0]
        patches = signals[:, _patches(self.image, self.window)].reshape(-1, taps)
        level = (patches @ weights[0] + weights[1]).reshape(rows, -1)
        if self.pooling is Pooling.MAX:
            # Pooled first, three of four numbers need no cut, and the result is the same.
            largest, unpool = self._pool(level)
            given, inside = cut(largest)
        else:
            active, inside = cut(level)
            given, unpool = self._pool(active)

        def back(slope: SecretArray, further: bool) -> tuple[list[SecretArray], SecretArray | None]:
            spread = unpool(slope * inside) if self.pooling is Pooling.MAX else unpool(slope) * inside
            here = spread.reshape(-1, self.filters)
            slopes = [patches.T @ here, here.sum(0)]
            if not further:
                return slopes, None
            return slopes, _gathered((here @ weights[0].T).reshape(rows, -1), _taps_of(self.image, self.window))

        return given, back

    def _pool(self, level: SecretArray) -> tuple[SecretArray, Callable[[SecretArray], SecretArray]]:
        """(n, cells) of (n, positions) numbers, and from gradients of the former to those of the latter."""
        if self.pool == 1:
            return level, lambda slope: slope
        windows = _windows(self.filtered, self.pool)
        members = [level[:, row] for row in windows]
        places = _places(windows, level.shape[1])
        if self.pooling is Pooling.MEAN:
            share = 1.0 / len(members)
            total = stack(members).sum(0).times(share)
            return total, lambda slope: _gathered(concatenate([slope.times(share)] * len(members), 1), places)
        largest, shared = _tournament(members)
        return largest, lambda slope: _gathered(concatenate(shared(slope), 1), places)


def cut(level: SecretArray) -> tuple[SecretArray, SecretArray]:
    """The numbers with what is beyond 0 and ``TOP`` put there, and bits of those that are between."""
    beyond = stack([level, -level + TOP]) < 0.0
    inside = bounded(-beyond.sum(0) + 1.0, "BIT", 1.0)
    return bounded(level * inside + beyond[1].times(TOP), "CLIP", TOP + 2.0**-10), inside


def drawn(random: np.random.Generator, incoming: int, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform with variance 2 / incoming: what keeps signals behind rectifiers from fading (He et al., ICCV 2015)."""
    reach = (6.0 / incoming) ** 0.5
    return np.asarray(random.uniform(-reach, reach, shape))


def _tournament(
    members: Sequence[SecretArray],
) -> tuple[SecretArray, Callable[[SecretArray], list[SecretArray]]]:
    """The elementwise largest of several arrays, and from its gradient to theirs: only a largest one has any."""
    if len(members) == 1:
        return members[0], lambda slope: [slope]
    pairs = len(members) // 2
    first, second = stack(members[:pairs]), stack(members[pairs : 2 * pairs])
    higher = first < second
    kept = where(higher, second, first)
    rest = members[2 * pairs :]
    largest, shared = _tournament([*(kept[pair] for pair in range(pairs)), *rest])

    def slopes(slope: SecretArray) -> list[SecretArray]:
        parts = shared(slope)
        both = stack(parts[:pairs])
        right = both * higher
        left = both - right
        return [*(left[pair] for pair in range(pairs)), *(right[pair] for pair in range(pairs)), *parts[pairs:]]

    return largest, slopes


def _patches(image: tuple[int, int, int], window: int) -> np.ndarray:
    """(positions, window² · channels) places in a row of what each filter sees at each position."""
    places = np.arange(prod(image)).reshape(image)
    seen = np.lib.stride_tricks.sliding_window_view(places, (window, window), axis=(0, 1))
    return seen.transpose(0, 1, 3, 4, 2).reshape(-1, window**2 * image[2])


def _windows(image: tuple[int, int, int], pool: int) -> np.ndarray:
    """(pool², cells) places of what is pooled."""
    high, wide = image[0] // pool, image[1] // pool
    places = np.arange(prod(image)).reshape(image)[: high * pool, : wide * pool]
    return places.reshape(high, pool, wide, pool, image[2]).transpose(1, 3, 0, 2, 4).reshape(pool**2, -1)


def _places(sources: np.ndarray, count: int) -> np.ndarray:
    """(count, k): for each place, in which of the (flat) ``sources`` it stands; beyond the last one for none."""
    flat = sources.ravel()
    order = np.argsort(flat, kind="stable")
    times = np.bincount(flat, minlength=count)
    found = np.full((count, max(int(times.max()), 1)), flat.size)
    rank = np.arange(flat.size) - np.repeat(np.cumsum(times) - times, times)
    found[flat[order], rank] = order
    return found


def _taps_of(image: tuple[int, int, int], window: int) -> np.ndarray:
    """For each place of a row, where it stands among all patches."""
    return _places(_patches(image, window), prod(image))


def _gathered(slopes: SecretArray, places: np.ndarray) -> SecretArray:
    """(n, count) sums of the numbers of (n, m) that ``places`` (count, k) names; m stands for 0."""
    nothing = constant_like(slopes, np.zeros((slopes.shape[0], 1)))
    picked = concatenate([slopes, nothing], 1)[:, places]
    return picked[:, :, 0] if places.shape[1] == 1 else picked.sum(2)
