"""What holds for all tests.

Tests marked ``browser``, ``node``, ``assemblyscript`` or ``flower`` are skipped where what they need is missing, and
say what to install. With ``CI=true`` nothing may be skipped, for any reason: a skip is a failure, so that a green run
has run everything.
"""

import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, settings

from installed import anvil_program, missing_for

CI = os.environ.get("CI") == "true"
DEEPEST_PYTHON = 5_000

# How fast an example runs says more about what else the machine does than about the code.
settings.register_profile("koinon", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=CI)
settings.load_profile("koinon")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for marker in ("browser", "node", "assemblyscript", "flower"):
        reason = missing_for(marker)
        for item in items:
            if reason is not None and item.get_closest_marker(marker) is not None:
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_runtest_setup() -> None:
    # py-evm and py_ecc raise the limit to where deep nesting overflows the machine's stack instead of being refused.
    # Nothing of ours loads them; here, where test chains do, this takes it back.
    sys.setrecursionlimit(min(sys.getrecursionlimit(), DEEPEST_PYTHON))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and CI:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and CI skips nothing: {call.excinfo and call.excinfo.value}"
    return report


@contextmanager
def running_anvil(*options: str) -> Iterator[str]:
    """Address of a fresh anvil chain."""
    program = anvil_program()
    assert program is not None, "a test that needs anvil is marked node"
    process = subprocess.Popen(
        [program, "--host", "127.0.0.1", "--port", "0", "--chain-id", "31337", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    lines = iter(process.stdout)
    # Nobody else reads the rest of what it prints; a full pipe would stop it.
    rest = threading.Thread(target=deque, args=(lines, 0))
    try:
        address = next((line for line in lines if line.startswith("Listening on ")), None)
        if address is None:
            pytest.fail("anvil did not start")
        rest.start()
        yield "http://" + address.removeprefix("Listening on ").strip()
    finally:
        process.kill()
        process.wait()
        if rest.ident is not None:
            rest.join()
        process.stdout.close()


@pytest.fixture
def anvil(request: pytest.FixtureRequest) -> Iterator[str]:
    """Address of a fresh anvil chain, with the parameter's options if there is one; for tests marked ``node``."""
    with running_anvil(*getattr(request, "param", ())) as address:
        yield address


@pytest.fixture(scope="module")
def shared_anvil() -> Iterator[str]:
    """Address of an anvil chain for all tests of a module, which are marked ``node``."""
    with running_anvil() as address:
        yield address
