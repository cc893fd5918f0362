"""The main job as a whole: seconds, memory of all processes together, an idle network's processor time, installed size.

    python benchmarks/main_job.py [--json] [--runs N] [--no-install]

Memory is the largest sum, over samples a second apart, of the proportional set sizes of every process that works for the
network and of the command itself. The idle share is processor seconds of all eleven processes over wall seconds. The
installed size is that of a fresh environment with the default dependencies and nothing else.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
SAMPLE_SECONDS = 1.0
IDLE_SECONDS = 30.0
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src")}


def processes_of(folder: Path, command: psutil.Process) -> dict[int, psutil.Process]:
    """The command, every node of the folder's network, and all their children."""
    found = {command.pid: command}
    for process in psutil.process_iter(["cmdline"]):
        if str(folder) in " ".join(process.info["cmdline"] or []):
            found[process.pid] = process
    for process in list(found.values()):
        try:
            found |= {child.pid: child for child in process.children(recursive=True)}
        except psutil.NoSuchProcess:
            continue
    return found


def memory_of(process: psutil.Process) -> int:
    """Proportional set size in bytes: a page that several processes share counts once in their sum."""
    try:
        return int(process.memory_full_info().pss)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0


def run_demo(folder: Path) -> dict[str, Any]:
    """One undisturbed run: its seconds, steps, scores and the peak memory of everything together."""
    report = folder / "report.json"
    command = [sys.executable, "-m", "koinon.cli.main", "demo", "--json", "--folder", str(folder / "demo")]
    started = time.monotonic()
    process = subprocess.Popen(
        [*command, "--report", str(report)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENVIRONMENT
    )
    watched = psutil.Process(process.pid)
    peak, most = 0, 0
    while process.poll() is None:
        alive = processes_of(folder, watched)
        total = sum(memory_of(one) for one in alive.values())
        peak, most = max(peak, total), max(most, len(alive))
        time.sleep(SAMPLE_SECONDS)
    if process.returncode:
        assert process.stderr is not None
        raise SystemExit(f"the demonstration failed: {process.stderr.read().decode()[-500:]}")
    told = json.loads(report.read_text())
    return {
        "seconds": round(time.monotonic() - started, 1),
        "peak_bytes": peak,
        "most_processes": most,
        "steps": told["steps"],
        "scores": told["scores"],
        "verified": told["verified"],
    }


async def idle_share(folder: Path) -> float:
    """Processor seconds of an idle network of eleven with its contracts, over wall seconds."""
    from koinon.crypto.random import SystemRng
    from koinon.kernel.quantities import Wei
    from koinon.node.genesis import DRAW_DELAY
    from koinon.node.local_network import DEMONSTRATION, Network
    from koinon.node.setup import Chain, put_to_work, silent

    network = Network(folder / "idle")
    network.create(DEMONSTRATION, SystemRng(), outside=None, allow_faults=False)
    try:
        await network.start()
        await put_to_work(network, Chain(DRAW_DELAY, Wei(0)), silent)
        await asyncio.sleep(5.0)
        before = processor_seconds(network)
        started = time.monotonic()
        await asyncio.sleep(IDLE_SECONDS)
        return (processor_seconds(network) - before) / (time.monotonic() - started)
    finally:
        await network.stop()


def processor_seconds(network: Any) -> float:
    """User and system seconds of every node and its children so far."""
    total = 0.0
    for name in network.names():
        node = network.process(name)
        assert node is not None
        for process in (node, *node.children(recursive=True)):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def installed_bytes(folder: Path) -> int:
    """Size on disk of a fresh environment with the default install."""
    place = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(place), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--constraint", str(ROOT / "constraints.txt"), str(ROOT)], check=True)
    return sum(path.lstat().st_blocks * 512 for path in place.rglob("*"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--runs", type=int, default=3, help="runs of the main job (default 3)")
    parser.add_argument("--no-install", action="store_true", help="leave the installed size out")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT / "src"))
    os.environ["PYTHONPATH"] = str(ROOT / "src")  # for the nodes, which are processes of their own
    runs, result = [], {}
    for _ in range(options.runs):
        with tempfile.TemporaryDirectory(prefix="koinon-benchmark-") as scratch:
            runs.append(run_demo(Path(scratch)))
    with tempfile.TemporaryDirectory(prefix="koinon-benchmark-") as scratch:
        result = {
            "machine": {
                "processor": platform.processor() or platform.machine(),
                "cores": os.cpu_count(),
                "python": platform.python_version(),
                "load_before": os.getloadavg()[0],
            },
            "seconds": {
                "median": statistics.median(run["seconds"] for run in runs),
                "all": [run["seconds"] for run in runs],
                "target": 90,
            },
            "peak_megabytes": {
                "median": round(statistics.median(run["peak_bytes"] for run in runs) / 2**20),
                "target": 4096,
            },
            "idle_share_of_one_core": {"value": round(asyncio.run(idle_share(Path(scratch))), 4), "target": 0.10},
            "runs": runs,
        }
        if not options.no_install:
            result["installed_megabytes"] = {
                "value": round(installed_bytes(Path(scratch)) / 2**20),
                "target": 800,
            }
    if options.json:
        print(json.dumps(result, indent=2))
        return
    print(f"main job        {result['seconds']['median']} s (target 90), runs {result['seconds']['all']}")
    print(f"memory          {result['peak_megabytes']['median']} MiB of all processes together (target 4096)")
    print(f"idle network    {result['idle_share_of_one_core']['value']:.1%} of one core (target 10 %)")
    if "installed_megabytes" in result:
        print(f"installed       {result['installed_megabytes']['value']} MiB (target 800)")


if __name__ == "__main__":
    main()
