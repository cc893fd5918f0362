"""Federated training: gradients, strategies, accuracy against pooled rows, drop-outs, privacy of whole owners."""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from koinon.kernel.errors import InvalidInput, ProtocolAbort, Unavailable
from koinon.privacy.federated import noise, strategies, training
from koinon.privacy.federated.lockstep import gather
from koinon.privacy.federated.models import FunctionModel, Perceptron, perceptron
from koinon.privacy.federated.noise import NoisePlan
from koinon.privacy.federated.strategies import ADAM, LocalPlan, ServerPlan
from koinon.privacy.federated.training import Rows, TrainingPlan, train
from koinon.privacy.rep4.adversary import SeededRng
from koinon.wire.federated import RoundTerms

SEED = 7


def plan(**changes: Any) -> TrainingPlan:
    made = TrainingPlan(
        features=30, hidden=(), classes=2, penalty=1e-3, rounds=15, local=LocalPlan(epochs=2, batch=32, rate=0.3),
        server=ServerPlan(), clip=8.0, most_rows=400, threshold=2, seed=SEED,
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def adding(terms: RoundTerms, words: dict[int, np.ndarray]) -> tuple[tuple[int, ...], np.ndarray]:
    return gather(terms, words, SeededRng(b"gather"))


def cancer() -> tuple[Rows, Rows]:
    features, targets = load_breast_cancer(return_X_y=True)
    return split(StandardScaler().fit_transform(features), targets)


def digits() -> tuple[Rows, Rows]:
    features, targets = load_digits(return_X_y=True)
    return split(features / 16.0, targets)


def split(features: np.ndarray, targets: np.ndarray) -> tuple[Rows, Rows]:
    order = np.random.default_rng(SEED).permutation(len(targets))
    cut = len(order) * 3 // 4
    train_rows, test_rows = order[:cut], order[cut:]
    return Rows(features[train_rows], targets[train_rows]), Rows(features[test_rows], targets[test_rows])


def evenly(rows: Rows, owners: int) -> list[Rows]:
    return [Rows(rows.features[k::owners], rows.targets[k::owners]) for k in range(owners)]


def by_class(rows: Rows, owners: int) -> list[Rows]:
    """Every owner has rows of a few classes only: sorted by class, then cut."""
    parts = np.array_split(np.argsort(rows.targets, kind="stable"), owners)
    return [Rows(rows.features[part], rows.targets[part]) for part in parts]


def accuracy(made: Perceptron, parameters: np.ndarray, rows: Rows) -> float:
    return float((made.predict(parameters, rows.features).argmax(1) == rows.targets).mean())


# ----------------------------------------------------------------------------------------------------- models


@pytest.mark.parametrize("hidden", [(), (5,), (6, 4)])
def test_gradients_are_those_of_finite_differences(hidden: tuple[int, ...]) -> None:
    draw = np.random.default_rng(SEED)
    made = perceptron(4, hidden, 3, penalty=0.1)
    rows, targets = draw.normal(size=(7, 4)), draw.integers(0, 3, 7)
    parameters = draw.normal(size=made.size)
    _, gradient = made.loss_and_gradient(parameters, rows, targets)
    step = 1e-6
    for place in range(made.size):
        moved = np.zeros(made.size)
        moved[place] = step
        above, _ = made.loss_and_gradient(parameters + moved, rows, targets)
        below, _ = made.loss_and_gradient(parameters - moved, rows, targets)
        assert gradient[place] == pytest.approx((above - below) / (2 * step), abs=1e-6)


def test_a_model_of_plain_functions_trains_as_its_twin() -> None:
    train_rows, _ = cancer()
    twin = perceptron(30, (), 2, 1e-3)
    functions = FunctionModel(twin.size, twin.initial, twin.loss_and_gradient, twin.predict)
    ours = train(plan(rounds=2), evenly(train_rows, 3), SeededRng(b"a"), adding)
    theirs = train(plan(rounds=2), evenly(train_rows, 3), SeededRng(b"b"), adding, functions)
    assert np.array_equal(ours.joint.parameters, theirs.joint.parameters)


def test_a_jax_loss_trains_as_our_own_gradient_does() -> None:
    import jax
    import jax.numpy as jnp
    from jax.flatten_util import ravel_pytree

    start, unravel = ravel_pytree({"1 weights": jnp.zeros((30, 2)), "2 bias": jnp.zeros(2)})

    def scores(flat: Any, rows: Any) -> Any:
        tree = unravel(flat)
        return rows @ tree["1 weights"] + tree["2 bias"]

    def loss(flat: Any, rows: Any, targets: Any) -> Any:
        chosen = jnp.take_along_axis(jax.nn.log_softmax(scores(flat, rows)), targets[:, None].astype(int), 1)
        return 5e-4 * (unravel(flat)["1 weights"] ** 2).sum() - chosen.mean()

    def gradient(flat: np.ndarray, rows: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = jax.value_and_grad(loss)(*(jnp.asarray(each, jnp.float32) for each in (flat, rows, targets)))
        return float(value), np.asarray(slope)

    model = FunctionModel(start.size, lambda _: np.asarray(start), gradient, lambda *_: np.zeros(0))
    train_rows, _ = cancer()
    short = plan(rounds=2, local=LocalPlan(epochs=2, batch=0, rate=0.3))
    ours = train(short, evenly(train_rows, 3), SeededRng(b"x"), adding)
    theirs = train(short, evenly(train_rows, 3), SeededRng(b"x"), adding, model)
    assert np.abs(ours.joint.parameters - theirs.joint.parameters).max() < 1e-4
    assert float(np.linalg.norm(ours.joint.parameters)) > 0.1


@pytest.mark.parametrize(
    ("features", "hidden", "classes", "penalty"),
    [(0, (), 2, 0.0), (3, (0,), 2, 0.0), (3, (), 1, 0.0), (3, (), 2, -1.0), (3, (), 2, np.nan), (10**6, (), 3, 0.0)],
)
def test_models_that_are_none_are_refused(features: int, hidden: tuple[int, ...], classes: int, penalty: float) -> None:
    with pytest.raises(InvalidInput):
        perceptron(features, hidden, classes, penalty)


# ----------------------------------------------------------------------------------------------------- strategies


def test_average_of_one_full_step_is_pooled_gradient_descent() -> None:
    """With one step on all rows, the weighted mean of the updates is the step on the pooled rows."""
    rows, _ = cancer()
    owners = [Rows(rows.features[:100], rows.targets[:100]), Rows(rows.features[100:], rows.targets[100:])]
    one = plan(rounds=1, local=LocalPlan(epochs=1, batch=0, rate=0.5), most_rows=1 << 9, clip=100.0)
    used = [each.training(one) for each in owners]
    pooled = Rows(np.concatenate([r.features for r in used]), np.concatenate([r.targets for r in used]))
    made = perceptron(30, (), 2, 1e-3)
    _, gradient = made.loss_and_gradient(made.initial(SEED), pooled.features, pooled.targets)
    state = train(one, owners, SeededRng(b"x"), adding)
    assert np.abs(state.joint.parameters - (made.initial(SEED) - 0.5 * gradient)).max() < 1e-6


def test_a_proximal_term_keeps_owners_near_the_joint_model() -> None:
    rows, _ = cancer()
    made = perceptron(30, (), 2)
    lengths = []
    for proximal in (0.0, 0.5, 5.0):
        local = LocalPlan(epochs=20, batch=0, rate=0.05, proximal=proximal)
        update = strategies.train_locally(made, made.initial(0), rows.features, rows.targets, local, 0)
        lengths.append(float(np.linalg.norm(update)))
    assert lengths[0] > lengths[1] > lengths[2]
    # At rest, μ (w − w₀) is minus the gradient: the definition of the proximal point.
    local = LocalPlan(epochs=1500, batch=0, rate=0.05, proximal=0.5)
    update = strategies.train_locally(made, made.initial(0), rows.features, rows.targets, local, 0)
    _, gradient = made.loss_and_gradient(made.initial(0) + update, rows.features, rows.targets)
    assert np.abs(gradient + 0.5 * update).max() < 1e-9


def test_adam_takes_the_steps_of_its_paper() -> None:
    settings = ServerPlan(kind=ADAM, rate=0.1, momentum=0.9, decay=0.99, floor=1e-3)
    model = strategies.begin(np.zeros(2))
    model = strategies.combine(model, np.array([1.0, -2.0]), settings)
    first = 0.1 * np.array([0.1, -0.2]) / (np.sqrt([0.01, 0.04]) + 1e-3)
    assert model.parameters == pytest.approx(first)
    model = strategies.combine(model, np.array([1.0, 0.0]), settings)
    second = 0.1 * np.array([0.19, -0.18]) / (np.sqrt([0.0199, 0.0396]) + 1e-3)
    assert model.parameters == pytest.approx(first + second)


# ----------------------------------------------------------------------------------------------------- accuracy


@pytest.mark.parametrize("spread", [evenly, by_class])
def test_cancer_is_told_as_well_as_from_pooled_rows(spread: Callable[[Rows, int], list[Rows]]) -> None:
    rows, held = cancer()
    pooled = LogisticRegression(C=1 / (1e-3 * len(rows.targets)), max_iter=1000).fit(rows.features, rows.targets)
    state = train(plan(rounds=20, threshold=3), spread(rows, 4), SeededRng(b"x"), adding)
    made = perceptron(30, (), 2)
    assert accuracy(made, state.joint.parameters, held) >= pooled.score(held.features, held.targets) - 0.015
    loss = log_loss(held.targets, made.predict(state.joint.parameters, held.features))
    assert loss <= log_loss(held.targets, pooled.predict_proba(held.features)) + 0.05
    losses = [report.loss for report in state.history]
    assert losses[-1] < 0.3 * losses[0]


def test_adam_gets_further_than_averaging_where_owners_have_few_classes_each() -> None:
    rows, held = digits()
    settings = plan(
        features=64, classes=10, penalty=0.0, rounds=12, most_rows=0, clip=20.0, threshold=3,
        local=LocalPlan(epochs=1, batch=16, rate=0.05),
    )  # fmt: skip
    owners = by_class(rows, 5)
    made = perceptron(64, (), 10)
    averaged = train(settings, owners, SeededRng(b"x"), adding)
    adapted = train(
        msgspec.structs.replace(settings, server=ServerPlan(ADAM, rate=0.2)), owners, SeededRng(b"x"), adding
    )
    assert accuracy(made, adapted.joint.parameters, held) > accuracy(made, averaged.joint.parameters, held) + 0.03


# ----------------------------------------------------------------------------------------------------- a training


def test_the_same_seed_gives_the_same_model_whatever_the_masks() -> None:
    rows, _ = cancer()
    first = train(plan(rounds=3), evenly(rows, 3), SeededRng(b"one"), adding)
    second = train(plan(rounds=3), evenly(rows, 3), SeededRng(b"two"), lambda *a: gather(*a, SeededRng(b"others")))
    other = train(plan(rounds=3, seed=8), evenly(rows, 3), SeededRng(b"one"), adding)
    assert np.array_equal(first.joint.parameters, second.joint.parameters)
    assert not np.array_equal(first.joint.parameters, other.joint.parameters)


def test_training_stops_when_the_loss_no_longer_falls_and_keeps_the_best() -> None:
    rows, _ = cancer()
    settings = plan(rounds=200, patience=4, local=LocalPlan(epochs=8, batch=8, rate=1.0), hidden=(16,), penalty=0.0)
    state = train(settings, evenly(rows, 3), SeededRng(b"x"), adding)
    losses = [report.loss for report in state.history]
    assert len(losses) < 200
    assert "has not fallen for 4 rounds" in state.finished
    assert state.best is not None
    assert state.best[1] == min(losses)
    assert training.result(state, settings) is state.best[0]


def test_owners_that_drop_out_of_a_round_are_in_the_next() -> None:
    rows, held = cancer()
    silences = {0: {1: 2}, 1: {0: 0}, 2: {3: 4}, 3: {}, 4: {2: 3}}

    def unsteady(terms: RoundTerms, words: dict[int, np.ndarray]) -> tuple[tuple[int, ...], np.ndarray]:
        return gather(terms, words, SeededRng(b"x"), silences.get(terms.round, {}))

    state = train(plan(rounds=10, threshold=3), evenly(rows, 4), SeededRng(b"x"), unsteady)
    survivors = [report.survivors for report in state.history[:5]]
    assert survivors == [(0, 2, 3), (1, 2, 3), (0, 1, 2, 3), (0, 1, 2, 3), (0, 1, 2, 3)]
    assert accuracy(perceptron(30, (), 2), state.joint.parameters, held) > 0.94


def test_too_few_owners_end_the_training_with_a_sentence() -> None:
    rows, _ = cancer()
    with pytest.raises(Unavailable, match="1 of 3 owners answered"):
        train(plan(), evenly(rows, 3), SeededRng(b"x"), lambda *a: gather(*a, SeededRng(b"y"), {0: 1, 2: 1}))


def test_an_owner_that_sends_too_much_is_noticed_and_the_model_stays() -> None:
    settings, made = plan(), perceptron(30, (), 2)
    state = training.start(settings, made)
    words = np.full(training.length_of(settings, made), 1 << 40, "<u8")
    with pytest.raises(ProtocolAbort, match="beyond what updates"):
        training.finish_round(state, settings, (0, 1), words)


BAD_PLANS: dict[str, tuple[dict[str, Any], str]] = {
    "no rounds": ({"rounds": 0}, "1 to 10000 rounds"),
    "no clip": ({"clip": 0.0}, "clipped"),
    "infinite clip": ({"clip": np.inf}, "clipped"),
    "words too narrow": ({"word_bits": 32, "clip": 64.0}, "do not fit 32 bits"),
    "negative weight": ({"most_rows": -1}, "not negative"),
    "patience beyond the end": ({"patience": 16}, "patience"),
    "no epochs": ({"local": LocalPlan(epochs=0)}, "epochs"),
    "no rate": ({"local": LocalPlan(rate=0.0)}, "rate above 0"),
    "rate of nan": ({"local": LocalPlan(rate=np.nan)}, "finite"),
    "negative mu": ({"local": LocalPlan(proximal=-1.0)}, "μ ≥ 0"),
    "an unknown strategy": ({"server": ServerPlan(kind="median")}, "'average', 'adam' or 'sums'"),
    "a floor of 0": ({"server": ServerPlan(kind=ADAM, floor=0.0)}, "floor"),
    "momentum of 1": ({"server": ServerPlan(kind=ADAM, momentum=1.0)}, "below 1"),
    "noise and weights": ({"noise": NoisePlan(1.0, 0, 1e-5)}, "weigh alike"),
    "noise and patience": ({"noise": NoisePlan(1.0, 0, 1e-5), "most_rows": 0, "patience": 2}, "losses stay private"),
    "half as threshold": ({"threshold": 1}, "more than half"),
    "no noise": ({"noise": NoisePlan(0.0, 0, 1e-5), "most_rows": 0}, "multiplier"),
    "all collude": ({"noise": NoisePlan(1.0, 2, 1e-5), "most_rows": 0}, "may collude"),
    "noise too coarse": ({"noise": NoisePlan(1.0, 0, 1e-5), "most_rows": 0, "fraction_bits": 8}, "too coarse"),
}


@pytest.mark.parametrize("name", BAD_PLANS)
def test_plans_that_cannot_work_are_refused_before_anybody_trains(name: str) -> None:
    changes, sentence = BAD_PLANS[name]
    with pytest.raises(InvalidInput, match=sentence):
        training.check_plan(plan(**changes), 3)


def no_rows() -> Rows:
    return Rows(np.zeros((0, 30)), np.zeros(0))


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (no_rows(), "table of 30 features"),
        (Rows(np.zeros((3, 29)), np.zeros(3)), "table of 30 features"),
        (Rows(np.zeros((3, 30)), np.zeros(2)), "table of 30 features"),
        (Rows(np.full((3, 30), np.nan), np.zeros(3)), "not finite"),
        (Rows(np.zeros((3, 30)), np.array([0, 1, 2])), "classes 0 to 1"),
        (Rows(np.zeros((3, 30)), np.array([0, 1, 0.5])), "classes 0 to 1"),
    ],
)
def test_rows_that_do_not_fit_are_refused(rows: Rows, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        training.check_rows(plan(), rows)


def test_training_that_diverges_sends_nothing() -> None:
    made = perceptron(30, (16,), 2, penalty=100.0)
    rows, _ = cancer()
    with pytest.raises(InvalidInput, match="diverged"):
        strategies.train_locally(
            made, made.initial(0), rows.features * 1e3, rows.targets, LocalPlan(epochs=50, rate=50.0), 0
        )


# ----------------------------------------------------------------------------------------------------- privacy


def private(**changes: Any) -> TrainingPlan:
    settings = plan(noise=NoisePlan(1.0, 1, 1e-5), most_rows=0, clip=1.0, threshold=4, rounds=2)
    return msgspec.structs.replace(settings, **changes)


def test_the_sum_carries_exactly_the_noise_that_was_agreed_on() -> None:
    settings, made = private(threshold=5), perceptron(30, (), 2)
    rows, _ = cancer()
    rng = SeededRng(b"noise")
    initial = made.initial(SEED)
    deviations = []
    for _ in range(12):
        words = [training.contribution(settings, made, initial, r, k, 0, rng) for k, r in enumerate(evenly(rows, 5))]
        again = [training.contribution(settings, made, initial, r, k, 0, rng) for k, r in enumerate(evenly(rows, 5))]
        difference = (sum(words[1:], words[0]) - sum(again[1:], again[0])).view("<i8") / 2.0**settings.fraction_bits
        deviations.append(difference.std() / np.sqrt(2))
    # Four of five owners count (one may collude), so five add 5/4 of the variance z² clip².
    assert np.mean(deviations) == pytest.approx(np.sqrt(5 / 4), rel=0.1)


def test_no_integer_update_is_longer_than_the_clip() -> None:
    draw = np.random.default_rng(SEED)
    for length in (1, 3, 400):
        for size in (1e-9, 1.0, 1e6):
            clipped = training.clip_norm(draw.normal(size=length) * size, 1.0)
            whole = noise.whole_within(clipped, 1.0, 24)
            assert sum(int(value) ** 2 for value in whole) <= (1 << 24) ** 2
    with pytest.raises(InvalidInput, match="longer than the norm"):
        noise.whole_within(np.array([1.01]), 1.0, 24)


def test_epsilon_is_that_of_the_gaussian_mechanism() -> None:
    """Against the closed form of Balle and Wang (2018): T rounds of multiplier z are one of z / √T."""
    from math import erfc, exp, sqrt

    def delta(epsilon: float, multiplier: float) -> float:
        def normal(x: float) -> float:
            return 0.5 * erfc(-x / sqrt(2))

        return normal(0.5 / multiplier - epsilon * multiplier) - exp(epsilon) * normal(
            -0.5 / multiplier - epsilon * multiplier
        )

    settings = private(rounds=25, noise=NoisePlan(8.0, 1, 1e-5))
    told = training.privacy_of(settings)
    assert told is not None
    epsilon, whole = told
    assert whole == 1e-5
    assert delta(epsilon, 8.0 / 5) <= 0.5e-5
    assert delta(epsilon - 0.01, 8.0 / 5) > 0.5e-5
    assert training.privacy_of(plan()) is None


def test_noise_that_promises_nothing_is_not_given_a_number() -> None:
    with pytest.raises(InvalidInput, match="ε is above 20"):
        training.privacy_of(private(noise=NoisePlan(0.2, 1, 1e-5)))
    with pytest.raises(InvalidInput, match="half of δ"):
        training.privacy_of(private(rounds=10_000, noise=NoisePlan(200.0, 1, 1e-12), fraction_bits=12))


def test_with_noise_nothing_but_the_update_is_sent_and_it_still_learns() -> None:
    rows, held = cancer()
    settings = private(rounds=8, noise=NoisePlan(0.5, 0, 1e-5), threshold=8)
    state = train(settings, evenly(rows, 10), SeededRng(b"x"), adding)
    made = perceptron(30, (), 2)
    assert training.length_of(settings, made) == made.size
    assert all(np.isnan(report.loss) for report in state.history)
    assert accuracy(made, state.joint.parameters, held) > 0.88
