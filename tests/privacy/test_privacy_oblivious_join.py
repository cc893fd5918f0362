"""Joins inside the computation against NumPy, on both engines."""

from collections.abc import Callable

import numpy as np
import pytest

from koinon.kernel.errors import InvalidInput
from koinon.privacy import statistics
from koinon.privacy.arrays import SecretArray
from koinon.privacy.backend import Backend, PlainInput
from koinon.privacy.clear import ClearBackend
from koinon.privacy.computation import Revealed, reveal, run
from koinon.privacy.joins.oblivious import COLUMNS, DIGITS, Pairs, join, masked_mean, meet, neutral, pseudonyms
from koinon.privacy.learn.linear import LinearRegression
from koinon.privacy.rep4.simulation import SimulatedRep4
from koinon.wire.committee import Column

ENGINES: list[Backend] = [ClearBackend(), SimulatedRep4()]
each_engine = pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
KEY = bytes(range(32))


def people(first: int, count: int) -> list[str]:
    return [f"person {number}" for number in range(first, first + count)]


def owned(identifiers: list[str], values: np.ndarray) -> PlainInput:
    """A table of pseudonyms and columns between −4 and 4."""
    names = (Column(f"column {number}", -4.0, 4.0) for number in range(values.shape[1]))
    return PlainInput((*COLUMNS, *names), np.column_stack([pseudonyms(identifiers, KEY), values]))


def measured(seed: int) -> tuple[list[str], list[str], np.ndarray, np.ndarray]:
    """Two owners' people in different orders, 14 of them with both; what one measured predicts what the other did."""
    random = np.random.default_rng(seed)
    first, second = people(0, 20), people(6, 25)
    signal = random.normal(size=(31, 2)).clip(-2, 2)
    answer = 0.8 * signal[:, :1] - 0.5 * signal[:, 1:] + 0.1 * random.normal(size=(31, 1)).clip(-2, 2)
    left, right = random.permutation(20), random.permutation(25)
    return (
        [first[place] for place in left],
        [second[place] for place in right],
        signal[:20][left],
        np.column_stack([answer[6:31], np.zeros(25)])[right],
    )


def joined(change: Callable[[Pairs], Revealed]) -> Callable[[SecretArray, SecretArray], Revealed]:
    def function(left: SecretArray, right: SecretArray) -> Revealed:
        return change(join(left[:, :DIGITS], left[:, DIGITS:], right[:, :DIGITS], right[:, DIGITS:]))

    return function


@each_engine
def test_rows_of_the_same_people_meet(engine: Backend) -> None:
    first, second, left, right = measured(1)
    result = run(
        joined(lambda pairs: reveal(left=pairs.left, right=pairs.right, both=pairs.both)),
        [owned(first, left), owned(second, right)],
        engine,
    ).outputs
    both = result["both"].round().astype(bool)
    assert both.shape == (44,)
    places = [(first.index(name), second.index(name)) for name in set(first) & set(second)]
    expected = sorted([*left[mine].tolist(), *right[theirs].tolist()] for mine, theirs in places)
    found = sorted(np.column_stack([result["left"], result["right"]])[both].tolist())
    np.testing.assert_allclose(found, expected, atol=1e-5)


@each_engine
def test_statistics_and_models_of_the_pairs_alone(engine: Backend) -> None:
    first, second, left, right = measured(2)

    def fitted(pairs: Pairs) -> Revealed:
        rows = neutral(pairs.left, pairs.both, least=8)
        answers = neutral(pairs.right[:, :1], pairs.both, least=8)
        line = LinearRegression().fit(rows, answers[:, 0])
        return reveal(
            count=pairs.both.sum(),
            mean=masked_mean(pairs.left, pairs.both, least=8),
            correlation=statistics.correlation(rows),
            slopes=line.coefficients,
        )

    result = run(joined(fitted), [owned(first, left), owned(second, right)], engine).outputs
    common = sorted(set(first) & set(second))
    rows = left[[first.index(name) for name in common]]
    answers = right[[second.index(name) for name in common], 0]
    assert result["count"].round() == 14
    np.testing.assert_allclose(result["mean"], rows.mean(0), atol=1e-3)
    np.testing.assert_allclose(result["correlation"], np.corrcoef(rows.T), atol=5e-3)
    centred = rows - rows.mean(0)
    slopes = np.linalg.lstsq(centred, answers - answers.mean(), rcond=None)[0]
    np.testing.assert_allclose(result["slopes"], slopes, atol=5e-3)


@each_engine
def test_nobody_in_common(engine: Backend) -> None:
    left, right = owned(people(0, 3), np.ones((3, 1))), owned(people(10, 2), np.ones((2, 1)))
    result = run(joined(lambda pairs: reveal(count=pairs.both.sum())), [left, right], engine).outputs
    assert result["count"].round() == 0


@each_engine
def test_an_owner_makes_no_pairs_of_its_own_rows(engine: Backend) -> None:
    """It shares each pseudonym twice, once as it is and once a step above, which is no hash of anybody."""
    step = np.array([0.0, 0.0, 2.0**-20])
    twins = [owned(people(0, 3), np.ones((3, 1))), owned(people(2, 4), np.ones((4, 1)))]
    for number in (0, 1):
        rows = twins[number].values
        above = rows + np.concatenate([step, np.zeros(1)])
        sides = [*twins]
        sides[number] = PlainInput(twins[number].columns, np.concatenate([rows, above]))
        result = run(joined(lambda pairs: reveal(count=pairs.both.sum())), sides, engine).outputs
        assert result["count"].round() == 1


@each_engine
def test_an_owner_meets_no_place_without_a_pair(engine: Backend) -> None:
    """The largest digits that can be shared belong to nobody, nor to a place in which the first two do not meet."""
    tables = [owned(people(first, 3), np.ones((3, 1))) for first in (0, 2)]
    greatest = np.concatenate([[1.0], np.zeros(2), np.ones(1)])
    rows = greatest + np.outer(np.arange(1, 6), [0.0, 0.0, 2.0**-2, 0.0])
    rows[:, 2] = np.minimum(rows[:, 2], 1.0)
    tables.append(PlainInput(tables[0].columns, rows))

    def function(*owners: SecretArray) -> Revealed:
        met = meet([(owner[:, :DIGITS], owner[:, DIGITS:]) for owner in owners])
        return reveal(count=met.all.sum())

    assert run(function, tables, engine).outputs["count"].round() == 0


def test_pseudonyms_are_exact_in_the_words_they_are_shared_in() -> None:
    shared = pseudonyms(people(0, 1000), KEY)
    words = shared * 2**20
    np.testing.assert_array_equal(words, words.round())
    assert -1.0 <= shared.min() < -0.9 < 0.9 < shared.max() < 1.0
    assert len(np.unique(shared, axis=0)) == 1000


def test_pseudonyms_say_nothing_without_the_key() -> None:
    """Another key gives other pseudonyms: of a thousand people none keeps its own, so no list of names helps."""
    mine, theirs = (pseudonyms(people(0, 1000), key) for key in (KEY, bytes(32)))
    assert not (mine == theirs).all(axis=1).any()


@pytest.mark.parametrize(
    ("identifiers", "reason"),
    [
        ([], "needs an identifier"),
        (["a", ""], "needs an identifier"),
        (["secret-name", "secret-name"], "1 identifiers"),
    ],
)
def test_unusable_identifiers_are_refused_and_not_quoted(identifiers: list[str], reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason) as refused:
        pseudonyms(identifiers, KEY)
    assert "secret-name" not in str(refused.value)


def test_tables_that_cannot_be_joined_are_refused() -> None:
    table = owned(people(0, 4), np.ones((4, 1)))

    def misshapen(left: SecretArray, right: SecretArray) -> Revealed:
        return reveal(both=join(left[:, :2], left[:, DIGITS:], right[:, :DIGITS], right[:, DIGITS:]).both)

    def short(left: SecretArray, right: SecretArray) -> Revealed:
        return reveal(both=join(left[:3, :DIGITS], left[:, DIGITS:], right[:, :DIGITS], right[:, DIGITS:]).both)

    for function in (misshapen, short):
        with pytest.raises(InvalidInput, match="cannot be joined"):
            run(function, [table, table])
    with pytest.raises(InvalidInput, match="20 fraction bits; these have 22"):
        run(joined(lambda pairs: reveal(both=pairs.both)), [table, table], fraction_bits=22)
    with pytest.raises(InvalidInput, match="there can be no 100 pairs"):
        run(joined(lambda pairs: reveal(mean=masked_mean(pairs.left, pairs.both, 100))), [table, table])
