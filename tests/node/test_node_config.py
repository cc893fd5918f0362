"""node.toml: every mistake is one sentence that names file, line, key, what was expected and what was found."""

from dataclasses import fields, replace
from pathlib import Path

import pytest

from koinon.jobs.member import Waits
from koinon.kernel.errors import InvalidInput
from koinon.kernel.ids import Address, NodeId
from koinon.kernel.quantities import Gas, Seconds
from koinon.ledger.rpc.limits import BOUNDS, Limits
from koinon.node.config import BootstrapNode, ChainConfig, NodeConfig, read_config, write_config
from koinon.node.logs import LogConfig

WHOLE = NodeConfig(
    name="north",
    roles=("validator", "data"),
    host="127.0.0.1",
    port=7300,
    rpc_port=8545,
    service_port=8000,
    operator="north",
    bootstrap=(BootstrapNode(NodeId(b"\x11" * 32), "10.0.0.1", 7300),),
    chain=ChainConfig(("http://127.0.0.1:8545",), 5, (("token", Address(b"\x22" * 20)),)),
    allow_faults=False,
    hide_address=True,
    keep_blocks=1000,
    monitor_port=9464,
    committee=Waits(silence_seconds=20, shares_seconds=90),
    log=LogConfig("WARNING", "json", "node.jsonl", 1 << 20, 3),
    shared_models_of=(NodeId(b"\x33" * 32),),
    rpc_limits=Limits(batch=50, call_gas=Gas(10**7), call_seconds=Seconds(2.0)),
)

# Name of the case → (what is replaced in the file, by what, what the sentence must name).
CASES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "not TOML": ("port = 7300", "port = = 7300", ("not TOML", "line 5")),
    "a key with a slip": ("rpc_port", "rcp_port", ("line 6", "rcp_port", "did you mean rpc_port?")),
    "a key far from any": ("rpc_port", "zzz", ("line 6", "zzz", "the keys are name, roles")),
    "a key missing": ("service_port = 8000", "", ("service_port", "is missing", "0 to 65535")),
    "a port as text": ("port = 7300", 'port = "7300"', ("line 5", "a whole number from 0 to 65535", '"7300"')),
    "a port as truth": ("port = 7300", "port = true", ("line 5", "a whole number", "found true")),
    "a port too high": ("port = 7300", "port = 65536", ("line 5", "0 to 65535", "found 65536")),
    "a role with a slip": ('"data"', '"dat"', ("line 2", "roles", '"dat"', "did you mean data?")),
    "a role twice": ('"data"', '"validator"', ("line 2", "each role once")),
    "a role that is a number": ('"data"', "5", ("line 2", "a list of strings", "found 5")),
    "an empty name": ('name = "north"', 'name = ""', ("line 1", "not empty")),
    "a flag as a number": ("allow_faults = false", "allow_faults = 0", ("allow_faults", "true or false", "found 0")),
    "an owner of shared models that is no node id": (
        'shared_models_of = ["0x3333',
        'shared_models_of = ["0x33',
        ("shared_models_of", "node ids"),
    ),
    "owners of shared models as text": ("shared_models_of = [", 'shared_models_of = "x"  # [', ("a list of strings",)),
    "hidden without being a validator": (
        'roles = ["validator", "data"]',
        'roles = ["data"]',
        ("hide_address", "a validator"),
    ),
    "a keeper without a port": (", port = 7300 }", " }", ("bootstrap[0].port", "is missing")),
    "a keeper that is a string": ("{ node", '"x", { node', ("bootstrap", "a list of tables", '"x"')),
    "a keeper with a short id": ("0x1111", "0x11", ("bootstrap[0].node", "64 hexadecimal digits")),
    "a keeper with a key too many": (", port = 7300 }", ", port = 7300, role = 1 }", ("bootstrap[0].role",)),
    "no chain": ("[chain]", "[chains]", ("chains", "did you mean chain?")),
    "a chain that is a word": ("[chain]\n", "[chain.rpc]\n", ("chain.rpc", "a list of strings")),
    "an address of another kind": ('"http://127', '"ws://127', ("chain.rpc", "http:// or https://")),
    "a chain id below zero": ("chain_id = 5", "chain_id = -1", ("chain.chain_id", "found -1")),
    "a contract that is none": ("0x2222", "0x22", ("chain.suite.token", "40 hexadecimal digits")),
    "a level with a slip": ('"WARNING"', '"WARN"', ("log.level", "DEBUG, INFO", "did you mean WARNING?")),
    "a format unknown": ('"json"', '"xml"', ("log.format", "one of text, json", '"xml"')),
    "a tiny log": ("file_bytes = 1048576", "file_bytes = 10", ("log.file_bytes", "4096", "found 10")),
    "too few blocks kept": ("keep_blocks = 1000", "keep_blocks = 10", ("keep_blocks", "256", "found 10")),
    "a limit with a slip": ("batch = 50", "batches = 50", ("rpc.batches", "did you mean batch?")),
    "a limit of nothing": ("batch = 50", "batch = 0", ("rpc.batch", "from 1 to 10000", "found 0")),
    "a limit with a fraction": ("call_seconds = 2", "call_seconds = 2.5", ("rpc.call_seconds", "a whole number")),
    "a limit as text": ("call_gas = 10000000", 'call_gas = "all"', ("rpc.call_gas", '"all"')),
    "a wait with a slip": ("silence_seconds", "silent_seconds", ("committee.silent", "did you mean silence_seconds?")),
    "no wait at all": (
        "silence_seconds = 20",
        "silence_seconds = 0",
        ("committee.silence", "found 0"),
    ),
    "limits that are no table": ("[rpc]", "[[rpc]]", ("rpc", "a table [rpc]")),
    "a port of the monitor too high": ("monitor_port = 9464", "monitor_port = 70000", ("monitor_port", "found 70000")),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "node.toml"
    write_config(path, WHOLE)
    return path


def test_what_is_written_is_read(file: Path) -> None:
    assert read_config(file) == WHOLE
    without = replace(WHOLE, monitor_port=None, log=LogConfig(), rpc_limits=Limits())
    write_config(file, without)
    assert read_config(file) == without


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_named(case: str, file: Path) -> None:
    old, new, named = CASES[case]
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), "utf-8")
    with pytest.raises(InvalidInput) as raised:
        read_config(file)
    sentence = str(raised.value)
    assert sentence.startswith("node.toml")
    for word in named:
        assert word in sentence


def test_the_address_of_a_chain_is_not_repeated(file: Path) -> None:
    text = file.read_text("utf-8").replace("http://127.0.0.1:8545", "wss://node/secret-key")
    file.write_text(text, "utf-8")
    with pytest.raises(InvalidInput) as raised:
        read_config(file)
    assert "secret" not in str(raised.value)


def test_every_limit_of_the_rpc_can_be_set() -> None:
    usual = Limits()
    assert {field.name for field in fields(Limits)} == set(BOUNDS)
    for name, (least, most) in BOUNDS.items():
        assert least <= getattr(usual, name) <= most, name


def test_old_files_without_the_newer_keys_are_read(file: Path) -> None:
    text = file.read_text("utf-8").partition("[log]")[0]
    kept = "\n".join(line for line in text.splitlines() if not line.startswith("monitor"))
    file.write_text(kept, "utf-8")
    config = read_config(file)
    assert config.monitor_port is None
    assert config.log == LogConfig()
