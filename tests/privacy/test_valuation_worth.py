"""What rows are worth, computed on shares of real rows: bad labels earn nothing."""

from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from koinon.crypto.random import SystemRng
from koinon.kernel.codec import encode
from koinon.kernel.errors import InvalidInput
from koinon.kernel.quantities import BasisPoints
from koinon.privacy.arrays import SecretArray
from koinon.privacy.backend import Backend, PlainInput
from koinon.privacy.clear import ClearBackend
from koinon.privacy.computation import Revealed, reveal, run
from koinon.privacy.programs import registry
from koinon.privacy.programs.logistic_regression import NAME
from koinon.privacy.programs.offer import Layout, Parameters
from koinon.privacy.rep4.simulation import SimulatedRep4
from koinon.privacy.valuation.shapley import WORTH, plan, revenue_shares
from koinon.privacy.valuation.worth import worth
from koinon.wire.committee import Column

FEATURES, TARGET = load_breast_cancer(return_X_y=True)
CHOSEN = (0, 1, 6, 7, 20, 27)
COLUMNS = (
    *(Column(f"x{place}", float(FEATURES[:, place].min()), float(FEATURES[:, place].max())) for place in CHOSEN),
    Column("benign", 0.0, 1.0),
)


def owners(count: int, *, shuffled: int | None = None) -> list[PlainInput]:
    rng = np.random.default_rng(11)
    parts = np.array_split(np.column_stack([FEATURES[:, CHOSEN], TARGET])[rng.permutation(len(TARGET))], count)
    if shuffled is not None:
        parts[shuffled][:, -1] = rng.permutation(parts[shuffled][:, -1])
    return [PlainInput(COLUMNS, part) for part in parts]


def values(engine: Backend, inputs: Sequence[PlainInput]) -> tuple[np.ndarray, np.ndarray]:
    made = plan(len(inputs), 8, b"a study")

    def value(*tables: SecretArray) -> Revealed:
        found, variance = worth(tables, made)
        return reveal(worth=found, variance=variance)

    outputs = run(value, inputs, engine, scaled=True).outputs
    return outputs["worth"], outputs["variance"]


def test_an_owner_with_shuffled_labels_earns_nothing() -> None:
    found, _ = values(ClearBackend(), owners(4, shuffled=2))
    shares = revenue_shares(found.tolist(), BasisPoints(6_000))
    assert shares[2] == 0
    assert min(shares[:2] + shares[3:]) > 1_500


def test_four_parties_find_the_same_values() -> None:
    inputs = [PlainInput(COLUMNS, each.values[:40]) for each in owners(2, shuffled=0)]
    clear, _ = values(ClearBackend(), inputs)
    shared, _ = values(SimulatedRep4(), inputs)
    assert np.abs(clear - shared).max() < 2e-3
    assert shared[0] < shared[1]


def test_owners_of_like_rows_are_worth_about_the_same() -> None:
    found, variance = values(ClearBackend(), owners(5))
    assert found.min() > 0.5 * found.max()
    assert not variance.any()


def test_beyond_five_owners_orders_are_sampled_and_their_spread_is_opened_too() -> None:
    found, variance = values(ClearBackend(), owners(7, shuffled=3))
    assert found.argmin() == 3
    assert (variance > 0).all()
    assert found[3] - 1.96 * (variance[3] / 8) ** 0.5 < 0.01


def test_too_few_rows_or_other_tables_are_refused() -> None:
    tiny = [PlainInput(COLUMNS, each.values[:7]) for each in owners(2)]
    with pytest.raises(InvalidInput, match="at least 8 rows"):
        values(ClearBackend(), tiny)
    with pytest.raises(InvalidInput, match="the worth of 3 owners"):
        run(lambda x: reveal(worth=worth([x], plan(3))[0]), owners(2)[:1], ClearBackend(), scaled=True)


def test_a_study_may_open_worth_beside_the_model_and_not_with_noise() -> None:
    inputs = owners(3, shuffled=1)
    layout = Layout(tuple(len(each.values) for each in inputs), COLUMNS, "benign")

    def study(outputs: tuple[str, ...], epsilon: float = 0.0) -> bytes:
        return encode(Parameters(layout, b"", outputs, epsilon))

    whole = registry.load(NAME, study(("coefficients", "intercept", WORTH)))
    assert whole.output == (("coefficients", (6,)), ("intercept", (1,)), (WORTH, (3,)))
    found = ClearBackend().run(whole, inputs, SystemRng()).outputs
    alone = ClearBackend().run(registry.load(NAME, study((WORTH,))), inputs, SystemRng()).outputs
    assert (found[WORTH] == alone[WORTH]).all()
    assert found[WORTH].argmin() == 1
    assert np.abs(found["coefficients"]).max() > 0.1
    with pytest.raises(InvalidInput, match="carries no noise"):
        registry.load(NAME, study(("coefficients", WORTH), 1.0))
    halves = Layout((50, 50), COLUMNS, "benign", ((0, 1, 2), (3, 4, 5, 6)))
    with pytest.raises(InvalidInput, match="rows of its own"):
        registry.load(NAME, encode(Parameters(halves, b"", (WORTH,))))
