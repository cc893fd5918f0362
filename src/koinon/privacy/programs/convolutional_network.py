"""``convolutional-network/1``: filters over small images, for classes or a number, on the joint rows of all owners.

A row's columns are an image's numbers in the order height, width, channel; the target is one more column. It makes a
model.
"""

from collections.abc import Sequence
from typing import Final

from koinon.kernel.errors import InvalidInput
from koinon.privacy.learn.layers import Convolution, Layer, Pooling
from koinon.privacy.programs.networks import NetworkSettings, dense_after, offer_of, outputs_of
from koinon.privacy.programs.offer import Layout

NAME: Final = "convolutional-network/1"
MOST_CONVOLUTIONS: Final = 3
_MOST: Final = 256


class Settings(NetworkSettings, frozen=True):
    """Attributes:
    image: height, width and channels.
    filters: how many each convolution has, one after the other.
    window: side of every filter.
    pool: side of the windows that are pooled behind every convolution; 1 for none.
    pooling: "max" or "mean" of each.
    hidden: units between the last convolution and the answer; 0 for none.
    """

    image: tuple[int, int, int] = (8, 8, 1)
    filters: tuple[int, ...] = (8,)
    window: int = 3
    pool: int = 2
    pooling: str = "max"
    hidden: int = 0


def layers_of(layout: Layout, settings: Settings) -> list[Layer]:
    """What is trained. Raises InvalidInput for settings out of range."""
    kinds = {kind.value: kind for kind in Pooling}
    if settings.pooling not in kinds:
        raise InvalidInput(f"{NAME} pools by {' or '.join(kinds)}; got {settings.pooling[:40]!r}")
    sizes = (*settings.image, *settings.filters, settings.window, settings.pool)
    if not 1 <= len(settings.filters) <= MOST_CONVOLUTIONS or not all(1 <= size <= _MOST for size in sizes):
        raise InvalidInput(
            f"{NAME} has 1 to {MOST_CONVOLUTIONS} convolutions, and images, filters, windows and pools of 1 to {_MOST}"
        )
    if not 0 <= settings.hidden <= _MOST:
        raise InvalidInput(f"{NAME} has 0 to {_MOST} hidden units; got {settings.hidden}")
    layers: list[Layer] = []
    image = settings.image
    for filters in settings.filters:
        layer = Convolution(image, filters, settings.window, settings.pool, kinds[settings.pooling])
        layer.check()
        layers.append(layer)
        image = layer.pooled
    return [*layers, *dense_after(layers[-1].outputs, settings.hidden, outputs_of(NAME, layout, settings))]


def names_of(settings: Settings, place: int, layer: Layer) -> Sequence[str]:
    """Filters have a row for each number they see (height, width, channel of the window); then come dense layers."""
    dense = place + 1 - len(settings.filters)
    kind = f"filters {place + 1}" if isinstance(layer, Convolution) else f"layer {dense}"
    return kind, f"{kind} bias"


OFFER: Final = offer_of(NAME, "with convolutions over small images", Settings, layers_of, names_of)
