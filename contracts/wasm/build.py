"""Compile the example contracts in WebAssembly and write (or, with --check, compare) their artefacts.

    npm ci --prefix contracts/wasm
    python contracts/wasm/build.py [--check]

AssemblyScript sources are compiled with the pinned compiler, text sources with wasmtime's assembler. The module gets
the marker that ends it, and an interface is read from the ``.abi`` file beside the source. Two builds give the same
bytes.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from wasmtime import wat2wasm

HERE: Final = Path(__file__).resolve().parent
SOURCES: Final = HERE / "src"
ARTEFACTS: Final = HERE / "artifacts"
COMPILER: Final = HERE / "node_modules" / "assemblyscript" / "bin" / "asc.js"
END: Final = b"\x00\x0b\x0akoinon.end"
"""An empty custom section named koinon.end; in creation data the constructor's arguments follow it."""

OPTIONS: Final = ("--runtime", "stub", "-Oz", "--use", "abort=src/koinon/abort")
"""No garbage collector, small code, and no import for failing assertions."""

WITHOUT: Final = ("bulk-memory", "nontrapping-f2i")
"""Instructions that contracts cannot have."""

ENTRY: Final = re.compile(r"(constructor|function|event) *(\w*)\(([^)]*)\)( view)?( payable)?(?: returns \(([^)]*)\))?")


class BuildFailure(Exception):
    """A source does not compile, or an artefact is not what the sources give."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a committed artefact differs")
    check = parser.parse_args().check
    try:
        files = {ARTEFACTS / f"{path.stem}.json": artefact(path) for path in sorted(SOURCES.glob("*.abi"))}
        for path, content in files.items():
            if not check:
                path.write_bytes(content)
            elif not path.is_file() or path.read_bytes() != content:
                raise BuildFailure(f"{path.name} differs from what the sources give; run build.py and commit")
    except BuildFailure as failure:
        print(f"build.py: {failure}", file=sys.stderr)
        return 1
    print(f"{len(files)} artefacts {'match' if check else 'written'}")
    return 0


def artefact(interface: Path) -> bytes:
    """The artefact of the contract whose interface this is."""
    text = interface.with_suffix(".wat")
    module = bytes(wat2wasm(text.read_text())) if text.is_file() else compiled(interface.with_suffix(".ts"))
    record = {
        "name": interface.stem,
        "abi": [abi_entry(line) for line in interface.read_text().splitlines() if line],
        "bytecode": "0x" + (module + END).hex(),
    }
    return (json.dumps(record, indent=1, sort_keys=True) + "\n").encode()


def compiled(source: Path) -> bytes:
    """The module of an AssemblyScript source."""
    without = [option for feature in WITHOUT for option in ("--disable", feature)]
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "module.wasm"
        command = ["node", str(COMPILER), f"src/{source.name}", "-o", str(target), *OPTIONS, *without]
        try:
            run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE)
        except FileNotFoundError:
            raise BuildFailure("node is not on the PATH; install Node.js 20 or later") from None
        if run.returncode != 0 or not target.is_file():
            raise BuildFailure(
                f"{source.name} does not compile (npm ci in contracts/wasm first):\n{run.stderr[-2000:]}"
            )
        return target.read_bytes()


def abi_entry(line: str) -> dict[str, Any]:
    """One line of an interface, written as in Solidity, as an entry of a JSON interface."""
    found = ENTRY.fullmatch(line)
    if found is None:
        raise BuildFailure(f"this line is no part of an interface: {line}")
    kind, name, inputs, view, payable, outputs = found.groups()
    entry: dict[str, Any] = {"type": kind, "inputs": parameters(inputs)}
    if kind == "event":
        marked = [word.split() for word in inputs.split(",")]
        indexed = [{"indexed": "indexed" in words} for words in marked]
        entry["inputs"] = [{**one, **mark} for one, mark in zip(entry["inputs"], indexed, strict=True)]
    if kind != "constructor":
        entry["name"] = name
    if kind == "event":
        return {**entry, "anonymous": False}
    entry["stateMutability"] = "view" if view else "payable" if payable else "nonpayable"
    return entry if kind == "constructor" else {**entry, "outputs": parameters(outputs or "")}


def parameters(text: str) -> list[dict[str, Any]]:
    result = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        words = part.split()
        result.append({"type": words[0], "name": words[-1] if len(words) > 1 else ""})
    return result


if __name__ == "__main__":
    sys.exit(main())
