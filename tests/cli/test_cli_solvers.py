"""Whether owners share rows or sums of their own, as a draft says it and an estimate shows it."""

import json
from pathlib import Path

import pytest
from cli_terminal import koinon


@pytest.fixture
def logistic(tmp_path: Path, ranges: Path, cards: list[Path]) -> Path:
    path = tmp_path / "logistic.toml"
    owners: list[str | Path] = [word for one in cards for word in ("--owner", one)]
    made = koinon(
        *("study", "new", path, "--from", ranges, *owners, "--title", "Risk", "--purpose", "tumour risk"),
        *("--open", "coefficients", "--open", "intercept"),
    )
    assert made.code == 0
    return path


def test_a_new_draft_leaves_the_way_open_and_its_estimate_shows_both(logistic: Path) -> None:
    assert 'solver = "auto"' in logistic.read_text("utf-8")
    few = json.loads(koinon("study", "estimate", logistic, "--json").out)["solver"]
    assert (few["asked"], few["taken"]) == ("auto", "rows")
    assert "and one has 20" in few["ways"][1]["refusal"]
    told = koinon("study", "estimate", logistic, *("--rows", "400") * 3, "--json")
    many = json.loads(told.out)
    assert many["solver"]["taken"] == "sums"
    rows, sums = many["solver"]["ways"]
    assert (rows["solver"], sums["solver"]) == ("rows", "sums")
    assert sums["seconds"] < rows["seconds"]
    rep4 = many["engines"][0]
    assert (rep4["seconds"], rep4["rounds"]) == (sums["seconds"], sums["rounds"])
    read = koinon("study", "estimate", logistic, *("--rows", "400") * 3).out
    assert "on rep4 owners share sums: the faster one" in read
    assert str(rows["seconds"]) in read
    assert str(sums["seconds"]) in read


def test_a_way_that_was_named_is_kept(logistic: Path) -> None:
    text = logistic.read_text("utf-8")
    logistic.write_text(text.replace('solver = "auto"', 'solver = "rows"'), "utf-8")
    told = json.loads(koinon("study", "estimate", logistic, *("--rows", "400") * 3, "--json").out)
    assert (told["solver"]["asked"], told["solver"]["taken"]) == ("rows", "rows")
    assert told["engines"][0]["seconds"] == told["solver"]["ways"][0]["seconds"]


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('solver = "auto"', 'solver = "best"', "a solver is one of rows, sums, auto; got 'best'"),
        ('solver = "auto"', "solver = 3", "the setting 'solver' does not fit"),
        ('solver = "auto"', 'solver = "sums"\nscale = "standard"', "columns are prepared among shares of rows"),
        ('engine = "rep4"', 'engine = "federated"', "the engine federated adds up sums of its own"),
    ],
)
def test_a_draft_that_names_no_way_is_refused(logistic: Path, old: str, new: str, sentence: str) -> None:
    text = logistic.read_text("utf-8")
    assert old in text
    if "scale" in new:
        text = text.replace('scale = ""\n', "")
    logistic.write_text(text.replace(old, new), "utf-8")
    refused = koinon("study", "estimate", logistic)
    assert refused.code == 2
    assert sentence in refused.sentence()
