"""What a study's algorithm takes: each owner's matrix, its columns, and the public parameters."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from koinon.data.schema import Schema
from koinon.jobs.study import OBLIVIOUS, StudyFile, is_crossed
from koinon.kernel.codec import encode
from koinon.kernel.errors import InvalidInput
from koinon.wire.committee import Column, ShareManifest

if TYPE_CHECKING:
    from koinon.data.table import Table
    from koinon.privacy.programs.offer import Layout


def has_binary_target(study: StudyFile) -> bool:
    """Whether the target is a 0/1 column beside the study's columns."""
    return study.target != "" and study.target not in {column.name for column in study.columns}


def all_columns(study: StudyFile) -> tuple[Column, ...]:
    """Everything that is shared by anybody: the study's columns, and last a 0/1 target."""
    return (*study.columns, Column(study.target, 0.0, 1.0)) if has_binary_target(study) else study.columns


def sources(study: StudyFile) -> tuple[tuple[int, ...], ...]:
    """Numbers of the columns that each owner brings; empty where each brings all."""
    places = {column.name: number for number, column in enumerate(all_columns(study))}
    return tuple(tuple(sorted(places[name] for name in names)) for names in study.held)


def held_columns(study: StudyFile, owner: int) -> tuple[Column, ...]:
    """The columns of the rows that the owner of this number brings, in their order."""
    columns = all_columns(study)
    return tuple(columns[number] for number in sources(study)[owner]) if study.held else columns


def share_columns(study: StudyFile, owner: int) -> tuple[Column, ...]:
    """The columns that the owner of this number shares: its own, after those of pseudonyms where rows meet by them."""
    if study.join != OBLIVIOUS:
        return held_columns(study, owner)
    from koinon.privacy.joins import oblivious

    return (*oblivious.COLUMNS, *held_columns(study, owner))


def data_schema(study: StudyFile, owner: int) -> Schema:
    """The schema that this owner's data set for the study has."""
    columns = held_columns(study, owner)
    # Whoever brings nothing but the target has it as its only column.
    if has_binary_target(study) and columns[-1].name == study.target and len(columns) > 1:
        return Schema(columns[:-1], study.target)
    return Schema(columns, "")


def layout(study: StudyFile, rows: tuple[int, ...], parts: tuple[tuple[int, ...], ...] = ()) -> "Layout":
    """Whose rows and which columns.

    Args:
        rows: what each owner shared, planted rows too, in party order.
        parts: of these, in a study of people matched in pairs, those that each owner of the other columns has; where
            they are not known, some that fit the rows.
    """
    from koinon.privacy.programs import crossed
    from koinon.privacy.programs.offer import Layout

    pairs = study.minimum_rows if study.join == OBLIVIOUS else 0
    found = Layout(rows, all_columns(study), study.target, sources(study), planted=study.planted, pairs=pairs)
    if not is_crossed(study):
        return found
    parts = parts or crossed.spread(rows, found.tables)
    return msgspec.structs.replace(found, rows=tuple(sum(part) for part in parts), parts=parts)


def parameters(study: StudyFile, rows: tuple[int, ...], parts: tuple[tuple[int, ...], ...] = ()) -> bytes:
    """Encoding of the algorithm's public parameters; ``rows`` and ``parts`` as ``layout`` takes them."""
    from koinon.privacy.programs.offer import Parameters

    return encode(Parameters(layout(study, rows, parts), study.settings, study.outputs, study.epsilon))


def shared_parameters(study: StudyFile, manifests: "Sequence[ShareManifest]") -> bytes:
    """As ``parameters``, of what the owners' manifests say that they shared."""
    parts = tuple(one.parts for one in manifests) if is_crossed(study) else ()
    return parameters(study, tuple(one.rows for one in manifests), parts)


def whole_columns(study: StudyFile) -> tuple[str, ...]:
    """Names of the columns in which the program takes whole numbers only. Raises InvalidInput for unusable settings."""
    from koinon.privacy.programs.offer import decode_settings
    from koinon.privacy.programs.preparation import whole_names
    from koinon.privacy.programs.registry import offer

    found = offer(study.algorithm)
    # Which columns they are depends on nobody's number of rows.
    settings = decode_settings(found, study.settings)
    return (*found.whole_columns(layout(study, (1,) * len(study.owners)), settings), *whole_names(settings))


def check_rows(study: StudyFile, table: "Table") -> None:
    """Refuse an owner's rows that its program would misread, before any of them is shared.

    A data set's numbers are finite and inside their columns' ranges already, and a 0/1 target holds both.

    Raises:
        InvalidInput: the program counts or classifies by a column that holds other than whole numbers.
    """
    names = [column.name for column in table.schema.columns]
    for name in whole_columns(study):
        if name in names and (table.features[:, names.index(name)] % 1 != 0).any():
            raise InvalidInput(
                f"column {name!r} holds fractions, and {study.algorithm} takes whole numbers there; recode it"
            )


def check_room(study: StudyFile, rows: tuple[int, ...]) -> None:
    """Refuse a study that could not be computed with so many rows of each owner, before anything is signed or shared.

    Raises:
        InvalidInput: fewer or more rows than the program takes, or settings that do not fit them.
        Refused: a number could become larger than the engine can hold.
    """
    from koinon.privacy.estimate import estimate
    from koinon.privacy.programs.registry import load

    estimate(load(study.algorithm, parameters(study, tuple(count + study.planted for count in rows))))
