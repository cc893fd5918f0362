"""A network of one's own with elected validators, from the command line alone."""

import json
import re
import shutil
from pathlib import Path

import pytest
from cli_terminal import koinon, run, start

from koinon.cli.founding import PROFILES
from koinon.ledger.staking.profiles import PROFILES as KINDS
from koinon.net.listening import free_ports


@pytest.fixture
def homes(tmp_path: Path) -> tuple[Path, Path, str]:
    """A founder's home, a newcomer's, and the URL of the founder's RPC."""
    founder, newcomer = tmp_path / "founder", tmp_path / "newcomer"
    ports = [str(port) for port in free_ports(4)]
    url = f"http://127.0.0.1:{ports[1]}"
    chain = ("--chain", url, "--chain-id", "77", "--role", "validator")
    made = koinon("node", "init", "--home", founder, "--name", "a", "--port", ports[0], "--rpc-port", ports[1], *chain)
    assert made.code == 0, made.err
    made = koinon("node", "init", "--home", newcomer, "--name", "b", "--port", ports[2], "--rpc-port", ports[3], *chain)
    assert made.code == 0, made.err
    return founder, newcomer, url


def facts(*arguments: str | Path) -> dict[str, object]:
    ended = run(*arguments, "--json")
    assert ended.code == 0, ended.err
    return dict(json.loads(ended.out))


def test_profiles_offered_are_those_that_exist() -> None:
    assert set(PROFILES) == set(KINDS)


def test_found_a_network_and_stake_on_it(homes: tuple[Path, Path, str], tmp_path: Path) -> None:
    founder, newcomer, _ = homes
    account = json.loads((newcomer / "identity.json").read_text())["account"]
    genesis = tmp_path / "genesis"
    card = founder / "identity.json"
    asked = ("--profile", "dev", "--chain-id", "77", "--validator", card, "--fund", f"{account}=5000.5")
    made = facts("node", "genesis", *asked, "--out", genesis)
    assert (made["validators"], made["coins"]) == (1, str(1_000_000 + 5_000 + 10_000 + 1_000))
    again = koinon("node", "genesis", *asked, "--out", genesis)
    assert (again.code, "exists already" in again.sentence()) == (2, True)
    shutil.copy(genesis, founder / "genesis")
    with start("node", "start", "--home", founder) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if "is up as" in line:
                    break
            own = facts("stake", "status", "--home", founder)
            assert (own["candidate"], own["validates"], own["stake"]) == (1, True, "1000")
            assert facts("stake", "status", "--home", newcomer)["candidates"] == 1
            for words in (
                ("register", "--stake", "200.25"),
                ("add", "50"),
                ("unstake", "100"),
                ("delegate", "1", "11"),
            ):
                ended = run("stake", *words, "--home", newcomer)
                assert ended.code == 0, ended.err
            held = facts("stake", "status", "--home", newcomer)
            shown = (held["candidate"], held["status"], held["validates"], held["stake"], held["unstaking"])
            assert shown == (2, "active", False, "150.25", "100")
            assert held["delegated"] == {"1": "11"}
            refused = run("stake", "delegate", "9", "11", "--home", newcomer)
            assert (refused.code, "number 9 is no candidate" in refused.sentence()) == (3, True)
            refused = run("stake", "withdraw", "--home", newcomer)
            assert (refused.code, "NotEnough" in refused.sentence()) == (3, True)
        finally:
            process.terminate()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("add", "1e5"), "digits"),
        (("add", "-1"), "No such option|digits"),
        (("add", "0.0000000000000000001"), "18 decimals"),
        (("vote", "admit", "missing"), "cannot read"),
    ],
)
def test_bad_amounts_and_files_are_refused(homes: tuple[Path, Path, str], words: tuple[str, ...], reason: str) -> None:
    ended = koinon("stake", *words, "--home", homes[0])
    assert ended.code == 2
    assert re.search(reason, ended.err)
