"""``recurrent-network/1``: gated recurrent units over short sequences, for classes or a number, on all owners' rows.

A row's columns are a sequence's steps, one after the other; the target is one more column. It makes a model.
"""

from collections.abc import Sequence
from typing import Final

from koinon.kernel.errors import InvalidInput
from koinon.privacy.learn.layers import Layer
from koinon.privacy.learn.recurrence import Gated
from koinon.privacy.programs.networks import NetworkSettings, dense_after, offer_of, outputs_of
from koinon.privacy.programs.offer import Layout

NAME: Final = "recurrent-network/1"
MOST_UNITS: Final = 64
_MOST_HIDDEN: Final = 256


class Settings(NetworkSettings, frozen=True):
    """Attributes:
    length: of a sequence, in steps; each has as many of the columns as the others.
    units: numbers in the state that goes from step to step.
    hidden: units between the last state and the answer; 0 for none.
    """

    length: int = 8
    units: int = 8
    hidden: int = 0


def layers_of(layout: Layout, settings: Settings) -> list[Layer]:
    """What is trained. Raises InvalidInput for settings out of range."""
    width = len(layout.columns) - 1
    if settings.length < 1 or width < 1 or width % settings.length:
        raise InvalidInput(
            f"{NAME}: {width} columns are no sequence of {settings.length} steps with equally many numbers"
        )
    if not 1 <= settings.units <= MOST_UNITS or not 0 <= settings.hidden <= _MOST_HIDDEN:
        raise InvalidInput(
            f"{NAME} has 1 to {MOST_UNITS} recurrent units and 0 to {_MOST_HIDDEN} hidden ones; got {settings.units}"
            f" and {settings.hidden}"
        )
    first = Gated(settings.length, width // settings.length, settings.units)
    first.check()
    return [first, *dense_after(settings.units, settings.hidden, outputs_of(NAME, layout, settings))]


def names_of(_: Settings, place: int, layer: Layer) -> Sequence[str]:
    """Gates (reset, then update), what is proposed, then dense layers; a step's own numbers come before the state's."""
    if isinstance(layer, Gated):
        return "gates", "gates bias", "state", "state bias"
    return f"layer {place}", f"layer {place} bias"


OFFER: Final = offer_of(NAME, "with gated recurrent units over short sequences", Settings, layers_of, names_of)
