"""A Flower client (flower.ai) as an owner of a training: its ``fit`` trains, our secure aggregation hides the result.

Nothing of Flower is imported: its pins do not go with ours, so the client lives in an environment of its own that has
this package's sources on its path (``make flower``). Any object with the methods of ``flwr.client.NumPyClient`` will
do; of a ``ClientApp`` or a ``Client`` pass the NumPyClient it was made from.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from koinon.kernel.effects import Rng
from koinon.kernel.errors import InvalidInput
from koinon.privacy.federated import training
from koinon.privacy.federated.training import TrainingPlan

Scalar = bool | bytes | float | int | str
Arrays = list[np.ndarray]


class NumPyClient(Protocol):
    """What is asked of a Flower client."""

    def get_parameters(self, config: dict[str, Scalar]) -> Arrays:
        """Its model's arrays, in a fixed order."""
        ...

    def fit(self, parameters: Arrays, config: dict[str, Scalar]) -> tuple[Arrays, int, Mapping[str, Scalar]]:
        """The arrays after training, the number of rows, and metrics, which we do not pass on."""
        ...

    def evaluate(self, parameters: Arrays, config: dict[str, Scalar]) -> tuple[float, int, Mapping[str, Scalar]]:
        """The loss, the number of rows, and metrics, which we do not pass on."""
        ...


@dataclass(frozen=True, slots=True)
class FlowerOwner:
    """A client in a plan whose ``size`` is the number of all numbers in its arrays.

    Attributes:
        shapes: of its arrays, in order.
    """

    client: NumPyClient
    plan: TrainingPlan
    shapes: tuple[tuple[int, ...], ...]
    rng: Rng

    @classmethod
    def of(cls, client: NumPyClient, plan: TrainingPlan, rng: Rng) -> "FlowerOwner":
        """Raises InvalidInput if the client's arrays are not as large as the plan says."""
        shapes = tuple(np.shape(array) for array in client.get_parameters({}))
        size = sum(int(np.prod(shape)) for shape in shapes)
        if size != plan.size:
            raise InvalidInput(f"the client's model has {size} parameters, the plan's {plan.size}; agree on one model")
        return cls(client, plan, shapes, rng)

    async def words(self, number: int, parameters: np.ndarray) -> np.ndarray:
        """The client's encoded update for one round; see ``contributing.contribute``. Its ``fit`` runs in a thread.

        Raises:
            InvalidInput: the client returned arrays of other shapes, or numbers that are not finite.
        """
        return await asyncio.to_thread(self._words, number, parameters)

    def _words(self, number: int, parameters: np.ndarray) -> np.ndarray:
        config: dict[str, Scalar] = {"server_round": number + 1, "proximal_mu": self.plan.local.proximal}
        loss = float("nan")
        if self.plan.noise is None:
            loss, _, _ = self.client.evaluate(self.arrays(parameters), config)
        trained, rows, _ = self.client.fit(self.arrays(parameters), config)
        if tuple(np.shape(array) for array in trained) != self.shapes or rows < 1:
            raise InvalidInput("the client returned arrays of other shapes than its model has, or trained on no rows")
        update = flat(trained) - parameters
        if not np.isfinite(update).all():
            raise InvalidInput("the client returned a number that is not finite; train with a smaller step")
        return training.words_of(self.plan, training.clip_norm(update, self.plan.clip), rows, loss, self.rng)

    def arrays(self, parameters: np.ndarray) -> Arrays:
        """Flat parameters as the client's arrays, in single precision as Flower clients have them."""
        arrays, place = [], 0
        for shape in self.shapes:
            size = int(np.prod(shape))
            arrays.append(parameters[place : place + size].reshape(shape).astype(np.float32))
            place += size
        return arrays


def flat(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays as one vector of float64."""
    return np.concatenate([np.asarray(array, np.float64).ravel() for array in arrays])
