"""Studies whose owners share sums of their rows: real nodes, real children, the suite on an EVM in the test."""

from collections.abc import Sequence

import numpy as np
import pytest
from node_joins_world import JOINING_POLICY, UNIT, committee_of, money_of, ordered, publisher_of
from node_market_world import Network, party

from koinon.data.schema import Schema
from koinon.jobs.disclosed import OnChain, check_disclosed, read_disclosed
from koinon.jobs.inputs import layout
from koinon.jobs.solvers import solver_of
from koinon.jobs.study import SignedStudy, Terms, open_study
from koinon.journey.results import Study, Trained
from koinon.kernel.codec import decode
from koinon.kernel.errors import InvalidInput, Refused, Unavailable
from koinon.kernel.quantities import TokenAmount
from koinon.node.context import Context
from koinon.node.datasets import Datasets
from koinon.node.drafts import Draft, write_draft
from koinon.node.orders import Disclose, Disclosed, ProposeStudy
from koinon.node.roles.data import DataRole
from koinon.node.roles.studies import manifest_key
from koinon.privacy.programs import registry
from koinon.privacy.programs.offer import decode_settings, presented
from koinon.wire.committee import Column, ShareManifest

LINE, LOGISTIC = "linear-regression/1", "logistic-regression/1"
COLUMNS = (Column("age", 0.0, 100.0), Column("size", 0.0, 10.0))
HEIGHT = Column("height", -10.0, 10.0)
OWNERS = ("north", "south", "west")
POLICY = JOINING_POLICY.replace('"linear-regression/1"', '"linear-regression/1", "logistic-regression/1"')


def rows_of(name: str, count: int, algorithm: str) -> np.ndarray:
    """(count, 3) people of an owner, the target last."""
    random = np.random.default_rng([OWNERS.index(name), count])
    age, size = random.uniform(20, 90, count), random.uniform(1, 9, count)
    level = age / 20 - size + 1.5 + random.normal(size=count)
    return np.column_stack([age, size, level if algorithm == LINE else level > 0])


async def owner_with(network: Network, name: str, rows: np.ndarray, algorithm: str) -> Context:
    context = await network.node(name, ("data",))
    home = context.home
    home.datasets.mkdir(exist_ok=True)
    home.policy.write_text(POLICY, "utf-8")
    path, target = home.path / "rows.csv", "" if algorithm == LINE else "ill"
    header = ",".join([column.name for column in COLUMNS] + [target or HEIGHT.name])
    path.write_text("\n".join([header, *(",".join(map(repr, row)) for row in rows.tolist())]) + "\n")
    schema = Schema(COLUMNS, "ill") if target else Schema((*COLUMNS, HEIGHT), "")
    Datasets(home.datasets).add(path, schema, target, context.rng)
    role = DataRole(context)
    role.attach()
    role.offer()
    context.spawn(context.feed.follow(), "feed")
    return context


async def owners_with(network: Network, counts: Sequence[int], algorithm: str) -> list[np.ndarray]:
    found = [rows_of(name, count, algorithm) for name, count in zip(OWNERS, counts, strict=True)]
    for name, rows in zip(OWNERS, found, strict=True):
        await owner_with(network, name, rows, algorithm)
    return found


def draft_with(algorithm: str, solver: str, outputs: Sequence[str] = ("coefficients", "intercept")) -> str:
    line = algorithm == LINE
    return write_draft(
        Draft(
            title="Sums",
            purpose="Tumour risk, for a test",
            columns=tuple((one.name, one.low, one.high) for one in ((*COLUMNS, HEIGHT) if line else COLUMNS)),
            target=HEIGHT.name if line else "ill",
            sensitive_column="" if line else "age",
            owners=tuple(party(name) for name in OWNERS),
            owner_revenue_basis_points=1_000,
            minimum_rows=20,
            terms=Terms(TokenAmount(UNIT), TokenAmount(2 * UNIT), TokenAmount(UNIT), 600, 600, 600, 30, 2),
            algorithm=algorithm,
            outputs=tuple(outputs),
            settings={"solver": solver},
        )
    )


def solver_in(study: Study) -> str:
    return solver_of(open_study(decode(SignedStudy, study.signed)))


def tables_of(trained: Trained) -> dict[str, np.ndarray]:
    """What the publisher reads, in the units of the columns."""
    file = open_study(decode(SignedStudy, trained.study.signed))
    offer = registry.offer(file.algorithm)
    opened = {output.name: np.array(output.values).reshape(output.shape) for output in trained.outputs}
    found = presented(offer, opened, layout(file, trained.training_rows), decode_settings(offer, file.settings))
    return {table.name: table.values.ravel() for table in found}


@pytest.mark.long
async def test_a_sample_line_of_owners_sums_is_that_of_their_pooled_rows(network: Network) -> None:
    publisher = await publisher_of(network)
    await committee_of(network)
    whole = np.concatenate(await owners_with(network, (40, 90, 60), LINE))
    heard: list[str] = []
    draft = draft_with(LINE, "auto", ("coefficients", "intercept", "score"))
    study = await ordered(publisher, "study.propose", ProposeStudy(draft), Study, heard.append)
    said = next(sentence for sentence in heard if sentence.startswith("owners share "))
    assert f"owners share {solver_in(study)}: rows " in said
    assert "190 rows" in said
    assert "ms round trip" in said
    assert solver_in(study) == "sums"
    trained = await ordered(publisher, "study.train", study, Trained)
    assert trained.training_rows == (40, 90, 60)
    kept = network.memories["south"].get(manifest_key(study.number, trained.attempt))
    assert kept is not None
    manifest = decode(ShareManifest, kept)
    assert (manifest.rows, manifest.columns, manifest.sums) == (90, (*COLUMNS, HEIGHT), 9)
    design = np.column_stack([whole[:, :-1], np.ones(len(whole))])
    plain, left, *_ = np.linalg.lstsq(design, whole[:, -1], rcond=None)
    found = tables_of(trained)
    np.testing.assert_allclose(found["coefficients"], plain[:-1], atol=1e-3)
    shown = await ordered(publisher, "study.disclose", Disclose(study.number), Disclosed)
    state = await network.suite.studies.study_of(study.number)
    on_chain = OnChain(study.specification_hash, state.attempt, state.output_digest)
    checked = check_disclosed(read_disclosed(shown.result), on_chain)
    assert checked.rows == (40, 90, 60)
    assert [checked.outputs[one.name].ravel().tolist() for one in trained.outputs] == [
        list(one.values) for one in trained.outputs
    ]
    np.testing.assert_allclose(found["intercept"], plain[-1:], atol=2e-2)
    np.testing.assert_allclose(found["score"], 1 - left / (len(whole) * whole[:, -1].var()), atol=1e-3)


@pytest.mark.long
async def test_a_line_of_sums_and_one_of_rows_are_the_same_at_real_nodes(network: Network) -> None:
    publisher = await publisher_of(network)
    await committee_of(network)
    await owners_with(network, (40, 90, 60), LINE)
    found = {}
    for solver in ("rows", "sums"):
        study = await ordered(publisher, "study.propose", ProposeStudy(draft_with(LINE, solver)), Study)
        assert solver_in(study) == solver
        found[solver] = tables_of(await ordered(publisher, "study.train", study, Trained))
    for name, values in found["rows"].items():
        np.testing.assert_allclose(found["sums"][name], values, atol=2e-2 if name == "intercept" else 1e-3)


@pytest.mark.long
async def test_a_logistic_model_of_owners_sums_at_real_nodes(network: Network) -> None:
    publisher = await publisher_of(network)
    await committee_of(network)
    whole = np.concatenate(await owners_with(network, (150, 90, 200), LOGISTIC))
    study = await ordered(publisher, "study.propose", ProposeStudy(draft_with(LOGISTIC, "sums")), Study)
    trained = await ordered(publisher, "study.train", study, Trained)
    found = tables_of(trained)
    level = whole[:, :-1] @ found["coefficients"] + found["intercept"]
    assert ((level > 0) == (whole[:, -1] > 0)).mean() > 0.8


@pytest.mark.parametrize(
    ("counts", "algorithm", "solver", "sentence"),
    [
        ((60, 59, 80), LOGISTIC, "sums", "south would refuse the study: the data set has fewer than the 60 rows"),
        ((60, 60, 60), LINE, "best", "a solver is one of rows, sums, auto; got 'best'"),
    ],
)
async def test_a_study_that_owners_cannot_share_sums_for_costs_nothing(
    network: Network, counts: tuple[int, ...], algorithm: str, solver: str, sentence: str
) -> None:
    publisher = await publisher_of(network)
    await owners_with(network, counts, algorithm)
    before = await money_of(publisher)
    with pytest.raises((InvalidInput, Refused), match=sentence):
        await ordered(publisher, "study.propose", ProposeStudy(draft_with(algorithm, solver)), Study)
    assert await money_of(publisher) == before
    assert await network.suite.studies.count() == 0


async def test_the_way_follows_from_the_rows_that_owners_have(network: Network) -> None:
    """No node of a committee is there to be asked how far it is; the publisher says it."""
    publisher = await publisher_of(network)
    await owners_with(network, (60, 59, 80), LOGISTIC)
    draft = draft_with(LOGISTIC, "auto")
    with pytest.raises(Unavailable, match=r"no node that can be drawn answers.*say it with --rtt"):
        await ordered(publisher, "study.propose", ProposeStudy(draft), Study)
    heard: list[str] = []
    study = await ordered(publisher, "study.propose", ProposeStudy(draft, 0.02, 1e7), Study, heard.append)
    assert solver_in(study) == "rows"
    assert any("every owner needs 60 rows for a fit of its own, and one has 59" in sentence for sentence in heard)
    assert any("199 rows, 20.0 ms round trip, 10 Mbit/s" in sentence for sentence in heard)
