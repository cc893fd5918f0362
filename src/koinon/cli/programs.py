"""The programs that studies can name, their settings on a command line, and their results as tables."""

import asyncio
import csv
import tomllib
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from koinon.cli.console import console, print_json, print_table
from koinon.cli.ordering import operator_of
from koinon.kernel.codec import decode
from koinon.kernel.errors import InvalidInput, Refused, Unavailable
from koinon.node import orders
from koinon.node.setup import silent

if TYPE_CHECKING:
    from koinon.jobs.study import StudyFile
    from koinon.journey.results import Trained
    from koinon.privacy.programs.offer import Offer, ResultTable


def read_settings(offer: "Offer", pairs: Sequence[str], function_file: Path | None = None) -> dict[str, Any]:
    """``NAME=VALUE`` pairs as the program's settings, all of them, those not given at their defaults.

    Args:
        function_file: what the setting ``function`` is read from.

    Raises:
        InvalidInput: no such setting, given twice, or a value that does not fit; the sentence names it.
    """
    from koinon.privacy.programs.offer import settings_from, settings_table

    given: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or name in given:
            raise InvalidInput(f"--set takes NAME=VALUE, each name once; got {pair[:80]!r}")
        given[name] = _value(value)
    if function_file is not None:
        from koinon.cli.functions import read_function

        given["function"] = b64encode(read_function(function_file)).decode()
    return settings_table(offer, settings_from(offer, given))


def coded_columns(offer: "Offer", names: Sequence[str], target: str, told: dict[str, Any]) -> tuple[str, ...]:
    """Of these columns of data files those that the program takes for codes from 0 on.

    Raises:
        InvalidInput: settings name columns that are not there.
    """
    from koinon.privacy.programs.offer import Layout, decode_settings, settings_from
    from koinon.privacy.programs.preparation import whole_names
    from koinon.wire.committee import Column

    if not names:
        return ()
    settings = decode_settings(offer, settings_from(offer, told))
    columns = Layout((1,), tuple(Column(name, 0.0, 1.0) for name in names), target)
    return (*offer.codes(columns, settings), *whole_names(settings))


def _value(text: str) -> Any:
    """As TOML reads it; what is no TOML value is taken as text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, KeyError):
        return text


def list_programs(*, as_json: bool) -> None:
    """Every program with what it predicts, opens and can be told."""
    from koinon.journey.predictors import makes_model
    from koinon.kernel.ids import to_hex
    from koinon.privacy.programs import registry
    from koinon.privacy.programs.offer import settings_table, splits

    offers = [registry.offer(name) for name in registry.names()]
    if as_json:
        print_json(
            [
                {
                    "program": one.name,
                    "summary": one.summary,
                    "target": one.target.value,
                    "outputs": list(one.outputs),
                    "settings": settings_table(one, b""),
                    "makes_model": makes_model(one.name),
                    "splits": list(splits(one)),
                    "algorithm_hash": to_hex(registry.algorithm_hash(one.name)),
                }
                for one in offers
            ]
        )
        return
    print_table(
        ("program", "target", "owners may split", "outputs", "settings and defaults", "what it is"),
        [
            (
                one.name,
                one.target.value,
                ", ".join(splits(one)),
                ", ".join(one.outputs),
                ", ".join(f"{name}={value}" for name, value in settings_table(one, b"").items()),
                one.summary,
            )
            for one in offers
        ],
    )


def solver_facts(
    study: "StudyFile", rows: tuple[int, ...], round_trip_seconds: float, bits_per_second: float
) -> "tuple[StudyFile, dict[str, Any]]":
    """The study with a solver, where its file leaves that open, and what either way takes; nothing without a choice.

    Raises:
        Refused: there is no way to compute it.
    """
    from koinon.jobs.solvers import fastest, has_choice, solver_of, ways, with_solver
    from koinon.privacy.engines import Network
    from koinon.privacy.programs.owner_sums import AUTO

    if not has_choice(study):
        return study, {}
    asked, found = solver_of(study), ways(study, rows, Network(round_trip_seconds, bits_per_second))
    taken = fastest(found).solver if asked == AUTO else asked
    told = [
        {"solver": way.solver, "refusal": way.refusal}
        if way.cost is None
        else {
            "solver": way.solver,
            "seconds": round(way.cost.seconds, 2),
            "traffic_megabytes": round(way.cost.traffic_bytes / 1e6, 3),
            "rounds": way.cost.rounds,
            "refusal": "",
        }
        for way in found
    ]
    return with_solver(study, taken), {"asked": asked, "taken": taken, "ways": told}


def print_solver(facts: dict[str, Any]) -> None:
    """Both ways side by side."""
    why = "the faster one" if facts["asked"] == "auto" else "as the file says"
    console.print(f"\non rep4 owners share {facts['taken']}: {why}", style="bold")
    print_table(
        ("owners share", "seconds", "megabytes", "rounds", "not because"),
        [
            (
                way["solver"],
                *(str(way.get(name, "")) for name in ("seconds", "traffic_megabytes", "rounds")),
                way["refusal"],
            )
            for way in facts["ways"]
        ],
    )


def estimates(
    study: "StudyFile", rows: tuple[int, ...], round_trip_seconds: float, bits_per_second: float
) -> list[dict[str, Any]]:
    """What every engine would need for a study, or why it does not run it.

    Raises:
        InvalidInput: rows or settings out of range.
        Refused: with these rows the program could overflow.
    """
    from koinon.jobs.inputs import parameters
    from koinon.privacy.engines import ENGINES, Network
    from koinon.privacy.programs.offer import Parameters
    from koinon.privacy.programs.registry import load

    encoded = parameters(study, tuple(count + study.planted for count in rows))
    program, given = load(study.algorithm, encoded), decode(Parameters, encoded)
    network = Network(round_trip_seconds, bits_per_second)
    found = []
    for one in ENGINES:
        refusal = one.refusal(program.name, given) or one.missing()
        facts: dict[str, Any] = {"engine": one.name, "refusal": refusal}
        if not refusal:
            facts["learns"] = dict(one.learns(program.name, given))
            cost = one.cost(program, given, network)
            facts |= {
                "seconds": round(cost.seconds, 2),
                "traffic_megabytes": round(cost.traffic_bytes / 1e6, 3),
                "rounds": cost.rounds,
                "parties": one.adversary.parties,
                "corrupted": one.adversary.corrupted,
                "may_deviate": one.adversary.may_deviate,
                "protects": one.adversary.statement,
            }
        found.append(facts)
    return found


def show_result(folder: Path, number: int, tables_folder: Path | None, *, as_json: bool) -> None:
    """Print a study's opened tables, or write each to a CSV file.

    Raises:
        Refused: the study has no result yet.
        Unavailable: a file cannot be written.
    """
    tables = asyncio.run(_tables(folder, number))
    if tables_folder is not None:
        for table in tables:
            _write(table, tables_folder / f"{table.name}.csv")
        console.print(f"wrote {len(tables)} tables to {tables_folder}", soft_wrap=True)
    elif as_json:
        print_json(
            {
                table.name: {"rows": table.rows, "columns": table.columns, "values": table.values.tolist()}
                for table in tables
            }
        )
    else:
        for table in tables:
            console.print(f"\n{table.name}", style="bold")
            lines = zip(table.rows, table.values.tolist(), strict=True)
            print_table(("", *table.columns), [(label, *(f"{value:.6g}" for value in row)) for label, row in lines])


def write_model(folder: Path, number: int, path: Path) -> None:
    """Write a study's model to a new ONNX file, after comparing its answers with the trained formula's.

    Raises:
        InvalidInput: the program makes no model, or the study does not open all of it; or the file exists.
        Refused: the study has no result yet.
        Unavailable: the file cannot be written.
    """
    from koinon.journey.predictors import predictor_of

    if path.exists():
        raise InvalidInput(f"{path.name} exists already; choose another name or remove it")
    made = predictor_of(*asyncio.run(_trained(folder, number)))
    try:
        path.write_bytes(made.onnx)
    except OSError as problem:
        raise Unavailable(f"cannot write {path.name}: {problem.strerror}") from None
    console.print(
        f"wrote {path.name} ({made.task}); answers differ from the trained formula by at most {made.difference:.1g}",
        soft_wrap=True,
    )


async def _tables(folder: Path, number: int) -> "tuple[ResultTable, ...]":
    from koinon.jobs.inputs import layout
    from koinon.journey.predictors import arrays_of
    from koinon.privacy.programs import registry
    from koinon.privacy.programs.offer import decode_settings
    from koinon.privacy.programs.preparation import presented

    trained, study = await _trained(folder, number)
    offer = registry.offer(study.algorithm)
    settings = decode_settings(offer, study.settings)
    shared = tuple(rows + study.planted for rows in trained.training_rows)
    return presented(offer, arrays_of(trained), layout(study, shared), settings)


async def _trained(folder: Path, number: int) -> "tuple[Trained, StudyFile]":
    from koinon.jobs.study import SignedStudy, open_study
    from koinon.journey.results import Trained

    kept = await operator_of(folder).run("results.kept", orders.ResultsOf(str(number)), orders.Kept, silent)
    trained_bytes = dict(kept.results).get("train")
    if trained_bytes is None:
        raise Refused(f"study {number} has no result yet; run: koinon study train {number}")
    trained = decode(Trained, trained_bytes)
    return trained, open_study(decode(SignedStudy, trained.study.signed))


def _write(table: "ResultTable", path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["", *table.columns])
            for label, row in zip(table.rows, table.values.tolist(), strict=True):
                writer.writerow([label, *row])
    except OSError as problem:
        raise Unavailable(f"cannot write {path.name}: {problem.strerror}") from None
