"""What the demonstration does, step by step: one network, one story, one report."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from koinon.cli.actors import DemonstrationActors
from koinon.cli.console import Progress, console, print_table
from koinon.cli.report import print_story, report_of
from koinon.contracts.client import ChainClient
from koinon.crypto.random import SystemRng
from koinon.crypto.signature import AccountKey
from koinon.journey.story import main_job
from koinon.kernel.errors import InvalidInput
from koinon.kernel.quantities import Wei
from koinon.node.local_network import DEMONSTRATION, Network, OutsideChain
from koinon.node.setup import GAS_MONEY, Chain, account_names, add_rows, put_to_work

OUTSIDE_DRAW_DELAY: Final = 2
TITLES: Final = {
    "study": "study",
    "train": "train",
    "publish": "publish",
    "harden": "harden",
    "validate": "validate",
    "name": "name",
    "serve": "serve",
    "pay": "pay",
    "audit": "audit",
}


@dataclass(frozen=True)
class Options:
    """What the command line asked for."""

    folder: Path
    chaos: str | None
    chain_url: str | None
    chain_key: Path | None
    data_folder: Path | None
    target: str
    sensitive: str | None
    calls: int
    seed: int


@dataclass
class Rows:
    """Where everybody's rows are before the demonstration hands them out.

    ``owners`` are the data owners' files by organisation; ``evaluation`` the rows nobody else has.
    """

    owners: dict[str, Path]
    evaluation: Path
    ranges: tuple[tuple[str, float, float], ...] = field(default=())


class Demonstration:
    """One run."""

    def __init__(self, options: Options, progress: Progress) -> None:
        self._options = options
        self._progress = progress
        self._network = Network(options.folder / "network")
