"""Keras models trained on secret rows: the same weights as Keras's own training, on both engines; what is refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from koinon.kernel.errors import InvalidInput
from koinon.privacy import keras
from koinon.privacy.backend import Backend
from koinon.privacy.clear import ClearBackend
from koinon.privacy.computation import table
from koinon.privacy.rep4.simulation import SimulatedRep4

# Keras's own variables warn when NumPy reads them.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

layers = keras.layers
CLEAR = ClearBackend()


def digits(count: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    features, classes = load_digits(return_X_y=True)
    return (features[:count] / 16).astype(np.float32).reshape(count, *shape), classes[:count].astype(np.int32)


def perceptron(kind: Any) -> Any:
    return kind([layers.Input((64,)), layers.Dense(16, activation="relu"), layers.Dense(10, activation="softmax")])


def convolutions(kind: Any) -> Any:
    return kind(
        [
            layers.Input((8, 8, 1)),
            layers.Conv2D(3, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )


def recurrent(kind: Any) -> Any:
    return kind([layers.Input((8, 8)), layers.GRU(6), layers.Dense(10)])


def normalised(kind: Any) -> Any:
    return kind([layers.Input((64,)), layers.Dense(8), layers.BatchNormalization(), layers.Dense(10)])


def both(build: Callable[[Any], Any], optimiser: Callable[[], Any], loss: Any) -> tuple[Any, Any]:
    """Keras's own model and the private one, with the same weights."""
    import keras as plain_keras

    plain_keras.utils.set_random_seed(3)
    plain, private = build(plain_keras.Sequential), build(keras.Sequential)
    private.set_weights(plain.get_weights())
    for model in (plain, private):
        model.compile(optimizer=optimiser(), loss=loss)
    return plain, private


def train(model: Any, x: np.ndarray, y: np.ndarray, batch: int, **more: Any) -> Any:
    return model.fit(x, y, batch_size=batch, epochs=2, shuffle=False, verbose=0, validation_split=0.25, **more)


LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
MODELS = {
    "perceptron, adam": (perceptron, (64,), lambda: keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy"),
    "convolutions": (convolutions, (8, 8, 1), lambda: keras.optimizers.SGD(0.2), "sparse_categorical_crossentropy"),
    "recurrent": (recurrent, (8, 8), lambda: keras.optimizers.SGD(0.2, momentum=0.9), LOGITS),
    "batch normalisation": (normalised, (64,), lambda: keras.optimizers.RMSprop(0.01), LOGITS),
}


def compared(name: str, count: int, batch: int, engine: Backend) -> None:
    build, shape, optimiser, loss = MODELS[name]
    plain, private = both(build, optimiser, loss)
    x, y = digits(count, shape)
    want = train(plain, x, y, batch).history
    found = train(private, x, y, batch, engine=engine).history
    assert np.abs(np.array(found["loss"]) - want["loss"]).max() < 0.02
    assert abs(found["val_loss"][0] - want["val_loss"][-1]) < 0.03
    answers = private.predict(x, verbose=0), plain.predict(x, verbose=0)
    # RMSprop takes a whole step where a gradient is next to nothing: what it is divided by is its own size.
    assert np.abs(answers[0] - answers[1]).max() < (
        0.15 if isinstance(plain.optimizer, keras.optimizers.RMSprop) else 0.03
    )
    assert (answers[0].argmax(1) == answers[1].argmax(1)).mean() > 0.95
    assert int(private.optimizer.iterations.value) == int(plain.optimizer.iterations.value)


@pytest.mark.parametrize("name", ["perceptron, adam"])
def test_a_model_learns_what_keras_lets_it_learn(name: str) -> None:
    compared(name, 48, 16, CLEAR)


@pytest.mark.long
@pytest.mark.parametrize("name", ["batch normalisation", "convolutions"])
def test_other_models_do_too(name: str) -> None:
    compared(name, 48, 16, CLEAR)


@pytest.mark.long
def test_a_recurrent_model_does_too_sample() -> None:
    compared("recurrent", 48, 16, CLEAR)


@pytest.mark.long
def test_a_model_learns_with_four_parties_sample() -> None:
    compared("perceptron, adam", 32, 12, SimulatedRep4())


@pytest.mark.long
def test_a_model_converges_as_keras_does() -> None:
    x, y = digits(1797, (64,))
    plain, private = both(perceptron, lambda: keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy")
    plain.fit(x[:1400], y[:1400], batch_size=128, epochs=6, verbose=0)
    private.fit(x[:1400], y[:1400], batch_size=128, epochs=6, engine=CLEAR)
    right = [float((model.predict(x[1400:], verbose=0).argmax(1) == y[1400:]).mean()) for model in (plain, private)]
    assert min(right) > 0.85
    assert abs(right[0] - right[1]) < 0.03


def test_owners_share_one_model() -> None:
    x, y = digits(40, (64,))
    rows = np.column_stack([x, y])
    ranges = [(-1.0, 1.0)] * 64 + [(-16.0, 16.0)]
    _, model = both(perceptron, lambda: keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    _, other = both(perceptron, lambda: keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    model.fit([table(rows[:25], ranges=ranges), table(rows[25:], ranges=ranges)], batch_size=20, engine=CLEAR)
    other.fit(x, y, batch_size=20, engine=CLEAR)
    for one, two in zip(model.get_weights(), other.get_weights(), strict=True):
        assert np.abs(one - two).max() < 1e-3


UNUSABLE = {
    "not compiled": lambda: perceptron(keras.Sequential).fit(*digits(8, (64,))),
    "too few targets": lambda: compiled().fit(digits(8, (64,))[0], digits(7, (64,))[1]),
    "no rows": lambda: compiled().fit(np.zeros((0, 64)), np.zeros(0)),
    "nan": lambda: compiled().fit(np.full((4, 64), np.nan), np.zeros(4)),
    "no epochs": lambda: compiled().fit(*digits(8, (64,)), epochs=0),
    "no batch": lambda: compiled().fit(*digits(8, (64,)), batch_size=-1),
    "no loss": lambda: compiled(loss=None).fit(*digits(8, (64,))),
    "everything left out": lambda: compiled().fit(*digits(8, (64,)), validation_split=1.0),
    "a layer that looks at secrets": lambda: rounding().fit(*digits(8, (64,))),
    "tables and targets": lambda: compiled().fit([table(digits(8, (64,))[0])], digits(8, (64,))[1]),
}


def compiled(loss: Any = "sparse_categorical_crossentropy") -> Any:
    model = perceptron(keras.Sequential)
    model.compile(optimizer="sgd", loss=loss)
    return model


def rounding() -> Any:
    model = keras.Sequential([layers.Input((64,)), layers.Lambda(keras.ops.round), layers.Dense(10)])
    model.compile(optimizer="sgd", loss=LOGITS)
    return model


@pytest.mark.parametrize("name", sorted(UNUSABLE))
def test_what_cannot_be_trained_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        UNUSABLE[name]()
