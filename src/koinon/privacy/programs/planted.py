"""Programs whose outputs are held back where their model gives back the labels of rows that owners planted.

``unless_remembered`` is for what is written on secret arrays, ``judged`` for a program that is there already.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from itertools import accumulate

import numpy as np

from koinon.privacy.arrays import SecretArray
from koinon.privacy.backend import Program
from koinon.privacy.computation import Revealed
from koinon.privacy.differential.canaries import RELEASED, most_hits, released
from koinon.privacy.graph import Leaf, evaluate
from koinon.privacy.programs.offer import Layout
from koinon.privacy.secret import Machine, Secret, joined

Answers = Callable[[Secret, Sequence[Secret]], Generator[None, None, Secret]]
"""(m, d) planted rows without their labels, the program's outputs → (m, 1) positive where the model says 1."""


def unless_remembered(
    revealed: Revealed,
    layout: Layout,
    rows: SecretArray,
    target: SecretArray,
    answers: Callable[[SecretArray], SecretArray],
) -> Revealed:
    """What a model opens, or zeros and a ``released`` of 0; the same as before where no rows are planted.

    Args:
        rows, target: (n, d) and (n,) of all owners, 0/1 as −1 and 1; each owner's planted rows are its last.
        answers: (m, d) rows → (m,) positive where the model says 1.

    Raises:
        InvalidInput: too few or too many planted rows.
    """
    if not layout.planted:
        return revealed
    ends = accumulate(layout.rows)
    places = np.concatenate([np.arange(end - layout.planted, end) for end in ends])
    return released(answers(rows[places]), target[places], **dict(revealed.arrays))


def judged(program: Program, layout: Layout, answers: Answers) -> Program:
    """The same program with one more output, ``released``: 1, or 0 where all others are 0 instead of what they were.

    Args:
        program: takes all rows of each owner, the planted ones last.

    Raises:
        InvalidInput: too few or too many planted rows.
    """
    count = layout.planted * len(layout.rows)
    most_hits(count)
    names = [name for name, _ in program.output]

    def compute(machine: Machine, inputs: Sequence[Secret]) -> Generator[None, None, list[Secret]]:
        results = yield from program.compute(machine, inputs)
        planted = joined([table[-layout.planted :] for table in inputs], 0)
        found = yield from answers(planted[:, :-1], results)
        given = [found.reshape(count), planted[:, -1], *results]
        leaves = [Leaf(secret.shape) for secret in given]
        arrays = [SecretArray(leaf, secret.fraction_bits) for leaf, secret in zip(leaves, given, strict=True)]
        revealed = released(arrays[0], arrays[1], **dict(zip(names, arrays[2:], strict=True)))
        nodes = [array.node for _, array in revealed.arrays]
        return (yield from evaluate(nodes, dict(zip(leaves, given, strict=True))))

    return replace(program, output=(*program.output, (RELEASED, (1,))), compute=compute)
