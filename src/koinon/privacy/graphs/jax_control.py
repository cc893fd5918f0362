"""JAX's calls, choices and loops on secrets: how often a loop runs is public, and both branches of a secret run."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy import arrays
from koinon.privacy.graphs.jax_elementwise import ELEMENTWISE
from koinon.privacy.graphs.jax_values import Hidden, Rule, Step, Value, first_hidden, hidden, plain

MOST_REPEATS: Final = 100_000


def _called(step: Step, *operands: Value) -> Value:
    """jit, remat, custom_jvp_call and the like: differentiation is over by now, so what they say of it has no use."""
    for name in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        if name in step.parameters:
            return tuple(step.run(step.parameters[name], operands))
    raise InvalidInput(f"{step.name} carries no function that can be run")


def _branched(step: Step, which: Value, *operands: Value) -> Value:
    branches = step.parameters["branches"]
    if not isinstance(which, Hidden):
        chosen = int(np.clip(int(plain(which)), 0, len(branches) - 1))
        return tuple(step.run(branches[chosen], operands))
    if len(branches) != 2:
        raise InvalidInput("a secret chooses between two branches; write more as nested choices")
    condition = which if which.array.is_bit else ELEMENTWISE["ne"](step, which, np.zeros((), np.int64))
    outcomes = zip(*(step.run(branch, operands) for branch in branches), strict=True)
    return tuple(_either(condition, first, second) for first, second in outcomes)


def _either(condition: Hidden, first: Value, second: Value) -> Value:
    one, two = hidden(first, condition), hidden(second, condition)
    chosen = arrays.where(condition.array, two.array, one.array)
    return Hidden(chosen, min(one.low, two.low), max(one.high, two.high), one.whole and two.whole)


def _while(step: Step, *operands: Value) -> Value:
    condition, body = step.parameters["cond_jaxpr"], step.parameters["body_jaxpr"]
    of_condition, of_body = step.parameters["cond_nconsts"], step.parameters["body_nconsts"]
    tested, used = operands[:of_condition], operands[of_condition : of_condition + of_body]
    state: list[Value] = list(operands[of_condition + of_body :])
    for _ in range(MOST_REPEATS):
        (goes_on,) = step.run(condition, [*tested, *state])
        if isinstance(goes_on, Hidden):
            raise InvalidInput(
                "a secret would decide how often a loop runs, which everybody could count; run it a public number of"
                " times and choose with where"
            )
        if not bool(np.asarray(goes_on)):
            return tuple(state)
        state = step.run(body, [*used, *state])
    raise InvalidInput(f"a loop on secrets runs at most {MOST_REPEATS} times")


def _scanned(step: Step, *operands: Value) -> Value:
    settings = step.parameters
    fixed, kept, length = settings["num_consts"], settings["num_carry"], settings["length"]
    if length > MOST_REPEATS:
        raise InvalidInput(f"a loop on secrets runs at most {MOST_REPEATS} times")
    constants, state = operands[:fixed], list(operands[fixed : fixed + kept])
    rows = operands[fixed + kept :]
    order = range(length)[::-1] if settings["reverse"] else range(length)
    found: list[list[Value]] = []
    for number in order:
        outcome = step.run(settings["jaxpr"], [*constants, *state, *(_row(each, number) for each in rows)])
        state = outcome[:kept]
        found.append(outcome[kept:])
    if settings["reverse"]:
        found.reverse()
    columns = zip(*found, strict=True) if found else ()
    stacked = [_stacked(column) for column in columns]
    if not found:
        stacked = [np.zeros(shape) for shape in step.shapes[kept:]]
    return (*state, *stacked)


def _row(value: Value, number: int) -> Value:
    return value.moved(lambda words: words[number]) if isinstance(value, Hidden) else value[number]


def _stacked(column: Sequence[Value]) -> Value:
    if not any(isinstance(each, Hidden) for each in column):
        return np.stack([np.asarray(each) for each in column])
    like = first_hidden(column)
    parts = [hidden(each, like) for each in column]
    joined = arrays.stack([part.array for part in parts])
    low, high = min(part.low for part in parts), max(part.high for part in parts)
    return Hidden(joined, low, high, all(part.whole for part in parts))


CONTROL: Final[dict[str, Rule]] = {
    "cond": _branched,
    "custom_jvp_call": _called,
    "custom_vjp_call": _called,
    "jit": _called,
    "remat2": _called,
    "scan": _scanned,
    "while": _while,
}
