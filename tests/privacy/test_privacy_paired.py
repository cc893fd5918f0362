"""Programs of studies on the pairs of an oblivious join, against NumPy on the people who are in both tables."""

import numpy as np
import pytest

from koinon.crypto.random import SystemRng
from koinon.kernel.codec import encode
from koinon.kernel.errors import InvalidInput, Refused
from koinon.privacy.backend import Backend, PlainInput
from koinon.privacy.clear import ClearBackend
from koinon.privacy.joins import oblivious
from koinon.privacy.programs import registry
from koinon.privacy.programs.offer import (
    Layout,
    Parameters,
    ResultTable,
    decode_settings,
    presented,
    settings_from,
)
from koinon.privacy.rep4.simulation import SimulatedRep4
from koinon.wire.committee import Column

KEY = bytes(range(32))
COLUMNS = (Column("age", 0.0, 100.0), Column("dose", -4.0, 4.0), Column("size", 0.0, 20.0))
SOURCES = ((1,), (0, 2))
FIRST, SECOND = range(40), range(16, 60)
COMMON = range(16, 40)


def row_of(person: int) -> np.ndarray:
    """(3,): dose follows from age and size but for some noise."""
    random = np.random.default_rng(person)
    age, size = random.uniform(20, 80), random.uniform(2, 18)
    return np.array([age, age / 25 - size / 10 - 1.0 + random.uniform(-0.3, 0.3), size])


def opened(
    name: str,
    outputs: tuple[str, ...],
    second: range = SECOND,
    pairs: int = 20,
    engine: Backend | None = None,
    **settings: object,
) -> dict[str, ResultTable]:
    tables = [np.array([row_of(person) for person in people]) for people in (FIRST, second)]
    target = "dose" if name.startswith("linear") else ""
    layout = Layout((len(FIRST), len(second)), COLUMNS, target, SOURCES, pairs=pairs)
    offer = registry.offer(name)
    encoded = settings_from(offer, settings)
    program = registry.load(name, encode(Parameters(layout, encoded, outputs)))
    inputs = [
        PlainInput(
            (*oblivious.COLUMNS, *(COLUMNS[number] for number in own)),
            np.column_stack([oblivious.pseudonyms([str(one) for one in people], KEY), rows[:, own]]),
        )
        for people, rows, own in zip((FIRST, second), tables, SOURCES, strict=True)
    ]
    found = (engine or ClearBackend()).run(program, inputs, SystemRng()).outputs
    return {table.name: table for table in presented(offer, found, layout, decode_settings(offer, encoded))}


def pooled() -> np.ndarray:
    return np.array([row_of(person) for person in COMMON])


def check_statistics(engine: Backend) -> None:
    tables = opened("statistics/1", ("mean", "variance", "correlation", "histogram"), engine=engine, bins=4)
    rows = pooled()
    spans = np.array([50.0, 4.0, 10.0])
    np.testing.assert_allclose(tables["mean"].values[:, 0], rows.mean(0), atol=2e-3 * spans.max())
    np.testing.assert_allclose(tables["variance"].values[:, 0] / spans**2, rows.var(0, ddof=1) / spans**2, atol=2e-3)
    np.testing.assert_allclose(tables["correlation"].values, np.corrcoef(rows.T), atol=5e-3)
    for number, column in enumerate(COLUMNS):
        counts, _ = np.histogram(rows[:, number], np.linspace(column.low, column.high, 5))
        shown = tables["histogram"].values[number]
        assert all(seen in (0, count) for seen, count in zip(shown, counts, strict=True))
        assert all(seen == count for seen, count in zip(shown, counts, strict=True) if count >= 12)


def test_statistics_are_those_of_the_people_in_both_tables() -> None:
    check_statistics(ClearBackend())


@pytest.mark.long
def test_statistics_are_the_same_among_four_parties() -> None:
    check_statistics(SimulatedRep4())


def test_a_line_is_that_of_the_people_in_both_tables() -> None:
    tables = opened("linear-regression/1", ("coefficients", "intercept", "score"))
    rows = pooled()
    design = np.column_stack([rows[:, [0, 2]], np.ones(len(rows))])
    best, residual, *_ = np.linalg.lstsq(design, rows[:, 1], rcond=None)
    np.testing.assert_allclose(tables["coefficients"].values[:, 0], best[:2], atol=2e-3)
    np.testing.assert_allclose(tables["intercept"].values[0, 0], best[2], atol=5e-2)
    spread = ((rows[:, 1] - rows[:, 1].mean()) ** 2).sum()
    assert tables["score"].values[0, 0] == pytest.approx(1 - residual[0] / spread, abs=5e-3)


@pytest.mark.parametrize("second", [range(40, 84), range(21, 65)], ids=["nobody", "19 people"])
@pytest.mark.parametrize("outputs", [("mean",), ("mean", "variance", "correlation", "histogram")], ids=len)
def test_of_fewer_than_the_least_nothing_is_shown(second: range, outputs: tuple[str, ...]) -> None:
    with pytest.raises(Refused, match="fewer than 20 people are in all owners' data"):
        opened("statistics/1", outputs, second)


def test_the_least_are_shown() -> None:
    assert opened("statistics/1", ("mean",), range(20, 64))["mean"].values.shape == (3, 1)


@pytest.mark.parametrize(
    ("name", "outputs", "settings", "sentence"),
    [
        ("statistics/1", ("quantiles",), {}, "opens no quantiles of an oblivious join"),
        ("statistics/1", ("histogram",), {"bins": 1}, "2 to 200 bins"),
        ("linear-regression/1", ("coefficients",), {"penalty": 1.0}, "takes no penalty on an oblivious join"),
        ("random-forest/1", ("leaves",), {}, "opens no such outputs of an oblivious join"),
    ],
)
def test_what_cannot_be_computed_of_pairs_is_refused_before_anything_is_shared(
    name: str, outputs: tuple[str, ...], settings: dict[str, object], sentence: str
) -> None:
    outputs = outputs if set(outputs) <= set(registry.offer(name).outputs) else registry.offer(name).outputs
    with pytest.raises(InvalidInput, match=sentence):
        opened(name, outputs, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "layout",
    [
        Layout((40, 44), COLUMNS, "", ((0, 1, 2), (0, 1, 2)), pairs=20),
        Layout((40, 44), COLUMNS, "", (), pairs=20),
        Layout((40, 44), COLUMNS, "", SOURCES, pairs=-1),
    ],
    ids=["one table", "rows of their own", "no least"],
)
def test_only_owners_of_different_columns_join(layout: Layout) -> None:
    with pytest.raises(InvalidInput, match="between owners of different columns"):
        registry.load("statistics/1", encode(Parameters(layout, b"", ("mean",))))


def test_the_layout_counts_the_columns_of_pseudonyms() -> None:
    assert Layout((40, 44), COLUMNS, "", SOURCES, pairs=20).shapes == ((40, 4), (44, 5))
