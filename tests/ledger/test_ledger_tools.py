"""Tools of Ethereum's developers, unchanged, against ``koinon node start --dev``: cast, forge script, viem."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ledger_development import Development, development_process

from installed import NODE_MODULES, foundry_program

HERE = Path(__file__).parent
FIRST = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
SECOND = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
ENVIRONMENT = {
    **os.environ,
    "KOINON_NODE_MODULES": str(NODE_MODULES),
    "FOUNDRY_DISABLE_NIGHTLY_WARNING": "1",
    "NO_COLOR": "1",
}

pytestmark = [pytest.mark.node, pytest.mark.xdist_group("ethereum tools")]


@pytest.fixture(scope="module")
def development() -> Iterator[Development]:
    with development_process() as running:
        yield running


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Foundry project with a counter, and its compiler."""
    folder = tmp_path_factory.mktemp("forge") / "project"
    shutil.copytree(HERE / "forge", folder)
    return folder


def attempt(*command: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    return subprocess.run(command, cwd=cwd, env=ENVIRONMENT, check=False, timeout=120, **streams)


def run(*command: str, cwd: Path | None = None) -> str:
    done = attempt(*command, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def cast(development: Development, *arguments: str) -> str:
    return run(foundry_program("cast"), *arguments, "--rpc-url", development.url).strip()


def forge(development: Development, project: Path, sender: str, *arguments: str) -> str:
    """A command of forge that sends transactions."""
    signed = ("--private-key", development.keys[sender.lower()], "--rpc-url", development.url, "--broadcast")
    verb, target, *rest = arguments
    compiler = ("--use", str(project / "solc"))
    return run(foundry_program("forge"), verb, target, *compiler, *signed, *rest, cwd=project)


def deploy(development: Development, project: Path, first: int) -> str:
    """The address of a new counter."""
    created = forge(
        development, project, FIRST, "create", "Counter.sol:Counter", "--json", "--constructor-args", str(first)
    )
    return str(json.loads(created)["deployedTo"])


def test_cast_sends_calls_and_reads(development: Development, project: Path) -> None:
    key = development.keys[FIRST.lower()]
    counter = deploy(development, project, 40)
    assert cast(development, "call", counter, "total()(uint256)") == "40"
    assert int(cast(development, "estimate", counter, "increase(uint256)", "2", "--from", FIRST)) > 21_000
    sent = ("send", counter, "increase(uint256)", "2", "--json")
    receipt = json.loads(cast(development, *sent, "--private-key", key))
    assert receipt["status"] == "0x1"
    assert cast(development, "storage", counter, "0") == "0x" + (42).to_bytes(32, "big").hex()
    logs = json.loads(cast(development, "logs", "--address", counter, "--from-block", "0", "--json"))
    assert [int(log["data"], 16) for log in logs] == [42]
    by_node = json.loads(cast(development, *sent, "--unlocked", "--from", SECOND))
    assert by_node["from"] == SECOND.lower()
    assert cast(development, "receipt", by_node["transactionHash"], "status") == "true"
    assert cast(development, "nonce", SECOND) == "1"
    assert cast(development, "block", "finalized", "--field", "number") == str(int(by_node["blockNumber"], 16))
    assert cast(development, "codesize", counter) != "0"


def test_cast_shows_why_a_call_was_reverted(development: Development, project: Path) -> None:
    counter = deploy(development, project, 1)
    call = ("call", counter, "increase(uint256)", "0", "--rpc-url", development.url)
    done = attempt(foundry_program("cast"), *call)
    assert done.returncode != 0
    assert "increase by something" in done.stderr


def test_forge_script_deploys_and_uses_contracts(development: Development, project: Path) -> None:
    forge(development, project, SECOND, "script", "Deploy.s.sol:Deploy")
    report = json.loads(next((project / "broadcast").rglob("run-latest.json")).read_text())
    assert [receipt["status"] for receipt in report["receipts"]] == ["0x1"] * 4
    created = [transaction["contractAddress"] for transaction in report["transactions"][:2]]
    assert [cast(development, "call", address, "total()(uint256)") for address in created] == ["42", "2"]


def test_viem_deploys_watches_and_signs(development: Development, project: Path) -> None:
    built: dict[str, Any] = json.loads(
        run(foundry_program("forge"), "build", "--use", str(project / "solc"), "--json", cwd=project)
    )
    contract = built["contracts"][str(project / "Counter.sol")]["Counter"][0]["contract"]
    artefact = json.dumps({"abi": contract["abi"], "bytecode": "0x" + contract["evm"]["bytecode"]["object"]})
    session = (development.url, development.websocket, str(development.chain_id), development.keys[SECOND.lower()])
    found = json.loads(run("node", str(HERE / "viem_session.cjs"), *session, artefact))
    assert found == {
        "simulated": 42,
        "total": 42,
        "logs": [42],
        "events": [42],
        "heads": found["heads"],
        "refusal": "increase by something",
        "signed": True,
        "sent": 1,
        "fees": ["maxFeePerGas", "maxPriorityFeePerGas"],
        "history": 2,
        "past": 1,
    }
    assert found["heads"] >= 1
