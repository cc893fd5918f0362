"""A node's home without a node, and a study's draft, for commands that must refuse before they ask anybody."""

from pathlib import Path

import pytest
from cli_terminal import koinon


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    made = koinon("node", "init", "--home", folder, "--name", "north", "--role", "data", "--role", "publisher")
    assert made.code == 0
    return folder


@pytest.fixture
def ranges(tmp_path: Path) -> Path:
    path = tmp_path / "ranges.toml"
    path.write_text(
        'target = "ill"\n[[columns]]\nname = "age"\nlow = 0\nhigh = 120\n'
        '[[columns]]\nname = "pulse"\nlow = 20.0\nhigh = 250\n',
        "utf-8",
    )
    return path


@pytest.fixture
def cards(tmp_path: Path) -> list[Path]:
    """Identity cards of three owners."""
    found = []
    for name in ("east", "south", "west"):
        folder = tmp_path / name
        assert koinon("node", "init", "--home", folder, "--name", name, "--role", "data").code == 0
        found.append(folder / "identity.json")
    return found


@pytest.fixture
def draft(tmp_path: Path, ranges: Path, cards: list[Path]) -> Path:
    path = tmp_path / "study.toml"
    owners = [word for card in cards for word in ("--owner", card)]
    made = koinon("study", "new", path, "--from", ranges, *owners, "--title", "Risk", "--purpose", "tumour risk")
    assert made.code == 0, made.err
    return path
