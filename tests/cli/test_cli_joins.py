"""Owners of different columns as processes of their own, on anvil: what users type, and what they see when others die.

One network for all tests: a company, two owners whose patients overlap in part, five providers.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_terminal import Ended, koinon, start
from joins_network import ANVIL_KEY

from koinon.contracts.client import ChainClient
from koinon.contracts.studies import ChallengeExpired, StudyPhase
from koinon.contracts.suite import Suite, parse_addresses
from koinon.journey import results
from koinon.kernel.errors import KoinonError
from koinon.node import orders
from koinon.node.local_network import Network
from koinon.node.setup import silent

ENOUGH_SECONDS = 300
IDS = {"north": range(1000, 1060), "south": range(1020, 1090)}
COMMON = range(1020, 1060)
RANGES = {"north": ("age", 0.0, 100.0), "south": ("dose", -5.0, 5.0)}


class Place:
    """A running network and the files of its operators."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.network = Network(folder / "n")
        self.suite: dict[str, Any] = {}

    def home(self, name: str) -> Path:
        return self.network.home(name).path

    def order(self, *words: str | Path) -> str:
        """Run the program that makes and restarts the network; what it prints."""
        command = [sys.executable, str(Path(__file__).parent / "joins_network.py"), *map(str, words)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=ENOUGH_SECONDS)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def open(self) -> None:
        self.suite = json.loads(self.order("up", self.network.folder, self.url))

    def restart(self, name: str) -> None:
        self.order("start", self.network.folder, name)

    async def on_chain(self, work: Callable[[Suite], Awaitable[Any]]) -> Any:
        """Do something with the contracts as a stranger who can pay for gas."""
        async with ChainClient([self.url], ANVIL_KEY) as client:
            return await work(Suite.at(client, parse_addresses(self.suite)))

    async def money_of(self, name: str) -> int:
        """What an organisation has, and what the contract of studies owes it."""
        account = self.network.identity(name).account

        async def look(suite: Suite) -> int:
            return int(await suite.token.balance_of(account) + await suite.studies.credit_of(account))

        return int(await self.on_chain(look))

    async def let_the_deadline_pass(self, study: int) -> None:
        """Move the chain's time past the study's deadline, and say so to the contract."""

        async def expire(suite: Suite) -> None:
            state = await suite.studies.study_of(study)
            ahead = state.deadline + 2 - (await suite.client.block()).timestamp
            await suite.client.request("evm_increaseTime", ahead)
            await suite.client.request("evm_mine")
            await suite.studies.expire(study)

        await self.on_chain(expire)

    async def until(self, study: int, reached: Callable[[Suite, Any], Awaitable[bool]]) -> None:
        """Look at the chain again and again until the study is where the test wants it."""

        async def look(suite: Suite) -> None:
            while await suite.studies.count() < study or not await reached(suite, await suite.studies.study_of(study)):
                await suite.client.block()

        await self.on_chain(look)


@pytest.fixture(scope="module")
def place(shared_anvil: str) -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="koinon-") as folder:
        made = Place(Path(folder), shared_anvil)
        try:
            made.open()
            for name, ids in IDS.items():
                path = made.folder / f"{name}.csv"
                write_rows(path, name, ids)
                ranges = made.folder / f"{name}.toml"
                column, low, high = RANGES[name]
                ranges.write_text(f'target = ""\n[[columns]]\nname = "{column}"\nlow = {low}\nhigh = {high}\n')
                added = facts(*("data", "add", path, "--ranges", ranges, "--key", "patient", "--home", made.home(name)))
                assert added["rows"] == len(ids)
            yield made
        finally:
            if made.network.record.exists():
                asyncio.run(made.network.stop())


def facts(*arguments: str | Path) -> Any:
    ended = koinon(*arguments, "--json")
    assert ended.code == 0, ended.err
    return json.loads(ended.out)


def value_of(owner: str, person: int) -> float:
    """What an owner has measured: the dose follows from the age but for some noise."""
    age, noise = np.random.default_rng(person).uniform((20, -0.3), (80, 0.3))
    return float(age if owner == "north" else age / 20 - 2.5 + noise)


def write_rows(path: Path, owner: str, ids: Sequence[int]) -> None:
    lines = [f"{person},{value_of(owner, person)!r}" for person in sorted(ids, key=lambda person: person * 7 % 61)]
    path.write_text("\n".join([f"patient,{RANGES[owner][0]}", *lines]) + "\n")


def draft(place: Place, name: str, *more: str) -> Path:
    file = place.folder / f"{name}.toml"
    parts: list[str | Path] = []
    for owner in IDS:
        parts += ["--from", place.folder / f"{owner}.toml", "--owner", place.home(owner) / "identity.json"]
    made: Ended = koinon(
        *("study", "new", file, *parts, "--program", "statistics/1", "--open", "mean", "--open", "correlation"),
        *("--title", name, "--purpose", "Tumour risk, for a test", "--join", "psi", "--target", ""),
        *("--reveal-seconds", "3600", "--run-seconds", "3600", "--challenge-seconds", "8", *more),
    )
    assert made.code == 0, made.err
    return file


pytestmark = [pytest.mark.long, pytest.mark.node, pytest.mark.xdist_group("joins")]


def test_a_sample_of_what_owners_of_different_columns_type(place: Place) -> None:
    listed = {name: facts("data", "list", "--home", place.home(name))[0]["data_set"] for name in IDS}
    both = {"north": "south", "south": "north"}
    running = [
        start(
            *("data", "intersect", listed[name], "--with", place.home(other) / "identity.json", "--json"),
            *("--occasion", "a first look", "--ask" if name == "north" else "--answer"),
            *("--out", place.folder / f"{name}-both.csv", "--home", place.home(name)),
        )
        for name, other in both.items()
    ]
    told = [process.communicate(timeout=300) for process in running]
    first, second = (json.loads(out) for out, _ in told)
    assert {"own": 60, "learned": True, "in_both": 40}.items() <= first.items()
    assert {"own": 70, "learned": False}.items() <= second.items()
    assert first["sent_bytes"] == second["received_bytes"] > 10_000
    found = (place.folder / "north-both.csv").read_text().split()
    assert sorted(found) == sorted(["id", *map(str, COMMON)])
    assert not (place.folder / "south-both.csv").exists()
    file = draft(place, "sample")
    learns = facts("study", "estimate", file)["learns"]
    assert "who is both in its own data and in that of south" in learns["north, before it signs"]
    assert "20 or more" in learns["south, before signing"]
    number = str(facts("study", "propose", file, "--home", place.home("company"))["study"])
    facts("study", "train", number, "--home", place.home("company"))
    tables = facts("study", "result", number, "--home", place.home("company"))
    rows = np.array([[value_of(owner, person) for owner in IDS] for person in COMMON])
    np.testing.assert_allclose(np.array(tables["mean"]["values"])[:, 0], rows.mean(0), atol=0.01)
    np.testing.assert_allclose(tables["correlation"]["values"], np.corrcoef(rows.T), atol=5e-3)


async def proposed(place: Place, text: str) -> results.Study:
    order = orders.ProposeStudy(text)
    return await place.network.operator("company").run("study.propose", order, results.Study, silent)


async def trained(place: Place, study: results.Study) -> results.Trained:
    return await place.network.operator("company").run("study.train", study, results.Trained, silent)


async def ending(work: "asyncio.Task[Any]") -> str:
    try:
        await work
    except KoinonError as problem:
        return str(problem)
    raise AssertionError("it did not fail")


async def test_a_provider_whose_process_freezes_loses_stake_and_the_next_committee_finishes(place: Place) -> None:
    """It comes before the tests that move the chain's time, by which nodes could not tell how late an answer is."""
    study = await proposed(place, draft(place, "frozen", "--attempts", "2").read_text())
    providers = {name: place.network.process(name) for name in place.network.names() if name.startswith("provider")}
    accounts = {name: place.network.identity(name).account for name in providers}
    running = {name: process for name, process in providers.items() if process is not None}
    assert len(running) == 5
    for process in running.values():  # nobody computes before it is clear who is drawn
        process.suspend()
    try:
        training = asyncio.create_task(trained(place, study))

        async def drawn(_: Suite, state: Any) -> bool:
            return bool(state.phase == StudyPhase.RUNNING)

        await place.until(study.number, drawn)
        committee = await place.on_chain(lambda suite: suite.studies.committee_of(study.number, 0))
        frozen = next(name for name, account in accounts.items() if account == committee[0])
        for name, process in running.items():
            if name != frozen:
                process.resume()
        ended = await training
        assert ended.attempt == 1
        assert accounts[frozen] not in ended.committee
        (expired,) = await place.on_chain(lambda suite: suite.studies.events(ChallengeExpired, study_id=study.number))
        assert expired.event.member == accounts[frozen]
    finally:
        for process in running.values():
            process.resume()


async def test_a_sample_owner_killed_after_it_signed_costs_the_publisher_nothing(place: Place) -> None:
    before = await place.money_of("company"), await place.money_of("north")
    study = await proposed(place, draft(place, "killed", "--attempts", "1").read_text())
    place.network.kill("south")
    try:
        training = asyncio.create_task(trained(place, study))

        async def stuck(suite: Suite, state: Any) -> bool:
            if state.phase != StudyPhase.LOCKED:
                return bool(state.phase == StudyPhase.RUNNING)
            return all([(await suite.studies.party_of(study.number, party)).revealed for party in (0, 1)])

        await place.until(study.number, stuck)
        await place.let_the_deadline_pass(study.number)
        assert "ended without a result" in (said := await ending(training))
        assert "the escrow and all bonds are back" in said
        # Whoever did not reveal has lost its bond to the others, so they may have more than before.
        assert await place.money_of("company") >= before[0]
        assert await place.money_of("north") >= before[1]
    finally:
        await asyncio.to_thread(place.restart, "south")


async def test_an_owner_that_stalls_while_people_are_matched_costs_nothing(place: Place) -> None:
    text = draft(place, "stalled").read_text()
    before = await place.money_of("company"), await place.money_of("north")
    number = 1 + await place.on_chain(lambda suite: suite.studies.count())
    stalled = place.network.process("south")
    assert stalled is not None
    stalled.suspend()
    try:
        proposing = asyncio.create_task(proposed(place, text))

        async def there(_: Suite, state: Any) -> bool:
            return bool(state.phase == StudyPhase.PROPOSED)

        await place.until(number, there)
        await place.let_the_deadline_pass(number)
        assert "the escrow and all bonds are back" in await ending(proposing)
        assert (await place.money_of("company"), await place.money_of("north")) == before
    finally:
        stalled.resume()
