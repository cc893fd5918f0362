"""What the command line says about itself is there, is true, and costs little."""

import re
import subprocess
import sys

import click
import pytest
from cli_terminal import commands, koinon

from koinon.cli.main import COMMANDS, EXIT_CODES, cli, exit_code
from koinon.cli.sim import PLANTS
from koinon.kernel.errors import (
    Expired,
    Forged,
    InvalidInput,
    KoinonError,
    MalformedMessage,
    ProtocolAbort,
    Refused,
    Unavailable,
)
from koinon.ledger.giskard.plants import PLANTS as SCENARIOS

FACTS = (
    *("show", "list", "status", "estimate", "verify", "audit", "call", "train", "propose", "consensus", "rep4"),
    *("case", "accuse", "plead", "judge"),
)
HEAVY = (
    "numpy",
    "scipy",
    "sklearn",
    "onnx",
    "onnxruntime",
    "pyarrow",
    "fastapi",
    "eth",
    "rich",
    "httpx",
    "cryptography",
)
ALL = dict(commands())


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_explains_itself(path: tuple[str, ...]) -> None:
    ended = koinon(*path, "--help")
    assert (ended.code, ended.err) == (0, "")
    assert ALL[path].help


@pytest.mark.parametrize("path", [path for path in ALL if path and path[-1] in FACTS], ids=" ".join)
def test_commands_that_print_facts_print_json(path: tuple[str, ...]) -> None:
    assert any("--json" in parameter.opts for parameter in ALL[path].params)


def test_help_imports_no_command_and_nothing_heavy() -> None:
    script = (
        "import sys; sys.argv = ['koinon', '--help']\n"
        "from koinon.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([name for name in sys.modules if name.startswith('koinon.cli.')], file=sys.stderr)\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    own, modules = ended.stderr.splitlines()
    assert own == "['koinon.cli.main']"
    assert not set(HEAVY) & set(modules.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_lines_of_help_name_every_verb(name: str) -> None:
    """Groups list their verbs in ``koinon --help``; a verb added later must be told there."""
    command = ALL[(name,)]
    if isinstance(command, click.Group):
        line = COMMANDS[name][1]
        missing = [verb for verb in command.commands if not re.search(rf"\b{verb}\b", line)]
        assert not missing


def test_documented_exit_codes_are_those_of_errors() -> None:
    codes = {kind: exit_code(kind("why")) for kind, _ in EXIT_CODES}
    assert codes[InvalidInput] == exit_code(MalformedMessage("why")) == 2
    assert codes[Refused] == 3
    assert codes[Forged] == 4
    assert codes[Unavailable] == exit_code(Expired("why")) == 5
    assert codes[ProtocolAbort] == 6
    assert codes[KoinonError] == 1
    shown = " ".join((cli.help or "").split())
    for code in (*codes.values(), 0, 130):
        assert re.search(rf"\b{code} [a-z]", shown)


def test_plants_offered_are_those_that_exist() -> None:
    assert set(PLANTS) == set(SCENARIOS)
