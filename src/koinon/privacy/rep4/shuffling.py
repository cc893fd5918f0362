"""Rows in an order that nobody knows (REP4-SHUFFLE in docs/spec/rep4.md).

Permutation πⱼ is drawn from stream j by everybody but position j; the rows go through all four. Each party lacks one of
them, so to each the order is uniform.
"""

import numpy as np

from koinon.privacy.rep4.arithmetic import Protocol, joint_input
from koinon.privacy.rep4.party import Party
from koinon.privacy.rep4.shares import ROUTES, Shares, four, summed
from koinon.wire.committee import POSITIONS


def shuffle(party: Party, value: Shares) -> Protocol:
    """The rows (axis 0) in a secret, uniform order: four rounds, twelve elements for each (REP4-SHUFFLE).

    Args:
        value: (n, …), n below 2²⁴: the order comes from sorting n random words, which are all different but for 2⁻¹⁷.
    """
    for hidden_from in POSITIONS:
        drawn = party.draw(hidden_from, value.shape[:1])
        order = None if drawn is None else np.argsort(drawn, kind="stable")
        value = yield from _permuted(party, value, hidden_from, order)
    return value


def _permuted(party: Party, value: Shares, hidden_from: int, order: np.ndarray | None) -> Protocol:
    """One round: two of those who know the order hold component i, and share it anew in that order."""
    me = party.position
    inputs = []
    for index in sorted(value.support - {hidden_from}):
        route = next(route for pair, route in ROUTES.items() if set(pair) == {index, hidden_from})
        known = value.part(index)[order] if me in (route.sender, route.backup) else None
        inputs.append(joint_input(party, route, known, value.shape, value.dtype, boolean=value.boolean))
    if hidden_from in value.support:
        kept: list[np.ndarray | None] = [None] * 4
        kept[hidden_from] = None if me == hidden_from else value.part(hidden_from)[order]
        inputs.append(Shares(four(kept), value.shape, frozenset({hidden_from}), value.dtype, value.boolean))
    yield
    return summed(inputs, me) if inputs else value
