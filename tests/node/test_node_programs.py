"""Networks and prepared columns in studies of real nodes: what is opened is what the clear engine makes of the rows."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from node_joins_world import UNIT, committee_of, ordered, publisher_of
from node_market_world import Network, party

from koinon.data.missing import SUFFIX, write_masked
from koinon.data.schema import Schema
from koinon.jobs.inputs import data_schema, layout, parameters, share_columns
from koinon.jobs.study import SignedStudy, StudyFile, Terms, open_study
from koinon.journey.predictors import arrays_of, makes_model, predictor_of
from koinon.journey.results import Study, Trained
from koinon.kernel.codec import decode
from koinon.kernel.ids import Hash32
from koinon.kernel.quantities import TokenAmount
from koinon.node.context import Context
from koinon.node.create import DEFAULT_POLICY
from koinon.node.datasets import Datasets
from koinon.node.drafts import Draft, write_draft
from koinon.node.orders import ProposeStudy
from koinon.node.roles.data import DataRole
from koinon.privacy.backend import PlainInput
from koinon.privacy.clear import ClearBackend
from koinon.privacy.programs import registry
from koinon.privacy.programs.offer import decode_settings
from koinon.privacy.programs.preparation import presented
from koinon.privacy.rep4.adversary import SeededRng
from koinon.wire.committee import Column

OWNERS = ("north", "south")
ROWS = 24
PREPARED = ("k-means/1", "linear-regression/1")
PROGRAMS = ("convolutional-network/1", "recurrent-network/1", *PREPARED)
OUTPUTS = ("weights", "coefficients", "intercept", "score", "centres", "sizes", "preparation")
POLICY = (
    DEFAULT_POLICY.replace('["logistic-regression/1"]', json.dumps(PROGRAMS))
    .replace('["coefficients", "intercept", "worth"]', json.dumps(OUTPUTS))
    .replace("minimum_parties = 3", "minimum_parties = 2")
    .replace('["agreed", "oblivious"]', '["psi"]')
)


@dataclass(frozen=True)
class Held:
    """What an owner has for one study.

    Attributes:
        cells: (n, columns); NaN where one is missing.
        ids: of the rows; empty where nobody's rows are brought together.
    """

    columns: tuple[Column, ...]
    cells: np.ndarray
    ids: tuple[int, ...] = ()

    @property
    def masked(self) -> tuple[Column, ...]:
        """Those with missing cells."""
        return tuple(c for c, cells in zip(self.columns, self.cells.T, strict=True) if np.isnan(cells).any())

    @property
    def schema(self) -> Schema:
        """Of the rows when missing cells are told by columns of their own."""
        return Schema((*self.columns, *(Column(one.name + SUFFIX, 0.0, 1.0) for one in self.masked)), "")


@dataclass(frozen=True)
class Asked:
    """One study, and what each owner has for it."""

    program: str
    target: str
    settings: Mapping[str, object]
    outputs: tuple[str, ...]
    held: tuple[Held, Held]
    join: str = "agreed"


def images() -> tuple[Held, Held]:
    """Noise around one of three bars, and which."""
    random = np.random.default_rng(9)
    columns = (*(Column(f"pixel {number}", 0.0, 16.0) for number in range(20)), Column("shape", 0.0, 2.0))
    codes = random.integers(0, 3, 2 * ROWS)
    bars = np.zeros((3, 4, 5))
    bars[0, 1], bars[1, :, 2], bars[2, 3, 3:] = 1, 1, 1
    pixels = bars[codes].reshape(-1, 20) * 12 + random.uniform(0, 4, (2 * ROWS, 20))
    table = np.column_stack([pixels, codes])
    return Held(columns, table[:ROWS]), Held(columns, table[ROWS:])


def sequences() -> tuple[Held, Held]:
    """Three steps of two numbers, and half the product of the first and the last."""
    columns = (*(Column(f"step {number}", -2.0, 2.0) for number in range(6)), Column("product", -2.0, 2.0))
    steps = np.random.default_rng(10).uniform(-2, 2, (2 * ROWS, 6))
    table = np.column_stack([steps, steps[:, 0] * steps[:, -1] / 2])
    return Held(columns, table[:ROWS]), Held(columns, table[ROWS:])


AGE, DOSE, SITE = Column("age", 0.0, 100.0), Column("dose", -5.0, 5.0), Column("site", 0.0, 2.0)


def patients() -> np.ndarray:
    """(n, 3) age, dose and site; some ages are missing."""
    random = np.random.default_rng(11)
    age, site = random.uniform(20, 80, 2 * ROWS), random.integers(0, 3, 2 * ROWS)
    dose = age / 20 - 2.5 + site / 2 + random.normal(0, 0.2, 2 * ROWS)
    return np.column_stack([np.where(random.random(2 * ROWS) < 0.25, np.nan, age), dose, site])


def people_of_their_own() -> tuple[Held, Held]:
    table = patients()
    return Held((AGE, DOSE, SITE), table[:ROWS]), Held((AGE, DOSE, SITE), table[ROWS:])


def columns_of_the_same_people() -> tuple[Held, Held]:
    """North has the age of all and south dose and site of all but the first few, each in an order of its own."""
    table, ids = patients(), np.arange(2 * ROWS)
    order = np.random.default_rng(12).permutation(ids)
    return (
        Held((AGE,), table[order][:, :1], tuple(order.tolist())),
        Held((DOSE, SITE), table[8:, 1:], tuple(ids[8:].tolist())),
    )


LEARNING = {"epochs": 1, "batch": 16, "rate": 0.3}
ASKED = (
    Asked(
        "convolutional-network/1",
        "shape",
        {"image": [4, 5, 1], "filters": [3], "window": 2, **LEARNING},
        ("weights",),
        images(),
    ),
    Asked(
        "recurrent-network/1",
        "product",
        {"predicts": "number", "length": 3, "units": 3, **LEARNING},
        ("weights",),
        sequences(),
    ),
    Asked(
        "linear-regression/1",
        "dose",
        {"scale": "standard", "impute": "median", "missing": [["age", "age missing"]], "encode": ["site"]},
        ("coefficients", "intercept", "score", "preparation"),
        people_of_their_own(),
    ),
    Asked(
        "k-means/1",
        "",
        {"scale": "range", "missing": [["age", "age missing"]], "encode": ["site"], "clusters": 2, "iterations": 4},
        ("centres", "sizes", "preparation"),
        columns_of_the_same_people(),
        "psi",
    ),
)


async def owner_of(network: Network, place: int) -> Context:
    """An owner's node with a data set for each of the studies, following the chain."""
    context = await network.node(OWNERS[place], ("data",))
    context.home.datasets.mkdir(exist_ok=True)
    context.home.policy.write_text(POLICY, "utf-8")
    for number, asked in enumerate(ASKED):
        held = asked.held[place]
        key = "patient" if held.ids else ""
        path = context.home.path / f"rows-{number}.csv"
        write_rows(held, path, key)
        if held.masked:
            whole = path.with_suffix(".masked.csv")
            write_masked(path, whole, tuple(column.name for column in held.masked))
            path = whole
        Datasets(context.home.datasets).add(path, held.schema, "", context.rng, key)
    role = DataRole(context)
    role.attach()
    role.offer()
    context.spawn(context.feed.follow(), "feed")
    return context


def write_rows(held: Held, path: Path, key: str) -> None:
    """A CSV file as an owner would have it: a missing cell is empty."""
    names = [*(column.name for column in held.columns), *([key] if key else [])]
    lines = [["" if np.isnan(cell) else repr(cell) for cell in row] for row in held.cells.tolist()]
    if key:
        lines = [[*cells, str(one)] for cells, one in zip(lines, held.ids, strict=True)]
    path.write_text("\n".join(map(",".join, [names, *lines])) + "\n")


def draft_of(asked: Asked) -> str:
    """The text of the study file."""
    columns = {column.name: column for held in asked.held for column in held.schema.columns}
    holders = {
        column.name: (name,) for name, held in zip(OWNERS, asked.held, strict=True) for column in held.schema.columns
    }
    return write_draft(
        Draft(
            title="Programs",
            purpose="Tumour risk, for a test",
            columns=tuple((column.name, column.low, column.high) for column in columns.values()),
            target=asked.target,
            sensitive_column="",
            owners=tuple(map(party, OWNERS)),
            owner_revenue_basis_points=1_000,
            minimum_rows=20,
            terms=Terms(TokenAmount(UNIT), TokenAmount(2 * UNIT), TokenAmount(UNIT), 600, 600, 600, 30, 2),
            algorithm=asked.program,
            outputs=asked.outputs,
            settings=asked.settings,
            holders=holders if asked.join == "psi" else {},
            join=asked.join,
        )
    )


def plain_inputs(study: StudyFile, asked: Asked, owners: Sequence[Context]) -> list[PlainInput]:
    """What the owners share, read from their own data sets, of the same people where they are brought together."""
    tables, numbers = [], []
    for place, (context, held) in enumerate(zip(owners, asked.held, strict=True)):
        datasets = Datasets(context.home.datasets)
        stored = datasets.matching(data_schema(study, place))
        assert stored is not None
        tables.append(datasets.open(Hash32(stored.dataset_hash)).features)
        numbers.append(datasets.identifiers(Hash32(stored.dataset_hash)) if held.ids else ())
    if asked.join == "psi":
        common = set(numbers[0]) & set(numbers[1])
        assert 20 <= len(common) < len(numbers[0])
        tables = [
            table[[row for row, one in enumerate(own) if one in common]]
            for table, own in zip(tables, numbers, strict=True)
        ]
    return [PlainInput(share_columns(study, place), table) for place, table in enumerate(tables)]


@pytest.mark.long
async def test_sample_networks_and_prepared_columns_between_real_nodes(network: Network) -> None:
    publisher = await publisher_of(network)
    await committee_of(network)
    owners = [await owner_of(network, place) for place in range(len(OWNERS))]
    for asked in ASKED:
        study = await ordered(publisher, "study.propose", ProposeStudy(draft_of(asked)), Study)
        trained = await ordered(publisher, "study.train", study, Trained)
        file = open_study(decode(SignedStudy, trained.study.signed))
        inputs = plain_inputs(file, asked, owners)
        assert trained.training_rows == tuple(len(each.values) for each in inputs)
        program = registry.load(file.algorithm, parameters(file, trained.training_rows))
        wanted = ClearBackend().run(program, inputs, SeededRng(b"here")).outputs
        found = arrays_of(trained)
        assert found.keys() == wanted.keys() == set(asked.outputs)
        for name, values in wanted.items():
            assert np.abs(found[name] - values).max() < 5e-3, (asked.program, name)
            assert np.ptp(values) > 0.05 or values.size == 1
        # The publisher can read it, and make a file of a model.
        settings = decode_settings(registry.offer(file.algorithm), file.settings)
        assert presented(registry.offer(file.algorithm), found, layout(file, trained.training_rows), settings)
        if makes_model(asked.program):
            assert predictor_of(trained, file).onnx
