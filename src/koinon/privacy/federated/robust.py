"""Aggregates that a few lying owners cannot steer, computed on secret-shared updates.

Under masks an update is hidden and so is whether it is sane: one owner can move the mean as far as words reach, and
clipping is a promise of the owner, not a fact. Here owners secret-share their updates to the committee instead, which
computes one of these and opens nothing else. Every word is checked to lie within the clipping range before it counts.

    clipped mean    every update is shortened to the norm ``clip``, in secret: one owner of n moves the mean by 2 clip/n
                    at most, so the clip must not be far above the norms of honest updates
    trimmed mean    in every coordinate the ``trim`` largest and smallest are left out (Yin et al., "Byzantine-Robust
                    Distributed Learning: Towards Optimal Statistical Rates", ICML 2018)
    median          in every coordinate; stays between honest updates while fewer than half of the owners lie

Cost for seven owners (``benchmarks/federated.py``): 84 rounds of messages for a clipped mean, which takes a square
root, and about 30 for the two others, which sort.
"""

from collections.abc import Sequence
from enum import Enum
from math import isfinite
from typing import Final

import numpy as np

from koinon.kernel.codec import Record
from koinon.kernel.effects import Rng
from koinon.kernel.errors import InvalidInput
from koinon.privacy import computation, ordering
from koinon.privacy.arrays import SecretArray, concatenate, maximum, product, reciprocal, square_root
from koinon.privacy.backend import Backend, PlainInput, Program
from koinon.privacy.computation import reveal
from koinon.privacy.secret import Product
from koinon.wire.committee import Column

NAME: Final = "federated-aggregate/1"
MOST_OWNERS: Final = 64
LONGEST_UPDATE: Final = 1 << 20
_SMALLEST_SQUARE: Final = 2.0**-10


class Rule(Enum):
    """How updates are combined."""

    CLIPPED_MEAN = "clipped-mean"
    TRIMMED_MEAN = "trimmed-mean"
    MEDIAN = "median"


class Parameters(Record, frozen=True):
    """Public parameters.

    Attributes:
        owners: how many share an update.
        length: numbers of one update.
        clip: the norm, and the range of every number.
        rule: a ``Rule``.
        trim: how many of each end a trimmed mean leaves out.
    """

    owners: int
    length: int
    clip: float
    rule: str = Rule.TRIMMED_MEAN.value
    trim: int = 1
    fraction_bits: int = 20


def program(parameters: Parameters) -> Program:
    """The program for these parameters; its one output ``update`` (length,) is in units of ``clip``.

    Raises:
        InvalidInput: parameters out of their ranges.
    """
    _check(parameters)
    rule = Rule(parameters.rule)
    return computation.program(
        NAME,
        lambda *updates: reveal(update=combined(concatenate(updates, 1), rule, parameters.trim)),
        [(parameters.length, 1)] * parameters.owners,
        columns(parameters.clip),
        parameters.fraction_bits,
        scaled=True,
    )


def columns(clip: float) -> tuple[Column, ...]:
    """The one column of a shared update: a number a row, each within the clipping norm."""
    return (Column("update", -clip, clip),)


def combine(
    updates: Sequence[np.ndarray], rule: Rule, clip: float, engine: Backend, rng: Rng, trim: int = 1
) -> np.ndarray:
    """The robust mean (d,) of updates (d,).

    Raises:
        InvalidInput: updates of different lengths, or with a number that is not within the clipping norm.
        ProtocolAbort: a member of the committee deviated.
    """
    made = program(Parameters(len(updates), len(updates[0]) if len(updates) else 0, clip, rule.value, trim))
    shared = [PlainInput(columns(clip), np.asarray(update, np.float64).reshape(-1, 1)) for update in updates]
    return engine.run(made, shared, rng).outputs["update"] * clip


def _check(parameters: Parameters) -> None:
    rules = [rule.value for rule in Rule]
    if not 2 <= parameters.owners <= MOST_OWNERS or not 1 <= parameters.length <= LONGEST_UPDATE:
        raise InvalidInput(
            f"{NAME} combines 1 to {LONGEST_UPDATE} numbers of 2 to {MOST_OWNERS} owners;"
            f" got {parameters.length} of {parameters.owners}"
        )
    if not (isfinite(parameters.clip) and 0.0 < parameters.clip <= 2.0**16):
        raise InvalidInput(f"updates are clipped to a norm above 0 and up to 65536; got {parameters.clip:g}")
    if parameters.rule not in rules:
        raise InvalidInput(f"there is no rule {parameters.rule[:40]!r}; there are {', '.join(rules)}")
    if parameters.rule == Rule.TRIMMED_MEAN.value and not 1 <= parameters.trim <= (parameters.owners - 1) // 2:
        raise InvalidInput(
            f"of {parameters.owners} owners a trimmed mean leaves out 1 to {(parameters.owners - 1) // 2} at each end;"
            f" got {parameters.trim}"
        )


def combined(table: SecretArray, rule: Rule, trim: int) -> SecretArray:
    """The (length,) robust mean of the columns of a table (length, owners), in units of the clipping norm."""
    match rule:
        case Rule.CLIPPED_MEAN:
            squares = product(table, table, Product.COLUMN_DOT)
            length = maximum(square_root(squares, _SMALLEST_SQUARE), 1.0)
            return (table * reciprocal(length, 1.0)).mean(1)
        case Rule.TRIMMED_MEAN:
            (ordered,) = ordering.sort(table, 1)
            return ordered[:, trim : table.shape[1] - trim].mean(1)
        case Rule.MEDIAN:
            return ordering.median(table, 1)
