"""Running a message and all calls it makes, to depth 1,024, on an explicit stack of frames.

Python never recurses for an EVM call. Another machine (WASM) runs on the host's own stack and calls back through
``Run.execute``; its depth is its own to bound.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from koinon.kernel.ids import Address, Hash32
from koinon.ledger.evm.frame import CREATIONS, DEEPEST_CALL, NO_BYTES, Frame, Kind, Message, Outcome
from koinon.ledger.evm.halts import AddressCollision, ExceptionalHalt, InvalidCode, OutOfGas
from koinon.ledger.evm.program import Program, ProgramCache
from koinon.ledger.evm.traced import TracedProgram
from koinon.ledger.evm.tracing import Tracer
from koinon.ledger.execution import BlockContext
from koinon.ledger.journal import Journal
from koinon.ledger.precompile import Precompile, PrecompileFailure
from koinon.ledger.state import EMPTY_CODE_HASH

LONGEST_CODE: Final = 24_576  # EIP-170
DEPOSIT_BYTE_GAS: Final = 200
LARGEST_NONCE: Final = 2**64 - 1  # EIP-2681
REVERT: Final = "Revert"


class Machine(Protocol):
    """A virtual machine for code that begins with ``prefix``."""

    prefix: bytes
    longest_code: int

    def check_code(self, frame: Frame, code: bytes) -> None:
        """Whether a creation's frame may deploy code. Raises ExceptionalHalt."""
        ...

    def run(self, frame: Frame) -> None:
        """Run ``frame.code``; leave ``gas``, ``output`` and ``reverted`` in the frame. Raises ExceptionalHalt.

        Calls go through ``frame.run.execute``, with ``frame.depth + 1``, and their gas is the caller's to take and
        give back. In a creation (``frame.message.kind``) ``frame.code`` is the creation data and the output the code to
        deploy.
        """
        ...


class Run:
    """What all calls of one transaction share."""

    __slots__ = (
        "blob_hashes",
        "context",
        "gas_price",
        "journal",
        "machines",
        "occupied",
        "origin",
        "precompiles",
        "programs",
        "tracer",
    )

    def __init__(
        self,
        journal: Journal,
        context: BlockContext,
        programs: ProgramCache,
        precompiles: Mapping[Address, Precompile],
        machines: Sequence[Machine],
        occupied: frozenset[Address],
        origin: Address,
        gas_price: int,
        blob_hashes: Sequence[bytes],
        tracer: Tracer | None,
    ) -> None:
        self.journal = journal
        self.context = context
        self.programs = programs
        self.precompiles = precompiles
        self.machines = machines
        self.occupied = occupied
        self.origin = origin
        self.gas_price = gas_price
        self.blob_hashes = blob_hashes
        self.tracer = tracer

    def execute(self, message: Message) -> Outcome:
        """Make a call or a contract, with everything that follows from it; a failure leaves no change behind."""
        begun = self._begin(message)
        if isinstance(begun, Outcome):
            return begun
        frame, waiting = begun, list[Frame]()
        while True:
            outcome = self._advance(frame)
            if outcome is None:
                assert frame.request is not None
                begun = self._begin(frame.request)
                if isinstance(begun, Frame):
                    waiting.append(frame)
                    frame = begun
                else:
                    self._deliver(frame, begun)
                continue
            if self.tracer is not None:
                self.tracer.leave(frame.message, outcome)
            if not waiting:
                return outcome
            frame = waiting.pop()
            self._deliver(frame, outcome)

    def destroyed(self, frame: Frame, beneficiary: Address, value: int) -> None:
        """SELFDESTRUCT tells that it happened."""
        if self.tracer is not None:
            self.tracer.destroy(frame.address, beneficiary, value)

    def _advance(self, frame: Frame) -> Outcome | None:
        """Run a frame until it ends, or None where it waits for ``frame.request``."""
        stack = frame.stack
        step, frame.resume = frame.resume, None
        try:
            if self.tracer is None:
                while step is not None:
                    step = step(frame, stack)
            else:
                pause = self.tracer.pause
                while step is not None:
                    pause()
                    step = step(frame, stack)
            if frame.request is not None:
                return None
            return self._finish(frame)
        except ExceptionalHalt as halt:
            self.journal.revert(frame.checkpoint)
            return Outcome(False, NO_BYTES, 0, type(halt).__name__)

    def _finish(self, frame: Frame) -> Outcome:
        if frame.reverted:
            self.journal.revert(frame.checkpoint)
            return Outcome(False, frame.output, frame.gas, REVERT)
        if frame.message.kind in CREATIONS:
            self._deploy(frame, frame.output)
        return Outcome(True, frame.output, frame.gas, "")

    def _deploy(self, frame: Frame, code: bytes) -> None:
        """Store what a creation returned. Raises ExceptionalHalt."""
        machine = self._machine(code)
        if machine is not None:
            machine.check_code(frame, code)
        if code[:1] == b"\xef" or len(code) > (LONGEST_CODE if machine is None else machine.longest_code):
            raise InvalidCode
        frame.gas -= DEPOSIT_BYTE_GAS * len(code)
        if frame.gas < 0:
            raise OutOfGas
        self.journal.set_code(frame.address, code)

    def _deliver(self, frame: Frame, outcome: Outcome) -> None:
        """Give a frame the result of the call it waited for."""
        request, frame.request = frame.request, None
        assert request is not None
        frame.gas += outcome.gas_left
        if request.kind in CREATIONS:
            frame.returned = NO_BYTES if outcome.succeeded else outcome.output
            frame.stack.append(int.from_bytes(request.address) if outcome.succeeded else 0)
            return
        frame.returned = outcome.output
        offset, size = frame.window
        size = min(size, len(outcome.output))
        if size:
            frame.memory[offset : offset + size] = outcome.output[:size]
        frame.stack.append(1 if outcome.succeeded else 0)

    # How calls begin

    def _begin(self, message: Message) -> "Frame | Outcome":
        tracer = self.tracer
        if tracer:
            tracer.enter(message)
        begun = self._begin_creation(message) if message.kind in CREATIONS else self._begin_call(message)
        if isinstance(begun, Frame) and self.machines and (machine := self._machine(begun.code)) is not None:
            begun = self._run_elsewhere(machine, begun)
        if tracer and isinstance(begun, Outcome):
            tracer.leave(message, begun)
        return begun

    def _begin_call(self, message: Message) -> "Frame | Outcome":
        journal, value = self.journal, message.value
        if message.depth > DEEPEST_CALL:
            return Outcome(False, NO_BYTES, message.gas, "CallDepthExceeded")
        if value and message.kind is not Kind.DELEGATECALL and journal.balance(message.caller) < value:
            return Outcome(False, NO_BYTES, message.gas, "InsufficientBalance")
        checkpoint = journal.checkpoint()
        if message.transfers:
            journal.add_balance(message.caller, -value)
            journal.add_balance(message.address, value)
        elif message.kind is Kind.STATICCALL:
            journal.add_balance(message.address, 0)
        precompile = self.precompiles.get(message.code_address)
        if precompile is not None:
            outcome = _run_precompile(precompile, message)
            if not outcome.succeeded:
                journal.revert(checkpoint)
            return outcome
        code_hash = journal.code_hash(message.code_address)
        if code_hash == EMPTY_CODE_HASH:
            return Outcome(True, NO_BYTES, message.gas, "")
        frame = Frame(self, message, self._program(message.code_address, code_hash), message.data)
        frame.checkpoint = checkpoint
        return frame

    def _begin_creation(self, message: Message) -> "Frame | Outcome":
        journal, creator, address = self.journal, message.caller, message.address
        if message.depth > DEEPEST_CALL:
            return Outcome(False, NO_BYTES, message.gas, "CallDepthExceeded")
        if journal.balance(creator) < message.value:
            return Outcome(False, NO_BYTES, message.gas, "InsufficientBalance")
        if message.depth:
            nonce = journal.nonce(creator)
            if nonce >= LARGEST_NONCE:
                return Outcome(False, NO_BYTES, message.gas, "NonceOverflow")
            journal.set_nonce(creator, nonce + 1)
        if address not in journal.warm:
            journal.warm_address(address)
        if journal.is_taken(address) or address in self.occupied:
            return Outcome(False, NO_BYTES, 0, AddressCollision.__name__)
        frame = Frame(self, message, self._fresh_program(message.data), NO_BYTES)
        journal.write(journal.created, address, True)
        journal.set_nonce(address, 1)
        journal.add_balance(creator, -message.value)
        journal.add_balance(address, message.value)
        return frame

    def _run_elsewhere(self, machine: Machine, frame: Frame) -> Outcome:
        try:
            machine.run(frame)
            return self._finish(frame)
        except ExceptionalHalt as halt:
            self.journal.revert(frame.checkpoint)
            return Outcome(False, NO_BYTES, 0, type(halt).__name__)

    def _machine(self, code: bytes) -> Machine | None:
        for machine in self.machines:
            if code.startswith(machine.prefix):
                return machine
        return None

    def _program(self, address: Address, code_hash: Hash32) -> Program:
        if self.tracer and self.tracer.wants_steps:
            return TracedProgram(self.journal.code(address), self.tracer)
        return self.programs.get(code_hash) or self.programs.add(code_hash, self.journal.code(address))

    def _fresh_program(self, code: bytes) -> Program:
        """Creation code, which rarely runs twice and is not kept."""
        if self.tracer and self.tracer.wants_steps:
            return TracedProgram(code, self.tracer)
        return Program(code, self.programs.hot)


def _run_precompile(precompile: Precompile, message: Message) -> Outcome:
    gas = message.gas - precompile.gas(message.data)
    if gas < 0:
        return Outcome(False, NO_BYTES, 0, OutOfGas.__name__)
    try:
        return Outcome(True, precompile.run(message.data), gas, "")
    except PrecompileFailure as failure:
        return Outcome(False, NO_BYTES, 0, type(failure).__name__)
