"""A model that memorises rows is held back before anything is opened; one that learns is not."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.datasets import load_breast_cancer

from koinon.crypto.random import SystemRng
from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray, concatenate
from koinon.privacy.backend import Backend, PlainInput
from koinon.privacy.clear import ClearBackend
from koinon.privacy.computation import Revealed, run
from koinon.privacy.differential import canaries
from koinon.privacy.learn.linear import LinearRegression
from koinon.privacy.ordering import index_of_smallest, looked_up
from koinon.privacy.rep4.simulation import SimulatedRep4
from koinon.wire.committee import Column

FEATURES, TARGET = load_breast_cancer(return_X_y=True)
CHOSEN = (0, 1, 6, 7, 20, 27)
PLANTED = 8
COLUMNS = (
    *(Column(f"x{place}", float(FEATURES[:, place].min()), float(FEATURES[:, place].max())) for place in CHOSEN),
    Column("benign", 0.0, 1.0),
)
Trainer = Callable[..., Revealed]


class Counting:
    """Bytes that are the same in every run: which labels the coins give must not decide whether a test passes."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(3)

    def bytes(self, count: int, /) -> bytes:
        return self._rng.bytes(count)


def owners(rows: int) -> list[PlainInput]:
    rng = Counting()
    order = np.random.default_rng(2).permutation(len(TARGET))[:rows]
    found = []
    for part in np.array_split(order, 3):
        features, labels = canaries.plant(FEATURES[part][:, CHOSEN], TARGET[part].astype(np.float64), PLANTED, rng)
        found.append(PlainInput(COLUMNS, np.column_stack([features, labels])))
    return found


def parts(tables: Sequence[SecretArray]) -> tuple[SecretArray, SecretArray]:
    return concatenate(tables), concatenate([table[-PLANTED:] for table in tables])


def line(*tables: SecretArray) -> Revealed:
    rows, planted = parts(tables)
    fitted = LinearRegression(1.0).fit(rows[:, :-1], rows[:, -1])
    return canaries.released(
        fitted.predict(planted[:, :-1]), planted[:, -1], coefficients=fitted.coefficients, intercept=fitted.intercept
    )


def nearest_neighbour(*tables: SecretArray) -> Revealed:
    rows, planted = parts(tables)
    known = rows[:, :-1]
    distances = (known * known).sum(1) - (planted[:, :-1] @ known.T) * 2.0
    return canaries.released(looked_up(index_of_smallest(distances), rows[:, -1]), planted[:, -1], rows=rows)


def table_of_rows(*tables: SecretArray) -> Revealed:
    rows, planted = parts(tables)
    return canaries.released(planted[:, -1], planted[:, -1], rows=rows)


def test_a_fitted_line_is_released() -> None:
    found = run(line, owners(300), ClearBackend(), scaled=True).outputs
    assert found[canaries.RELEASED] == 1
    assert np.abs(found["coefficients"]).max() > 0.1


@pytest.mark.parametrize("memorise", [nearest_neighbour, table_of_rows])
def test_what_gives_rows_back_is_held_back(memorise: Trainer) -> None:
    found = run(memorise, owners(90), ClearBackend(), scaled=True).outputs
    assert found[canaries.RELEASED] == 0
    assert not found["rows"].any()


@pytest.mark.parametrize("engine", [ClearBackend(), SimulatedRep4()], ids=lambda engine: engine.name)
def test_every_engine_judges_alike(engine: Backend) -> None:
    assert run(line, owners(60), engine, scaled=True).outputs[canaries.RELEASED] == 1
    assert run(table_of_rows, owners(60), engine, scaled=True).outputs[canaries.RELEASED] == 0


@pytest.mark.parametrize("planted", [24, 48, 200])
def test_a_model_that_guesses_is_held_back_no_more_often_than_stated(planted: int) -> None:
    allowed = canaries.most_hits(planted)
    assert binom.sf(allowed, planted, 0.5) <= 2.0**-canaries.MOST_EXPOSURE
    assert canaries.exposure(planted, planted) == planted
    assert canaries.exposure(0, planted) == 0
    assert allowed < planted


def test_canaries_look_like_rows_and_their_labels_like_coins() -> None:
    features, labels = canaries.plant(FEATURES[:50], TARGET[:50].astype(np.float64), 400, SystemRng())
    assert (features[:50] == FEATURES[:50]).all()
    for place in range(FEATURES.shape[1]):
        assert np.isin(features[50:, place], FEATURES[:50, place]).all()
    # A binomial of 400: seven deviations away from the middle.
    assert abs(labels[50:].sum() - 200) < 70


@pytest.mark.parametrize("count", [0, -1, canaries.MOST_PLANTED + 1])
def test_an_unusable_number_of_canaries_is_refused(count: int) -> None:
    with pytest.raises(InvalidInput, match="canaries"):
        canaries.plant(FEATURES, TARGET.astype(np.float64), count, SystemRng())
    with pytest.raises(InvalidInput, match="all owners together plant"):
        canaries.most_hits(count)
