"""Compile the suite and write (or, with --check, compare) the artefacts that ship in the wheel.

    npm ci --prefix contracts
    python contracts/build.py [--check]

Needs Node.js and the packages pinned in package-lock.json. Two builds of the same sources give the same bytes.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, Final

HERE: Final = Path(__file__).resolve().parent
SOURCES: Final = HERE / "src"
FIXTURES: Final = HERE / "fixtures"
PACKAGES: Final = HERE / "node_modules"
ARTEFACTS: Final = HERE.parent / "src" / "koinon" / "contracts" / "artifacts"
SYSTEM_ARTEFACTS: Final = HERE.parent / "src" / "koinon" / "ledger" / "staking" / "artifacts"
FIXTURE_ARTEFACTS: Final = HERE.parent / "tests" / "contracts" / "fixtures"
SUITE: Final = ("Assets", "Evaluations", "Judgements", "Market", "Names", "Providers", "Receipts", "Studies", "Token")
PRIVACY: Final = ("EncryptedTally", "Outsourcing", "Products")
SYSTEM: Final = ("Staking", "Work")
"""Contracts of chains whose validators change: the one in genesis, and what credits it with useful work."""
RUNTIME_LIMIT: Final = 24_576  # EIP-170
IMPORT: Final = re.compile(r'^import\s[^;]*?"([^"]+)";', re.MULTILINE)
SETTINGS: Final = {
    "optimizer": {"enabled": True, "runs": 200},
    "viaIR": True,
    "evmVersion": "cancun",
    "metadata": {"bytecodeHash": "none", "appendCBOR": False},
}
OUTPUTS: Final = [
    "abi",
    "evm.bytecode.object",
    "evm.deployedBytecode.object",
    "evm.deployedBytecode.immutableReferences",
]


class BuildFailure(Exception):
    """The suite does not compile, or an artefact is not what the sources give."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a committed artefact differs")
    check = parser.parse_args().check
    try:
        files = artefacts()
        if check:
            compare(files)
        else:
            write(files)
    except BuildFailure as failure:
        print(f"build.py: {failure}", file=sys.stderr)
        return 1
    print(f"{len(files)} artefacts {'match' if check else 'written'}")
    return 0


def artefacts() -> dict[Path, bytes]:
    """Compile everything; returns the bytes of each artefact file."""
    wanted = [(SOURCES / f"{name}.sol", ARTEFACTS) for name in SUITE]
    wanted += [(SOURCES / f"{name}.sol", SYSTEM_ARTEFACTS) for name in SYSTEM]
    wanted += [(SOURCES / "privacy" / f"{name}.sol", ARTEFACTS / "privacy") for name in PRIVACY]
    wanted += [(path, FIXTURE_ARTEFACTS) for path in sorted(FIXTURES.glob("*.sol"))]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        compiled = pool.map(compile_one, (path for path, _ in wanted))
        return {folder / f"{path.stem}.json": content for (path, folder), content in zip(wanted, compiled, strict=True)}


def compile_one(path: Path) -> bytes:
    """The artefact of the contract that ``path`` is named after.

    Each contract is compiled alone with just the sources it imports: the compiler's output for one contract depends
    on what else is in its input.
    """
    settings = {**SETTINGS, "outputSelection": {unit_name(path): {path.stem: OUTPUTS}}}
    request = json.dumps({"language": "Solidity", "sources": dict(collect(path)), "settings": settings}, sort_keys=True)
    compiled = compile_standard(request)["contracts"][unit_name(path)][path.stem]
    return artefact(path.stem, compiled, hashlib.sha256(request.encode()).hexdigest())


def artefact(name: str, compiled: dict[str, Any], input_hash: str) -> bytes:
    evm = compiled["evm"]
    runtime = evm["deployedBytecode"]["object"]
    if len(runtime) // 2 > RUNTIME_LIMIT:
        raise BuildFailure(f"{name} is {len(runtime) // 2} bytes long and may be {RUNTIME_LIMIT}: split it")
    immutables = sorted(
        [place["start"], place["length"]]
        for places in evm["deployedBytecode"]["immutableReferences"].values()
        for place in places
    )
    record = {
        "name": name,
        "compiler": f"solc {compiler_version()}",
        "input_sha256": input_hash,
        "abi": sorted(compiled["abi"], key=lambda entry: json.dumps(entry, sort_keys=True)),
        "bytecode": "0x" + evm["bytecode"]["object"],
        "runtime": "0x" + runtime,
        "immutables": immutables,
    }
    lines = [f"{json.dumps(key)}: {render(value)}" for key, value in sorted(record.items())]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def render(value: Any) -> str:
    """One line for each entry of the ABI, so that a change of it can be read in a diff."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(json.dumps(entry, sort_keys=True) for entry in value) + "\n]"
    return json.dumps(value, sort_keys=True)


def collect(start: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The source at ``start`` and all it imports, by unit name."""
    pending, seen = [start], set[Path]()
    while pending:
        path = pending.pop().resolve()
        if path in seen:
            continue
        seen.add(path)
        if not path.is_file():
            raise BuildFailure(f"{path.name} is missing; run npm ci in contracts/ first")
        content = path.read_text()
        yield unit_name(path), {"content": content}
        pending.extend(
            path.parent / name if name.startswith(".") else PACKAGES / name for name in IMPORT.findall(content)
        )


def unit_name(path: Path) -> str:
    root = PACKAGES if PACKAGES in path.parents else HERE
    return str(PurePosixPath(path.relative_to(root)))


def compile_standard(request: str) -> Any:
    try:
        run = subprocess.run(
            ["node", str(HERE / "solc.js")], input=request, capture_output=True, text=True, check=False, cwd=HERE
        )
    except FileNotFoundError:
        raise BuildFailure("node is not on the PATH; install Node.js 20 or later") from None
    if run.returncode != 0:
        raise BuildFailure(f"the compiler did not run (npm ci in contracts/ first): {run.stderr.strip()[-500:]}")
    answer = json.loads(run.stdout)
    problems = [entry["formattedMessage"] for entry in answer.get("errors", ())]
    if problems:
        raise BuildFailure("the sources must compile without errors and warnings:\n" + "\n".join(problems))
    return answer


def compiler_version() -> str:
    version: str = json.loads((PACKAGES / "solc" / "package.json").read_text())["version"]
    return version


def write(files: dict[Path, bytes]) -> None:
    for folder in {path.parent for path in files}:
        folder.mkdir(parents=True, exist_ok=True)
        for stale in set(folder.glob("*.json")) - set(files):
            stale.unlink()
    for path, content in files.items():
        path.write_bytes(content)


def compare(files: dict[Path, bytes]) -> None:
    for folder in {path.parent for path in files}:
        stale = sorted(set(folder.glob("*.json")) - set(files))
        if stale:
            raise BuildFailure(f"{stale[0].name} belongs to no source; run build.py and commit")
    for path, content in files.items():
        if not path.is_file() or path.read_bytes() != content:
            raise BuildFailure(f"{path.name} differs from what the sources give; run build.py and commit")


if __name__ == "__main__":
    sys.exit(main())
