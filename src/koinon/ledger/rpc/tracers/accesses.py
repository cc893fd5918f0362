"""Which accounts and slots a run accessed: what an access list would name (EIP-2930)."""

from collections.abc import Collection

from koinon.kernel.ids import Address
from koinon.ledger.evm.frame import Frame
from koinon.ledger.evm.opcodes import Opcode
from koinon.ledger.rpc.limits import Deadline
from koinon.ledger.rpc.tracers.watch import Watch
from koinon.ledger.transaction import AccessList

_SLOTS = frozenset({0x54, 0x55})
_ACCOUNT_ON_TOP = frozenset({0x31, 0x3B, 0x3C, 0x3F, 0xFF})
_ACCOUNT_BELOW = frozenset({0xF1, 0xF2, 0xF4, 0xFA})
_ADDRESS_MASK = (1 << 160) - 1


class Accesses(Watch):
    """A tracer.

    Args:
        known: accounts that are warm without being named.
    """

    wants_steps = True

    def __init__(self, deadline: Deadline, known: Collection[Address]) -> None:
        super().__init__(deadline)
        self._known = known
        self._found: dict[Address, dict[int, None]] = {}

    def step(
        self, frame: Frame, position: int, opcode: Opcode, gas: int, cost: int, stack: list[int], memory: bytes
    ) -> None:
        number = opcode.number
        if number in _SLOTS and stack:
            self._found.setdefault(frame.address, {})[stack[-1]] = None
        elif number in _ACCOUNT_ON_TOP and stack:
            self._note(stack[-1])
        elif number in _ACCOUNT_BELOW and len(stack) > 1:
            self._note(stack[-2])

    def access_list(self) -> AccessList:
        """What to name, in order of first access."""
        return tuple((address, tuple(slots)) for address, slots in self._found.items())

    def _note(self, word: int) -> None:
        address = Address((word & _ADDRESS_MASK).to_bytes(20, "big"))
        if address not in self._known:
            self._found.setdefault(address, {})
