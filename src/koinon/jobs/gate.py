"""The output gate: what may leave a study, checked by each member before it signs and by the result party on opening.

Nothing leaves but the outputs that the study file declares, in the shapes that its program has for the rows that the
owners really shared, and only if every owner shared as many rows as the study's smallest group. The checks need no
secret: a member that skips them is outvoted, as three signatures on one digest release an output.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Final

from koinon.jobs.inputs import layout, shared_parameters
from koinon.jobs.solvers import least_rows
from koinon.jobs.study import StudyFile, is_crossed
from koinon.kernel.errors import InvalidInput, Refused
from koinon.wire.committee import ShareManifest

RELEASED: Final = "released"
"""The output with which a study that plants rows says whether the others left."""


def check_inputs(study: StudyFile, manifests: Sequence[ShareManifest]) -> None:
    """Refuse to compute where an owner's rows are too few to hide in, or for a fit of its own where it shares sums.

    Raises:
        Refused: naming the owner; or owners do not say the same of how many people they have in common.
    """
    _check_parts(study, manifests)
    least = least_rows(study)
    for owner, manifest in zip(study.owners, manifests, strict=True):
        rows = manifest.rows - study.planted
        if rows < least:
            raise Refused(
                f"{owner.name} shared {rows} rows and the study's smallest group is {least}; nothing is computed"
            )


def _check_parts(study: StudyFile, manifests: Sequence[ShareManifest]) -> None:
    if not is_crossed(study):
        if any(one.parts for one in manifests):
            raise Refused("an owner shared its rows in parts, which the study does not ask for; nothing is computed")
        return
    from koinon.privacy.programs.offer import check_layout

    try:
        check_layout(layout(study, tuple(one.rows for one in manifests), tuple(one.parts for one in manifests)))
    except InvalidInput as problem:
        raise Refused(f"what the owners shared does not fit together: {problem}; nothing is computed") from None


def check_released(study: StudyFile, outputs: Mapping[str, Sequence[float]]) -> None:
    """Refuse a result that the computation held back: everything in it is 0. Raises Refused saying why."""
    if study.planted and not outputs[RELEASED][0]:
        raise Refused(
            f"the output gate held the model back: it gives back the labels of too many of the"
            f" {study.planted * len(study.owners)} rows that the owners planted, so it would tell others about single"
            " rows. Use more rows, fewer columns, a larger penalty, or noise (epsilon)"
        )


def check_output(study: StudyFile, manifests: Sequence[ShareManifest], count: int) -> None:
    """Refuse to sign or to keep anything but the declared outputs, whole.

    Args:
        count: numbers that are about to leave.

    Raises:
        Refused: another number of them than the declared names and shapes have, or the program would open a name that
            the study does not declare.
    """
    from koinon.privacy.programs.registry import load

    check_inputs(study, manifests)
    declared = load(study.algorithm, shared_parameters(study, manifests)).output
    undeclared = sorted({name for name, _ in declared} ^ {*study.outputs, *([RELEASED] if study.planted else [])})
    if undeclared:
        raise Refused(f"the study and its program disagree on the output {undeclared[0]!r}; nothing leaves")
    expected = sum(prod(shape) for _, shape in declared)
    if count != expected:
        raise Refused(f"the study declares {expected} numbers of output, and {count} would leave")


def check_sealed_output(study: StudyFile, manifests: Sequence[ShareManifest], count: int) -> None:
    """Refuse to sign more than one ciphertext, which this member cannot read; whoever opens it checks what is in it.

    Args:
        count: words that are about to leave.

    Raises:
        Refused: too few rows of an owner, or more words than any ciphertext has.
    """
    from koinon.privacy.encrypted.ckks import LARGEST_CIPHERTEXT

    check_inputs(study, manifests)
    if not 1 < count <= LARGEST_CIPHERTEXT // 8:
        raise Refused(f"one ciphertext leaves this study, and {count} words are none")
