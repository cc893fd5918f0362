"""The same instructions, one at a time, with a tracer told about each."""

from koinon.ledger.evm.frame import Frame, Step
from koinon.ledger.evm.halts import OutOfGas, StackFault
from koinon.ledger.evm.program import Program, bounds, instruction_function
from koinon.ledger.evm.tracing import Tracer


class TracedProgram(Program):
    """A program whose blocks are single instructions. It lives for one run."""

    __slots__ = ("_tracer",)

    def __init__(self, code: bytes, tracer: Tracer) -> None:
        self._tracer = tracer
        super().__init__(code)

    def _cold(self, position: int) -> Step:
        instruction = self.instruction(position)
        opcode, x, tracer = instruction.opcode, instruction.x, self._tracer
        gas, least, most = bounds([instruction])
        effect = instruction_function(opcode.number)

        def run(frame: Frame, stack: list[int]) -> Step | None:
            before, copy = frame.gas, list(stack)
            memory = bytes(frame.memory) if tracer.wants_memory else b""
            try:
                frame.gas -= gas
                if frame.gas < 0:
                    raise OutOfGas
                if not least <= len(stack) <= most:
                    raise StackFault
                following = effect(frame, stack, x)
            finally:
                tracer.step(frame, position, opcode, before, before - frame.gas, copy, memory)
            return following if opcode.ends else self.block(instruction.follows)

        return run
