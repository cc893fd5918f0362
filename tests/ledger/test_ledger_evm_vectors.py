"""A fixed part of Ethereum's official state tests, on both execution paths, and the command that runs them."""

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from koinon.ledger.evm.statetest.__main__ import main

SAMPLE = Path(__file__).parent / "evm_vectors" / "cancun-sample.tar.xz"


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vectors")
    with tarfile.open(SAMPLE) as archive:
        archive.extractall(folder, filter="data")
    return folder


def test_one_file_of_each_folder_passes(vectors: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = sorted({path.parent for path in vectors.rglob("*.json")})
    files = [str(min(folder.glob("*.json"))) for folder in folders]
    assert main([*files, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["passed"] >= len(files) == 79


@pytest.mark.long
@pytest.mark.long
@pytest.mark.parametrize("mode", ["interpret", "compile"])
def test_the_sample_passes(vectors: Path, mode: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = main([str(vectors), "--mode", mode, "--json"])
    report = json.loads(capsys.readouterr().out)
    failures = [failure for file in report["files"] for failure in file["failures"]]
    assert (code, failures) == (0, [])
    assert (report["passed"], len(report["files"])) == (955, 207)


def _spoil(change: Callable[[dict[str, Any]], None], vectors: Path, folder: Path) -> Path:
    """A copy of one test with something about it changed."""
    content = json.loads((vectors / "stExample" / "indexesOmitExample.json").read_text())
    change(next(iter(content.values())))
    path = folder / "spoiled.json"
    path.write_text(json.dumps(content))
    return path


SPOILED: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "root": (lambda test: test["post"]["Cancun"][0].update(hash="0x" + "11" * 32), "state root"),
    "logs": (lambda test: test["post"]["Cancun"][0].update(logs="0x" + "11" * 32), "logs hash"),
    "balance": (lambda test: next(iter(test["pre"].values())).update(balance="0x77359400000"), "state root"),
    "exception": (lambda test: test["post"]["Cancun"][0].update(expectException="X"), "not refused; expected X"),
    "gas": (lambda test: test["transaction"].update(gasLimit=["0x5207"]), "needs at least"),
    "no post": (lambda test: test.pop("post"), "cannot be read: not a state test"),
    "no environment": (lambda test: test["env"].pop("currentNumber"), "cannot be read: not a state test"),
}


@pytest.mark.parametrize("what", SPOILED)
def test_what_differs_fails_and_says_how(
    what: str, vectors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, says = SPOILED[what]
    assert main([str(_spoil(change, vectors, tmp_path))]) == 1
    assert says in capsys.readouterr().out


def test_what_is_no_state_test_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, content in enumerate((b"[1]", b"{", b"\xff\xfe", b'{"a": {}}')):
        path = tmp_path / f"{number}.json"
        path.write_bytes(content)
        assert main([str(path)]) == 1
        assert "cannot be read" in capsys.readouterr().out
    assert main([str(tmp_path / "missing.json")]) == 1
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path / "empty")]) == 2
