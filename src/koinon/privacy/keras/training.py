"""Keras's own training step, traced by JAX and carried out on secrets."""

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import jax
import keras
import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray, constant_like, refined
from koinon.privacy.graphs.jax_interpreter import run_closed
from koinon.privacy.graphs.jax_values import Hidden, limited
from koinon.privacy.nets.steps import repeated

_SCALE_FREE: Final = ("Adam", "AdamW", "Adamax", "Nadam", "RMSprop", "Adagrad", "Lion")
"""Optimisers whose steps do not change when all gradients grow by one factor, but for a negligible constant."""
_GRADIENT_SCALE: Final = 64.0
"""What their gradients are multiplied by, so that squares of small ones do not vanish in fixed point."""
_LARGEST_GRADIENT: Final = 16.0


def batches_of(count: int, size: int, epochs: int, seed: int | None) -> list[list[np.ndarray]]:
    """Row numbers of each batch of each epoch: public, and for a seed in a random order; a last short batch counts."""
    if not size >= 1 or not count:
        raise InvalidInput(f"batches have at least one row; got {size} of {count}")
    random = None if seed is None else np.random.default_rng(seed)
    orders = [np.arange(count) if random is None else random.permutation(count) for _ in range(epochs)]
    return [[order[start : start + size] for start in range(0, count, size)] for order in orders]


class Training:
    """One ``fit`` of one model.

    The state of a step is what Keras keeps in variables: weights, what layers and the optimiser remember. A variable
    that never meets a secret, such as the count of steps or a generator of dropout masks, stays public.
    """

    def __init__(
        self, model: Any, order: list[list[np.ndarray]], epochs: int, kept: int, count: int, largest: float
    ) -> None:
        self._model, self._epochs, self._kept, self._count, self._largest = model, epochs, kept, count, largest
        self._batches = [(epoch, rows) for epoch, batches in enumerate(order) for rows in batches]
        model.optimizer.build(model.trainable_variables)
        self._variables = [*model.trainable_variables, *model.non_trainable_variables, *model.optimizer.variables]
        self._sizes = (len(model.trainable_variables), len(model.non_trainable_variables))
        self._loss, self._linear = _loss_of(model)
        name = type(model.optimizer).__name__
        self._scale = _GRADIENT_SCALE if name in _SCALE_FREE else 1.0
        self._public: list[dict[int, Any]] = []
        self._traced: dict[tuple[int, ...], Any] = {}

    def opened(self, features: SecretArray, targets: Hidden) -> dict[str, SecretArray]:
        """What leaves the computation: the loss of every epoch, and every variable that became secret."""
        start = [np.asarray(variable.value) for variable in self._variables]
        secret = self._secret_places(features, targets)
        self._public = [{place: start[place] for place in range(len(start)) if place not in secret}]
        whole = targets.whole
        state = [_fraction(constant_like(features, start[place]), features.precision) for place in secret]
        losses = _fraction(constant_like(features, np.zeros(self._epochs)), features.precision)

        def step(number: int, current: Sequence[SecretArray], data: Sequence[SecretArray]) -> list[SecretArray]:
            epoch, rows = self._batches[number]
            values = self._values(number, secret, current[1:])
            loss, after = self._step(values, Hidden(data[0][rows]), Hidden(data[1][rows], whole=whole))
            if len(self._public) == number + 1:
                self._public.append({place: after[place] for place in self._public[0]})
            share = np.zeros(self._epochs)
            share[epoch] = len(rows) / self._kept
            spread = limited(loss.array, self._largest).reshape(1).broadcast_to(self._epochs).times(share)
            return [current[0] + spread, *(limited(after[place].array, self._largest) for place in secret)]

        found = repeated(step, len(self._batches), [losses, *state], [features, targets.array])
        results = {"loss": found[0]}
        results |= {f"variable {place}": array for place, array in zip(secret, found[1:], strict=True)}
        if self._kept < self._count:
            results["val_loss"] = self._left_out(found[1:], secret, features, targets)
        return results

    def take_over(self, outputs: Mapping[str, np.ndarray]) -> None:
        """Put the opened variables, and the public ones after the last step, into the model."""
        for place, variable in enumerate(self._variables):
            name = f"variable {place}"
            value = outputs[name] if name in outputs else self._public[-1][place]
            variable.assign(np.asarray(value).reshape(variable.shape))

    # ------------------------------------------------------------------------------------------------- inside

    def _values(self, number: int, secret: Sequence[int], arrays: Sequence[SecretArray]) -> list[Any]:
        values: list[Any] = [None] * len(self._variables)
        for place, array in zip(secret, arrays, strict=True):
            values[place] = Hidden(array)
        for place, value in self._public[number].items():
            values[place] = value
        return values

    def _secret_places(self, features: SecretArray, targets: Hidden) -> list[int]:
        """Variables that depend on a secret after a step, or after a step from such a one: a fixed point."""
        values: list[Any] = [np.asarray(variable.value) for variable in self._variables]
        _, rows = self._batches[0]
        found: set[int] = set()
        while True:
            like = Hidden(features[rows])
            given = [
                Hidden(_fraction(constant_like(features, value), features.precision)) if place in found else value
                for place, value in enumerate(values)
            ]
            _, after = self._step(given, like, Hidden(targets.array[rows], whole=targets.whole))
            more = {place for place, value in enumerate(after) if isinstance(value, Hidden)}
            if more <= found:
                return sorted(found)
            found |= more

    def _step(self, values: Sequence[Any], features: Hidden, targets: Hidden) -> tuple[Hidden, list[Any]]:
        closed = self._closed(values, features, targets)
        found = run_closed(closed, [*values, features, targets], saturating=True)
        return found[0], found[1:]

    def _closed(self, values: Sequence[Any], features: Hidden, targets: Hidden) -> Any:
        """The jaxpr of one step: of Keras's forward pass, JAX's gradient and the optimiser's update."""
        key = features.shape
        if key not in self._traced:
            outlines = [_outline(value, variable) for value, variable in zip(values, self._variables, strict=True)]
            kind = np.int32 if targets.whole else np.float32
            with self._linear():
                self._traced[key] = jax.make_jaxpr(self._update)(
                    *outlines,
                    jax.ShapeDtypeStruct(features.shape, np.float32),  # type: ignore[no-untyped-call]
                    jax.ShapeDtypeStruct(targets.shape, kind),  # type: ignore[no-untyped-call]
                )
        return self._traced[key]

    def _update(self, *arguments: Any) -> tuple[Any, ...]:
        *values, x, y = arguments
        trained, kept = self._sizes
        weights, remembered = values[:trained], values[trained : trained + kept]
        slots = values[trained + kept :]
        (loss, after), gradients = jax.value_and_grad(self._forward, has_aux=True)(weights, remembered, x, y)
        scaled = [
            jax.lax.clamp(-_LARGEST_GRADIENT, gradient * self._scale, _LARGEST_GRADIENT) for gradient in gradients
        ]
        weights, slots = self._model.optimizer.stateless_apply(slots, scaled, weights)
        return (loss, *weights, *after, *slots)

    def _forward(self, weights: Any, remembered: Any, x: Any, y: Any, *, training: bool = True) -> tuple[Any, Any]:
        predicted, after = self._model.stateless_call(weights, remembered, x, training=training)
        return self._loss(y, predicted), after

    def _left_out(
        self, arrays: Sequence[SecretArray], secret: Sequence[int], features: SecretArray, targets: Hidden
    ) -> SecretArray:
        from koinon.privacy.graphs.jax_function import apply

        trained, kept = self._sizes
        places = dict(zip(secret, arrays, strict=True))
        values = [places.get(place, np.asarray(v.value)) for place, v in enumerate(self._variables[: trained + kept])]

        def loss(weights: Any, remembered: Any, x: Any, y: Any) -> Any:
            return self._forward(weights, remembered, x, y, training=False)[0]

        answers = Hidden(targets.array[self._kept :], whole=targets.whole)
        with self._linear():
            found = apply(loss, values[:trained], values[trained:], features[self._kept :], answers, saturating=True)
        return limited(found, self._largest)


def _fraction(array: SecretArray, precision: int) -> SecretArray:
    return refined(array, precision) if array.precision != precision else array


def _outline(value: Any, variable: Any) -> Any:
    if isinstance(value, Hidden):
        return jax.ShapeDtypeStruct(value.shape, np.float32)  # type: ignore[no-untyped-call]
    return jax.ShapeDtypeStruct(variable.shape, np.dtype(variable.dtype))  # type: ignore[no-untyped-call]


def _loss_of(model: Any) -> tuple[Any, Any]:
    """The model's loss; where it is a cross-entropy of a softmax or sigmoid, the two are taken together, on logits.

    Keras itself does so on other backends: the same function, without a logarithm of a rounded share.
    """
    loss = keras.losses.get(model.loss)
    if loss is None or isinstance(loss, list | dict):
        raise InvalidInput("a private model is trained for one output with one loss; give compile a loss")
    last = next((layer for layer in reversed(model.layers) if layer.weights), None)
    activation = getattr(last, "activation", None)
    pairs = {
        "SparseCategoricalCrossentropy": keras.activations.softmax,
        "CategoricalCrossentropy": keras.activations.softmax,
        "BinaryCrossentropy": keras.activations.sigmoid,
    }
    name = _named(loss)
    matched = name in pairs and activation is pairs[name] and last is model.layers[-1]

    @contextmanager
    def linear() -> Any:
        if not matched or last is None:
            yield
            return
        last.activation = keras.activations.linear
        try:
            yield
        finally:
            last.activation = activation

    if matched:
        return getattr(keras.losses, name)(from_logits=True), linear
    if isinstance(loss, keras.losses.Loss):
        return loss, linear
    return (lambda target, predicted: keras.ops.mean(loss(target, predicted))), linear


def _named(loss: Any) -> str:
    function = getattr(loss, "fn", loss)
    names = {
        keras.losses.sparse_categorical_crossentropy: "SparseCategoricalCrossentropy",
        keras.losses.categorical_crossentropy: "CategoricalCrossentropy",
        keras.losses.binary_crossentropy: "BinaryCrossentropy",
    }
    settings = loss.get_config() if hasattr(loss, "get_config") else {}
    return "" if settings.get("from_logits") or settings.get("label_smoothing") else names.get(function, "")
