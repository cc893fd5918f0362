"""The tamper harness: one corrupted position, every kind of lie, at any message; and what came of it.

    koinon sim rep4 --trials 1000 --from 0 --json

Every trial is determined by its seed. It runs a whole session (agreement, range checks, every kind of product,
truncation, comparison, rectifier, noise, shuffling, output) twice: honestly, to count the messages and know the result,
and with the corruption.
"""

from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import replace
from functools import cache
from math import gcd
from typing import Final

import numpy as np
from msgspec import structs

from koinon.crypto.signature import NodeKey
from koinon.kernel.errors import KoinonError
from koinon.privacy.approximations import sigmoid
from koinon.privacy.backend import Program
from koinon.privacy.opening import reconstruct
from koinon.privacy.rep4.agreement import COMMITMENT_ROUND
from koinon.privacy.rep4.lies import Lie, OneLie
from koinon.privacy.rep4.lies import SeededRng as SeededRng
from koinon.privacy.rep4.lockstep import Ending
from koinon.privacy.rep4.session import Outcome
from koinon.privacy.rep4.simulation import Dealt, Stage, perform, simulate
from koinon.privacy.rep4.verdict import COUNTED, Verdict, judged
from koinon.privacy.secret import (
    Machine,
    Product,
    Secret,
    multiply,
    negative,
    noise,
    positive_part,
    shuffled,
    together,
    truncate,
)
from koinon.privacy.sharing import Dealing, deal
from koinon.wire.committee import POSITIONS, Column, OutputPackage

_TOLERANCE: Final = 2.0**-14
_BITS: Final = 20
_GOLDEN: Final = 0.618
_ROUNDS_UNTIL_CHECKED: Final = {Lie.ANNOUNCEMENT: 1, Lie.TOLD: 1, Lie.TWO_FACED: 2}
"""A commitment can only be checked when it is opened, and one that is opened as promised when keys are confirmed."""


def trial(seed: int) -> Verdict:
    """Run one trial.

    Seeds that follow each other tell every lie at every position in turn; as they go on, every message of the session
    is met once before any is met again.
    """
    rng = SeededRng(b"trial" + seed.to_bytes(8, "big"))
    lie, cheater = tuple(Lie)[seed % len(Lie)], seed // len(Lie) % 4
    target = _target(seed // (len(Lie) * len(POSITIONS)), opportunities(lie, cheater)) if lie is not Lie.OPENING else 0
    corruption = OneLie(cheater, lie, target, rng)
    keys = SeededRng(b"keys" + seed.to_bytes(8, "big"))
    stage = Stage.draw(_probe(), _dealt(), keys)
    endings = perform(stage, keys, corruption, corruption.inputs)
    return judged(_verdict(seed, corruption, endings), stage, endings, rng)


def summary(verdicts: Sequence[Verdict]) -> dict[str, dict[str, int]]:
    """Counts by kind of lie."""
    counts: dict[str, Counter[str]] = {}
    for verdict in verdicts:
        row = counts.setdefault(verdict.lie.name.lower(), Counter())
        row["trials"] += 1
        for name in COUNTED:
            row[name] += bool(getattr(verdict, name))
    return {lie: dict(row) for lie, row in sorted(counts.items())}


@cache
def opportunities(lie: Lie, cheater: int) -> int:
    """How often a position could tell this lie in one session."""
    counter = OneLie(cheater, lie, -1, SeededRng(b"count"))
    simulate(_probe(), _dealt(), SeededRng(b"count"), counter, counter.inputs)
    return counter.opportunities


def _target(number: int, count: int) -> int:
    """The number-th of ``count`` opportunities, in an order that spreads over the session and repeats none early."""
    stride = round(count * _GOLDEN)
    while gcd(stride, count) != 1:
        stride += 1
    return number * stride % count


def _verdict(seed: int, corruption: OneLie, endings: Sequence[Ending]) -> Verdict:
    cheater, honest = corruption.cheater, [p for p in POSITIONS if p != corruption.cheater]
    aborts = [ending.abort for position in honest if (ending := endings[position]).abort is not None]
    framed = any(cheater not in problem.suspects for problem in aborts)
    packages = [endings[position].result.package for position in honest if endings[position].abort is None]
    wrong, liars = False, tuple[int, ...]()
    if corruption.lie is Lie.OPENING or packages:
        wrong, liars = _opened(corruption, endings, packages)
    framed = framed or any(liar != cheater for liar in liars)
    latest = corruption.round + _ROUNDS_UNTIL_CHECKED.get(corruption.lie, 0) * (corruption.round == COMMITMENT_ROUND)
    sent_on = any(
        endings[victim].abort is not None and endings[victim].rounds_sent[-1] > latest for victim in corruption.victims
    )
    told = corruption.round >= 0 or corruption.lie is Lie.OPENING
    alone = liars == (cheater,)
    verdict = Verdict(seed, corruption.lie, cheater, told, bool(aborts or liars), wrong, framed, sent_on)
    return replace(verdict, alone=alone, named=alone)


def _opened(
    corruption: OneLie, endings: Sequence[Ending], honest: Sequence[OutputPackage]
) -> tuple[bool, tuple[int, ...]]:
    """Whether the result party accepts something wrong, given the honest packages and the cheater's; whom it names."""
    packages = list(honest)
    outcome: Outcome | None = endings[corruption.cheater].result
    if outcome is not None:
        package = outcome.package
        packages.append(_lying(package, corruption.rng) if corruption.lie is Lie.OPENING else package)
    try:
        values, liars = reconstruct(packages, packages[0].session)
    except KoinonError:
        return False, ()
    return bool(np.abs(values - _truth()).max() > _TOLERANCE), liars


def _lying(package: OutputPackage, rng: SeededRng) -> OutputPackage:
    place = rng.below(3)
    share = package.components[place]
    values = bytearray(share.values)
    values[rng.below(len(values))] ^= 1 << rng.below(8)
    components = list(package.components)
    components[place] = structs.replace(share, values=bytes(values))
    return structs.replace(package, components=(components[0], components[1], components[2]))


# The session under attack: small, but with every kind of message.


def _compute(machine: Machine, inputs: Sequence[Secret]) -> Generator[None, None, Sequence[Secret]]:
    left, right = inputs
    logits = yield from multiply(left.T, right, kind=Product.MATRIX)
    chances = yield from sigmoid(logits.times(4), _BITS)
    squares, gram, rows = yield from together(
        multiply(chances, chances, fraction_bits=_BITS),
        multiply(left, left, kind=Product.GRAM),
        shuffled(left),
    )
    moments, rounded = yield from together(
        truncate(gram + rows.sum(0), _BITS), multiply(left.T, right, kind=Product.MATRIX, fraction_bits=_BITS)
    )
    rectified, signs = yield from together(positive_part(rounded, _BITS), negative(rounded))
    return squares, moments + noise(machine, moments.shape, 1, _BITS), rectified, signs


_OUTPUTS: Final = ("squares", "moments", "rectified", "signs")


@cache
def _probe() -> Program:
    columns = (Column("a", -1.0, 1.0), Column("b", -1.0, 1.0))
    return Program(
        "probe", ((3, 2), (3, 2)), columns, _BITS, (1,), tuple((name, (2, 2)) for name in _OUTPUTS), _compute
    )


_LEFT: Final = np.array([[0.5, 1.0], [-0.25, -1.0], [0.75, 1.0]])
_RIGHT: Final = np.array([[-0.5, -1.0], [0.125, 1.0], [1.0, 1.0]])


@cache
def _dealt() -> tuple[Dealt, ...]:
    rng, program = SeededRng(b"owners"), _probe()
    dealing = Dealing(rng.bytes(32), 0, rng.bytes(32))
    return tuple(
        deal(matrix, program.columns, _BITS, dealing, NodeKey.generate(rng), rng) for matrix in (_LEFT, _RIGHT)
    )


@cache
def _truth() -> np.ndarray:
    endings = simulate(_probe(), _dealt(), SeededRng(b"truth"))
    values, liars = reconstruct([ending.result.package for ending in endings], endings[0].result.package.session)
    squares = 1 / (1 + np.exp(-4 * _LEFT.T @ _RIGHT)) ** 2
    moments = _LEFT.T @ _LEFT + _LEFT.sum(0)
    found = _LEFT.T @ _RIGHT
    wanted = np.concatenate([each.ravel() for each in (squares, moments, np.maximum(found, 0.0), found < 0.0)])
    if liars or np.abs(values - wanted).max() > 1e-3:
        raise AssertionError("the honest run is wrong already")
    return values
