"""docs/spec/giskard.md lists exactly the properties that code and tests speak of."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
LABEL = re.compile(r"GISKARD-(?:SAFETY|LIVENESS)-\d+")
LISTED = re.compile(r"^\| `(GISKARD-(?:SAFETY|LIVENESS)-\d+)`", re.MULTILINE)


def labels_in(*folders: str) -> set[str]:
    """Labels quoted in Python files, but for this one."""
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py") if path != Path(__file__)]
    return {label for path in files for label in LABEL.findall(path.read_text(encoding="utf-8"))}


def test_every_property_is_listed_once_and_quoted_by_code_and_tests() -> None:
    specification = (ROOT / "docs" / "spec" / "giskard.md").read_text(encoding="utf-8")
    listed = LISTED.findall(specification)
    assert len(listed) == len(set(listed))
    assert set(LABEL.findall(specification)) == set(listed)
    assert labels_in("src", "proofs", "tests") == set(listed)
    safety = {label for label in listed if "SAFETY" in label}
    assert labels_in("src") >= safety
    assert labels_in("tests") >= safety


def test_every_command_and_file_that_it_names_exists() -> None:
    specification = (ROOT / "docs" / "spec" / "giskard.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:proofs|tests)/[\w/]+\.py", specification))
    assert named
    assert all((ROOT / name).is_file() for name in named)
