"""The journal: what the suite's contracts said, in order, kept by subject, bounded, and cut back when the chain is.

An ``Entry`` is one decoded event. Every entry is filed under the subjects it speaks of — a study, an evaluation, a
channel — so that a page reads only its own. The journal holds the newest ``capacity`` entries; what
fell out is said, not hidden.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

DEFAULT_CAPACITY: Final = 50_000
MAXIMUM_CHECKPOINTS: Final = 512

Subject: TypeAlias = tuple[str, Any]
"""Kind and number or name: ``("study", 3)``, ``("name", "tumour-risk.clinic")``, ``("paid", transaction)``."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One event of one contract of the suite.

    Attributes:
        contract, event: names, such as ``Studies`` and ``Consented``.
        values: arguments by their Solidity names; addresses and hashes as ``0x`` text.
        at: Unix seconds of its block.
        transaction, height, index: where it stands on the chain.
    """

    contract: str
    event: str
    values: Mapping[str, Any]
    at: int
    height: int
    transaction: str
    index: int


@dataclass(slots=True)
class Journal:
    """What is known so far. Change it only through the functions of this module.

    Attributes:
        height: the last block that was read whole; -1 before the first.
        checkpoints: (height, block hash) at the end of each reading, oldest first, by which a cut chain is noticed.
        forgotten_to: entries up to this height were dropped to stay within ``capacity``; -1 where none were.
    """

    capacity: int = DEFAULT_CAPACITY
    height: int = -1
    forgotten_to: int = -1
    entries: list[Entry] = field(default_factory=list)
    subjects: dict[Subject, list[Entry]] = field(default_factory=lambda: defaultdict(list))
    last_acts: dict[str, int] = field(default_factory=dict)
    checkpoints: list[tuple[int, str]] = field(default_factory=list)


def about(journal: Journal, kind: str, key: Any) -> tuple[Entry, ...]:
    """The entries of one subject, oldest first."""
    return tuple(journal.subjects.get((kind, key), ()))


def last_of(journal: Journal, kind: str, key: Any) -> tuple[int, int]:
    """Where the last entry of a subject stands: what was read about it stays true until this changes."""
    entries = journal.subjects.get((kind, key))
    return (entries[-1].height, entries[-1].index) if entries else (-1, -1)


def keys(journal: Journal, kind: str) -> tuple[Any, ...]:
    """Every key of one kind of subject, in the order of first appearance."""
    return tuple(key for one, key in journal.subjects if one == kind)


def extend(journal: Journal, entries: Iterable[Entry], height: int, block_hash: str) -> None:
    """Add the entries of the blocks up to ``height``, whose last has ``block_hash``."""
    for entry in entries:
        _file(journal, entry)
    journal.height = height
    journal.checkpoints.append((height, block_hash))
    del journal.checkpoints[:-MAXIMUM_CHECKPOINTS]
    if len(journal.entries) > journal.capacity:
        kept = journal.entries[-(journal.capacity - journal.capacity // 8) :]
        journal.forgotten_to = journal.entries[-len(kept) - 1].height
        _refile(journal, kept)


def cut_back(journal: Journal, height: int) -> None:
    """Forget everything above ``height``: the chain has other blocks there now."""
    journal.height = min(journal.height, height)
    journal.checkpoints = [one for one in journal.checkpoints if one[0] <= height]
    _refile(journal, [entry for entry in journal.entries if entry.height <= height])


def _refile(journal: Journal, entries: list[Entry]) -> None:
    journal.entries, journal.subjects, journal.last_acts = [], defaultdict(list), {}
    for entry in entries:
        _file(journal, entry)


def _file(journal: Journal, entry: Entry) -> None:
    journal.entries.append(entry)
    for subject in _subjects(journal, entry):
        journal.subjects[subject].append(entry)
    actor = entry.values.get(ACTORS.get((entry.contract, entry.event), ""))
    if actor is not None:
        journal.last_acts[actor] = entry.at


# What each event speaks of ------------------------------------------------------------------------------------------

_By: TypeAlias = Callable[[Mapping[str, Any]], tuple[Subject, ...]]


def _one(kind: str, field_name: str) -> _By:
    return lambda values: ((kind, values[field_name]),)


_SUBJECTS: Final[dict[tuple[str, str], _By]] = {
    ("Providers", "Registered"): _one("provider", "account"),
    ("Providers", "Staked"): _one("provider", "account"),
    ("Providers", "UnstakeRequested"): _one("provider", "account"),
    ("Providers", "PoolChanged"): _one("provider", "account"),
    ("Providers", "Unlocked"): _one("provider", "account"),
    ("Assets", "Minted"): lambda values: (
        ("asset", values["assetId"]),
        *((("made from", parent)) for parent in values["parents"]),
    ),
    ("Assets", "Noted"): _one("notes", "assetId"),
    ("Assets", "SplitSet"): _one("asset", "assetId"),
    ("Assets", "Distributed"): _one("asset", "assetId"),
    ("Evaluations", "Requested"): lambda values: (
        ("evaluation", values["requestId"]),
        ("evaluations of", values["modelId"]),
    ),
    ("Market", "OfferSet"): _one("service", "serviceId"),
    ("Market", "PassBought"): lambda values: (("pass", values["passId"]), ("service", values["serviceId"])),
    ("Market", "SubscriptionUpdate"): _one("pass", "tokenId"),
    ("Market", "ChannelOpened"): lambda values: (("channel", values["channelId"]), ("service", values["serviceId"])),
    ("Receipts", "Anchored"): _one("service", "serviceId"),
}
_KEYS_BY_CONTRACT: Final = (
    ("Studies", "study", "studyId"),
    ("Evaluations", "evaluation", "requestId"),
    ("Names", "name", "name"),
    ("Market", "channel", "channelId"),
)
_CREDITS: Final = {"Studies": "study", "Evaluations": "evaluation", "Assets": "asset"}

ACTORS: Final[dict[tuple[str, str], str]] = {
    ("Providers", "Registered"): "account",
    ("Providers", "Staked"): "account",
    ("Studies", "Proposed"): "publisher",
    ("Studies", "Consented"): "owner",
    ("Studies", "Refused"): "owner",
    ("Studies", "Revealed"): "party",
    ("Studies", "Complained"): "receiver",
    ("Studies", "Declined"): "member",
    ("Studies", "Challenged"): "challenger",
    ("Studies", "Answered"): "member",
    ("Assets", "Minted"): "publisher",
    ("Evaluations", "Requested"): "requester",
    ("Evaluations", "Committed"): "evaluator",
    ("Evaluations", "Revealed"): "evaluator",
    ("Market", "ChannelOpened"): "payer",
    ("Market", "PassBought"): "buyer",
    ("Receipts", "Anchored"): "node",
}
"""The field of each event that names who acted."""


def _subjects(journal: Journal, entry: Entry) -> tuple[Subject, ...]:
    values = entry.values
    match entry.contract, entry.event:
        case "Token", "Transfer":
            return (("paid", entry.transaction),)
        case "Providers", "Sampled":
            return (("sampled", entry.transaction), *(("provider", account) for account in values["chosen"]))
        case "Providers", "Slashed":
            kind = {"Studies": "study", "Evaluations": "evaluation"}.get(values["by"], "slashed by")
            return ((kind, values["subject"]), ("provider", values["account"]), ("slashed", entry.transaction))
        case "Providers", "Credited" if values["reason"] == "slashed stake":
            # The subject's number alone does not say whether a study or an evaluation is meant; the Slashed event of
            # the same transaction, just before, does.
            before = about(journal, "slashed", entry.transaction)
            kind = {"Studies": "study", "Evaluations": "evaluation"}.get(before[-1].values["by"], "") if before else ""
            return ((kind, values["subject"]),) if kind else ()
        case "Market", "Credited":
            return (("channel", f"0x{values['subject']:064x}"),)
        case contract, "Credited" if contract in _CREDITS:
            return ((_CREDITS[contract], values["subject"]),)
    known = _SUBJECTS.get((entry.contract, entry.event))
    if known is not None:
        return known(values)
    for contract, kind, name in _KEYS_BY_CONTRACT:
        if entry.contract == contract and name in values:
            return ((kind, values[name]),)
    return ()
