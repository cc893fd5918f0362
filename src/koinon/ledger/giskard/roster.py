"""Who takes part in a simulated network: the honest, the liars and the spare, and the validator set of every epoch."""

import hashlib
import random
from dataclasses import dataclass
from functools import cached_property

from koinon.kernel.ids import ZERO_ADDRESS, NodeId
from koinon.kernel.quantities import Epoch, Height
from koinon.ledger.giskard.ideal import IdealScheme
from koinon.ledger.giskard.real import RealScheme
from koinon.ledger.types import Validator, ValidatorSet


@dataclass(frozen=True)
class EpochPlan:
    """One epoch of a simulated chain.

    Attributes:
        members: the node at each position of the validator set.
        last_height: where it ends; None for the last.
        scheme: signs and verifies for its positions.
    """

    epoch: Epoch
    members: tuple[int, ...]
    last_height: Height | None
    scheme: IdealScheme | RealScheme

    @cached_property
    def validators(self) -> ValidatorSet:
        return ValidatorSet(
            tuple(Validator(NodeId(bytes([node]) * 32), ZERO_ADDRESS, bytes([node]) * 48) for node in self.members)
        )

    def position_of(self, node: int) -> int | None:
        """Position of a node, None if it only watches."""
        return self.members.index(node) if node in self.members else None


def plan_epochs(
    draw: random.Random,
    seed: int,
    size: int,
    liars: frozenset[int],
    lengths: list[int],
    spare: int,
    *,
    real_signatures: bool = False,
) -> list[EpochPlan]:
    """The sets of every epoch: the first are nodes 0 to ``size`` − 1, the others drawn from those and the spare ones.

    Every set holds all liars: the worst that the protocol promises to bear.

    Args:
        lengths: how many heights each epoch has but the last, which never ends.
    """
    secret = hashlib.sha256(seed.to_bytes(8, "big")).digest()
    honest = [node for node in range(size + spare) if node not in liars]
    plans: list[EpochPlan] = []
    height = 0
    for number in range(len(lengths) + 1):
        members = list(range(size))
        if number:
            members = [*draw.sample(honest, size - len(liars)), *sorted(liars)]
            draw.shuffle(members)
        last = None
        if number < len(lengths):
            height += lengths[number]
            last = Height(height)
        scheme = RealScheme(tuple(members)) if real_signatures else IdealScheme(secret, tuple(members))
        plans.append(EpochPlan(Epoch(number), tuple(members), last, scheme))
    return plans
