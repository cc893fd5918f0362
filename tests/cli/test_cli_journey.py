"""The main job, every step ordered from the command line at a network of eleven processes: what a user does by hand.

One network and one test for each program, because each step stands on the one before.
"""

import csv
import json
import os
import re
import signal
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from cli_terminal import Ended, koinon, run, start
from msgspec.structs import replace

from koinon.data.demonstration import write_demo
from koinon.jobs.disclosed import read_disclosed
from koinon.kernel.codec import encode
from koinon.wire.committee import OutputPackage

NAME = "tumour-risk.clinic"
OWNERS = ("hospital-1", "hospital-2", "hospital-3")
ASKED = 4


class Place:
    """The network's folder and the files beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.network = folder / "n"
        self.rows = write_demo(folder / "rows", 1)
        self.study = folder / "study.toml"
        self.card = folder / "card.json"
        self.key = folder / "buyer.key"
        self.bundle = folder / "bundle.zip"
        self.disclosed = folder / "result.koinon"

    def home(self, name: str) -> Path:
        return self.network / name

    @property
    def company(self) -> Path:
        return self.home("company")


def facts(*arguments: str | Path) -> Any:
    ended = koinon(*arguments, "--json")
    assert ended.code == 0, ended.err
    return json.loads(ended.out)


def done(ended: Ended) -> None:
    assert ended.code == 0, ended.err


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    # A control socket's path is short, and pytest's folders are not always.
    made = Place(tmp_path_factory.mktemp("j"))
    done(run("network", "up", "--folder", made.network))
    try:
        yield made
    finally:
        run("network", "down", "--folder", made.network)


def test_main_job_by_hand(place: Place) -> None:
    a_card_is_all_that_strangers_need(place)
    owners_agree_on_a_draft_and_add_their_rows(place)
    an_interrupted_proposal_is_trained_all_the_same(place)
    steps_cannot_be_skipped(place)
    a_restarted_publisher_goes_on_where_it_was(place)
    the_model_goes_to_market(place)
    the_rows_are_described_without_being_shown(place)
    a_stranger_calls_and_pays_exactly(place)
    a_stranger_audits_and_anyone_verifies(place)
    a_shown_result_is_checked_against_the_bundle(place)
    a_changed_byte_is_named(place)
    strangers_multiply_for_the_company(place)
    the_site_shows_the_network(place)


@pytest.mark.long
def test_a_tree_goes_to_market(place: Place) -> None:
    """Another program than the demonstration's: its model is measured, served, called and audited like any other."""
    a_card_is_all_that_strangers_need(place)
    place_rows(place, "--program", "decision-tree/1", "--set", "depth=4")
    for name in OWNERS:
        allow(place.home(name), "decision-tree/1", ("columns", "thresholds", "leaves"))
    facts("study", "propose", place.study, "--home", place.company)
    trained = facts("study", "train", "1", "--home", place.company)
    assert trained["outputs"] == {"columns": [1, 15], "thresholds": [1, 15], "leaves": [1, 16]}
    the_model_goes_to_market(place)
    a_stranger_calls_and_pays_exactly(place)
    a_stranger_audits_and_anyone_verifies(place)


def a_card_is_all_that_strangers_need(place: Place) -> None:
    urls = facts("suite", "show", "--home", place.company)
    assert urls["rpc"] == []
    rpc = place.company.joinpath("node.toml").read_text("utf-8").partition('rpc = ["')[2].partition('"')[0]
    place.card.write_text(koinon("suite", "show", "--home", place.company, "--rpc", rpc, "--json").out, "utf-8")
    done(koinon("suite", "adopt", place.card, "--home", place.home("provider-1")))


def owners_agree_on_a_draft_and_add_their_rows(place: Place) -> None:
    place_rows(place)
    again = koinon("data", "add", place.rows["evaluators"], "--home", place.company, "--target", "malignant")
    assert again.code == 2
    assert "offers no task" in again.err


def place_rows(place: Place, *options: str) -> None:
    """The draft of a study, and everybody's rows for it."""
    ranges = place.folder / "all.csv"
    tables = [list(csv.reader(path.read_text("utf-8").splitlines())) for path in place.rows.values()]
    with ranges.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([tables[0][0], *(row for table in tables for row in table[1:])])
    owners: list[str | Path] = [word for name in OWNERS for word in ("--owner", place.home(name) / "identity.json")]
    done(
        koinon(
            *("study", "new", place.study, "--from", ranges, "--target", "malignant", *owners),
            *("--title", "Tumour risk", "--purpose", "Tumour risk, for clinical decision support"),
            *options,
        )
    )
    for name in OWNERS:
        added = facts("data", "add", place.rows[name], "--ranges", place.study, "--home", place.home(name))
        assert added["asset"] > 0
        assert [one["data_set"] for one in facts("data", "list", "--home", place.home(name))] == [added["data_set"]]
    for number in range(1, 8):
        home = place.home(f"provider-{number}")
        rows = place.rows["evaluators"]
        assert "asset" not in facts("data", "add", rows, "--evaluation", "--ranges", place.study, "--home", home)


def an_interrupted_proposal_is_trained_all_the_same(place: Place) -> None:
    """Ctrl-C ends the waiting, not the study: its owners sign, and training takes it up from the chain."""
    with start("study", "propose", place.study, "--home", place.company) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "proposed" in line:
                break
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    if process.returncode != 0:  # all three may have signed before the signal arrived
        assert process.returncode == 130
        assert "stays there" in err
    shown = facts("study", "show", "1", "--suite", place.card)
    while shown["consents"] != "3 of 3":
        shown = facts("study", "show", "1", "--suite", place.card)
        assert shown["phase"] in ("proposed", "locked")
    trained = facts("study", "train", "1", "--home", place.company)
    assert len(trained["committee"]) == 4
    completed = facts("study", "show", "1", "--suite", place.card)
    assert completed["phase"] == "completed"
    assert completed["output_digest"] == trained["output_digest"]
    done(koinon("study", "disclose", "1", "--home", place.company, "-o", place.disclosed))
    opened = facts("study", "opened", place.disclosed, "--suite", place.card)
    tables = facts("study", "result", "1", "--home", place.company)
    assert opened["holds"]
    assert set(opened["outputs"]) == set(tables)
    assert [one["rows"] for one in opened["owners"]] == trained["training_rows"]
    assert [one["event"] for one in completed["events"]][:2] == ["Proposed", "Consented"]


def steps_cannot_be_skipped(place: Place) -> None:
    early = koinon("model", "serve", "1", "--home", place.company)
    assert early.code == 3
    assert "koinon model name 1" in early.sentence()
    unknown = koinon("model", "harden", "no.body", "--home", place.company)
    assert (unknown.code, "'no.body'" in unknown.sentence()) == (3, True)
    absent = koinon("study", "train", "99", "--home", place.company)
    assert (absent.code, "99" in absent.sentence()) == (3, True)
    for arguments in (("model", "show", "no.body"), ("study", "show", "99")):
        ended = koinon(*arguments, "--suite", place.card)
        assert (ended.code, len(ended.err.splitlines())) == (3, 1)


def a_restarted_publisher_goes_on_where_it_was(place: Place) -> None:
    before = facts("study", "train", "1", "--home", place.company)
    done(run("network", "down", "--folder", place.network))
    done(run("network", "up", "--folder", place.network))
    assert facts("study", "train", "1", "--home", place.company) == before
    assert facts("study", "train", "1", "--again", "--home", place.company) == before


def the_model_goes_to_market(place: Place) -> None:
    home = place.company
    done(koinon("study", "result", "1", "--onnx", place.folder / "model.onnx", "--home", home))
    published = facts("model", "publish", "1", "--name", NAME, "--home", home)
    assert published["weights"] == "0x" + sha256((place.folder / "model.onnx").read_bytes()).hexdigest()
    hardened = facts("model", "harden", NAME, "--home", home)
    validated = facts("model", "validate", NAME, "--effort", "0.05", "--home", home)
    assert len(validated["evaluators"]) == 3
    assert validated["vector"]["auc"][0] > 0.9
    facts("model", "name", "1", "--name", NAME, "--home", home)
    served = facts("model", "serve", NAME, "--home", home)
    shown = facts("model", "show", NAME, "--suite", place.card)
    assert len(published["replicas"]) >= 2
    assert shown["weights"] == hardened["weights"]
    assert shown["vector"] == validated["vector"]
    assert [one["url"] for one in shown["endpoints"]] == [one["url"] for one in served["endpoints"]]


def the_rows_are_described_without_being_shown(place: Place) -> None:
    """Another program on the same network: no target, no model, a table of numbers for the result party."""
    study = place.folder / "statistics.toml"
    owners: list[str | Path] = [word for name in OWNERS for word in ("--owner", place.home(name) / "identity.json")]
    done(
        koinon(
            *("study", "new", study, "--from", place.folder / "all.csv", "--program", "statistics/1", *owners),
            *("--set", "bins=4", "--open", "mean", "--open", "correlation", "--open", "histogram"),
            *("--title", "Tumours, described", "--purpose", "Tumour risk: what the rows look like"),
        )
    )
    near, far = (facts("study", "estimate", study, "--rtt", rtt)["engines"] for rtt in ("0.2", "50"))
    assert [one["engine"] for one in near if not one["refusal"]] == ["rep4"]
    assert 0 < near[0]["rounds"] == far[0]["rounds"]
    # Every round waits for half a round trip, and so do shares on their way in and outputs on theirs out.
    assert abs(far[0]["seconds"] - near[0]["seconds"] - (near[0]["rounds"] + 2) * 0.0249) < 0.02
    assert (near[0]["parties"], near[0]["corrupted"], near[0]["may_deviate"]) == (4, 1, True)
    for name in OWNERS:
        facts("data", "add", place.rows[name], "--ranges", study, "--home", place.home(name))
    refused = koinon("study", "propose", study, "--home", place.company)
    assert (refused.code, "does not allow the program statistics/1" in refused.err) == (3, True)
    for name in OWNERS:
        allow(place.home(name), "statistics/1", ("mean", "correlation", "histogram"))
    number = facts("study", "propose", study, "--home", place.company)["study"]
    trained = facts("study", "train", str(number), "--home", place.company)
    assert trained["outputs"] == {"mean": [31], "correlation": [31, 31], "histogram": [31, 4]}
    held = [list(csv.reader(place.rows[name].read_text("utf-8").splitlines())) for name in OWNERS]
    header, pooled = held[0][0], np.array([row for table in held for row in table[1:]], np.float64)
    found = facts("study", "result", str(number), "--home", place.company)
    assert found["mean"]["rows"] == header
    means = np.array(found["mean"]["values"])[:, 0]
    assert np.abs(means - pooled.mean(0)).max() < 1e-2
    assert np.abs(np.array(found["correlation"]["values"]) - np.corrcoef(pooled.T)).max() < 1e-2
    counts = np.array(found["histogram"]["values"])
    assert (counts.sum(1) <= len(pooled)).all()
    assert not ((counts > 0) & (counts < 5)).any()
    done(koinon("study", "result", str(number), "--home", place.company, "--csv", place.folder / "tables"))
    assert (place.folder / "tables" / "mean.csv").read_text("utf-8").startswith(",mean\n")
    no_model = place.folder / "no.onnx"
    unwritten = koinon("study", "result", str(number), "--home", place.company, "--onnx", no_model)
    assert (unwritten.code, no_model.exists()) == (2, False)
    unpublished = koinon("model", "publish", str(number), "--name", "no.model", "--home", place.company)
    assert (unpublished.code, "makes no model" in unpublished.err) == (2, True)


def allow(home: Path, program: str, outputs: Sequence[str]) -> None:
    """An owner's policy for one program, whatever else it says."""
    policy = home / "policy.toml"
    text = re.sub(r"(?m)^allowed_programs = .*$", f'allowed_programs = ["{program}"]', policy.read_text("utf-8"))
    policy.write_text(re.sub(r"(?m)^allowed_outputs = .*$", f"allowed_outputs = {json.dumps(outputs)}", text))


def a_stranger_calls_and_pays_exactly(place: Place) -> None:
    header, *rows = csv.reader(place.rows["evaluators"].read_text("utf-8").splitlines())
    backwards = place.folder / "ask.csv"
    with backwards.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([row[::-1] for row in [header, *rows[:ASKED]]])
    buyer = facts("account", "new", "--key", place.key)["account"]
    asking = ("call", NAME, "--rows", backwards, "--key", place.key, "--suite", place.card)
    poor = koinon(*asking)
    assert (poor.code, "nothing was sent" in poor.sentence()) == (3, True)
    done(koinon("account", "pay", buyer, "--tokens", "10", "--coins", "1", "--home", place.company))
    dear = koinon(*asking, "--limit", "5")
    assert (dear.code, "5.04" in dear.sentence()) == (3, True)
    bought = facts(*asking)
    # The 0/1 target, last in the file's rows, says nothing; the columns stand in another order than the model's.
    target = header.index("malignant")
    right = sum(
        (one["answer"] > 0.5) == (row[target] == "1") for one, row in zip(bought["answers"], rows, strict=False)
    )
    assert right >= ASKED - 1
    assert len({one["receipt_hash"] for one in bought["answers"]}) == ASKED
    assert bought["spent"] == "5.04"
    assert facts("account", "show", buyer, "--suite", place.card)["tokens"] == "4.96"


def a_stranger_audits_and_anyone_verifies(place: Place) -> None:
    exported = facts("audit", NAME, "-o", place.bundle, "--suite", place.card)
    assert exported["study"] == 1
    verified = run("verify", place.bundle, "--json")
    assert verified.code == 0
    alone = place.bundle.with_name("study.zip")
    assert facts("audit", "--study", "1", "-o", alone, "--suite", place.card)["model"] == 0
    assert facts("verify", alone)["about"] == "study 1 alone: no model, no name and no answers"
    assert run("audit", NAME, "--study", "1", "-o", place.bundle.with_name("x.zip"), "--suite", place.card).code == 2
    report = json.loads(verified.out)
    assert report["holds"]
    assert len(report["checks"]) == 17
    assert len(report["trusts"]) == 2
    validators = next(word for word in report["trusts"][0].split() if word.startswith("0x"))
    done(koinon("verify", place.bundle, "--validators", validators))
    other = koinon("verify", place.bundle, "--validators", "0x" + "00" * 32)
    assert (other.code, "validators" in other.err) == (4, True)


def a_shown_result_is_checked_against_the_bundle(place: Place) -> None:
    """Offline: what four processes computed, what the company shows of it, and who is paid by it on the chain."""
    for bundle, paid in ((place.bundle, "as paid"), (place.bundle.with_name("study.zip"), "owed")):
        report = facts("verify", bundle, "--result", place.disclosed)
        told = report["checks"][-1]
        assert (report["holds"], told["check"], told["holds"]) == (True, "disclosed", True)
        assert told["detail"].startswith(f"coefficients and intercept and worth; owners' shares {paid}: ")
    shown = read_disclosed(place.disclosed.read_bytes())
    first, *others = shown.manifests
    more_rows = replace(first, rows=first.rows + 1)
    title = shown.study.study.replace(b"Tumour risk", b"Tumour risc", 1)
    for number, (changed, sentence) in enumerate(
        (
            (replace(shown, packages=with_a_digit_more(shown.packages)), "no holder opened component 0"),
            (replace(shown, manifests=(more_rows, *others)), "signature"),
            (replace(shown, study=replace(shown.study, study=title)), "study file"),
        )
    ):
        file = place.folder / f"changed-{number}.koinon"
        file.write_bytes(encode(changed))
        ended = koinon("verify", place.bundle, "--result", file, "--json")
        assert ended.code == 4, ended.out
        failed = [one for one in json.loads(ended.out)["checks"] if not one["holds"]]
        assert [one["check"] for one in failed] == ["disclosed"]
        assert sentence in failed[0]["detail"]


def with_a_digit_more(packages: Sequence[OutputPackage]) -> tuple[OutputPackage, ...]:
    """The packages of a result whose first number is larger by 2⁻⁸, wherever its component 0 stands in them."""
    changed = []
    for package in packages:
        components = []
        for component in package.components:
            words = np.frombuffer(component.values, "<u8").copy()
            if component.index == 0:
                words[0] += np.uint64(1 << (package.fraction_bits - 8))
            components.append(replace(component, values=words.tobytes()))
        changed.append(replace(package, components=tuple(components)))
    return tuple(changed)


def a_changed_byte_is_named(place: Place) -> None:
    data = bytearray(place.bundle.read_bytes())
    data[len(data) // 2] ^= 1
    changed = place.folder / "changed.zip"
    changed.write_bytes(data)
    ended = koinon("verify", changed)
    assert ended.code == 4
    assert "FAILS" in ended.out
    assert "changed.zip does not hold" in ended.err


def strangers_multiply_for_the_company(place: Place) -> None:
    """On the network's own chain, whose Products contract the company deploys."""
    random = np.random.default_rng(7)
    left, right = random.normal(size=(40, 30)), random.normal(size=(30, 20))
    for name, matrix in (("left", left), ("right", right)):
        np.save(place.folder / f"{name}.npy", matrix)
    files = (place.folder / "left.npy", place.folder / "right.npy", "--fraction-bits", "24")
    homes = [place.home(f"provider-{number}") for number in (1, 2, 3)]
    workers: list[str | Path] = [word for home in homes for word in ("--worker", home / "identity.json")]
    for home in homes[1:]:
        done(koinon("model", "work", "--bond", "20", "--home", home))
    for name, options, expected in (("seen", (), 1), ("hidden", ("--hide", "left"), 2)):
        out = place.folder / f"{name}.npy"
        told = facts("model", "multiply", *files, *options, "-o", out, *workers, "--home", place.company)
        assert (len(told["workers"]), len(told["silent"]), told["wrong"]) == (expected, 1, [])
        np.testing.assert_allclose(np.load(out), left @ right, atol=1e-5)
    again = koinon("model", "multiply", *files, "-o", place.folder / "seen.npy", *workers, "--home", place.company)
    assert (again.code, "seen.npy exists already" in again.sentence()) == (2, True)


def the_site_shows_the_network(place: Place) -> None:
    with start("site", "--folder", place.network, "--port", "0") as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[0]
        page = httpx.get(url, timeout=120)
        models = httpx.get(f"{url}/models", timeout=120)
        os.kill(process.pid, signal.SIGINT)
        process.communicate(timeout=60)
    assert page.status_code == models.status_code == 200
    assert NAME in models.text
    assert all(name in page.text for name in OWNERS)  # names come from the nodes; the chain knows accounts only
    assert process.returncode == 0
