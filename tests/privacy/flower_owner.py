"""A real Flower client as an owner: runs in the environment that ``make flower`` makes, started by its test.

python tests/privacy/flower_owner.py PLAN ROWS OWNER OWNERS AGGREGATOR PORT, with src on the path
"""

import asyncio
import sys

import flwr
import numpy as np
from federated_owner import PATIENCE, STUDY, node, roster
from flwr.client import NumPyClient

from koinon.crypto.hash import blake3
from koinon.crypto.random import SystemRng
from koinon.kernel.codec import decode
from koinon.kernel.ids import NodeId
from koinon.net.transport import Transport
from koinon.privacy.federated.contributing import contribute
from koinon.privacy.federated.flower import FlowerOwner
from koinon.privacy.federated.links import link_label
from koinon.privacy.federated.training import TrainingPlan
from koinon.privacy.federated.worker import parameters_to
from koinon.wire.discovery import Endpoint


class Logistic(NumPyClient):
    """Logistic regression by gradient descent, as a Flower user would write it."""

    def __init__(self, features: np.ndarray, targets: np.ndarray) -> None:
        self.features, self.targets = features.astype(np.float32), targets.astype(np.float32)

    def get_parameters(self, config):
        return [np.zeros((self.features.shape[1],), np.float32), np.zeros((1,), np.float32)]

    def fit(self, parameters, config):
        weights, bias = (array.copy() for array in parameters)
        for _ in range(20):
            slope = 1 / (1 + np.exp(-(self.features @ weights + bias))) - self.targets
            weights -= 0.5 * self.features.T @ slope / len(slope)
            bias -= 0.5 * slope.mean()
        return [weights, bias], len(self.targets), {"framework": "flwr"}

    def evaluate(self, parameters, config):
        weights, bias = parameters
        scores = self.features @ weights + bias
        loss = np.logaddexp(0, scores) - self.targets * scores
        return float(loss.mean()), len(self.targets), {}


async def main(plan: str, path: str, owner: str, owners: str, aggregator: str, port: str) -> None:
    agreed, number = decode(TrainingPlan, bytes.fromhex(plan)), int(owner)
    with np.load(path) as stored:
        client = Logistic(stored["features"], stored["targets"])
    leader = NodeId(bytes.fromhex(aggregator))
    async with Transport.open(node(number), "127.0.0.1") as transport:
        link = await transport.link(Endpoint(leader, "127.0.0.1", int(port)), link_label(STUDY), PATIENCE)
        words = FlowerOwner.of(client, agreed, SystemRng()).words
        parameters = await contribute(
            agreed, roster(leader, int(owners)), number, node(number), link, words, SystemRng(), PATIENCE
        )
        await link.close()
    print(flwr.__version__, blake3(parameters_to(parameters)).hex())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
