"""Studies of people that the owners find in common: real nodes, real children, the suite on an EVM in the test."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest
from node_joins_world import (
    HOLDERS,
    IDS,
    JOINING_POLICY,
    committee_of,
    draft_of,
    money_of,
    ordered,
    owner_of,
    publisher_of,
    value_of,
)
from node_market_world import Network

from koinon.crypto.hash import tagged_hash
from koinon.jobs.inputs import layout
from koinon.jobs.study import SignedStudy, open_study
from koinon.journey import study as proposing
from koinon.journey.results import Study, Trained
from koinon.kernel.codec import decode, encode
from koinon.kernel.errors import KoinonError, Refused, Unavailable
from koinon.node.context import Context
from koinon.node.datasets import Datasets
from koinon.node.orders import Intersect, Intersected, ProposeStudy
from koinon.privacy.programs import registry
from koinon.privacy.programs.offer import decode_settings, presented
from koinon.wire.joins import FetchPseudonymKey

COMMON = range(1020, 1060)


def kept_people(context: Context, study: int) -> set[int]:
    """Whom an owner's node has noted as with all owners."""
    kept = context.memory.get(b"common-rows/" + study.to_bytes(8, "big"))
    datasets = Datasets(context.home.datasets)
    ids = datasets.identifiers(datasets.all()[0].dataset_hash)
    return set() if kept is None else {int(ids[row]) for row in np.frombuffer(kept, "<u4")}


async def _not_asked(*_: object) -> None:
    """In place of asking the owners before money moves."""


async def test_owners_find_out_who_is_with_all_of_them_before_they_sign(network: Network) -> None:
    publisher = await publisher_of(network)
    owners = [await owner_of(network, name, ids) for name, ids in IDS.items()]
    study = await ordered(publisher, "study.propose", ProposeStudy(draft_of(tuple(IDS), "psi")), Study)
    for context in owners:
        assert kept_people(context, study.number) == set(COMMON)


@pytest.mark.parametrize("count", [0, 19])
async def test_too_few_in_common_end_the_study_and_only_the_first_owner_knows_whom(
    network: Network, count: int
) -> None:
    publisher = await publisher_of(network)
    await owner_of(network, "north", range(1000, 1040))
    second = await owner_of(network, "south", range(1040 - count, 1090))
    before = await money_of(publisher)
    with pytest.raises(Refused, match=r"fewer than the 20 people .* in all owners' data; the escrow and all bonds"):
        await ordered(publisher, "study.propose", ProposeStudy(draft_of(("north", "south"), "psi")), Study)
    assert await money_of(publisher) == before
    assert kept_people(second, 1) == set()


async def test_an_owner_whose_policy_allows_no_such_join_says_so_before_money_moves(network: Network) -> None:
    publisher = await publisher_of(network)
    await owner_of(network, "north", IDS["north"])
    await owner_of(network, "south", IDS["south"], JOINING_POLICY.replace('["psi", ', "["))
    before = await money_of(publisher)
    with pytest.raises(Refused, match="does not allow owners' people to be brought together by join = 'psi'; nothing"):
        await ordered(publisher, "study.propose", ProposeStudy(draft_of(("north", "south"), "psi")), Study)
    assert await money_of(publisher) == before


async def test_who_refuses_for_another_reason_says_nothing_about_its_people(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = await publisher_of(network)
    first = await owner_of(network, "north", IDS["north"])
    await owner_of(network, "south", IDS["south"], JOINING_POLICY.replace("tumour risk", "insurance"))
    before = await money_of(publisher)
    monkeypatch.setattr(proposing, "_consult", _not_asked)
    with pytest.raises(Refused, match="the purpose is none the policy accepts"):
        await ordered(publisher, "study.propose", ProposeStudy(draft_of(("north", "south"), "psi")), Study)
    assert await money_of(publisher) == before
    assert kept_people(first, 1) == set()


async def test_an_owner_that_is_away_costs_time_and_no_money(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = await publisher_of(network)
    first = await owner_of(network, "north", IDS["north"])
    away = await owner_of(network, "south", IDS["south"])
    await away.close()
    before = await money_of(publisher)
    monkeypatch.setattr(proposing, "_consult", _not_asked)

    def later(sentence: str) -> None:
        if "proposed to" in sentence:
            network.chain.time += 602

    draft = draft_of(("north", "south"), "psi")
    with pytest.raises(KoinonError, match="the escrow and all bonds are back"):
        await ordered(publisher, "study.propose", ProposeStudy(draft), Study, later)
    assert await money_of(publisher) == before
    assert kept_people(first, 1) == set()


def pooled(owners: Sequence[str]) -> np.ndarray:
    """(people, columns) of those who are with all these owners."""
    common = sorted(set.intersection(*(set(IDS[name]) for name in owners)))
    columns = [column for column, holder in HOLDERS.items() if holder in owners]
    return np.array([[value_of(column, person) for column in columns] for person in common])


@pytest.mark.long
async def test_a_sample_study_of_found_people_gives_what_their_pooled_rows_give(network: Network) -> None:
    publisher = await publisher_of(network)
    await committee_of(network)
    for name, ids in IDS.items():
        await owner_of(network, name, ids)
    study = await ordered(publisher, "study.propose", ProposeStudy(draft_of(tuple(IDS), "psi")), Study)
    trained = await ordered(publisher, "study.train", study, Trained)
    assert trained.training_rows == (40, 40, 40)
    found = {output.name: np.array(output.values).reshape(output.shape) for output in trained.outputs}
    rows = pooled(tuple(IDS))
    np.testing.assert_allclose(found["correlation"], np.corrcoef(rows.T), atol=2e-3)
    halves, middles = np.array([50.0, 5.0, 5.0]), np.array([50.0, 0.0, 5.0])
    np.testing.assert_allclose(found["mean"] * halves + middles, rows.mean(0), atol=1e-3)


OBLIVIOUS = {
    "statistics/1": ("", ("mean", "correlation")),
    "linear-regression/1": ("dose", ("coefficients", "intercept")),
}


async def obliviously_trained(network: Network, algorithm: str, second: range) -> tuple[Context, Study, Trained]:
    publisher = await publisher_of(network)
    await committee_of(network)
    await owner_of(network, "north", IDS["north"])
    await owner_of(network, "south", second)
    target, outputs = OBLIVIOUS[algorithm]
    draft = draft_of(("north", "south"), "oblivious", algorithm, outputs, target=target)
    study = await ordered(publisher, "study.propose", ProposeStudy(draft), Study)
    return publisher, study, await ordered(publisher, "study.train", study, Trained)


def tables_of(trained: Trained) -> dict[str, np.ndarray]:
    """What the publisher reads, in the units of the columns."""
    file = open_study(decode(SignedStudy, trained.study.signed))
    offer = registry.offer(file.algorithm)
    opened = {output.name: np.array(output.values).reshape(output.shape) for output in trained.outputs}
    found = presented(offer, opened, layout(file, trained.training_rows), decode_settings(offer, file.settings))
    return {table.name: table.values for table in found}


@pytest.mark.long
async def test_a_sample_study_of_people_whom_nobody_knows_gives_what_their_pooled_rows_give(network: Network) -> None:
    _, _, trained = await obliviously_trained(network, "statistics/1", IDS["south"])
    assert trained.training_rows == (60, 70)
    tables, rows = tables_of(trained), pooled(("north", "south"))
    np.testing.assert_allclose(tables["mean"][:, 0], rows.mean(0), atol=0.05)
    np.testing.assert_allclose(tables["correlation"], np.corrcoef(rows.T), atol=5e-3)


@pytest.mark.long
async def test_a_line_through_people_whom_nobody_knows(network: Network) -> None:
    _, _, trained = await obliviously_trained(network, "linear-regression/1", IDS["south"])
    tables, rows = tables_of(trained), pooled(("north", "south"))
    slope, level = np.polyfit(rows[:, 0], rows[:, 1], 1)
    assert tables["coefficients"][0, 0] == pytest.approx(slope, abs=1e-3)
    assert tables["intercept"][0, 0] == pytest.approx(level, abs=5e-2)


@pytest.mark.long
async def test_a_sample_of_people_whom_nobody_knows_of_three_owners(network: Network) -> None:
    publisher = await publisher_of(network)
    await committee_of(network)
    for name, ids in IDS.items():
        await owner_of(network, name, ids)
    draft = draft_of(tuple(IDS), "oblivious")
    study = await ordered(publisher, "study.propose", ProposeStudy(draft), Study)
    trained = await ordered(publisher, "study.train", study, Trained)
    tables, rows = tables_of(trained), pooled(tuple(IDS))
    assert len(rows) == 40
    np.testing.assert_allclose(tables["mean"][:, 0], rows.mean(0), atol=0.05)
    np.testing.assert_allclose(tables["correlation"], np.corrcoef(rows.T), atol=5e-3)


@pytest.mark.long
async def test_a_sample_study_of_rows_and_columns_that_are_both_split(network: Network) -> None:
    """Two owners have the age of different people, but for ten, and a third the dose of some of either's."""
    publisher = await publisher_of(network)
    await committee_of(network)
    await owner_of(network, "north", range(1000, 1040))
    await owner_of(network, "west", range(1030, 1070), column="age")
    await owner_of(network, "south", range(1020, 1090))
    holders = {"age": ("north", "west"), "dose": ("south",)}
    draft = draft_of(("north", "south", "west"), "oblivious", holders=holders)
    study = await ordered(publisher, "study.propose", ProposeStudy(draft), Study)
    trained = await ordered(publisher, "study.train", study, Trained)
    tables = tables_of(trained)
    rows = np.array([[value_of(column, person) for column in ("age", "dose")] for person in range(1020, 1070)])
    np.testing.assert_allclose(tables["mean"][:, 0], rows.mean(0), atol=0.05)
    np.testing.assert_allclose(tables["correlation"], np.corrcoef(rows.T), atol=5e-3)


@pytest.mark.long
async def test_a_sample_study_of_pairs_of_owners_whose_rows_and_columns_are_both_split(network: Network) -> None:
    """Two owners have ages, two have doses; whoever is with two of either is the first one's."""
    publisher = await publisher_of(network)
    await committee_of(network)
    ages = {"north": range(1000, 1060), "buyer": range(1050, 1120)}
    doses = {"south": range(1020, 1070), "west": range(1060, 1110)}
    owners = {name: await owner_of(network, name, ids, column="age") for name, ids in ages.items()}
    owners |= {name: await owner_of(network, name, ids, column="dose") for name, ids in doses.items()}
    holders = {"age": ("north", "buyer"), "dose": ("south", "west")}
    draft = draft_of(tuple(owners), "psi", holders=holders)
    study = await ordered(publisher, "study.propose", ProposeStudy(draft), Study)
    met = {name: kept_people(context, study.number) for name, context in owners.items()}
    assert met == {
        "north": set(range(1020, 1060)),
        "buyer": set(range(1060, 1110)),
        "south": set(range(1020, 1070)),
        "west": set(range(1070, 1110)),
    }
    trained = await ordered(publisher, "study.train", study, Trained)
    assert trained.training_rows == (40, 50, 50, 40)
    rows = np.array([[value_of(column, person) for column in holders] for person in range(1020, 1110)])
    tables = tables_of(trained)
    np.testing.assert_allclose(tables["mean"][:, 0], rows.mean(0), atol=1e-2)
    np.testing.assert_allclose(tables["correlation"], np.corrcoef(rows.T), atol=2e-3)


async def test_too_few_people_of_one_owner_end_a_study_of_pairs(network: Network) -> None:
    publisher = await publisher_of(network)
    people = {"north": range(1000, 1060), "west": range(1050, 1076), "south": range(1020, 1200)}
    columns = {"north": "age", "west": "age", "south": "dose"}
    for name, ids in people.items():
        await owner_of(network, name, ids, column=columns[name])
    before = await money_of(publisher)
    draft = draft_of(tuple(people), "psi", holders={"age": ("north", "west"), "dose": ("south",)})
    with pytest.raises(Refused, match=r"fewer than the 20 .*are with owners of the other columns; the escrow"):
        await ordered(publisher, "study.propose", ProposeStudy(draft), Study)
    assert await money_of(publisher) == before


@pytest.mark.long
async def test_of_a_sample_of_too_few_people_whom_nobody_knows_nothing_is_shown(network: Network) -> None:
    _, _, trained = await obliviously_trained(network, "statistics/1", range(1041, 1111))
    assert not any(value for output in trained.outputs for value in output.values)
    with pytest.raises(Refused, match="fewer than 20 people are in all owners' data"):
        tables_of(trained)


async def test_the_key_of_pseudonyms_is_for_owners_of_a_running_study_only(network: Network) -> None:
    publisher = await publisher_of(network)
    north = await owner_of(network, "north", IDS["north"])
    south = await owner_of(network, "south", IDS["south"])
    draft = draft_of(("north", "south"), "oblivious")
    study = await ordered(publisher, "study.propose", ProposeStudy(draft), Study)
    for asker, sentence in ((publisher, "for the study's owners only"), (south, "while a committee computes")):
        with pytest.raises(Refused, match=sentence):
            await asker.transport.call(north.transport.endpoint, FetchPseudonymKey(study.number))
    with pytest.raises(Refused, match="keeps no key"):
        await north.transport.call(south.transport.endpoint, FetchPseudonymKey(study.number))
    with pytest.raises(Refused, match="no study 99"):
        await south.transport.call(north.transport.endpoint, FetchPseudonymKey(99))


# ------------------------------------------------------------------------------------ intersections outside of studies


def order_of(context: Context, peer: Context, **changed: object) -> Intersect:
    dataset = Datasets(context.home.datasets).all()[0].dataset_hash
    order = Intersect(dataset[:4], peer.keys.node.node_id, "a test", True, True, 1000, 300.0)
    return msgspec.structs.replace(order, **changed)


async def both(
    network: Network, first: dict[str, object] | None = None, second: dict[str, object] | None = None
) -> tuple[list[Intersected | BaseException], Path]:
    north = await owner_of(network, "north", IDS["north"])
    south = await owner_of(network, "south", IDS["south"])
    path = north.home.path / "both.csv"
    one = order_of(north, south, **{"path": str(path), **(first or {})})
    other = order_of(south, north, **{"asks": False, **(second or {})})
    ended = await asyncio.gather(
        ordered(north, "data.intersect", one, Intersected),
        ordered(south, "data.intersect", other, Intersected),
        return_exceptions=True,
    )
    return ended, path


async def test_two_owners_find_out_who_is_with_both(network: Network) -> None:
    ended, path = await both(network)
    first, second = ended
    assert isinstance(first, Intersected)
    assert isinstance(second, Intersected)
    assert [(one.rows, one.common) for one in (first, second)] == [(60, 40), (70, 40)]
    assert (first.sent, first.received) == (second.received, second.sent)
    assert min(first.sent, first.received) > 10_000
    header, *ids = path.read_text().split()
    assert header == "id"
    assert sorted(int(one) for one in ids) == list(COMMON)
    assert path.stat().st_mode & 0o077 == 0


async def test_only_who_asks_learns_where_that_was_agreed(network: Network) -> None:
    one = {"both_learn": False}
    (first, second), _ = await both(network, one, one)
    assert isinstance(first, Intersected)
    assert isinstance(second, Intersected)
    assert [(each.rows, each.common) for each in (first, second)] == [(60, 40), (70, -1)]


@pytest.mark.long
async def test_a_sample_of_twenty_thousand_people_each_with_progress(network: Network) -> None:
    owners = [
        await owner_of(network, name, range(start, start + 20_000), value=lambda _, person: person % 4 + 0.5)
        for name, start in (("north", 10_000), ("south", 15_000))
    ]
    orders = [order_of(owners[0], owners[1], most=20_000), order_of(owners[1], owners[0], most=20_000, asks=False)]
    said: list[list[str]] = [[], []]
    found = await asyncio.gather(
        *(
            ordered(context, "data.intersect", order, Intersected, notes.append)
            for context, order, notes in zip(owners, orders, said, strict=True)
        )
    )
    assert [(one.rows, one.common) for one in found] == [(20_000, 15_000)] * 2
    for notes in said:
        shares = [int(note.rpartition(" ")[2][:-1]) for note in notes if note.startswith("both nodes compute,")]
        assert shares == sorted(set(shares))
        assert shares


@pytest.mark.parametrize(
    ("first", "second", "sentence"),
    [
        ({"both_learn": False}, {}, "not agreed on who learns the result"),
        ({"most": 69}, {}, "brings 70 identifiers; this one accepts 1 to 69"),
        ({"seconds": 1.0}, {"occasion": "another", "seconds": 1.0}, "was told to take part"),
        ({"seconds": 1.0}, {"asks": True, "seconds": 1.0}, "was told to take part"),
        ({"dataset_hash": b"\0\0"}, {"seconds": 1.0}, "there is no data set that begins with 0000"),
        ({"seconds": 0.0}, {"seconds": 1.0}, "within a day"),
    ],
)
async def test_what_two_owners_did_not_agree_on_is_refused(
    network: Network, first: dict[str, object], second: dict[str, object], sentence: str
) -> None:
    ended, path = await both(network, first, second)
    assert isinstance(ended[0], KoinonError)
    assert sentence in str(ended[0]) or "the other owner's node refused" in str(ended[0])
    assert isinstance(ended[1], KoinonError)
    assert sentence in f"{ended[0]} {ended[1]}"
    assert not path.exists()


async def test_a_cancelled_intersection_leaves_no_child(network: Network) -> None:
    north = await owner_of(network, "north", IDS["north"])
    south = await owner_of(network, "south", IDS["south"])
    number = north.board.start("data.intersect", encode(order_of(north, south, asks=False)))
    # Somebody who opens the link and then says nothing: the child runs and waits.
    label = f"intersection {session_of('a test', north, south).hex()}"
    silent = await south.transport.link(north.transport.endpoint, label)
    await silent.receive()
    assert children()
    north.board.cancel(number)
    while (report := await north.board.report(number, 99)).state == "running":
        pass
    assert report.state == "cancelled"
    assert not children()
    with pytest.raises(Unavailable):
        await silent.receive()


def children() -> list[int]:
    """Of this process: those that compute an intersection."""
    found = psutil.Process().children(recursive=True)
    return [one.pid for one in found if "koinon.privacy.joins.worker:main" in one.cmdline()]


def session_of(occasion: str, *contexts: Context) -> bytes:
    peers = sorted(context.keys.node.node_id for context in contexts)
    return tagged_hash("koinon/data/intersection/1", occasion.encode(), *peers)
