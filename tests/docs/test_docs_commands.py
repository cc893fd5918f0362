"""Every command that the documents show is one the program takes: its words are parsed as given, nothing is run."""

import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest

from koinon.cli.main import cli

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
UNFINISHED = "…"
FILES = ("FILE", "study.toml", "bundle.zip")


def shown() -> list[tuple[str, str]]:
    """Command lines of fenced blocks, with the document's name; what follows # is a remark."""
    lines = []
    for document in DOCUMENTS:
        for block in re.findall(r"^```\w*\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE):
            lines += [(document.name, " ".join(shlex.split(line, comments=True))) for line in block.splitlines()]
    return lines


def commands(program: str) -> list[str]:
    return [line for _, line in shown() if line.split()[:1] == [program]]


def parse(words: list[str], unfinished: bool) -> None:
    """Have click read the words through every group down to the command, without calling it."""
    command: click.Command = cli
    parent = None
    name = "koinon"
    while True:
        try:
            context = command.make_context(name, list(words), parent=parent)
        except click.MissingParameter:
            if not unfinished:
                raise
            return
        if not isinstance(command, click.Group):
            return
        found, following, words = command.resolve_command(context, [*context._protected_args, *context.args])
        assert found is not None
        assert following is not None
        name, command, parent = found, following, context


def test_the_documents_show_commands() -> None:
    assert {line.split()[1] for line in commands("koinon")} >= {"network", "node", "study", "audit", "verify"}
    assert "make demo" in commands("make")


@pytest.mark.parametrize("line", commands("koinon"))
def test_a_shown_command_is_understood(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in FILES:
        Path(name).write_bytes(b"")
    Path("DIR").mkdir()
    words = line.split()[1:]
    parse([word for word in words if word != UNFINISHED], UNFINISHED in words)


@pytest.mark.parametrize("line", commands("make"))
def test_a_shown_target_is_made(line: str) -> None:
    words = re.split(r" (?=ARGS=)", line.removeprefix("make "))
    dry = ["make", "--dry-run", "--silent", *words]
    run = subprocess.run(dry, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    if words[0] == "demo" and len(words) > 1:
        assert words[1].removeprefix("ARGS=") in run.stdout


@pytest.mark.parametrize("arguments", [line.split("ARGS=")[1] for line in commands("make") if "ARGS=" in line])
def test_arguments_of_make_demo_are_understood(arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("DIR").mkdir()
    Path("FILE").write_bytes(b"")
    parse(["demo", *arguments.split()], unfinished=False)
