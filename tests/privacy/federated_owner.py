"""An owner's node as a process of its own: dials the aggregator, trains in a child, prints the joint model's hash.

python tests/privacy/federated_owner.py PLAN ROWS OWNER OWNERS WITNESSES AGGREGATOR PORT

Plan and node id are in hexadecimal.
"""

import asyncio
import sys

import numpy as np

from koinon.crypto.hash import blake3
from koinon.crypto.random import SystemRng
from koinon.crypto.signature import NodeKey
from koinon.kernel.codec import decode
from koinon.kernel.ids import NodeId
from koinon.kernel.quantities import Seconds
from koinon.net.transport import Transport
from koinon.privacy.federated.contributing import contribute
from koinon.privacy.federated.links import Roster, link_label
from koinon.privacy.federated.training import Rows, TrainingPlan
from koinon.privacy.federated.worker import local_training, parameters_to
from koinon.wire.discovery import Endpoint

STUDY = bytes([5]) * 32
PATIENCE = Seconds(300)


def node(owner: int) -> NodeKey:
    return NodeKey.from_seed(bytes([50 + owner]) * 32)


def member(position: int) -> NodeKey:
    """The node key of a committee member that is not in a study; its worker's is the same."""
    return NodeKey.from_seed(bytes([49 - position]) * 32)


def roster(aggregator: NodeId, owners: int, witnesses: int = 0) -> Roster:
    """Owners and members by number; no witnesses for an aggregator of its own."""
    names = tuple(member(1 + number).node_id for number in range(witnesses))
    return Roster(STUDY, aggregator, tuple(node(owner).node_id for owner in range(owners)), names)


async def main(plan: str, path: str, owner: str, owners: str, witnesses: str, aggregator: str, port: str) -> None:
    agreed, number = decode(TrainingPlan, bytes.fromhex(plan)), int(owner)
    with np.load(path) as stored:
        rows = Rows(stored["features"], stored["targets"])
    leader = NodeId(bytes.fromhex(aggregator))
    async with (
        Transport.open(node(number), "127.0.0.1") as transport,
        local_training(agreed, int(owners), number, rows, PATIENCE) as training,
    ):
        link = await transport.link(Endpoint(leader, "127.0.0.1", int(port)), link_label(STUDY), PATIENCE)
        names = roster(leader, int(owners), int(witnesses))
        parameters = await contribute(agreed, names, number, node(number), link, training.words, SystemRng(), PATIENCE)
        await link.close()
    print(blake3(parameters_to(parameters)).hex())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
