"""Orders to a running node: progress while they run, the node's task cancelled on Ctrl-C, the result as facts."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from koinon.cli.console import Progress, console, errors, print_json, print_table
from koinon.kernel.codec import Record
from koinon.kernel.errors import InvalidInput
from koinon.node.home import Home
from koinon.node.operator import Operator

_R = TypeVar("_R", bound=Record)


def operator_of(folder: Path) -> Operator:
    """The operator's end of the node in a home folder. Raises InvalidInput where the folder is no node's home."""
    if not Home(folder).config.is_file():
        raise InvalidInput(f"{folder.name or folder} is no node's home; make one with: koinon node init")
    return Operator(Home(folder).control)


async def follow(operator: Operator, task: str, argument: Record, result: type[_R], title: str, *, quiet: bool) -> _R:
    """Run one order to its end, telling what it says. Raises what the task failed with."""
    with Progress(quiet=quiet).step(task, title) as step:
        try:
            return await operator.run(task, argument, result, step.say)
        except asyncio.CancelledError:
            errors.print(f"koinon: {title}: the node was told to stop; what it had put on the chain stays there")
            raise


def order(folder: Path, task: str, argument: Record, result: type[_R], title: str, *, quiet: bool) -> _R:
    """Give one order to the node in a home folder and wait for its result."""
    return asyncio.run(follow(operator_of(folder), task, argument, result, title, quiet=quiet))


def print_facts(facts: Mapping[str, object], *, as_json: bool, next_step: str = "") -> None:
    """Facts as JSON or as two columns, and for people what comes next."""
    if as_json:
        print_json(facts)
        return
    print_table(("", ""), [(key.replace("_", " "), shown(value)) for key, value in facts.items()])
    if next_step:
        console.print(f"next: {next_step}", style="dim", soft_wrap=True)


def shown(value: object, between: str = "\n") -> str:
    """A value of a fact: parts of a list or a mapping below one another, their own parts beside one another."""
    if isinstance(value, Mapping):
        return between.join(f"{key} {shown(entry, ', ')}" for key, entry in value.items()) or "none"
    if isinstance(value, list | tuple):
        if all(isinstance(entry, int | float) for entry in value):
            between = ", "
        return between.join(shown(entry, ", ") for entry in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
