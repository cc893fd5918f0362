"""Keras models whose ``fit`` trains on secret rows."""

from collections.abc import Sequence as Several
from typing import Any, Final

import keras
import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray
from koinon.privacy.backend import Backend, PlainInput
from koinon.privacy.computation import Revealed, reveal, table
from koinon.privacy.computation import run as run_computation
from koinon.privacy.graphs.jax_values import Hidden
from koinon.privacy.keras.training import Training, batches_of

LARGEST_WEIGHT: Final = 16.0
"""Weights and what optimisers remember stay within ± this."""


class Private:
    """What ``Sequential`` and ``Model`` have instead of Keras's ``fit``."""

    def fit(
        self: Any,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        validation_split: float = 0.0,
        shuffle: bool = True,
        *,
        engine: Backend | None = None,
        fraction_bits: int = 20,
        seed: int = 0,
    ) -> Any:
        """Train on rows that are shared among four parties; the weights and the loss of each epoch are opened.

        Args:
            x: rows (n, …); or a sequence of the owners' tables, all with the same columns, whose last column is the
                target.
            y: targets (n,) or (n, k), whole numbers for classes; None with owners' tables.
            validation_split: share of the last rows that are left out; their loss is opened as ``val_loss``.
            engine: by default four parties in this process.
            fraction_bits: of every number.
            seed: of the public order in which the rows come.

        Returns:
            Keras's History with ``loss``, and ``val_loss`` where rows were left out.

        Raises:
            InvalidInput: the model does something that is not done with secrets; says what and where.
            Refused: the training could overflow.
            ProtocolAbort: a party deviated.
        """
        del verbose
        if getattr(self, "optimizer", None) is None:
            raise InvalidInput("compile the model with an optimiser and a loss before it is trained")
        if not (epochs >= 1 and 0.0 <= validation_split < 1.0):
            raise InvalidInput(f"{epochs} epochs with {validation_split:g} of the rows left out cannot be trained")
        owners, rows = _rows(x, y)
        count = rows.count
        kept = count - int(count * validation_split)
        if not self.built:
            self.build((None, *rows.shape))
        order = batches_of(kept, batch_size or 32, epochs, seed if shuffle else None)
        training = Training(self, order, epochs, kept, count, LARGEST_WEIGHT)

        def compute(*tables: SecretArray) -> Revealed:
            features, targets = rows.parts(tables)
            return reveal(**training.opened(features, targets))

        outputs = run_computation(compute, owners, engine, fraction_bits).outputs
        training.take_over(outputs)
        history = keras.callbacks.History()
        history.set_model(self)
        history.on_train_begin()
        for epoch, loss in enumerate(outputs["loss"].ravel()):
            history.on_epoch_end(epoch, {"loss": float(loss)})
        if "val_loss" in outputs:
            history.history["val_loss"] = [float(outputs["val_loss"].reshape(-1)[0])]
        self.history = history
        return history


class Sequential(Private, keras.Sequential):  # type: ignore[misc]
    """``keras.Sequential`` that trains on secret rows."""


class Model(Private, keras.Model):  # type: ignore[misc]
    """``keras.Model`` that trains on secret rows."""


class _Rows:
    """Where features and targets stand in the owners' tables."""

    def __init__(self, count: int, shape: tuple[int, ...], target: tuple[int, ...], *, whole: bool) -> None:
        self.count, self.shape, self._target, self._whole = count, shape, target, whole

    def parts(self, tables: Several[SecretArray]) -> tuple[SecretArray, Hidden]:
        from koinon.privacy.arrays import concatenate

        rows = tables[0] if len(tables) == 1 else concatenate(list(tables))
        width = int(np.prod(self.shape))
        features = rows[:, :width].reshape(self.count, *self.shape)
        targets = rows[:, width:].reshape(self.count, *self._target)
        return features, Hidden(targets, whole=self._whole)


def _rows(x: Any, y: Any) -> tuple[list[PlainInput], _Rows]:
    if isinstance(x, list | tuple) and x and all(isinstance(each, PlainInput) for each in x):
        if y is not None:
            raise InvalidInput("owners' tables hold the target as their last column; leave out y")
        values = np.concatenate([each.values[:, -1] for each in x])
        whole = bool((values == np.round(values)).all())
        width = len(x[0].columns) - 1
        return list(x), _Rows(len(values), (width,), (), whole=whole)
    features, targets = np.asarray(x), np.asarray(y)
    if features.dtype.kind not in "biuf" or targets.dtype.kind not in "biuf" or features.ndim < 2 or not features.size:
        raise InvalidInput("a model is trained on rows of numbers and one target for each")
    if targets.shape[:1] != features.shape[:1]:
        raise InvalidInput(f"{len(features)} rows do not go with targets of shape {targets.shape}")
    flat = features.reshape(len(features), -1).astype(np.float64)
    answers = targets.reshape(len(targets), -1).astype(np.float64)
    reach, top = (2.0 ** np.ceil(np.log2(max(float(np.abs(part).max()), 2.0**-10))) for part in (flat, answers))
    ranges = [(-reach, reach)] * flat.shape[1] + [(-top, top)] * answers.shape[1]
    joined = table(np.concatenate([flat, answers], 1), ranges=ranges)
    whole = targets.dtype.kind in "biu"
    return [joined], _Rows(len(features), features.shape[1:], targets.shape[1:], whole=whole)
