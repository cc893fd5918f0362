"""The whole of it: ``koinon demo`` on eleven real processes, undisturbed and disturbed, on our ledger and on anvil."""

import csv
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
ANVIL_KEY = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
"""The first of the keys that anvil publishes in its own documentation."""
SPOILT = 3
"""Of the files in the order of their names, evaluators first: the last owner's."""
LONGEST_SECONDS = 420


def demo(folder: Path, *arguments: str) -> dict[str, Any]:
    """Run the demonstration and give its report; on failure show the nodes' last words."""
    network = folder / "demo"
    command = [sys.executable, "-m", "koinon.cli.main", "demo", "--json", "--folder", str(network)]
    finished = subprocess.run(
        [*command, "--report", str(folder / "report.json"), *arguments],
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        check=False,
    )
    journals = "\n".join(
        f"--- {path.parent.name}: " + "\n".join(path.read_text(errors="replace").splitlines()[-5:])
        for path in sorted(network.glob("network/*/node.log"))
    )
    assert finished.returncode == 0, f"{finished.stderr[-2000:]}\n{journals}"
    report: dict[str, Any] = json.loads(finished.stdout)
    assert report == json.loads((folder / "report.json").read_text())
    return report


def check_main_job(
    report: dict[str, Any], paid: tuple[str, ...] = ("company", "hospital-1", "hospital-2", "hospital-3")
) -> None:
    """What must hold of every run, whatever went wrong in it."""
    assert report["verified"]
    assert report["payments"]["conserved"]
    assert report["payments"]["calls"] > 0
    assert report["model"]["replicas"] >= 2
    assert len(report["endpoints"]) == 2
    assert len(set(report["study"]["committee"])) == 4
    assert len(set(report["trust_vector"]["evaluators"])) == 3
    assert "company" not in report["trust_vector"]["evaluators"]
    joint, pooled = report["scores"]["joint"], report["scores"]["pooled"]
    assert abs(joint["auc"] - pooled["auc"]) <= 0.005
    assert joint["log_loss"] - pooled["log_loss"] <= 0.03
    assert set(paid) <= {one["who"] for one in report["payments"]["payees"]}


def orphans(folder: Path) -> list[str]:
    """Processes that still work for the network of this folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if str(folder) in line and process.pid != os.getpid():
            found.append(line)
    return found


@pytest.fixture(scope="module")
def undisturbed() -> Iterator[tuple[Path, dict[str, Any]]]:
    with tempfile.TemporaryDirectory(prefix="koinon-") as folder:
        yield Path(folder), demo(Path(folder), "--effort", "0.5")


@pytest.mark.xdist_group("demo")
class TestUndisturbed:
    def test_the_main_job_ends_and_verifies(self, undisturbed: tuple[Path, dict[str, Any]]) -> None:
        _, report = undisturbed
        check_main_job(report)
        assert report["study"]["attempts"] == 1
        assert report["study"]["incidents"] == []

    def test_each_hospital_alone_is_visibly_worse(self, undisturbed: tuple[Path, dict[str, Any]]) -> None:
        scores = undisturbed[1]["scores"]
        for alone in scores["alone"].values():
            assert alone["auc"] < scores["joint"]["auc"] - 0.01
            assert alone["log_loss"] > scores["joint"]["log_loss"] + 0.05

    def test_no_process_is_left_behind(self, undisturbed: tuple[Path, dict[str, Any]]) -> None:
        assert orphans(undisturbed[0]) == []

    def test_no_value_of_any_row_is_in_a_journal_the_bundle_or_the_report(
        self, undisturbed: tuple[Path, dict[str, Any]]
    ) -> None:
        folder, _ = undisturbed
        needles: set[bytes] = set()
        for path in (folder / "demo" / "rows").glob("hospital-*.csv"):
            with path.open(newline="") as file:
                for row in list(csv.reader(file))[1:]:
                    # Two neighbouring cells as programs write them: one alone may stand anywhere by chance.
                    for left, right in pairwise(row[:-1]):
                        needles |= {f"{left}{between}{right}".encode() for between in (",", ", ")}
                        pair = (float(left), float(right))
                        needles |= {struct.pack(form, *pair) for form in ("<2d", "<2f")}
        needles = {needle for needle in needles if len(needle) >= 8 and len(set(needle)) > 4}
        assert len(needles) > 30_000
        texts = [path.read_bytes() for path in (folder / "demo").glob("network/*/node.log")]
        texts.append((folder / "report.json").read_bytes())
        with zipfile.ZipFile(folder / "report.zip") as bundle:
            texts += [bundle.read(name) for name in bundle.namelist()]
        everything = b"\n".join(texts)
        found = set()
        for length in {len(needle) for needle in needles}:
            wanted = {needle for needle in needles if len(needle) == length}
            windows = (everything[end - length : end] for end in range(length, len(everything) + 1))
            found |= {window for window in windows if window in wanted}
        assert found == set()

    def test_the_bundle_verifies_alone_and_any_change_is_named(
        self, undisturbed: tuple[Path, dict[str, Any]], tmp_path: Path
    ) -> None:
        from koinon.audit.bundle import verify

        bundle = undisturbed[0] / "report.zip"
        assert verify(bundle).holds
        data = bundle.read_bytes()
        for position in range(11, len(data), max(len(data) // 24, 1)):
            changed = bytearray(data)
            changed[position] ^= 0x10
            path = tmp_path / "changed.zip"
            path.write_bytes(changed)
            report = verify(path)
            assert not report.holds
            assert all(failure.detail for failure in report.failures)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder with a short name: a control socket's path has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="koinon-") as folder:
        yield Path(folder)


@pytest.mark.long
@pytest.mark.xdist_group("demo")
class TestDisturbed:
    def test_a_dead_committee_member_loses_stake_and_the_study_is_run_again(self, place: Path) -> None:
        report = demo(place, "--chaos", "kill", "--effort", "0.3")
        check_main_job(report)
        assert report["study"]["attempts"] >= 2
        silent = [one for one in report["study"]["incidents"] if one["kind"] == "silence"]
        assert len(silent) == 1
        assert float(silent[0]["slashed"]) > 0
        assert silent[0]["unpaid"][0] in report["disturbances"][0]
        assert silent[0]["unpaid"][0] not in report["study"]["committee"]

    def test_a_lie_is_caught_and_the_three_it_touches_go_unpaid(self, place: Path) -> None:
        report = demo(place, "--chaos", "lie", "--effort", "0.3")
        check_main_job(report)
        complaints = [one for one in report["study"]["incidents"] if one["kind"] == "complaint"]
        assert len(complaints) == 1
        assert len(complaints[0]["unpaid"]) == 3
        assert complaints[0]["slashed"] == "0"
        liar = report["disturbances"][0].split(",")[0]
        assert liar in complaints[0]["unpaid"]
        assert not set(complaints[0]["unpaid"]) & set(report["study"]["committee"])

    def test_a_dead_validator_changes_nothing_and_catches_up(self, place: Path) -> None:
        report = demo(place, "--chaos", "validator", "--effort", "0.3")
        check_main_job(report)
        assert report["study"]["incidents"] == []
        assert "return" in report["steps"]

    def test_it_runs_on_anybodys_files_and_pays_nothing_for_spoilt_ones(
        self, place: Path, undisturbed: tuple[Path, dict[str, Any]]
    ) -> None:
        """One bank's answers are somebody else's; the other two are paid its part."""
        own = place / "own"
        own.mkdir()
        for number, path in enumerate(sorted((undisturbed[0] / "demo" / "rows").glob("*.csv"))):
            name = "evaluators" if path.stem == "evaluators" else f"bank-{number}"
            with path.open(newline="") as file:
                rows = [[*row[:8], row[-1]] for row in csv.reader(file)]
            rows[0][-1] = "default"
            if number == SPOILT:
                answers = [row[-1] for row in rows[1:]]
                random.Random(1).shuffle(answers)
                rows[1:] = [[*row[:-1], answer] for row, answer in zip(rows[1:], answers, strict=True)]
            with (own / f"{name}.csv").open("w", newline="") as file:
                csv.writer(file).writerows(rows)
        report = demo(place, "--data", str(own), "--effort", "0.3", "--worth")
        check_main_job(report, paid=("company", "hospital-1", "hospital-2"))
        worth = report["study"]["worth"]
        assert worth["hospital-3"] < 0.1 * min(worth["hospital-1"], worth["hospital-2"])
        amounts = {one["who"]: float(one["amount"]) for one in report["payments"]["payees"]}
        assert amounts.get("hospital-3", 0.0) < 0.1 * min(amounts["hospital-1"], amounts["hospital-2"])


@pytest.mark.long
@pytest.mark.xdist_group("demo")
def test_hospitals_with_other_columns_of_the_same_patients_train_one_model(place: Path) -> None:
    report = demo(place, "--split", "columns", "--effort", "0.3")
    check_main_job(report)
    assert len(report["verification"]) == 17
    assert report["study"]["training_rows"] == [379, 379, 379]
    # Only the first knows who is ill; its own columns alone are visibly worse than all together.
    assert list(report["scores"]["alone"]) == ["hospital-1"]
    alone, joint = report["scores"]["alone"]["hospital-1"], report["scores"]["joint"]
    assert alone["auc"] < joint["auc"] - 0.01
    assert alone["log_loss"] > joint["log_loss"] + 0.05


@pytest.mark.long
@pytest.mark.xdist_group("demo")
def test_hospitals_train_one_model_where_their_rows_lie_sample(place: Path) -> None:
    report = demo(place, "--engine", "federated", "--effort", "0.05", "--calls", "20")
    check_main_job(report)
    assert report["study"]["engine"] == "federated"
    assert report["study"]["incidents"] == []
    assert "federated" in report["verification"]["study"]


@pytest.mark.long
@pytest.mark.xdist_group("demo")
def test_hospitals_make_one_model_of_encrypted_sums_sample(place: Path) -> None:
    report = demo(place, "--engine", "he", "--effort", "0.05", "--calls", "20")
    assert report["study"]["engine"] == "he"
    assert "he" in report["verification"]["study"].split()
    assert report["verified"]
    assert report["payments"]["conserved"]
    joint, pooled = report["scores"]["joint"], report["scores"]["pooled"]
    assert abs(joint["auc"] - pooled["auc"]) <= 0.005
    # Naive Bayes is over-confident on columns that depend on one another, the same on pooled rows.
    assert abs(joint["log_loss"] - pooled["log_loss"]) <= 0.05


@pytest.mark.long
@pytest.mark.node
@pytest.mark.xdist_group("demo")
def test_the_same_job_runs_on_an_outside_chain(place: Path, anvil: str) -> None:
    key = place / "key"
    key.write_text(ANVIL_KEY)
    report = demo(place, "--chain", anvil, "--chain-key", str(key), "--effort", "0.3")
    check_main_job(report)
    assert report["chain"] == anvil


BAD = [
    (["--chain", "http://127.0.0.1:1"], 2, "go together"),
    (["--chaos", "validator", "--chain", "http://127.0.0.1:1", "--chain-key", __file__], 2, "needs our own ledger"),
    (["--data", "{empty}"], 2, "must hold 3 CSV or Parquet files"),
    (["--data", "{rows}", "--target", "nothing"], 2, "no target column 'nothing'"),
    (["--target", "nothing"], 2, "files of your own with --data"),
    (["--data", "{undecided}"], 2, "name the column to predict with --target"),
    (["--group", "colour"], 2, "colour"),
    (["--split", "columns", "--data", "{rows}"], 2, "leave out --data"),
    (["--split", "columns", "--group", "colour"], 2, "colour"),
    (["--engine", "federated", "--split", "columns"], 2, "leave --engine at rep4"),
    (["--engine", "federated", "--chaos", "lie"], 2, "leave --engine at rep4"),
    (["--engine", "federated", "--worth"], 2, "leave --engine at rep4"),
    (["--split", "columns", "--worth"], 2, "--split at rows"),
]


@pytest.mark.parametrize(("arguments", "code", "sentence"), BAD, ids=lambda value: str(value)[:40])
def test_bad_input_gets_one_sentence_and_leaves_nothing(
    tmp_path: Path, arguments: list[str], code: int, sentence: str
) -> None:
    from koinon.data.demonstration import write_demo

    empty, rows, undecided = tmp_path / "empty", tmp_path / "rows", tmp_path / "undecided"
    empty.mkdir()
    write_demo(rows, 1)
    undecided.mkdir()
    for name in ("a", "b", "c", "evaluators"):
        (undecided / f"{name}.csv").write_text("sick,smoker,age\n0,1,40.5\n1,0,50.5\n")
    given = [one.format(empty=empty, rows=rows, undecided=undecided) for one in arguments]
    command = [sys.executable, "-m", "koinon.cli.main", "demo", "--folder", str(tmp_path / "demo"), *given]
    finished = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        check=False,
    )
    assert finished.returncode == code
    assert sentence in finished.stderr
    assert len(finished.stderr.strip().splitlines()) <= 3
    assert not (tmp_path / "demo" / "network" / "network.json").exists()
    shutil.rmtree(tmp_path / "demo", ignore_errors=True)
