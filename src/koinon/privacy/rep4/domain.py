"""Are an owner's numbers where it declared them to be? Asked on the shares, before anything is computed (REP4-DOMAIN).

The lemmas that exclude overflow hold for inputs in [−1, 1]. An owner could share anything; so the four compute how many
of its numbers lie outside, and the square minus one of every two-valued one, and open these. For an honest owner they
are all zero and tell nothing; for another they concern nobody else's rows.
"""

from collections.abc import Generator, Sequence

import numpy as np

from koinon.privacy.rep4.arithmetic import multiply, open_to_all
from koinon.privacy.rep4.checkpoint import checkpoint
from koinon.privacy.rep4.comparison import negative
from koinon.privacy.rep4.party import Party
from koinon.privacy.rep4.shares import Shares, constant, joined
from koinon.privacy.secret import together


def check_domain(
    party: Party, inputs: Sequence[Shares], fraction_bits: int, flags: Sequence[Sequence[int]]
) -> Generator[None, None, None]:
    """Check every input: four rounds of comparison, a checkpoint, one opening.

    Args:
        inputs: (rows, columns) words of each owner; 1 is 2^fraction_bits.
        flags: of each input, the columns whose numbers must be −1 or 1.

    Raises:
        CommitteeAbort: an input is outside; names its number.
    """
    evidence = yield from together(
        *(_violations(party, each, fraction_bits, marked) for each, marked in zip(inputs, flags, strict=True))
    )
    yield from checkpoint(party)
    opened = yield from open_to_all(party, joined(evidence, 0, party.position))
    start = 0
    for index, each in enumerate(evidence):
        if opened[start : start + each.shape[0]].any():
            raise party.reject_input(index)
        start += each.shape[0]


def _violations(party: Party, words: Shares, fraction_bits: int, flags: Sequence[int]) -> Generator[None, None, Shares]:
    one = constant(np.full(words.shape, 1 << fraction_bits, np.uint64), party.position)
    minus = words.rearranged(np.negative)
    # A word w is outside [−1, 1] exactly if w + 1 or 1 − w is negative as a signed word, even where these wrap around.
    both = joined([words + one, minus + one], 0, party.position)
    marked = words.rearranged(lambda part: part[:, list(flags)].reshape(-1))
    outside, squares = yield from together(negative(party, both), multiply(party, marked, marked))
    count = outside.rearranged(lambda part: part.sum(dtype=np.uint64).reshape(1))
    expected = np.full(squares.shape, (1 << 64) - (1 << 2 * fraction_bits), np.uint64)
    return joined([count, squares + constant(expected, party.position)], 0, party.position)
