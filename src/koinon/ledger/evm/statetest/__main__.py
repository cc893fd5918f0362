"""Run official state tests: ``python -m koinon.ledger.evm.statetest PATH… [--jobs N] [--json] [--mode …]``.

Prints passed and failed for each file, and how each failure differs. Exits with 1 if anything failed or could not be
read, with 2 if there was nothing to run.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Final

from koinon.kernel.errors import InvalidInput
from koinon.ledger.evm.program import HOT, ProgramCache
from koinon.ledger.evm.statetest.fixture import Failure, cases, run_case

MODES: Final = {"mixed": HOT, "interpret": sys.maxsize, "compile": 0}
"""How often a block is interpreted before it is compiled: as in a node, always, never."""


@dataclass(frozen=True)
class Report:
    """Of one file. ``problem`` says why it could not be read."""

    path: str
    passed: int
    failures: tuple[Failure, ...]
    problem: str = ""


def run_file(path: Path, mode: str) -> Report:
    """Run all variants in a file."""
    programs = ProgramCache(hot=MODES[mode])
    passed, failures = 0, []
    try:
        for case in cases(json.loads(path.read_bytes())):
            failure = run_case(case, programs)
            if failure is None:
                passed += 1
            else:
                failures.append(failure)
    except (OSError, ValueError, InvalidInput) as problem:
        return Report(str(path), passed, tuple(failures), str(problem))
    return Report(str(path), passed, tuple(failures))


def files(paths: Iterable[Path]) -> list[Path]:
    """The files named, and those under the folders named."""
    return [file for path in paths for file in (sorted(path.rglob("*.json")) if path.is_dir() else [path])]


def reports(paths: list[Path], mode: str, jobs: int) -> Iterator[Report]:
    """Of every file, in order."""
    run = partial(run_file, mode=mode)
    if jobs == 1:
        yield from map(run, paths)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(run, paths, chunksize=4)


def _text(report: Report) -> str:
    lines = [f"{report.path}: {report.passed} passed, {len(report.failures)} failed"]
    lines.extend(f"  {failure.case}: {failure.reason}" for failure in report.failures)
    if report.problem:
        lines.append(f"  cannot be read: {report.problem}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="statetest", description="Run official Ethereum state tests, fork Cancun.")
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    parser.add_argument("--jobs", type=int, default=1, help="processes to run in")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--mode", choices=list(MODES), default="mixed", help="which execution path to use")
    options = parser.parse_args(arguments)
    found = []
    for report in reports(files(options.paths), options.mode, max(options.jobs, 1)):
        found.append(report)
        if not options.json:
            print(_text(report))
    passed, failed = sum(report.passed for report in found), sum(len(report.failures) for report in found)
    unread = sum(bool(report.problem) for report in found)
    if options.json:
        print(json.dumps({"passed": passed, "failed": failed, "files": [asdict(report) for report in found]}))
    else:
        print(f"{passed} passed, {failed} failed, {unread} of {len(found)} files not read")
    if failed or unread:
        return 1
    return 0 if passed else 2


if __name__ == "__main__":
    sys.exit(main())
