"""What the system does after a block's transactions: count the block, hold the election, end the epoch.

All of it is part of executing the block, so its results are covered by the block's state root, and every validator
computes them or refuses the block.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from koinon.kernel.ids import Hash32
from koinon.kernel.quantities import Height, View, Wei
from koinon.ledger.epochs import Epochs
from koinon.ledger.execution import BlockExecution, Receipt
from koinon.ledger.staking import contract
from koinon.ledger.staking.election import Candidate, Seats, alternates, elect
from koinon.ledger.staking.founding import COIN
from koinon.ledger.types import ValidatorSet


@dataclass(frozen=True)
class Finish:
    """The system's work at the end of one block; see the module. Called once, after the last transaction.

    Attributes:
        mix: the block's own random output, the seed of an election in it.
    """

    epochs: Epochs
    height: Height
    view: View
    proposer: int
    mix: Hash32
    base_fee: Wei

    def __call__(self, execution: BlockExecution, receipts: Sequence[Receipt]) -> ValidatorSet | None:
        """The next epoch's validators where this block is its epoch's last; None elsewhere."""
        fees = tips(receipts, self.base_fee) if self.epochs.open else Wei(0)
        contract.end_block(execution, self.proposer, fees)
        if self.epochs.elects_at(self.height):
            hold_election(execution, self.epochs, self.view, self.mix)
        if not self.epochs.ends_at(self.height):
            return None
        contract.end_epoch(execution)
        return contract.seated(execution)


def tips(receipts: Sequence[Receipt], base_fee: Wei) -> Wei:
    """What the transactions of a block paid its beneficiary."""
    return Wei(sum(one.gas_used * (int.from_bytes(one.gas_price, "big") - base_fee) for one in receipts))


def hold_election(execution: BlockExecution, epochs: Epochs, view: View, seed: Hash32) -> None:
    """Judge this epoch's validators so far, then elect the next epoch's and write them into the contract."""
    contract.judge(execution, view)
    known = contract.electorate(execution)
    present = [one for one in known.candidates if one.since is not None]
    chosen: tuple[Candidate, ...] = ()
    if not epochs.open:
        contenders = tuple(one for one in known.candidates if one.fit)
    elif known.ends_era:
        contenders = chosen = alternates(known.candidates, epochs.alternates)
    else:
        contenders = tuple(one for one in known.candidates if one.number in known.alternates)
    elected = elect(present, contenders, Seats(epochs.seats, epochs.least, COIN), seed)
    contract.write_elected(execution, tuple(one.number for one in elected), tuple(one.number for one in chosen))
