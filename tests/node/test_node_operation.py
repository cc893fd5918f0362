"""Running a node: metrics, health, logs, status, proofs for strangers, an orderly end. Real processes throughout."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from node_process import SOURCES, log_lines, lone_validator, started

from koinon.cli.main import cli, exit_code
from koinon.kernel.codec import decode
from koinon.kernel.errors import Forged, InvalidInput, KoinonError, MalformedMessage, Unavailable
from koinon.ledger.finality import verify_finality
from koinon.ledger.genesis import Genesis
from koinon.ledger.health import LedgerFacts, unfitness
from koinon.node.logs import JsonLines, LogConfig, TextLines, start_logging
from koinon.node.monitor import Pages, answer
from koinon.store.keyvalue import LmdbStore
from koinon.wire.consensus import FinalityProof

ENVIRONMENT = {**os.environ, "PYTHONPATH": SOURCES}
PAGES = Pages(metrics=lambda: "height 1\n", unfitness=lambda: None, status=lambda: {"name": "n"})


async def test_a_validator_from_start_to_orderly_end(tmp_path: Path) -> None:
    home = lone_validator(tmp_path)
    async with started(home, "--log-format", "json") as node:
        await node.rpc("koinon_waitForBlock", "0x0", 1)
        metrics = (await node.get("/metrics")).text
        families = dict(re.findall(r"^# TYPE (\w+) (\w+)$", metrics, re.MULTILINE))
        assert families["koinon_final_height"] == "gauge"
        assert families["koinon_finality_seconds"] == "histogram"
        assert re.search(r"^koinon_validators_connected 1$", metrics, re.MULTILINE)
        assert re.search(r"^process_cpu_seconds_total \d+\.\d+$", metrics, re.MULTILINE)
        for line in metrics.splitlines():
            assert re.fullmatch(r'# (HELP|TYPE) .*|[a-z_]+(\{\w+="[^"]*"(,\w+="[^"]*")*\})? [-+.e0-9]+', line), line
        assert (await node.get("/health/live")).status_code == 200
        ready = await node.get("/health/ready")
        assert (ready.status_code, ready.text) == (200, "ready\n")
        health = (await node.get("/health")).json()
        assert health["ready"] is True
        assert health["status"]["ledger"]["in reach"] == "1 of 1 validators, 1 needed"
        # A page that points a name of its own at this address gets nothing.
        assert (await node.get("/metrics", host="evil.example:80")).status_code == 403

        shown = await asyncio.to_thread(CliRunner().invoke, cli, ["node", "status", "--home", str(home.path), "--json"])
        assert json.loads(shown.output)["state"] == "ready"
        await watch_twice(home.path)

        node.process.send_signal(signal.SIGTERM)
        assert await node.process.wait() == 0
    lines = log_lines(node.log)
    assert all(set(line) >= {"time", "level", "logger", "message"} for line in lines)
    assert lines[-1]["message"] == "lone has closed everything"
    assert not home.control.exists()
    LmdbStore.open(home.path / "ledger").close()  # nobody holds it any more


async def watch_twice(home: Path) -> None:
    """``koinon node status --watch --json`` prints a line each time, until Ctrl-C."""
    command = ("-m", "koinon.cli.main", "node", "status", "--home", str(home), "--watch", "--json")
    pipe = asyncio.subprocess.PIPE
    watching = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=pipe, stderr=pipe, env=ENVIRONMENT)
    assert watching.stdout is not None
    first, second = [json.loads(await watching.stdout.readline()) for _ in range(2)]
    assert (first["state"], first["node"]) == (second["state"], second["node"])
    assert second["uptime_seconds"] > first["uptime_seconds"]
    watching.send_signal(signal.SIGINT)
    _, errors = await watching.communicate()
    assert (watching.returncode, b"Traceback" in errors) == (130, False), errors


async def test_told_to_stop_while_starting(tmp_path: Path) -> None:
    home = lone_validator(tmp_path)
    async with started(home) as node:
        node.process.send_signal(signal.SIGTERM)
        node.process.send_signal(signal.SIGTERM)  # the impatient second one may end it at once
        assert await node.process.wait() in (0, 1)
    async with started(home) as again:
        assert (await again.get("/health/ready")).status_code == 200


# Request → status: everything but a plain GET of a page that is there.
REQUESTS: dict[str, tuple[bytes, int]] = {
    "a page": (b"GET /metrics HTTP/1.1\r\nHost: localhost:1\r\n\r\n", 200),
    "ready": (b"GET /health/ready?x=1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 200),
    "no host": (b"GET /health/live HTTP/1.0\r\n\r\n", 200),
    "no page": (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
    "a post": (b"POST /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
    "another name": (b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403),
    "a name with ours inside": (b"GET /metrics HTTP/1.1\r\nHost: localhost.evil.example:80\r\n\r\n", 403),
    "another protocol": (b"GET /metrics FTP/1.1\r\n\r\n", 400),
    "garbage": (b"\x16\x03\x01\xff\r\n\r\n", 400),
    "nothing": (b"\r\n\r\n", 400),
}


@pytest.mark.parametrize("case", REQUESTS)
def test_requests_to_the_monitor(case: str) -> None:
    head, status = REQUESTS[case]
    assert answer(PAGES, head, loopback=True).status == status


def test_an_unfit_node_says_why() -> None:
    unfit = Pages(metrics=str, unfitness=lambda: "the disk is full", status=dict)
    told = answer(unfit, b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\n\r\n", loopback=True)
    assert (told.status, told.body) == (503, "the disk is full\n")
    whole = answer(unfit, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n", loopback=True)
    assert (whole.status, json.loads(whole.body)["reason"]) == (503, "the disk is full")


def facts(**changes: object) -> LedgerFacts:
    fit: dict[str, object] = {
        "final_height": 50,
        "certified_height": 52,
        "known_height": 50,
        "epoch": 0,
        "view": 9,
        "timed_out": False,
        "halted": False,
        "waiting_transactions": 0,
        "waiting_events": 0,
        "validators": 4,
        "quorum": 3,
        "connected": 4,
        "has_work": False,
        "final_age": 9999.0,
        "signs": True,
        "waits_for_disk": False,
        "writes_delayed": 0,
    }
    return LedgerFacts(**{**fit, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({}, None),
        ({"connected": 3}, None),
        ({"has_work": True, "final_age": 1.0}, None),
        ({"known_height": 151}, "101 final blocks behind"),
        ({"connected": 2}, "2 of 4 validators are in reach; 3 are needed"),
        ({"has_work": True}, "nothing became final for 9999 s"),
        ({"halted": True}, "halted"),
        ({"signs": False}, "signs nothing"),
        ({"waits_for_disk": True}, "disk is full"),
    ],
)
def test_what_makes_a_validator_unfit(changes: dict[str, object], named: str | None) -> None:
    reason = unfitness(facts(**changes))
    assert reason is None if named is None else reason is not None and named in reason


@pytest.mark.parametrize("form", [TextLines(), JsonLines()])
def test_logs_name_the_place_of_an_error_and_not_its_text(
    form: TextLines | JsonLines, caplog: pytest.LogCaptureFixture
) -> None:
    import logging

    try:
        raise ValueError("row 17: 53 years, positive")
    except ValueError:
        logging.getLogger("koinon.test").exception("it stopped")
    line = form.format(caplog.records[0])
    assert "it stopped" in line
    assert "ValueError at test_node_operation.py:" in line
    assert "positive" not in line


WRITE_LINES = (
    "import logging, sys, pathlib; from koinon.node.logs import LogConfig, start_logging\n"
    "config = LogConfig(format='json', file='node.log', file_bytes=2_000, kept_files=2)\n"
    "start_logging(config, pathlib.Path(sys.argv[1]))\n"
    "for number in range(200): logging.getLogger('koinon.test').info('line %d', number)\n"
)


def test_a_log_file_is_put_aside_when_it_is_full_and_old_ones_go(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITE_LINES, str(tmp_path)]
    written = subprocess.run(command, capture_output=True, check=False, env=ENVIRONMENT)
    assert (written.returncode, written.stderr) == (0, b"")
    names = ["node.log.2", "node.log.1", "node.log"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    assert all(0 < (tmp_path / name).stat().st_size <= 2_000 for name in names)
    numbers = [int(line["message"].split()[1]) for name in names for line in log_lines(tmp_path / name)]
    assert numbers == list(range(numbers[0], 200)), "the newest lines, whole and in order"


def test_a_log_that_cannot_be_written_is_said_clearly(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"the log missing/node\.log cannot be written"):
        start_logging(LogConfig(file="missing/node.log"), tmp_path)


# ------------------------------------------------------------------------------------------------- verify-finality


@pytest.fixture(scope="module")
def proven(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, object], Path]:
    """What a node answers to koinon_finality, and its genesis file."""
    from finality_chain import four_validators_to_height

    return four_validators_to_height(tmp_path_factory.mktemp("proven"), 4)


def verify(proof: Path, genesis: Path, *options: str) -> tuple[int, str]:
    """Exit code and output of ``koinon verify-finality``, as ``main`` would give them."""
    result = CliRunner().invoke(cli, ["verify-finality", str(proof), "--genesis", str(genesis), *options])
    if isinstance(result.exception, KoinonError):
        return exit_code(result.exception), str(result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.mark.parametrize("form", ["answer", "result", "hexadecimal", "bytes"])
def test_a_proof_is_taken_in_every_form(form: str, proven: tuple[dict[str, object], Path], tmp_path: Path) -> None:
    result, genesis = proven
    encoded = str(result["proof"])
    forms = {
        "answer": json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode(),
        "result": json.dumps(result).encode(),
        "hexadecimal": encoded.encode() + b"\n",
        "bytes": bytes.fromhex(encoded[2:]),
    }
    file = tmp_path / "proof"
    file.write_bytes(forms[form])
    code, output = verify(file, genesis, "--json")
    assert code == 0
    told = json.loads(output)
    assert (told["final"], hex(told["height"]), told["block"]) == (True, result["height"], result["hash"])
    assert all(len(signers) >= told["quorum"] == 3 for signers in told["signers"])


def altered(result: dict[str, object], place: int) -> bytes:
    data = bytearray.fromhex(str(result["proof"])[2:])
    data[place] ^= 1
    return bytes(data)


def check(data: bytes, genesis: Genesis) -> None:
    proof = decode(FinalityProof, data)
    verify_finality(proof.headers, proof.certificates, genesis.validator_set())


def test_a_proof_with_any_byte_changed_is_refused(proven: tuple[dict[str, object], Path]) -> None:
    result, genesis_file = proven
    genesis = decode(Genesis, genesis_file.read_bytes())
    size = (len(str(result["proof"])) - 2) // 2
    for place in range(0, size, 29):
        with pytest.raises((Forged, MalformedMessage)):
            check(altered(result, place), genesis)


BAD: dict[str, tuple[bytes, type[KoinonError], str]] = {
    "nothing": (b"", MalformedMessage, "not a FinalityProof"),
    "another answer": (b'{"result": {"hash": "0x"}}', MalformedMessage, 'a field "proof" is missing'),
    "an error": (b'{"error": {"code": 1}}', MalformedMessage, 'a field "proof" is missing'),
    "deep nesting": (b'{"a":' * 100_000, MalformedMessage, 'a field "proof" is missing'),
    "odd digits": (b"0x123", MalformedMessage, "not hexadecimal"),
    "garbage": (b"\xff" * 100, MalformedMessage, "not a FinalityProof"),
    "too long": (b"0" * ((16 << 20) + 1), InvalidInput, "larger than 16 MiB"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_proof(case: str, proven: tuple[dict[str, object], Path], tmp_path: Path) -> None:
    data, kind, named = BAD[case]
    file = tmp_path / "proof"
    file.write_bytes(data)
    code, told = verify(file, proven[1])
    assert code == exit_code(kind(""))
    assert named in told


def test_files_that_are_missing_or_of_another_chain(proven: tuple[dict[str, object], Path], tmp_path: Path) -> None:
    result, genesis = proven
    file = tmp_path / "proof"
    assert verify(file, genesis)[0] == exit_code(Unavailable(""))
    file.write_text(str(result["proof"]))
    assert verify(file, tmp_path / "none")[0] == exit_code(Unavailable(""))
    other = lone_validator(tmp_path).genesis
    code, told = verify(file, other)
    assert code == exit_code(Forged(""))
    assert "another validator set" in told
