"""Key files of people who are no node: one account, 64 hexadecimal digits, readable by nobody else."""

from pathlib import Path
from typing import TYPE_CHECKING

from koinon.cli.options import read_text, write_new
from koinon.kernel.errors import InvalidInput

if TYPE_CHECKING:
    from koinon.crypto.signature import AccountKey


def read_key(path: Path) -> "AccountKey":
    """Raises InvalidInput where the file holds no key, or where other users may read it."""
    from koinon.crypto.signature import AccountKey

    text = read_text(path).strip().removeprefix("0x")
    if path.stat().st_mode & 0o077:
        raise InvalidInput(f"{path.name} is readable by other users; run: chmod 600 {path.name}")
    if len(text) != 64 or any(digit not in "0123456789abcdefABCDEF" for digit in text):
        raise InvalidInput(f"{path.name} must hold one private key of 64 hexadecimal digits")
    return AccountKey.from_secret(bytes.fromhex(text))


def write_new_key(path: Path) -> "AccountKey":
    """A fresh key in a new file. Raises InvalidInput where the file exists."""
    from koinon.crypto.random import SystemRng
    from koinon.crypto.signature import AccountKey

    key = AccountKey.generate(SystemRng())
    write_new(path, "0x" + key.secret.hex() + "\n", 0o600)
    return key
