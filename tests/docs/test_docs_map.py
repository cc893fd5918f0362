"""What the documents say about the tree is so: rooms, layers, files, modules, errors, exit codes."""

import importlib.util
import inspect
import re
import signal
import tomllib
from pathlib import Path
from typing import Any

import pytest

import koinon
from koinon.cli.main import EXIT_CODES
from koinon.kernel import errors
from koinon.kernel.errors import KoinonError

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
INTERRUPTED = 128 + signal.SIGINT
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


def rooms_of_the_map() -> list[set[str]]:
    """Rows of the map in docs/ARCHITECTURE.md; a room's names stand in the first 28 columns."""
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text()
    section = text.split("## Rooms")[1].split("\n## ")[0]
    return [set(line[4:32].split()) for line in section.splitlines() if line.startswith("    ")]


def rooms_of_the_linter() -> list[set[str]]:
    """Layers that import-linter holds."""
    (contract,) = PROJECT["tool"]["importlinter"]["contracts"]
    return [{room.strip().removeprefix("koinon.") for room in layer.split("|")} for layer in contract["layers"]]


def test_the_map_is_what_the_linter_holds() -> None:
    assert rooms_of_the_map() == rooms_of_the_linter()


def test_every_package_is_on_the_map() -> None:
    packages = {path.parent.name for path in (ROOT / "src" / "koinon").glob("*/__init__.py")}
    assert set().union(*rooms_of_the_map()) == packages


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_and_modules_that_documents_name_exist(document: Path) -> None:
    named = re.findall(r"`([^`\n]+)`", document.read_text())
    files = [name for name in named if re.fullmatch(r"\.?[\w-]+(/[\w-]+)*(/|/[\w-]+\.\w+)", name)]
    places = (ROOT, ROOT / "src" / "koinon", document.parent)
    assert [name for name in files if not any((place / name).exists() for place in places)] == []
    modules = [name for name in named if re.fullmatch(r"koinon(\.[a-z_0-9]+)+", name)]
    assert [name for name in modules if importlib.util.find_spec(name) is None] == []


def test_tests_that_documents_name_exist() -> None:
    named = {name for path in DOCUMENTS for name in re.findall(r"`(test_\w+)`", path.read_text())}
    sources = [path.read_text() for path in (ROOT / "tests").rglob("test_*.py")]
    written = {name for source in sources for name in re.findall(r"def (test_\w+)\(", source)}
    assert named
    assert named - written == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    targets = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text())]
    assert [t for t in targets if t and "://" not in t and not (document.parent / t).exists()] == []


def test_the_error_tree_is_drawn_as_it_is() -> None:
    drawn: dict[str, str | None] = {}
    path: list[str] = []
    for mark, name in re.findall(r"^([│├└─ ]*)([A-Z]\w+)  +\S", inspect.getdoc(errors) or "", re.MULTILINE):
        depth = len(mark) // 4
        path[depth:] = [name]
        drawn[name] = path[depth - 1] if depth else None
    defined = {
        kind.__name__: None if kind is KoinonError else kind.__base__.__name__
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, KoinonError) and kind.__base__ is not None
    }
    assert drawn == defined


def test_every_error_has_an_exit_code_and_the_readme_lists_them() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, KoinonError)]
    first_match = {kind: next(code for one, code in EXIT_CODES if issubclass(kind, one)) for kind in kinds}
    readme = re.search(r"Exit codes: (.+?)\.\n", (ROOT / "README.md").read_text(), re.DOTALL)
    assert readme is not None
    listed = {int(code) for code in re.findall(r"(?:^|, |\n)(\d+) ", readme.group(1))}
    assert listed == {0, *first_match.values(), INTERRUPTED}


def test_the_version_is_one() -> None:
    assert koinon.__version__ == PROJECT["project"]["version"]


def test_change_fragments_are_short_and_speak_to_users() -> None:
    fragments = [path for path in (ROOT / "changelog").glob("*.md") if path.name != "README.md"]
    assert fragments
    assert [path.name for path in fragments if not 20 < len(path.read_text().strip()) < 1000] == []


def test_nothing_pins_a_download_address() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[\w.!+]+", line)] == []
