"""The compiled suite as it ships in the wheel: ABI, creation bytecode, runtime bytecode."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

import msgspec

from koinon.kernel.errors import InvalidInput

SUITE: Final = (
    "Token",
    "Providers",
    "Studies",
    "Assets",
    "Evaluations",
    "Names",
    "Market",
    "Receipts",
    "Judgements",
)
"""The contracts of the suite in the order of their deployment: each needs only earlier ones."""
SYSTEM: Final = ("Staking", "Work")
"""Contracts of chains whose validators change: the one in genesis, and what credits it with useful work."""
PRIVACY: Final = ("EncryptedTally", "Outsourcing", "Products")
"""Contracts on encrypted values and encrypted work, for anybody to deploy."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """One compiled contract.

    Attributes:
        bytecode: creation code; ABI-encoded constructor arguments follow it.
        runtime: code on the chain, with zeros where immutable values stand.
        immutables: (start, length) of those places, in bytes.
        input_sha256: hash of the sources and settings it was compiled from.
    """

    name: str
    compiler: str
    input_sha256: str
    abi: tuple[Mapping[str, Any], ...]
    bytecode: bytes
    runtime: bytes
    immutables: tuple[tuple[int, int], ...]

    def is_code(self, code: bytes) -> bool:
        """Whether ``code`` read from a chain is this contract, whatever its immutable values."""
        return len(code) == len(self.runtime) and self.without_immutables(code) == self.runtime

    def without_immutables(self, code: bytes) -> bytes:
        """``code`` with zeros where this contract keeps immutable values."""
        blank = bytearray(code)
        for start, length in self.immutables:
            blank[start : start + length] = bytes(length)
        return bytes(blank)


def parse_artifact(data: bytes) -> Artifact:
    """Read the JSON form that ``contracts/build.py`` writes. Raises InvalidInput for anything else."""
    try:
        record = msgspec.json.decode(data, type=dict[str, Any])
        return Artifact(
            name=record["name"],
            compiler=record["compiler"],
            input_sha256=record["input_sha256"],
            abi=tuple(record["abi"]),
            bytecode=bytes.fromhex(record["bytecode"][2:]),
            runtime=bytes.fromhex(record["runtime"][2:]),
            immutables=tuple((start, length) for start, length in record["immutables"]),
        )
    except (msgspec.DecodeError, KeyError, TypeError, ValueError) as problem:
        raise InvalidInput(f"not a contract artefact ({problem}); run python contracts/build.py") from None


@cache
def artifact(name: str) -> Artifact:
    """The artefact of one contract. Raises InvalidInput for a name in none of the lists above."""
    if name in SYSTEM:
        return parse_artifact(
            resources.files("koinon.ledger.staking").joinpath("artifacts", f"{name}.json").read_bytes()
        )
    if name in PRIVACY:
        return parse_artifact(
            resources.files(__package__).joinpath("artifacts", "privacy", f"{name}.json").read_bytes()
        )
    if name not in SUITE:
        raise InvalidInput(f"{name!r} is no contract of the suite; there are {', '.join(SUITE)}")
    return parse_artifact(resources.files(__package__).joinpath("artifacts", f"{name}.json").read_bytes())
