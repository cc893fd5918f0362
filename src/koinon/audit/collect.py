"""Finding the transactions that a bundle about one name needs, by asking any chain for the suite's events."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from koinon.audit.evidence import Subject
from koinon.audit.facts import read_event
from koinon.audit.study_checks import word
from koinon.contracts.client import ChainClient, Log
from koinon.contracts.contract import interface
from koinon.crypto.hash import keccak256
from koinon.kernel.errors import InvalidInput
from koinon.kernel.ids import Address, Hash32


@dataclass
class Needed:
    """What has to be proven: transactions, and heights whose block hash entered a draw."""

    transactions: set[Hash32] = field(default_factory=set)
    heights: set[int] = field(default_factory=set)


async def collect(client: ChainClient, contracts: Mapping[str, Address], subject: Subject) -> Needed:
    """Everything about the subject that the suite's contracts have said.

    Args:
        client: reads logs; of our chain or any other.
        contracts: addresses by contract name.
        subject: name and numbers.

    Raises:
        InvalidInput: the chain has no such service or study.
        Unavailable: the chain cannot be asked.
    """
    search = _Search(client, contracts, Needed())
    for values in await search.events("Studies", subject=subject.study):
        for key in ("height", "drawHeight"):
            if key in values:
                search.needed.heights.add(values[key])
    if not search.needed.transactions:
        raise InvalidInput(f"the chain has no study {subject.study}")
    if subject.is_study:
        await _providers(search)
        return search.needed
    await _assets(search, subject)
    if subject.evaluation:
        for values in await search.events("Evaluations", subject=subject.evaluation):
            if "entropy" in values:
                search.needed.heights.add(values["height"])
    await search.events("Names", subject=keccak256(subject.name.encode()))
    await search.events("Receipts", subject=subject.service)
    await _market(search, subject)
    await _providers(search)
    return search.needed


@dataclass
class _Search:
    client: ChainClient
    contracts: Mapping[str, Address]
    needed: Needed

    async def events(
        self, contract: str, name: str | None = None, subject: int | bytes | None = None, place: int = 1
    ) -> list[Mapping[str, Any]]:
        """Values of the contract's events with ``subject`` as indexed argument number ``place``; all are needed."""
        topics: list[Sequence[Hash32] | None] = [None if name is None else [interface(contract).events[name].hash]]
        if subject is not None:
            topics += [None] * (place - 1) + [[Hash32(word(subject))]]
        logs = await self.client.logs([self.contracts[contract]], topics)
        return [self._take(contract, log) for log in logs]

    async def look(self, contract: str, name: str) -> list[tuple[Mapping[str, Any], Log]]:
        """Events of one kind, none of them needed yet."""
        logs = await self.client.logs([self.contracts[contract]], [[interface(contract).events[name].hash]])
        return [(read_event(contract, log)[1], log) for log in logs]

    def _take(self, contract: str, log: Log) -> Mapping[str, Any]:
        self.needed.transactions.add(log.transaction_hash)
        return read_event(contract, log)[1]


async def _assets(search: _Search, subject: Subject) -> None:
    waiting, seen = [subject.service, subject.model], set[int]()
    while waiting:
        asset = waiting.pop()
        if asset in seen:
            continue
        seen.add(asset)
        minted = await search.events("Assets", "Minted", asset)
        if not minted:
            raise InvalidInput(f"the chain has no asset {asset}")
        waiting += minted[0]["parents"]


async def _market(search: _Search, subject: Subject) -> None:
    await search.events("Market", "OfferSet", subject.service)
    await search.events("Market", "PassBought", subject.service, place=2)
    for values, log in await search.look("Market", "ChannelOpened"):
        if values["serviceId"] == subject.service:
            search.needed.transactions.add(log.transaction_hash)
            await search.events("Market", "ChannelSettled", values["channelId"])


async def _providers(search: _Search) -> None:
    """Who was in the pools of the draws, and who anchored: their registrations tell operator and node key."""
    accounts: set[bytes] = set()
    for values, log in await search.look("Providers", "Sampled"):
        if log.transaction_hash in search.needed.transactions:
            accounts |= {account for account, _ in values["pool"]}
    for values, log in await search.look("Receipts", "Anchored"):
        if log.transaction_hash in search.needed.transactions:
            accounts.add(values["node"])
    for account in accounts:
        await search.events("Providers", "Registered", account)
