"""The publisher's steps from the command line: each takes up what the one before left at the publisher's node."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from koinon.cli.console import console
from koinon.cli.ordering import follow, operator_of, print_facts
from koinon.contracts.tokens import format_amount
from koinon.journey.results import Hardened, Named, Published, Served, Study, Trained, Validated
from koinon.kernel.codec import Record, decode
from koinon.kernel.errors import Refused
from koinon.kernel.ids import to_hex
from koinon.kernel.quantities import ONE_MILLION
from koinon.node import orders
from koinon.node.operator import Operator
from koinon.node.roles.results import RESULTS, STEPS, study_number
from koinon.node.setup import silent

COMMANDS: Final = {
    "study": "koinon study propose FILE",
    "train": "koinon study train",
    "publish": "koinon model publish",
    "harden": "koinon model harden",
    "validate": "koinon model validate",
    "name": "koinon model name",
    "serve": "koinon model serve",
}
"""The command of each step, for the sentence that says what comes next."""

MakeOrder = Callable[[Any], Record]


def carry_on(
    folder: Path, subject: str, step: str, task: str, make_order: MakeOrder, *, again: bool, as_json: bool
) -> None:
    """Run one step on the result of the one before, and print what came of it.

    A step that is done already is told again from the node's memory, unless it shall be done ``again``.

    Args:
        subject: number of a study, or name of its model.
        make_order: from the result of the step before to the order.

    Raises:
        Refused: the step before is not done.
    """
    result = asyncio.run(_carry_on(operator_of(folder), subject, step, task, make_order, again=again, quiet=as_json))
    following = STEPS[STEPS.index(step) + 1 :]
    hint = f"{COMMANDS[following[0]]} {study_number(result)} --home {folder}" if following else ""
    print_facts(facts_of(result), as_json=as_json, next_step=hint)


async def _carry_on(
    operator: Operator, subject: str, step: str, task: str, make_order: MakeOrder, *, again: bool, quiet: bool
) -> Any:
    kept = await operator.run("results.kept", orders.ResultsOf(subject), orders.Kept, silent)
    known = dict(kept.results)
    if step in known and not again:
        if not quiet:
            console.print(f"done already for study {kept.study}; with --again it is done once more", style="dim")
        return decode(RESULTS[step], known[step])
    before = STEPS[STEPS.index(step) - 1]
    if before not in known:
        raise Refused(f"study {kept.study} has no result of the step before; run: {COMMANDS[before]} {kept.study}")
    order = make_order(decode(RESULTS[before], known[before]))
    return await follow(operator, task, order, RESULTS[step], step, quiet=quiet)


def facts_of(result: Record) -> dict[str, Any]:
    """What a step brought, in JSON's terms; nothing of the model's weights."""
    match result:
        case Study():
            return {
                "study": result.number,
                "specification": to_hex(result.specification_hash),
                "data_sets": [to_hex(one) for one in result.dataset_hashes],
            }
        case Trained():
            return {
                "study": result.study.number,
                "attempts": result.attempt + 1,
                "committee": [to_hex(account) for account in result.committee],
                "training_rows": list(result.training_rows),
                "outputs": {one.name: list(one.shape) for one in result.outputs},
                "output_digest": to_hex(result.output_digest),
                "caught": list(result.liars),
                "incidents": [
                    {
                        "attempt": one.attempt + 1,
                        "kind": one.kind,
                        "unpaid": [to_hex(account) for account in one.accounts],
                        "slashed": format_amount(one.slashed),
                    }
                    for one in result.incidents
                ],
            }
        case Published():
            return {
                "study": study_number(result),
                "model": result.model,
                "name": result.name_hint,
                "weights": to_hex(result.weights_hash),
                "manifest": result.manifest,
                "data_set_assets": list(result.dataset_assets),
                "replicas": [to_hex(node) for node in result.replicas],
            }
        case Hardened():
            return {
                "study": study_number(result),
                "model": result.model,
                "domain": result.domain,
                "weights": to_hex(result.weights_hash),
                "variants": [
                    {
                        "name": one.name,
                        "largest_difference": one.largest_difference,
                        "microseconds": one.microseconds,
                        "kept": one.kept,
                    }
                    for one in result.variants
                ],
            }
        case Validated():
            return {
                "study": study_number(result),
                "evaluation": result.evaluation,
                "grade": result.grade,
                "evaluators": [to_hex(account) for account in result.evaluators],
                "vector": {
                    one.criterion: [one.value / ONE_MILLION, one.low / ONE_MILLION, one.high / ONE_MILLION]
                    for one in result.vector
                },
            }
        case Named():
            return {"study": study_number(result), "name": result.name, "model": result.validated.hardened.model}
        case Served():
            return {
                "study": study_number(result),
                "name": result.named.name,
                "service": result.service,
                "endpoints": [{"url": one.url, "node": to_hex(one.node)} for one in result.endpoints],
            }
        case _:
            raise AssertionError(f"{type(result).__name__} is no result of a publisher's step")
