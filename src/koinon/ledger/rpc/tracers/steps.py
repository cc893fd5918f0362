"""``structLogs``: every instruction with what was on the stack, in memory and in storage."""

from dataclasses import dataclass
from typing import Final

from koinon.kernel.ids import Address
from koinon.ledger.evm.frame import Frame, Message, Outcome
from koinon.ledger.evm.opcodes import Opcode
from koinon.ledger.rpc.failures import LimitExceeded
from koinon.ledger.rpc.forms import data
from koinon.ledger.rpc.limits import Deadline
from koinon.ledger.rpc.table import Json
from koinon.ledger.rpc.tracers.watch import Watch

MOST_STEPS: Final = 100_000
_MOST_BYTES: Final = 64 * 1024 * 1024
_SLOAD: Final = 0x54
_SSTORE: Final = 0x55
_WORD_BYTES: Final = 100
"""What a shown word takes in memory, about."""


@dataclass(frozen=True)
class StepOptions:
    """What each step shows, and after how many the list ends (0: at the limit, with an error)."""

    memory: bool = False
    stack: bool = True
    storage: bool = True
    return_data: bool = False
    most: int = 0


class StepList(Watch):
    """A tracer."""

    wants_steps = True

    def __init__(self, deadline: Deadline, options: StepOptions) -> None:
        super().__init__(deadline)
        self.wants_memory = options.memory
        self._options = options
        self._steps: list[dict[str, Json]] = []
        self._storage: dict[Address, dict[str, str]] = {}
        self._outcome: Outcome | None = None
        self._bytes = 0

    def step(
        self, frame: Frame, position: int, opcode: Opcode, gas: int, cost: int, stack: list[int], memory: bytes
    ) -> None:
        options = self._options
        if options.most and len(self._steps) >= options.most:
            return
        form: dict[str, Json] = {
            "pc": position,
            "op": opcode.name,
            "gas": gas,
            "gasCost": cost,
            "depth": frame.depth + 1,
        }
        if cost > gas:
            form["error"] = "out of gas"
        if options.stack:
            form["stack"] = [hex(item) for item in stack]
        if options.memory:
            padded = memory.ljust((len(memory) + 31) // 32 * 32, b"\x00")
            form["memory"] = [padded[offset : offset + 32].hex() for offset in range(0, len(padded), 32)]
        if options.storage and opcode.number in (_SLOAD, _SSTORE) and cost <= gas and len(stack) >= opcode.pops:
            slot = stack[-1]
            known = self._storage.setdefault(frame.address, {})
            known[f"{slot:064x}"] = f"{frame.journal.slot(frame.storage, slot):064x}"
            form["storage"] = dict(known)
        if options.return_data:
            form["returnData"] = data(frame.returned)
        if frame.journal.refund:
            form["refund"] = frame.journal.refund
        self._keep(form)

    def leave(self, message: Message, outcome: Outcome) -> None:
        if message.depth == 0:
            self._outcome = outcome

    @property
    def ended(self) -> bool:
        """Whether there was anything to watch: a call whose terms are wrong never begins."""
        return self._outcome is not None

    def form(self, gas_used: int) -> Json:
        """The list and how it ended."""
        assert self._outcome is not None
        return {
            "gas": gas_used,
            "failed": not self._outcome.succeeded,
            "returnValue": data(self._outcome.output),
            "structLogs": self._steps,
        }

    def _keep(self, form: dict[str, Json]) -> None:
        words = len(form.get("stack", ())) + len(form.get("memory", ())) + 2 * len(form.get("storage", ()))
        self._bytes += _WORD_BYTES * (5 + words)
        if self._bytes > _MOST_BYTES or len(self._steps) >= MOST_STEPS:
            raise LimitExceeded(
                f"the trace has more than {MOST_STEPS} steps or shows too much; set a limit or disable what it shows"
            )
        self._steps.append(form)
