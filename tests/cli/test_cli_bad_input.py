"""Bad input: one clear sentence, the documented exit code, and nothing changed. No command here reaches a network."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_terminal import Ended, koinon, run

CONTRACTS = ("token", "providers", "studies", "assets", "evaluations", "names", "market", "receipts", "judgements")
CARD = {
    "rpc": ["http://127.0.0.1:9"],
    "contracts": {name: "0x" + f"{place:040x}" for place, name in enumerate(CONTRACTS)},
}


def written(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


def card(path: Path, **changes: object) -> Path:
    return written(path, json.dumps({**CARD, **changes}))


def key(path: Path, text: str = "11" * 32, mode: int = 0o600) -> Path:
    written(path, text).chmod(mode)
    return path


# Name of the case → (command from a folder with a home, exit code, what the sentence must name).
CASES: dict[str, tuple[Callable[[Path], list[str | Path]], int, str]] = {
    "no such command": (lambda _: ["fly"], 2, "fly"),
    "unknown option": (lambda _: ["verify", "--fast", "b.zip"], 2, "--fast"),
    "init into a home": (lambda p: ["node", "init", "--home", p / "home", "--name", "x", "--role", "data"], 2, "home"),
    "start what is no home": (lambda p: ["node", "start", "--home", p / "none"], 2, "node.toml"),
    "join what is no home": (lambda p: ["node", "join", "--home", p / "none"], 2, "none"),
    "join with an odd stake": (lambda p: ["node", "join", "--home", p / "home", "--stake", "1e3"], 2, "1e3"),
    "status of a node at rest": (lambda p: ["node", "status", "--home", p / "home"], 5, "koinon node start"),
    "status of no network": (lambda p: ["network", "status", "--folder", p / "none"], 2, "koinon network up"),
    "add to what is no home": (
        lambda p: ["data", "add", p / "x.csv", "--home", p / "none", "--target", "t"],
        2,
        "none",
    ),
    "add a missing file": (lambda p: ["data", "add", p / "x.csv", "--home", p / "home", "--target", "t"], 5, "x.csv"),
    "add without a target": (
        lambda p: ["data", "add", written(p / "x.csv", "a,b\n1,2\n"), "--home", p / "home"],
        2,
        "--target",
    ),
    "add with ranges that are none": (
        lambda p: [
            *("data", "add", written(p / "x.csv", "a,b\n1,2\n"), "--home", p / "home"),
            *("--ranges", written(p / "r.toml", "target = 'b'\n")),
        ],
        2,
        "[[columns]]",
    ),
    "add with a range upside down": (
        lambda p: [
            *("data", "add", written(p / "x.csv", "a,b\n1,2\n"), "--home", p / "home", "--ranges"),
            written(p / "r.toml", "target = 'b'\n[[columns]]\nname = 'a'\nlow = 2\nhigh = 1\n"),
        ],
        2,
        "'a'",
    ),
    "add with a range of words": (
        lambda p: [
            *("data", "add", written(p / "x.csv", "a,b\n1,2\n"), "--home", p / "home", "--ranges"),
            written(p / "r.toml", "target = 'b'\n[[columns]]\nname = 'a'\nlow = 'small'\nhigh = 1\n"),
        ],
        2,
        "'a'",
    ),
    "add what is no table": (
        lambda p: ["data", "add", written(p / "x.txt", "a"), "--home", p / "home", "--target", "a"],
        2,
        "x.txt",
    ),
    "list what is no home": (lambda p: ["data", "list", "--home", p / "none"], 2, "none"),
    "a study from a missing card": (
        lambda p: [
            *("study", "new", p / "s.toml", "--from", p / "ranges.toml", "--owner", p / "lost.json"),
            *("--title", "t", "--purpose", "p"),
        ],
        2,
        "lost.json",
    ),
    "a model shared among three": (
        lambda p: [
            *("model", "share", p / "m.onnx", "--home", p / "home", "--name", "risk"),
            *(["--member", p / "home" / "identity.json"] * 3),
        ],
        2,
        "four nodes",
    ),
    "a shared model under no id": (
        lambda p: [
            *("model", "ask", "0x12", "--home", p / "home", "--rows", p / "r.csv"),
            *("--at", p / "home" / "identity.json"),
        ],
        2,
        "64 hexadecimal digits",
    ),
    "a study with one owner": (
        lambda p: [
            *("study", "new", p / "s.toml", "--from", p / "ranges.toml", "--owner", p / "home" / "identity.json"),
            *("--title", "t", "--purpose", "p"),
        ],
        2,
        "2 to 16 data owners",
    ),
    "a study whose group is no column": (
        lambda p: [
            *("study", "new", p / "s.toml", "--from", p / "ranges.toml", "--owner", p / "home" / "identity.json"),
            *("--title", "t", "--purpose", "p", "--group", "height"),
        ],
        2,
        "'height'",
    ),
    "estimate a missing file": (lambda p: ["study", "estimate", p / "s.toml"], 2, "s.toml"),
    "estimate what is no TOML": (lambda p: ["study", "estimate", written(p / "s.toml", "= =")], 2, "not TOML"),
    "propose what is no study": (
        lambda p: ["study", "propose", written(p / "s.toml", "title = 'x'\n"), "--home", p / "home"],
        2,
        "key",
    ),
    "train at what is no home": (lambda p: ["study", "train", "1", "--home", p / "none"], 2, "none"),
    "train at a node at rest": (lambda p: ["study", "train", "1", "--home", p / "home"], 5, "koinon node start"),
    "train number zero": (lambda p: ["study", "train", "0", "--home", p / "home"], 2, "0"),
    "show without a chain": (lambda _: ["study", "show", "1"], 2, "--home DIR"),
    "show at a node without contracts": (
        lambda p: ["study", "show", "1", "--home", p / "home"],
        2,
        "koinon suite adopt",
    ),
    "show with home and card": (
        lambda p: ["study", "show", "1", "--home", p / "home", "--suite", card(p / "c.json")],
        2,
        "not both",
    ),
    "show with a missing card": (lambda p: ["study", "show", "1", "--suite", p / "c.json"], 2, "c.json"),
    "show with a card that is none": (
        lambda p: ["study", "show", "1", "--suite", written(p / "c.json", "[1]")],
        2,
        "koinon suite show",
    ),
    "show with a card without a contract": (
        lambda p: ["study", "show", "1", "--suite", card(p / "c.json", contracts={"token": "0x" + "00" * 20})],
        2,
        "names",
    ),
    "show with a card without a chain": (
        lambda p: ["study", "show", "1", "--suite", card(p / "c.json", rpc=[])],
        2,
        "--chain",
    ),
    "show on a chain that is not there": (
        lambda p: ["study", "show", "1", "--suite", card(p / "c.json")],
        5,
        "127.0.0.1:9",
    ),
    "model on a chain that is not there": (
        lambda p: ["model", "show", "a.b", "--suite", card(p / "c.json")],
        5,
        "127.0.0.1:9",
    ),
    "publish with one copy": (
        lambda p: ["model", "publish", "1", "--name", "a.b", "--copies", "1", "--home", p / "home"],
        2,
        "copies",
    ),
    "validate with a fee that is none": (
        lambda p: ["model", "validate", "1", "--fee", "-1", "--home", p / "home"],
        2,
        "amount",
    ),
    "pay nothing": (lambda p: ["account", "pay", "0x" + "11" * 20, "--home", p / "home"], 2, "--tokens"),
    "pay to what is no address": (
        lambda p: ["account", "pay", "0x12", "--tokens", "1", "--home", p / "home"],
        2,
        "40 hexadecimal digits",
    ),
    "a key where a file is": (lambda p: ["account", "new", "--key", key(p / "k")], 2, "exists already"),
    "call with a missing key": (
        lambda p: ["call", "a.b", "--rows", p / "r.csv", "--key", p / "k", "--suite", card(p / "c.json")],
        2,
        "cannot read k",
    ),
    "call with a key others can read": (
        lambda p: [
            *("call", "a.b", "--rows", p / "r.csv", "--key", key(p / "k", mode=0o644), "--suite", card(p / "c.json"))
        ],
        2,
        "chmod 600",
    ),
    "call with a key that is none": (
        lambda p: ["call", "a.b", "--rows", p / "r.csv", "--key", key(p / "k", "12ab"), "--suite", card(p / "c.json")],
        2,
        "64 hexadecimal digits",
    ),
    "call with missing rows": (
        lambda p: ["call", "a.b", "--rows", p / "r.csv", "--key", key(p / "k"), "--suite", card(p / "c.json")],
        5,
        "r.csv",
    ),
    "audit without keepers": (
        lambda p: ["audit", "a.b", "-o", p / "b.zip", "--suite", card(p / "c.json")],
        2,
        "--keeper",
    ),
    "audit over a file": (
        lambda p: [
            *("audit", "a.b", "-o", written(p / "b.zip", "mine"), "--keeper", p / "home" / "identity.json"),
            *("--suite", card(p / "c.json")),
        ],
        2,
        "b.zip",
    ),
    "verify a missing bundle": (lambda p: ["verify", p / "b.zip"], 5, "b.zip"),
    "verify what is no bundle": (lambda p: ["verify", "--json", written(p / "b.zip", "no zip")], 4, "container"),
    "verify against what is no hash": (
        lambda p: ["verify", written(p / "b.zip", "no zip"), "--validators", "0x12"],
        2,
        "64 hexadecimal digits",
    ),
    "a site of no network": (lambda p: ["site", "--folder", p / "none"], 2, "koinon network up"),
    "a site of two networks": (
        lambda p: ["site", "--folder", p / "none", "--suite", card(p / "c.json")],
        2,
        "give one of",
    ),
    "a simulation of too many liars": (lambda _: ["sim", "consensus", "--byzantine", "2"], 2, "at most 1"),
    "a demonstration without a payer": (lambda _: ["demo", "--chain", "http://127.0.0.1:9"], 2, "--chain-key"),
}


def listing(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("case", CASES)
def test_bad_input(case: str, home: Path, ranges: Path, tmp_path: Path) -> None:
    make, code, named = CASES[case]
    arguments = make(tmp_path)
    before = listing(tmp_path)
    ended = koinon(*arguments)
    assert ended.code == code, ended.err
    assert named in last_line(ended)
    assert "Traceback" not in ended.err
    assert listing(tmp_path) == before


def last_line(ended: Ended) -> str:
    """click puts the usage above its sentence; ours is alone."""
    return ended.err.strip().splitlines()[-1]


def test_errors_hold_no_key(home: Path, tmp_path: Path) -> None:
    secret = "ab" * 31 + "zz"
    ended = koinon(
        *("call", "a.b", "--rows", "r.csv", "--key", key(tmp_path / "k", secret), "--suite", card(tmp_path / "c.json"))
    )
    assert ended.code == 2
    assert secret[:8] not in ended.err


def test_a_new_key_is_its_owners_only_and_never_printed(tmp_path: Path) -> None:
    path = tmp_path / "buyer.key"
    ended = koinon("account", "new", "--key", path, "--json")
    assert ended.code == 0
    assert path.stat().st_mode & 0o777 == 0o600
    told = json.loads(ended.out)
    assert re.fullmatch("0x[0-9a-f]{40}", told["account"])
    assert path.read_text().strip().removeprefix("0x") not in ended.out + ended.err


def test_a_home_with_open_keys_is_refused(home: Path) -> None:
    (home / "keys").chmod(0o640)
    ended = koinon("node", "start", "--home", home)
    assert ended.code == 2
    assert "chmod 600" in ended.sentence()


def test_exit_codes_leave_the_process(tmp_path: Path) -> None:
    ended = run("verify", tmp_path / "none.zip")
    assert ended.code == 5
    assert ended.sentence().startswith("koinon: the bundle none.zip cannot be read")


def test_a_draft_is_written_once_and_estimated(draft: Path, cards: list[Path], ranges: Path) -> None:
    before = draft.read_bytes()
    owners: list[str | Path] = [word for one in cards for word in ("--owner", one)]
    again = koinon("study", "new", draft, "--from", ranges, *owners, "--title", "Other", "--purpose", "other")
    assert again.code == 2
    assert draft.read_bytes() == before
    small = json.loads(koinon("study", "estimate", draft, "--json").out)
    assert small["escrow_tokens"] == "50"
    large = json.loads(koinon("study", "estimate", draft, *("--rows", "400") * 3, "--json").out)
    few, many = small["engines"][0], large["engines"][0]
    assert few["engine"] == many["engine"] == "rep4"
    assert many["traffic_megabytes"] > few["traffic_megabytes"] > 0
    assert many["seconds"] > few["seconds"]
    assert koinon("study", "estimate", draft, "--rows", "400").code == 2


def test_ranges_from_rows_come_with_a_warning(tmp_path: Path, cards: list[Path]) -> None:
    rows = "".join(f"{20 + place},{60.5 + place},{place % 2}\n" for place in range(30))
    source = written(tmp_path / "rows.csv", "age,pulse,ill\n" + rows)
    owners: list[str | Path] = [word for one in cards for word in ("--owner", one)]
    made = koinon(
        *("study", "new", tmp_path / "s.toml", "--from", source, "--target", "ill", *owners),
        *("--title", "Risk", "--purpose", "risk"),
    )
    assert made.code == 0
    assert "ranges are public" in made.err
    assert "high = 49.0\n" not in (tmp_path / "s.toml").read_text("utf-8")


def test_a_consensus_without_its_safeguard_is_noticed_and_replayed() -> None:
    broken = koinon("sim", "consensus", "--seeds", "2", "--plant", "no-write-ahead", "--json")
    assert broken.code == 1
    found = json.loads(broken.out)["broken"]
    assert found
    replay = broken.sentence().partition("koinon sim ")[2].split()
    again = koinon("sim", *replay, "--json")
    assert json.loads(again.out)["broken"] == found[:1]


def test_simulations_hold() -> None:
    consensus = json.loads(koinon("sim", "consensus", "--seeds", "4", "--epochs", "2", "--jobs", "2", "--json").out)
    assert consensus["broken"] == []
    assert (consensus["schedules"], consensus["networks"], consensus["live_after_calm"]) == (4, 3, 3)
    assert consensus["blocks_finalised"] > 12
    federated = json.loads(koinon("sim", "federated", "--seeds", "12", "--json").out)
    assert (federated["rounds"], federated["broken"]) == (12, [])
    assert sum(row["summed"] for row in federated["scenarios"].values()) > 0
    rep4 = json.loads(koinon("sim", "rep4", "--trials", "10", "--json").out)
    assert (
        sum(row["detected"] for row in rep4["lies"].values()) == sum(row["told"] for row in rep4["lies"].values()) == 10
    )
