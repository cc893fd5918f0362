"""A long computation as steps that are written down only when it is their turn: training, with one step in memory.

Each step is a function of a secret state and of secret data that stay the same. What a step does may depend on its
number, never on a secret; all parties of a process share what one of them wrote down.
"""

from collections.abc import Callable, Generator, Sequence
from typing import Any, Final

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray, refined
from koinon.privacy.graph import Leaf, Node, evaluate
from koinon.privacy.secret import Secret

MOST_STEPS: Final = 1_000_000
_KEPT: Final = 4
"""Steps kept for the other parties of this process, which are never further behind than their next round."""

Arrays = Sequence[SecretArray]
Step = Callable[[int, Arrays, Arrays], Arrays]
"""(number, state, data) → the next state, of the same shapes."""


def repeated(step: Step, count: int, state: Arrays, data: Arrays) -> list[SecretArray]:
    """The state after ``count`` steps.

    Args:
        step: asked for every number from 0 to ``count`` − 1, in order, perhaps more than once.
        state: before the first step; every later one has the same shapes and precisions.

    Raises:
        InvalidInput: a number of steps that is not usable.
    """
    if not 1 <= count <= MOST_STEPS:
        raise InvalidInput(f"a computation repeats 1 to {MOST_STEPS} steps; got {count}")
    outlines = [(array.shape, array.precision) for array in (*state, *data)]
    written: dict[int, tuple[list[Leaf], list[Node]]] = {}

    def written_down(number: int) -> tuple[list[Leaf], list[Node]]:
        if number not in written:
            leaves = [Leaf(shape) for shape, _ in outlines]
            arrays = [SecretArray(leaf, precision) for leaf, (_, precision) in zip(leaves, outlines, strict=True)]
            following = step(number, arrays[: len(state)], arrays[len(state) :])
            if [array.shape for array in following] != [array.shape for array in state]:
                raise InvalidInput("a step changed the shape of the state")
            kept = [refined(array, before.precision) for array, before in zip(following, state, strict=True)]
            written[number] = leaves, [array.node for array in kept]
            written.pop(number - _KEPT, None)
        return written[number]

    def all_steps(*secrets: Secret) -> Generator[None, None, Any]:
        current, fixed = list(secrets[: len(state)]), secrets[len(state) :]
        for number in range(count):
            leaves, results = written_down(number)
            current = yield from evaluate(results, dict(zip(leaves, (*current, *fixed), strict=True)))
        return tuple(current)

    everything = Node([array.node for array in (*state, *data)], (), all_steps)

    def part(place: int) -> SecretArray:
        node = Node((everything,), state[place].shape, lambda secrets: secrets[place])
        return SecretArray(node, state[place].precision)

    return [part(place) for place in range(len(state))]
