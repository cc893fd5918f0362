"""What every tracer here has in common: it looks at the clock, and gives a run up that takes too long."""

from typing import Final

from koinon.kernel.ids import Address
from koinon.ledger.evm.frame import Frame, Message, Outcome
from koinon.ledger.evm.opcodes import Opcode
from koinon.ledger.rpc.limits import Deadline

_BLOCKS: Final = 256
"""Basic blocks between two looks at the clock: each costs the run far less than a microsecond."""


class Watch:
    """A tracer that notes nothing."""

    wants_steps = False
    wants_memory = False

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._blocks = 0

    def pause(self) -> None:
        """Raises LimitExceeded when the time is over."""
        self._blocks += 1
        if self._blocks % _BLOCKS == 0:
            self._deadline.check()

    def enter(self, message: Message) -> None:
        """A call begins."""

    def step(
        self, frame: Frame, position: int, opcode: Opcode, gas: int, cost: int, stack: list[int], memory: bytes
    ) -> None:
        """An instruction was executed."""

    def destroy(self, address: Address, beneficiary: Address, value: int) -> None:
        """A contract executed SELFDESTRUCT."""

    def leave(self, message: Message, outcome: Outcome) -> None:
        """A call is over."""
