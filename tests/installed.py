"""Programs beside Python that some tests need, where this machine has them."""

import shutil
from pathlib import Path
from typing import Final

NODE_MODULES: Final = Path(__file__).resolve().parent.parent / "contracts" / "node_modules"
ASSEMBLYSCRIPT: Final = NODE_MODULES.parent / "wasm" / "node_modules" / "assemblyscript"
FLOWER: Final = NODE_MODULES.parent.parent / ".venv-flower" / "bin" / "python"
BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")


def browser_program() -> str | None:
    """The Chromium on this machine's PATH, or None."""
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


def anvil_program() -> str | None:
    """The anvil of this machine's kind among the npm packages, or None."""
    return next((str(found) for found in sorted(NODE_MODULES.glob("@foundry-rs/anvil-*/bin/anvil*"))), None)


def foundry_program(name: str) -> str:
    """The program of Foundry's of this machine's kind among the npm packages; for tests marked ``node``."""
    return str(next(iter(sorted(NODE_MODULES.glob(f"@foundry-rs/{name}-*/bin/{name}*")))))


def flower_program() -> str | None:
    """The Python of the environment that ``make flower`` makes, or None."""
    return str(FLOWER) if FLOWER.exists() else None


def missing_for(marker: str) -> str | None:
    """What tests with this marker lack here, as a sentence, or None."""
    if marker == "browser":
        return None if browser_program() else "Chromium is not installed; install the package chromium"
    if marker == "flower":
        return None if flower_program() else "Flower is not installed; run make flower"
    if shutil.which("node") is None:
        return "Node.js is not installed; install it, then run npm ci in contracts/"
    if marker == "assemblyscript":
        return None if ASSEMBLYSCRIPT.is_dir() else "AssemblyScript is not installed; run npm ci in contracts/wasm/"
    packages = all(any(NODE_MODULES.glob(f"@foundry-rs/{name}-*")) for name in ("anvil", "cast", "forge"))
    if not packages or not all((NODE_MODULES / name).is_dir() for name in ("solc", "viem")):
        return "the npm packages are not installed; run npm ci in contracts/"
    return None
