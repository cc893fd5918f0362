"""Fuzz everything that reads bytes from outside, guided by coverage.

    pip install -e '.[fuzz]'
    python fuzz/decoders.py --runs 200000            every target in turn, so many inputs each
    python fuzz/decoders.py --runs 0 requests        one target, until stopped
    python fuzz/decoders.py --replay FILE requests   one input again

Each target runs in a process of its own. A find is written to a file ``crash-…`` in the current folder, and named.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TARGETS = ("wire_messages", "frames", "greeting", "records", "transactions", "requests", "monitor")


def fuzz(name: str, runs: int, seed: int, longest: int, corpus: Path) -> None:
    """Never returns: libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["koinon"]):
        import decoder_targets
    for place, data in enumerate(decoder_targets.seeds(name)):
        (corpus / f"seed-{place}").write_bytes(data)
    options = [f"-runs={runs}" if runs else "-runs=-1", f"-seed={seed}", f"-max_len={longest}", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], decoder_targets.TARGETS[name])
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; all by default")
    parser.add_argument("--runs", type=int, default=20_000, help="inputs for each target; 0 for no end")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--longest", type=int, default=4096, help="bytes of an input")
    parser.add_argument("--replay", type=Path, help="one input for the one target, instead of fuzzing")
    parser.add_argument("--json", action="store_true", help="print a summary as JSON")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = set(options.targets) - set(TARGETS)
    if unknown:
        parser.error(f"no target is called {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    names = options.targets or list(TARGETS)
    if options.replay is not None:
        import decoder_targets

        for name in names:
            decoder_targets.TARGETS[name](options.replay.read_bytes())
        return
    if options.child is not None:
        fuzz(names[0], options.runs, options.seed, options.longest, options.child)
    report = {}
    for name in names:
        with tempfile.TemporaryDirectory() as corpus:
            words = [f"--runs={options.runs}", f"--seed={options.seed}", f"--longest={options.longest}"]
            begin = time.perf_counter()
            child = subprocess.run(
                [sys.executable, __file__, name, *words, "--child", corpus], capture_output=True, text=True, check=False
            )
            spent = time.perf_counter() - begin
        if child.returncode != 0:
            print(child.stderr[-6000:], file=sys.stderr)
            raise SystemExit(f"{name}: a find; run it again with --replay FILE {name}")
        stats = dict(
            line.removeprefix("stat::").split(":") for line in child.stderr.splitlines() if line.startswith("stat::")
        )
        executed = int(stats["number_of_executed_units"])
        report[name] = {"inputs": executed, "seconds": round(spent, 1), "per_second": round(executed / spent)}
        if not options.json:
            print(f"{name:15} {executed:9} inputs, {executed / spent:8.0f} a second, nothing found", flush=True)
    if options.json:
        print(
            json.dumps({"seed": options.seed, "inputs": sum(r["inputs"] for r in report.values()), "targets": report})
        )


if __name__ == "__main__":
    main()
