"""What a whole run costs before anything is shared: dealing, agreement, range checks, the program, and the opening."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from koinon.privacy.backend import Program
from koinon.privacy.estimate import MULTIPLY, NEGATIVE, Estimate, estimate
from koinon.privacy.rep4.session import FIXED_ROUNDS, ROUNDS_PER_CHECKPOINT

_WORD: Final = 8
_DEALT: Final = 3 * _WORD
"""Of a number: one component is sent as words, to the three that may have it; the others are streams of seeds."""
_HANDED_OVER: Final = 4 * 3 * _WORD
"""Of an output's number: each of the four gives the result party its three components."""
_PACKAGE_BYTES: Final = 330
"""Of a dealt or an opened package besides the words, about."""
_AGREEMENT_BYTES: Final = 12_864
_CHECKPOINT_BYTES: Final = 5_328
_OUTPUT_DIGESTS_BYTES: Final = 4 * 3 * 3 * 32
_ROUND_BYTES: Final = 1_870
"""Headers, digests and seals of a round of values, about; how many of the twelve links carry a frame differs."""
_OPENED: Final = 4 * _WORD
_ZEROS: Final = 3 * _WORD


@dataclass(frozen=True, slots=True)
class RunCost:
    """Of a run among the four.

    Attributes:
        program: the computation alone.
        checks: of the inputs' ranges.
        rounds: of all messages among the four.
        traffic_bytes: of all messages, with what owners deal and what the result party is given.
    """

    program: Estimate
    checks: Estimate
    rounds: int
    traffic_bytes: int


def run_cost(program: Program) -> RunCost:
    """Everything from the owners' dealing to the result party's opening; seals and connections without TLS.

    Raises:
        Refused: some input within the declared ranges could overflow the program.
    """
    found = estimate(program)
    cells = sum(count * width for count, width in program.shapes)
    flags = sum(count * len(program.flags_of(number)) for number, (count, _) in enumerate(program.shapes))
    outputs = sum(int(np.prod(shape)) for _, shape in program.output)
    checked = 2 * cells * NEGATIVE[1] + flags * MULTIPLY[1] + (flags + len(program.shapes)) * _OPENED
    checkpoints = 2 + found.rounds // ROUNDS_PER_CHECKPOINT
    of_values = found.rounds + NEGATIVE[0] + 2
    packages = 4 * (len(program.shapes) + 1) * _PACKAGE_BYTES + cells * _DEALT + outputs * _HANDED_OVER
    traffic = (
        found.traffic_bytes
        + checked
        + outputs * _ZEROS
        + of_values * _ROUND_BYTES
        + _AGREEMENT_BYTES
        + (checkpoints + 1) * _CHECKPOINT_BYTES
        + _OUTPUT_DIGESTS_BYTES
        + packages
    )
    rounds = found.rounds + found.rounds // ROUNDS_PER_CHECKPOINT + FIXED_ROUNDS
    return RunCost(found, Estimate(FIXED_ROUNDS, checked), rounds, traffic)
