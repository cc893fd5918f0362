"""The pages about privacy budgets: what was opened is compared with the chain and computed again; no more is known."""

import json
from dataclasses import replace

import httpx
import pytest
from gateway_chain import FullChain
from gateway_world import ENTRIES, World

from koinon.contracts.client import ChainClient
from koinon.gateway.figures import shares, spending
from koinon.gateway.source import ChainSource
from koinon.gateway.words import say
from koinon.kernel.errors import InvalidInput
from koinon.privacy.differential.accountant import Gaussian, Pure, spent_epsilon
from koinon.privacy.differential.budget import Entry
from koinon.privacy.differential.opened import OpenedLedger, read_opened, write_opened


def changed(world: World, entries: tuple[Entry, ...]) -> dict[str, OpenedLedger]:
    return {name: replace(one, entries=entries) for name, one in world.ledgers.items()}


async def test_an_opened_ledger_is_computed_again_and_compared_with_the_chain(source: ChainSource) -> None:
    page = await source.budget(1)
    wanted = spent_epsilon([Gaussian(12.5, 40), Pure(0.5), Gaussian(8.0, 20)], 1e-6)
    assert page.holds
    assert page.spent is not None
    assert page.left is not None
    assert page.spent.value == pytest.approx(wanted * 1e6, abs=2)
    assert page.spent.value + page.left.value == pytest.approx(8e6, abs=2)
    assert [row.number for row in page.answers] == [4, 3, 2, 1, 0]
    assert [row.study for row in page.answers] == [3, None, 2, 2, 1]
    # What was paid back and what has no ε change nothing; the last entry is not on the chain yet.
    together = [row.together.value for row in reversed(page.answers) if row.together is not None]
    assert together[0] == together[1] == together[2] < together[3] < together[4]
    assert page.answers[0].transaction is None
    assert all(row.transaction is not None for row in page.answers[1:])
    assert page.exact == 0


async def test_the_drawings_say_what_the_table_says(source: ChainSource) -> None:
    page = await source.budget(1)
    line = spending(page, "en")
    assert line["allowed"] == 8_000_000
    assert [point["value"] for point in line["points"]] == [
        row.together.value for row in reversed(page.answers) if row.at is not None and row.together is not None
    ]
    assert [point["at"] for point in line["points"]] == sorted(point["at"] for point in line["points"])
    bars = shares(page, "zh")["parts"]
    assert [bar["label"] for bar in bars] == ["研究 1", "研究 2", "自行公布的回答", "研究 3", "剩余"]
    # Each part is rounded up by less than a millionth.
    assert sum(bar["value"] for bar in bars) == pytest.approx(8_000_000, abs=10)


async def test_of_a_sealed_ledger_only_the_number_of_answers_is_known(source: ChainSource) -> None:
    page = await source.budget(2)
    assert not page.opened
    assert page.spent is None
    rows = (await source.budgets()).datasets
    assert [(row.asset, row.answers.value, row.spent is not None) for row in rows] == [
        (3, 0, False),
        (2, 0, False),
        (1, 4, True),
    ]


@pytest.mark.parametrize(
    "entries",
    [
        ENTRIES[1:],
        ENTRIES[:-2],
        (Entry(1, 0, "gaussian", 99_000_000, 40, bytes([1] * 32)), *ENTRIES[1:]),
        (Entry(1, 0, "gaussian", 12_500_000, 40, bytes(32)), *ENTRIES[1:]),
        (*ENTRIES[:4], Entry(9, 0, "magic", 1, 1, bytes(32))),
        (*ENTRIES[:4], Entry(9, 0, "unused", 77, 1, bytes(32))),
        (),
    ],
    ids=[
        "one missing",
        "the chain knows more",
        "cheaper",
        "another salt",
        "unknown kind",
        "pays back nothing",
        "empty",
    ],
)
async def test_entries_that_are_not_the_chain_s_are_shown_as_that(
    chain: FullChain, world: World, entries: tuple[Entry, ...]
) -> None:
    source = ChainSource(ChainClient(chain), world.addresses, ledgers=changed(world, entries))
    page = await source.budget(1)
    assert not page.holds
    assert "NOT those" in say(page.answer, "en")


async def test_no_salt_is_ever_on_a_page(browser: httpx.AsyncClient) -> None:
    for path in ("/budgets/1", "/api/budgets/1"):
        text = (await browser.get(path)).text
        assert not any(entry.salt.hex() in text for entry in ENTRIES)


def test_an_opened_ledger_is_read_as_it_was_written(world: World) -> None:
    assert read_opened(write_opened(world.ledgers), "file") == world.ledgers


GOOD = {"study": 1, "attempt": 0, "mechanism": "pure", "millionths": 5, "count": 1, "salt": "00" * 32}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{" * 100_000,
        json.dumps({"0x12": {"epsilon": 1, "delta": 1e-6, "entries": []}}),
        json.dumps({"00" * 32: []}),
        json.dumps({"00" * 32: {"epsilon": 1, "delta": 1e-6}}),
        json.dumps({"00" * 32: {"epsilon": 1, "delta": 1e-6, "entries": {}}}),
        *(
            json.dumps({"00" * 32: {"epsilon": 1, "delta": 1e-6, "entries": [{**GOOD, **change}]}})
            for change in (
                {"study": -1},
                {"study": 1 << 64},
                {"study": True},
                {"count": 1.0},
                {"salt": "00"},
                {"salt": "zz" * 32},
                {"mechanism": 3},
            )
        ),
    ],
)
def test_any_other_file_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="file is no file of opened entries"):
        read_opened(text, "file")


@pytest.mark.parametrize("epsilon", ["NaN", "-1", "1e999", "0"])
def test_an_impossible_budget_is_refused(epsilon: str) -> None:
    text = f'{{"{"00" * 32}": {{"epsilon": {epsilon}, "delta": 1e-6, "entries": []}}}}'
    with pytest.raises(InvalidInput, match="a privacy budget has"):
        read_opened(text, "file")
