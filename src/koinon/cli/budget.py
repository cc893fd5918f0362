"""What ``koinon data budget`` and ``koinon data audit`` show: privacy spent and left, and entries for an auditor."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from koinon.cli.console import shorten
from koinon.cli.options import ChainAccess, open_suite, read_text, write_new
from koinon.jobs.policy import read_policy
from koinon.kernel.errors import InvalidInput
from koinon.kernel.ids import to_hex
from koinon.node.datasets import Datasets
from koinon.node.home import Home
from koinon.node.privacy_ledger import PrivacyLedger
from koinon.privacy.differential.budget import (
    OWN_ANSWER,
    Budget,
    Entry,
    check_opened,
    exact_answers,
    mechanisms,
    spent,
)
from koinon.privacy.differential.opened import OpenedLedger, plain, read_opened, write_opened
from koinon.store.keyvalue import LmdbStore

AUDIT_DELTA: Final = 1e-6
_BAR: Final = 20


@dataclass(frozen=True)
class DatasetBudget:
    """One data set's ledger and what its owner allows."""

    dataset_hash: bytes
    entries: tuple[Entry, ...]
    allowed: Budget

    @property
    def spent(self) -> float:
        return spent(self.entries, self.allowed.delta)

    def facts(self) -> dict[str, Any]:
        """For ``--json``: ε spent, left and allowed at δ, and every entry but its salt."""
        return {
            "data_set": to_hex(self.dataset_hash),
            "epsilon_spent": self.spent,
            "epsilon_left": max(0.0, self.allowed.epsilon - self.spent),
            "epsilon": self.allowed.epsilon,
            "delta": self.allowed.delta,
            "exact_answers": exact_answers(self.entries),
            "entries": [plain(entry) for entry in self.entries],
        }

    def row(self) -> tuple[object, ...]:
        """For people: with a bar of what is spent."""
        used = min(1.0, self.spent / self.allowed.epsilon)
        full = round(used * _BAR)
        own = sum(entry.study == OWN_ANSWER for entry in self.entries)
        studies = len({entry.study for entry in self.entries if entry.study != OWN_ANSWER})
        return (
            shorten(self.dataset_hash),
            f"ε {self.spent:.3g} of {self.allowed.epsilon:g}",
            "█" * full + "░" * (_BAR - full),
            f"{max(0.0, self.allowed.epsilon - self.spent):.3g}",
            studies,
            own,
            exact_answers(self.entries),
        )


def budgets(home: Home) -> list[DatasetBudget]:
    """Every data set in a node's home. Raises InvalidInput where the policy cannot be read."""
    policy = read_policy(home.policy)
    allowed = Budget(policy.privacy_epsilon, policy.privacy_delta)
    stored = Datasets(home.datasets).all()
    if not (home.database / "data.mdb").exists():
        return [DatasetBudget(one.dataset_hash, (), allowed) for one in stored]
    with LmdbStore.reading_only(home.database) as memory:
        ledger = PrivacyLedger(memory)
        return [DatasetBudget(one.dataset_hash, ledger.entries(one.dataset_hash), allowed) for one in stored]


def write_entries(path: Path, found: list[DatasetBudget]) -> None:
    """The entries with their salts, which open the commitments on the chain. Raises InvalidInput where FILE exists."""
    sets = {to_hex(one.dataset_hash): OpenedLedger(one.allowed, one.entries) for one in found}
    write_new(path, write_opened(sets), 0o600)


async def audited(path: Path, asset: int, access: ChainAccess) -> dict[str, Any]:
    """Compare opened entries with the chain.

    Raises:
        InvalidInput: the file does not hold the data set that the asset stands for.
        Forged: an entry is missing, added or changed.
    """
    async with open_suite(access) as suite:
        minted = await suite.assets.asset_of(asset)
        notes = await suite.assets.notes_of(asset)
    dataset = to_hex(minted.content_hash)
    ledgers = read_opened(read_text(path), path.name)
    if dataset not in ledgers:
        raise InvalidInput(f"{path.name} does not hold the data set {shorten(minted.content_hash)} of asset {asset}")
    entries = ledgers[dataset].entries
    check_opened(entries, notes.count, notes.head)
    return {
        "asset": asset,
        "data_set": dataset,
        "entries": len(entries),
        "noisy_answers": len(mechanisms(entries)),
        "exact_answers": exact_answers(entries),
        "epsilon_spent": spent(entries, AUDIT_DELTA),
        "delta": AUDIT_DELTA,
    }
