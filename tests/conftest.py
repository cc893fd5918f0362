"""What some tests need beside Python: Chromium, Node.js with the packages of ``contracts/``.

Where it is missing, they are skipped and say what to install. With ``CI=true`` nothing may be skipped, for any reason:
a skip is a failure there, so that a green run has run everything.
"""

import os
import shutil
import subprocess
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent
NODE_MODULES: Final = ROOT / "contracts" / "node_modules"
BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")


def browser_program() -> str | None:
    """The browser on this machine's PATH, or None."""
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


def anvil_program() -> Path | None:
    """The anvil of this machine's kind among the npm packages, or None."""
    return next(iter(sorted(NODE_MODULES.glob("@foundry-rs/anvil-*/bin/anvil*"))), None)


def missing_for(marker: str) -> str | None:
    """What tests with this marker lack here, as a sentence, or None."""
    if marker == "browser":
        return None if browser_program() else "Chromium is not installed; install the package chromium"
    if shutil.which("node") is None:
        return "Node.js is not installed; install it, then run npm ci in contracts/"
    if not (NODE_MODULES / "solc").is_dir() or anvil_program() is None:
        return "the npm packages are not installed; run npm ci in contracts/"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for marker in ("browser", "node"):
        reason = missing_for(marker)
        for item in items:
            if reason is not None and item.get_closest_marker(marker) is not None:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and CI skips nothing: {call.excinfo and call.excinfo.value}"
    return report


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's program; for tests marked ``browser``."""
    program = browser_program()
    assert program is not None, "a test that needs Chromium is marked browser"
    return program


@pytest.fixture
def anvil() -> Iterator[str]:
    """Address of a fresh anvil chain; for tests marked ``node``."""
    program = anvil_program()
    assert program is not None, "a test that needs anvil is marked node"
    process = subprocess.Popen(
        [str(program), "--host", "127.0.0.1", "--port", "0", "--chain-id", "31337"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        address = next((line for line in process.stdout if line.startswith("Listening on ")), None)
        if address is None:
            pytest.fail("anvil did not start")
        yield "http://" + address.removeprefix("Listening on ").strip()
    finally:
        process.kill()
        process.stdout.close()
        process.wait()
