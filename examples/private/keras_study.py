"""A Keras model that organisations train together: its fit as a function of their rows, for ``koinon study function``.

    koinon study function examples/private/keras_study.py:fit --rows 30 --rows 30 --columns 5 -o fit.bin
    koinon study new study.toml --program function/1 --function fit.bin --set saturating=true …

The last column is the 0/1 target. What a study opens are the weights, in the order of ``model.trainable_variables``;
``trained`` puts them into the model.
"""

import os
from collections.abc import Mapping

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import keras
import numpy as np

FEATURES = 4
STEPS = 5

keras.utils.set_random_seed(1)
model = keras.Sequential([keras.Input((FEATURES,)), keras.layers.Dense(6, activation="relu"), keras.layers.Dense(1)])
loss_of = keras.losses.BinaryCrossentropy(from_logits=True)
optimizer = keras.optimizers.SGD(0.5)
optimizer.build(model.trainable_variables)


def fit(rows: jax.Array) -> dict[str, jax.Array]:
    """The weights after some steps on all rows (n, FEATURES + 1)."""
    inputs, target = rows[:, :FEATURES], rows[:, FEATURES:]
    unchanged = [variable.value for variable in model.non_trainable_variables]

    def loss(weights: list[jax.Array]) -> jax.Array:
        answers, _ = model.stateless_call(weights, unchanged, inputs)
        return loss_of(target, answers)

    def step(_: int, state: tuple[list[jax.Array], list[jax.Array]]) -> tuple[list[jax.Array], list[jax.Array]]:
        weights, slots = state
        return optimizer.stateless_apply(slots, jax.grad(loss)(weights), weights)

    start = ([variable.value for variable in model.trainable_variables], [slot.value for slot in optimizer.variables])
    weights, _ = jax.lax.fori_loop(0, STEPS, step, start)
    return {f"weights {number}": each for number, each in enumerate(weights)}


def trained(opened: Mapping[str, np.ndarray]) -> keras.Model:
    """The model with the weights that a study has opened."""
    model.set_weights([opened[f"weights {number}"] for number in range(len(model.trainable_variables))])
    return model
