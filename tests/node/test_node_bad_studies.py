"""Bad input of studies at real nodes: one clear sentence, nothing kept or leaked, the money where it was."""

import asyncio
import os
from dataclasses import dataclass

import msgspec
import numpy as np
import pytest
from node_joins_world import IDS, committee_of, draft_of, money_of, ordered, owner_of, publisher_of, value_of
from node_market_world import Network, keys_of

from koinon.contracts.studies import StudyPhase
from koinon.crypto.hash import tagged_hash
from koinon.jobs.sessions import study_key
from koinon.journey import study as proposing
from koinon.journey.results import Study, Trained
from koinon.kernel.errors import InvalidInput, KoinonError, Refused
from koinon.node.context import Context
from koinon.node.datasets import Datasets
from koinon.node.matching import NARROWING
from koinon.node.orders import AddData, DataAdded, ProposeStudy
from koinon.node.roles.studies import fetch_study
from koinon.privacy import sharing

GOOD = [f"{1000 + row},{20 + row % 50}.5" for row in range(30)]


@dataclass(frozen=True)
class Bad:
    name: str
    lines: list[str]
    sentence: str
    header: str = "patient,age"
    low: float = 0.0
    high: float = 100.0
    target: str = ""


def changed(row: int, line: str) -> list[str]:
    return [*GOOD[:row], line, *GOOD[row + 1 :]]


@pytest.mark.parametrize(
    "bad",
    [
        Bad("an id twice", changed(5, "1000,33.5"), "1 ids in column 'patient' occur more than once"),
        Bad("no id", changed(5, ",33.5"), "column 'patient' has no value on line 7"),
        Bad("an id that is no number", changed(5, "Ann,33.5"), "column 'patient' is not a number on line 7"),
        Bad("an id with a fraction", changed(5, "7.5,33.5"), "must be whole numbers"),
        Bad("NaN", changed(5, "1005,nan"), "column 'age' is missing or not finite on line 7"),
        Bad("infinity", changed(5, "1005,inf"), "column 'age' is missing or not finite on line 7"),
        Bad("a number no word holds", changed(5, "1005,1e999"), "column 'age' is too large on line 7"),
        Bad("text", changed(5, "1005,old"), "column 'age' is not a number on line 7"),
        Bad("another unit", GOOD, "column 'age' is outside its public range", high=1.0),
        Bad("another unit in the name", GOOD, "'age' missing", header="patient,age [months]"),
        Bad("a cell too many", changed(5, "1005,33.5,1"), "line 7 has 3 cells"),
        Bad("one value in every row", [f"{1000 + row},33.5" for row in range(30)], "hold one value in every row"),
        Bad("too few rows", GOOD[:19], "the file has 19 rows; at least 20 are needed"),
        Bad("no such column", GOOD, "'age' missing", header="patient,years"),
        Bad("no ids", [line.partition(",")[2] for line in GOOD], "'patient' missing", header="age"),
        Bad("nothing", [], "0 rows"),
        Bad("no target", GOOD, "the target column 'ill' is missing", target="ill"),
        Bad("a target that is none", [f"{line},2" for line in GOOD], "must be 0 or 1", "patient,age,ill", target="ill"),
        Bad(
            "one answer for all",
            [f"{line},1" for line in GOOD],
            "rows of both kinds are needed",
            "patient,age,ill",
            target="ill",
        ),
    ],
    ids=lambda bad: bad.name,
)
async def test_rows_that_no_study_can_use_are_refused_whole(network: Network, bad: Bad) -> None:
    owner = await owner_of(network, "north", IDS["north"])
    kept = Datasets(owner.home.datasets).all()
    path = owner.home.path / "bad.csv"
    path.write_text("\n".join([bad.header, *bad.lines]) + "\n")
    order = AddData(str(path), bad.target, (("age", bad.low, bad.high),), "patient")
    with pytest.raises(InvalidInput) as refused:
        await ordered(owner, "data.add", order, DataAdded)
    assert bad.sentence in str(refused.value)
    assert "33.5" not in str(refused.value)
    assert Datasets(owner.home.datasets).all() == kept


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("high = 100.0", "high = 120.0", "no data set here has the study's columns and target"),
        ('name = "age"', 'name = "years"', "no data set here has the study's columns and target"),
        ('name = "age"', 'name = "age [months]"', "no data set here has the study's columns and target"),
        ("minimum_rows = 20", "minimum_rows = 61", "the data set has fewer than the 61 rows the study asks for"),
        ('target = ""', 'target = "age"', "statistics/1 predicts nothing; leave the target empty"),
        ('outputs = ["mean", "correlation"]', 'outputs = ["rows"]', "outputs must be among"),
        ("low = 0.0", "low = nan", "needs a finite range"),
        ('join = "psi"', 'join = "all"', "no join is called 'all'"),
        ('join = "psi"', "", "owners of different columns must agree on the people"),
        ('owner = "south"', 'owner = "east"', "comes from 'east', who is no owner"),
        ('algorithm = "statistics/1"', 'algorithm = "linear-regression/1"', "must be among coefficients"),
        ("high = 100.0", "high = 1e300", "no data set here has the study's columns"),
        ('name = "age"', 'name = "dose"', "two columns have the same name"),
    ],
)
async def test_a_study_that_does_not_fit_the_owners_costs_nothing(
    network: Network, old: str, new: str, sentence: str
) -> None:
    publisher = await publisher_of(network)
    for name in ("north", "south"):
        await owner_of(network, name, IDS[name])
    text = draft_of(("north", "south"), "psi")
    assert old in text
    before = await money_of(publisher)
    with pytest.raises(InvalidInput, match=sentence):
        await ordered(publisher, "study.propose", ProposeStudy(text.replace(old, new)), Study)
    assert await money_of(publisher) == before
    assert await network.suite.studies.count() == 0


async def test_a_study_without_its_target_costs_nothing(network: Network) -> None:
    publisher = await publisher_of(network)
    before = await money_of(publisher)
    for target in ("", "weight"):
        draft = draft_of(("north", "south"), "psi", "linear-regression/1", ("coefficients",), target=target)
        with pytest.raises(InvalidInput, match="must be one of the columns, with its range"):
            await ordered(publisher, "study.propose", ProposeStudy(draft), Study)
    assert await money_of(publisher) == before


async def test_fractions_where_codes_are_due_are_refused_before_money_moves(network: Network) -> None:
    publisher = await publisher_of(network)
    for name, column in (("north", "age"), ("south", "dose")):
        owner = await owner_of(network, name, IDS[name])
        path = owner.home.path / "codes.csv"
        path.write_text("\n".join([f"patient,{column}", *(f"{one},{one % 4}.5" for one in IDS[name])]) + "\n")
        await ordered(owner, "data.add", AddData(str(path), "", ((column, 0.0, 4.0),), "patient"), DataAdded)
    before = await money_of(publisher)
    draft = draft_of(("north", "south"), "oblivious", "contingency/1", ("counts",))
    draft = draft.replace("high = 100.0", "high = 4.0").replace("high = 5.0", "high = 4.0").replace("-5.0", "0.0")
    with pytest.raises(Refused, match=r"column '(age|dose)' holds fractions, .* takes whole numbers there; recode it"):
        await ordered(publisher, "study.propose", ProposeStudy(draft), Study)
    assert await money_of(publisher) == before


async def test_owners_of_a_publisher_that_vanishes_lose_nothing(network: Network) -> None:
    publisher = await publisher_of(network)
    owners = [await owner_of(network, name, IDS[name]) for name in ("north", "south")]
    before = [await money_of(context) for context in owners]
    study = await ordered(publisher, "study.propose", ProposeStudy(draft_of(("north", "south"), "oblivious")), Study)
    studies = network.suite.studies
    for place in (1, 2):
        while not (await studies.party_of(study.number, place)).revealed:
            await asyncio.wait([asyncio.ensure_future(studies.study_of(study.number))], timeout=0.1)
    await publisher.close()
    network.chain.time = (await studies.study_of(study.number)).deadline + 2
    await studies.expire(study.number)
    assert (await studies.study_of(study.number)).phase == StudyPhase.ENDED
    after = [await money_of(context) for context in owners]
    assert all(now >= then for now, then in zip(after, before, strict=True))


@pytest.mark.parametrize("frame", [b"", b"\x0a", os.urandom(5000), bytes([10, 2]) + bytes(100_000)], ids=len)
async def test_an_owner_that_sends_garbage_while_people_are_matched_costs_nothing(
    network: Network, monkeypatch: pytest.MonkeyPatch, frame: bytes
) -> None:
    publisher = await publisher_of(network)
    north = await owner_of(network, "north", IDS["north"])
    liar = await network.node("south")
    monkeypatch.setattr(proposing, "_consult", _not_asked)
    before = await money_of(publisher)
    there = asyncio.Event()

    def heard(sentence: str) -> None:
        if "proposed to" in sentence:
            there.set()

    draft = draft_of(("north", "south"), "psi")
    proposed = asyncio.create_task(ordered(publisher, "study.propose", ProposeStudy(draft), Study, heard))
    await there.wait()
    key = study_key(await fetch_study(liar, 1), 1)
    session = tagged_hash("koinon/study/intersection/1", key, NARROWING, (1).to_bytes(2, "big"))
    link = await liar.transport.accept_link(north.keys.node.node_id, f"intersection {session.hex()}", 120.0)
    await link.send(frame)
    with pytest.raises(KoinonError, match="the escrow and all bonds are back"):
        await proposed
    assert await money_of(publisher) == before
    assert kept_rows(north) is None


def kept_rows(context: Context) -> bytes | None:
    """What an owner's node has noted of who is in all data of the first study."""
    return context.memory.get(b"common-rows/" + (1).to_bytes(8, "big"))


async def _not_asked(*_: object) -> None:
    """In place of asking the owners before money moves."""


@pytest.mark.long
async def test_columns_of_two_owners_that_say_the_same_share_their_weight(network: Network) -> None:
    def value(column: str, person: int) -> float:
        return value_of("age", person) / 10 if column == "size" else value_of(column, person)

    publisher = await publisher_of(network)
    await committee_of(network)
    for name, ids in IDS.items():
        await owner_of(network, name, ids, value=value)
    draft = draft_of(tuple(IDS), "psi", "linear-regression/1", ("coefficients",), target="dose")
    study = await ordered(publisher, "study.propose", ProposeStudy(draft), Study)
    (found,) = (await ordered(publisher, "study.train", study, Trained)).outputs
    people = range(1020, 1060)
    slope, _ = np.polyfit([value("age", one) for one in people], [value("dose", one) for one in people], 1)
    # Of columns scaled to [-1, 1]: 50 years and 5 units of dose.
    assert found.values == pytest.approx([slope * 50 / 5 / 2] * 2, rel=0.02)


@pytest.mark.long
async def test_a_sample_owner_that_deals_garbage_gets_nothing_computed(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = await publisher_of(network)
    seats = await committee_of(network)
    for name in ("north", "south"):
        await owner_of(network, name, IDS[name])
    honest, liar = sharing.deal, keys_of("south").node.node_id

    def dealing(matrix, columns, fraction_bits, dealing, owner, rng, parts):  # type: ignore[no-untyped-def]
        """One member is given another word than its manifest commits to."""
        manifest, packages = honest(matrix, columns, fraction_bits, dealing, owner, rng, parts)
        if owner.node_id != liar:
            return manifest, packages
        last = packages[0].components[-1]
        spoilt = msgspec.structs.replace(last, value=bytes([last.value[0] ^ 1]) + last.value[1:])
        first = msgspec.structs.replace(packages[0], components=(*packages[0].components[:-1], spoilt))
        return manifest, (first, *packages[1:])

    monkeypatch.setattr(sharing, "deal", dealing)
    before = await money_of(publisher)
    draft = draft_of(("north", "south"), "oblivious").replace("maximum_attempts = 2", "maximum_attempts = 1")
    study = await ordered(publisher, "study.propose", ProposeStudy(draft), Study)
    training = asyncio.create_task(ordered(publisher, "study.train", study, Trained))
    while not training.done():
        told = [line for seat in seats for line in seat.report()]
        if sum("aborted" in line for line in told) == 4:
            network.chain.time += 700
        await asyncio.wait([training], timeout=0.2)
    with pytest.raises(Refused, match=r"ended without a result .* the escrow and all bonds are back"):
        training.result()
    assert await money_of(publisher) == before
