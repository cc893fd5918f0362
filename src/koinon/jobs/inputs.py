"""What a study's algorithm takes: each owner's matrix, its columns, and the public parameters."""

from typing import TYPE_CHECKING

from koinon.data.schema import Schema
from koinon.jobs.study import StudyFile
from koinon.kernel.codec import encode
from koinon.wire.committee import Column

if TYPE_CHECKING:
    from koinon.privacy.programs.offer import Layout


def has_binary_target(study: StudyFile) -> bool:
    """Whether the target is a 0/1 column beside the study's columns."""
    return study.target != "" and study.target not in {column.name for column in study.columns}


def data_schema(study: StudyFile) -> Schema:
    """The schema that an owner's data set for this study has."""
    return Schema(study.columns, study.target if has_binary_target(study) else "")


def share_columns(study: StudyFile) -> tuple[Column, ...]:
    """The columns that owners share: the study's, and last a 0/1 target."""
    return (*study.columns, Column(study.target, 0.0, 1.0)) if has_binary_target(study) else study.columns


def layout(study: StudyFile, rows: tuple[int, ...]) -> "Layout":
    """Whose rows and which columns. ``rows`` are each owner's, in party order."""
    from koinon.privacy.programs.offer import Layout

    return Layout(rows, share_columns(study), study.target)


def parameters(study: StudyFile, rows: tuple[int, ...]) -> bytes:
    """Encoding of the algorithm's public parameters. ``rows`` are each owner's, in party order."""
    from koinon.privacy.programs.offer import Parameters

    return encode(Parameters(layout(study, rows), study.settings, study.outputs, study.epsilon))
