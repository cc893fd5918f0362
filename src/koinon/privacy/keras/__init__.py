"""Keras 3 whose models train on rows nobody shows: ``from koinon.privacy import keras`` in place of ``import keras``.

Everything here is Keras's own (JAX backend) except ``Sequential`` and ``Model``, whose ``fit`` shares the rows among
four parties, trains there, and opens nothing but the trained weights and the mean loss of each epoch. Layers, losses
and optimisers are not rewritten: JAX traces the step that Keras itself would take, and it is carried out on secrets.

    from koinon.privacy import keras

    model = keras.Sequential([keras.layers.Input((64,)), keras.layers.Dense(10, activation="softmax")])
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    model.fit(x, y, epochs=5)
"""

import os
import sys
from typing import Any

from koinon.kernel.errors import InvalidInput

if "keras" not in sys.modules:
    os.environ["KERAS_BACKEND"] = "jax"

import keras as _keras

if _keras.config.backend() != "jax":
    raise InvalidInput(
        f"Keras runs on {_keras.config.backend()} in this process; set KERAS_BACKEND=jax before Keras is imported"
    )

from koinon.privacy.keras.models import Model, Sequential

__all__ = ["Model", "Sequential"]


def __getattr__(name: str) -> Any:
    """Whatever is not about training is Keras's own."""
    return getattr(_keras, name)
