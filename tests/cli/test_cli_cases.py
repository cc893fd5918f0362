"""What users type when a member of a committee lied: nodes as processes of their own, on anvil."""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from cases_network import LIAR_SEAT, OWNERS, PROVIDERS
from cli_terminal import koinon
from joins_network import ANVIL_KEY

from koinon.contracts.client import ChainClient
from koinon.contracts.suite import Suite, parse_addresses
from koinon.kernel.ids import to_hex
from koinon.node.local_network import Network

ENOUGH_SECONDS = 300
RANGES = {"north": ("age", 0.0, 100.0), "south": ("dose", -5.0, 5.0)}
STAKE = 1_000
TAKEN = 500

pytestmark = [pytest.mark.long, pytest.mark.node, pytest.mark.xdist_group("cases")]


def facts(*arguments: str | Path) -> Any:
    ended = koinon(*arguments, "--json")
    assert ended.code == 0, ended.err
    return json.loads(ended.out)


def on_chain(url: str, contracts: dict[str, str], work: Callable[[Suite], Awaitable[Any]]) -> Any:
    """Do something with the contracts as a stranger who can pay for gas."""

    async def do() -> Any:
        async with ChainClient([url], ANVIL_KEY) as client:
            return await work(Suite.at(client, parse_addresses(contracts)))

    return asyncio.run(do())


def add_rows(folder: Path, network: Network) -> list[str | Path]:
    """Give both owners rows of the same people; what a draft says about them."""
    parts: list[str | Path] = []
    for owner in OWNERS:
        column, low, high = RANGES[owner]
        rows, ranges = folder / f"{owner}.csv", folder / f"{owner}.toml"
        lines = [f"{1000 + person},{low + (high - low) * (0.2 + person / 100)!r}" for person in range(50)]
        rows.write_text("\n".join([f"patient,{column}", *lines]) + "\n")
        ranges.write_text(f'target = ""\n[[columns]]\nname = "{column}"\nlow = {low}\nhigh = {high}\n')
        home = network.home(owner).path
        facts("data", "add", rows, "--ranges", ranges, "--key", "patient", "--home", home)
        parts += ["--from", ranges, "--owner", home / "identity.json"]
    return parts


def test_a_sample_of_a_lie_from_the_evidence_to_the_stake(shared_anvil: str) -> None:
    with tempfile.TemporaryDirectory(prefix="koinon-") as scratch:
        folder = Path(scratch)
        network = Network(folder / "n")
        try:
            play(folder, network, shared_anvil)
        finally:
            if network.record.exists():
                asyncio.run(network.stop())


def play(folder: Path, network: Network, url: str) -> None:
    command = [sys.executable, str(Path(__file__).parent / "cases_network.py"), str(network.folder), url]
    made = subprocess.run(command, capture_output=True, text=True, check=False, timeout=ENOUGH_SECONDS)
    assert made.returncode == 0, made.stderr
    contracts = json.loads(made.stdout)
    company = network.home("company").path
    draft = folder / "study.toml"
    written = koinon(
        *(
            "study",
            "new",
            draft,
            *add_rows(folder, network),
            "--program",
            "statistics/1",
            "--open",
            "mean",
            "--open",
            "correlation",
        ),
        *("--title", "Means", "--purpose", "Tumour risk, for a test", "--join", "psi", "--target", ""),
        *("--reveal-seconds", "3600", "--run-seconds", "3600", "--attempts", "1"),
    )
    assert written.code == 0, written.err
    study = str(facts("study", "propose", draft, "--home", company)["study"])
    trained = koinon("study", "train", study, "--home", company, "--json")
    assert trained.code == 3
    assert "ended without a result" in trained.err

    async def drawn(suite: Suite) -> list[bytes]:
        return list(await suite.studies.committee_of(int(study), 0))

    accounts = {network.identity(name).account: name for name in PROVIDERS}
    committee = [accounts[account] for account in on_chain(url, contracts, drawn)]  # type: ignore[index]
    files = {name: network.home(name).disputes for name in committee}
    # A member writes its files when its worker has ended, which the chain does not wait for.
    evidence = awaited(url, lambda: [n for n in committee if any(files[n].glob("*.evidence"))], 1)[0]
    accused = awaited(url, lambda: [n for n in committee if any(files[n].glob("*.view"))], 2)
    liar = committee[LIAR_SEAT]
    (honest,) = set(accused) - {liar}

    refused = koinon("study", "accuse", study, "--home", network.home(honest).path)
    assert refused.code == 2
    assert "kept no evidence of study" in refused.sentence()
    assert facts("study", "show", study, "--home", company)["cases"] == []
    brought = facts("study", "accuse", study, "--home", network.home(evidence).path)
    number = str(brought["case"])
    assert facts("study", "show", study, "--home", company)["cases"] == [brought["case"]]
    assert {brought["sender"], brought["backup"]} == {to_hex(network.identity(name).account) for name in accused}
    assert brought["may_plead_until"].endswith("UTC")

    lost = koinon("study", "plead", number, "--home", network.home(liar).path, "--yes")
    assert lost.code == 3
    assert "would find this node deviated" in lost.sentence()
    unasked = koinon("study", "plead", number, "--home", network.home(honest).path, "--json")
    assert (unasked.code, "agree to the cost with --yes" in unasked.err) == (2, True)
    entered = facts("study", "plead", number, "--home", network.home(honest).path, "--yes")
    assert (entered["own_finding"], entered["paid_tokens"]) == ("kept", "3")
    side, other = ("sender", "backup") if entered["side"] == "sender" else ("backup", "sender")

    awaited(url, lambda: [1] if facts("study", "case", number, "--home", company)[side]["stage"] == "over" else [], 1)
    heard = facts("study", "case", number, "--home", company)
    assert (heard["state"], heard[side]["outcome"], heard[other]["stage"]) == ("open", "kept", "has not pleaded")
    assert list(heard[side]["votes"].values()).count("kept") >= 2
    assert not set(heard[side]["votes"]) & {to_hex(network.identity(name).account) for name in committee}

    async def let_the_time_to_plead_pass(suite: Suite) -> None:
        deadline = (await suite.judgements.case_of(int(number))).deadline
        await suite.client.request("evm_setNextBlockTimestamp", int(deadline) + 3)
        await suite.client.request("evm_mine")

    on_chain(url, contracts, let_the_time_to_plead_pass)
    awaited(url, lambda: [1] if facts("study", "case", number, "--home", company)["state"] == "closed" else [], 1)
    closed = facts("study", "case", number, "--home", company)
    assert (closed[side]["stake_taken_tokens"], closed[other]["stake_taken_tokens"]) == ("0", str(TAKEN))

    async def stakes(suite: Suite) -> list[int]:
        found = [await suite.providers.provider_of(network.identity(name).account) for name in (honest, liar)]
        return [int(one.stake) // 1_000_000 for one in found]

    assert on_chain(url, contracts, stakes) == [STAKE, STAKE - TAKEN]
    # What the chain owes the honest member comes with everything else that it is owed.
    got = facts("account", "withdraw", "--home", network.home(honest).path)
    assert float(got["tokens"]) == TAKEN / 4 + 3 - len([v for v in heard[side]["votes"].values() if v != "none"])


def awaited(url: str, look: Callable[[], list[Any]], count: int) -> list[Any]:
    """Look again and again, a block at a time, until so many are found."""

    async def pause() -> None:
        async with ChainClient([url]) as client:
            await client.block()

    last = time.monotonic() + ENOUGH_SECONDS
    while len(found := look()) < count:
        assert time.monotonic() < last, "it never came"
        asyncio.run(pause())
    return found
