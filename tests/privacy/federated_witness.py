"""A committee member's node that follows a training and endorses it, as a process of its own.

python tests/privacy/federated_witness.py PLAN POSITION OWNERS LEADER PORT: plan and node id in hexadecimal
"""

import asyncio
import sys

from federated_owner import PATIENCE, STUDY, member, roster

from koinon.kernel.codec import decode
from koinon.kernel.ids import NodeId
from koinon.net.transport import Transport
from koinon.privacy.federated.approvals import Voucher
from koinon.privacy.federated.training import TrainingPlan
from koinon.privacy.federated.witness import witness
from koinon.privacy.seats import certify
from koinon.wire.discovery import Endpoint

LABEL = f"federated witness {STUDY.hex()}"


def voucher(position: int) -> Voucher:
    """What a member signs with where its node and its worker have one key."""
    key = member(position)
    return Voucher(position, key, certify(key, STUDY, position, key.node_id))


async def main(plan: str, position: str, owners: str, leader: str, port: str) -> None:
    agreed, seat, node = decode(TrainingPlan, bytes.fromhex(plan)), int(position), NodeId(bytes.fromhex(leader))
    async with Transport.open(member(seat), "127.0.0.1") as transport:
        link = await transport.link(Endpoint(node, "127.0.0.1", int(port)), LABEL, PATIENCE)
        _, endorsement, _ = await witness(agreed, roster(node, int(owners), 3), voucher(seat), link)
        await link.close()
    print(endorsement.digest.hex())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
