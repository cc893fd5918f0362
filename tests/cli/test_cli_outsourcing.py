"""What ``koinon model outsource`` and ``multiply`` say before anything is paid for, and to what cannot be done."""

import json
from pathlib import Path

import numpy as np
import pytest
from cli_terminal import koinon

from koinon.models.onnx_export import LogisticParameters, export_logistic


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    low, high = np.zeros(4), np.ones(4)
    (tmp_path / "model.onnx").write_bytes(export_logistic(LogisticParameters(low, high, np.arange(1.0, 5.0), 0.5)))
    (tmp_path / "rows.csv").write_text("a,b,c,d\n" + "0.1,0.2,0.3,0.4\n" * 25)
    return tmp_path


def arguments(folder: Path, workers: int, *more: str) -> list[str | Path]:
    cards = [word for number in range(workers) for word in ("--worker", folder / f"{number}.json")]
    return [
        "model",
        "outsource",
        folder / "model.onnx",
        "--rows",
        folder / "rows.csv",
        *cards,
        "--piece",
        "10",
        "--home",
        folder,
        *more,
    ]


def test_an_estimate_asks_no_node_and_says_what_each_worker_is_shown(folder: Path) -> None:
    told = {}
    for split in ("rows", "model"):
        ended = koinon(*arguments(folder, 4, "--split", split, "--estimate", "--json"))
        assert ended.code == 0, ended.err
        told[split] = json.loads(ended.out)
    assert told["rows"] == {
        "pieces": 3,
        "tokens": "0.6",
        "parts_of_the_model": 1,
        "parts_a_worker_sees": 1,
        "parts_a_worker_sees_at_most": 1,
        "products_in_an_answer": 4,
        "products_with_the_whole_model": 4,
    }
    assert told["model"] == {
        "pieces": 12,
        "tokens": "2.4",
        "parts_of_the_model": 4,
        "parts_a_worker_sees": 2,
        "parts_a_worker_sees_at_most": 3,
        "products_in_an_answer": 1,
        "products_with_the_whole_model": 4,
    }


def test_what_cannot_be_split_is_refused_with_one_sentence(folder: Path) -> None:
    few = koinon(*arguments(folder, 2, "--split", "model", "--estimate"))
    assert (few.code, "2 workers are too few for none of them to see the whole model" in few.sentence()) == (2, True)
    (folder / "rows.csv").write_text("a,b\n1,2\n")
    narrow = koinon(*arguments(folder, 4, "--estimate"))
    assert (narrow.code, "takes rows of 4 numbers; the file has 2 columns" in narrow.sentence()) == (2, True)
    unknown = koinon(*arguments(folder, 4, "--split", "columns"))
    assert unknown.code == 2
    assert "'columns' is not one of 'rows', 'model'" in unknown.err
