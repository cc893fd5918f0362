"""Studies that an engine cannot do with an owner's rows, or not on this machine: refused before anything is signed."""

import importlib.util

import numpy as np
import pytest
from contracts_world import PROVIDERS
from node_joins_world import JOINING_POLICY, UNIT, money_of, ordered, publisher_of
from node_market_world import Network, party

from koinon.contracts.studies import Challenged, Complained, Declined, Drawn
from koinon.data.schema import Schema
from koinon.jobs.study import StudyFile, Terms
from koinon.journey import study as proposing
from koinon.journey.results import Study, Trained
from koinon.kernel.errors import InvalidInput, Unavailable
from koinon.kernel.quantities import TokenAmount
from koinon.node.datasets import Datasets
from koinon.node.drafts import Draft, write_draft
from koinon.node.orders import ProposeStudy
from koinon.node.roles.compute import ComputeRole
from koinon.node.roles.data import DataRole
from koinon.privacy.encrypted import studies
from koinon.privacy.engines import EngineOffer, engine_named
from koinon.wire.committee import Column

OWNERS = ("north", "south")
AGE = Column("age", 0.0, 100.0)


async def owners_of(network: Network) -> None:
    """Two owners of people of their own, who allow the engine."""
    for number, name in enumerate(OWNERS):
        context = await network.node(name, ("data",))
        context.home.datasets.mkdir(exist_ok=True)
        context.home.policy.write_text(JOINING_POLICY.replace('["rep4"]', '["rep4", "federated", "he"]'), "utf-8")
        path = context.home.path / "rows.csv"
        ages = np.random.default_rng(number).uniform(1, 99, 40)
        path.write_text("\n".join(["age", *(f"{age!r}" for age in ages.tolist())]) + "\n")
        Datasets(context.home.datasets).add(path, Schema((AGE,), ""), "", context.rng)
        role = DataRole(context)
        role.attach()
        role.offer()
        context.spawn(context.feed.follow(), "feed")


def draft(engine: str = "he", output: str = "mean") -> str:
    return write_draft(
        Draft(
            title="Ages",
            purpose="Tumour risk, for a test",
            columns=(("age", 0.0, 100.0),),
            target="",
            sensitive_column="",
            owners=tuple(map(party, OWNERS)),
            owner_revenue_basis_points=1_000,
            minimum_rows=20,
            terms=Terms(TokenAmount(UNIT), TokenAmount(2 * UNIT), TokenAmount(UNIT), 600, 600, 600, 30, 2),
            algorithm="statistics/1",
            outputs=(output,),
            settings={},
            engine=engine,
        )
    )


@pytest.fixture
def without_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the extra was not installed: the name of its module is nobody's."""
    monkeypatch.setattr(studies, "LIBRARY", "koinon_no_such_library")
    assert importlib.util.find_spec(studies.LIBRARY) is None


@pytest.mark.usefixtures("without_library")
async def test_a_publisher_without_the_library_proposes_nothing(network: Network) -> None:
    publisher = await publisher_of(network)
    await owners_of(network)
    before = await money_of(publisher)
    with pytest.raises(Unavailable, match=r"pip install 'koinon\[encrypted\]'"):
        await ordered(publisher, "study.propose", ProposeStudy(draft()), Study)
    assert await money_of(publisher) == before
    assert await network.suite.studies.count() == 0


@pytest.mark.usefixtures("without_library")
async def test_an_owner_without_the_library_says_so_before_it_signs(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The publisher has it: in this one process that is said by leaving its own look at it out."""
    monkeypatch.setattr(proposing, "check_installed", lambda _: None)
    publisher = await publisher_of(network)
    await owners_of(network)
    before = await money_of(publisher)
    with pytest.raises(InvalidInput, match=r"pip install 'koinon\[encrypted\]'"):
        await ordered(publisher, "study.propose", ProposeStudy(draft()), Study)
    assert await money_of(publisher) == before
    assert await network.suite.studies.count() == 0


@pytest.mark.parametrize("engine", ["federated", "he"])
async def test_an_owner_with_too_small_a_group_says_so_before_it_signs(network: Network, engine: str) -> None:
    """Forty ages in ten bins: some bin of this owner's has one to four people, and its sums would say so."""
    publisher = await publisher_of(network)
    await owners_of(network)
    before = await money_of(publisher)
    with pytest.raises(InvalidInput, match="fewer than the 5 people of this owner"):
        await ordered(publisher, "study.propose", ProposeStudy(draft(engine, "histogram")), Study)
    assert await money_of(publisher) == before
    assert await network.suite.studies.count() == 0


@pytest.mark.parametrize("engine", ["federated", "he"])
async def test_a_study_whose_sums_say_more_than_it_opens_is_no_study(network: Network, engine: str) -> None:
    publisher = await publisher_of(network)
    await owners_of(network)
    with pytest.raises(InvalidInput, match="say mean too"):
        await ordered(publisher, "study.propose", ProposeStudy(draft(engine, "variance")), Study)
    assert await network.suite.studies.count() == 0


class BareNode(ComputeRole):
    """A provider that lacks the library where it has the first committee's second seat."""

    _drawn_bare = False

    async def _take_seat(self, event: Drawn) -> None:
        self._drawn_bare = event.attempt == 0 and event.committee[1] == self._context.account
        await super()._take_seat(event)

    def _lacking(self, study: StudyFile) -> str:
        return "the library is not installed here" if self._drawn_bare else super()._lacking(study)


@pytest.mark.long
async def test_a_member_without_the_library_leaves_its_seat_at_once_and_another_takes_it_sample(
    network: Network,
) -> None:
    """It alone is left out, and keeps its stake; the second committee finishes, and everybody else is paid."""
    for name in PROVIDERS:
        context = await network.node(name, ("compute",))
        BareNode(context).attach()
        context.spawn(context.feed.follow(), "feed")
    publisher = await publisher_of(network)
    await owners_of(network)
    study = await ordered(publisher, "study.propose", ProposeStudy(draft()), Study)
    trained = await ordered(publisher, "study.train", study, Trained)
    suite = network.suite
    first = await suite.studies.committee_of(study.number, 0)
    (declined,) = await suite.studies.events(Declined, study_id=study.number)
    assert (declined.event.attempt, declined.event.member) == (0, first[1])
    assert (await suite.studies.study_of(study.number)).excluded == (first[1],)
    assert trained.attempt == 1
    assert first[1] not in trained.committee
    provider = await suite.providers.provider_of(first[1])
    assert (provider.stake, provider.locks) == ((await suite.providers.provider_of(trained.committee[0])).stake, 0)
    assert await suite.studies.events(Complained, study_id=study.number) == []
    assert await suite.studies.events(Challenged, study_id=study.number) == []


def test_an_installed_engine_lacks_nothing() -> None:
    offers: list[EngineOffer] = [engine_named(name) for name in ("rep4", "federated", "he")]
    assert [one.missing() for one in offers] == ["", "", ""]
