"""``recurrent-network/1``: gated recurrent units over short sequences, for classes or a number, on all owners' rows.

A row's columns are a sequence's steps, one after the other; the target is one more column. It makes a model.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.backend import Program
from koinon.privacy.learn.layers import Layer
from koinon.privacy.learn.recurrence import Gated
from koinon.privacy.programs.networks import (
    OUTPUTS,
    NetworkSettings,
    check_training,
    dense_after,
    outputs_of,
    program_of,
    tables_of,
    whole_target,
)
from koinon.privacy.programs.offer import Layout, Offer, ResultTable, Target

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


def program(layout: Layout, settings: Settings, _: tuple[str, ...]) -> Program:
    """The program for these owners. Raises InvalidInput for settings out of range, Refused if it could overflow."""
    check_training(NAME, layout, settings)
    return program_of(NAME, layout, settings, layers_of(layout, settings))


def present(outputs: Mapping[str, np.ndarray], layout: Layout, settings: Settings) -> tuple[ResultTable, ...]:
    """Gates (reset, then update), what is proposed, then dense layers; a step's own numbers come before the state's."""

    def names(place: int, _: Layer) -> tuple[str, ...]:
        if not place:
            return "gates", "gates bias", "state", "state bias"
        return f"layer {place}", f"layer {place} bias"

    return tables_of(outputs, layers_of(layout, settings), names)


OFFER: Final = Offer(
    name=NAME,
    summary="a neural network with gated recurrent units over short sequences, for classes or a number; makes a model",
    target=Target.NUMBER,
    outputs=OUTPUTS,
    settings=Settings,
    build=program,
    present=present,
    judges_planted=True,
    whole_columns=whole_target,
)
