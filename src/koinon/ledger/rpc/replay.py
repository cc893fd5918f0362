"""Running a transaction of a final block again, on the state it found, with somebody watching."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from koinon.kernel.errors import Unavailable
from koinon.kernel.quantities import Height
from koinon.ledger.evm.tracing import Tracer
from koinon.ledger.execution import BlockContext, Receipt
from koinon.ledger.rpc.limits import Deadline
from koinon.ledger.rpc.tracers.found_state import LayeredState
from koinon.ledger.rpc.tracers.watch import Watch
from koinon.ledger.rpc.view import LedgerView
from koinon.ledger.state import Difference, StateView
from koinon.ledger.transaction import Transaction, parse_transaction


@dataclass(frozen=True)
class Replayed:
    """One transaction and what it needs to be run again.

    Attributes:
        state: that it finds.
    """

    view: LedgerView
    transaction: Transaction
    context: BlockContext
    state: StateView

    def run(self, tracer: Tracer, state: StateView | None = None) -> tuple[Receipt, Difference]:
        """Run it on its state, or on another view of that state."""
        execution = self.view.engine.begin(self.context, state or self.state)
        receipt = execution.apply(self.transaction, tracer)
        return receipt, execution.difference()


def replay(view: LedgerView, height: Height, deadline: Deadline, only: int | None = None) -> Iterator[Replayed]:
    """The transactions of a final block in order, each on the state it finds; only one of them, if asked.

    Raises:
        LimitExceeded: those before it took until the deadline.
        Unavailable: the state before the block is not kept any more, or there is none.
    """
    if height == 0:
        raise Unavailable("block 0 has no transactions; there is nothing to trace")
    chain = view.chain
    block = chain.block_at(height)
    header = block.header
    state = LayeredState(chain.state.view(Height(height - 1)), {})
    context = replace(
        chain.context_for(chain.header_at(height - 1), header.timestamp, header.beneficiary, header.mix),
        base_fee=header.base_fee,
        gas_limit=header.gas_limit,
    )
    for index, raw in enumerate(block.transactions):
        one = Replayed(view, parse_transaction(raw), context, state)
        if only is None or only == index:
            yield one
        if only == index or index + 1 == len(block.transactions):
            return
        _, difference = one.run(Watch(deadline))
        state.difference.update(difference)
