"""Studies of people that the owners find in common: real nodes, real children, the suite on an EVM in the test."""

from collections.abc import Sequence

import numpy as np
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

from koinon.journey import study as proposing
from koinon.journey.results import Study, Trained
from koinon.kernel.errors import KoinonError, Refused
from koinon.node.context import Context
from koinon.node.datasets import Datasets
from koinon.node.orders import ProposeStudy

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
