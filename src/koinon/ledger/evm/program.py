"""Contract code made ready to run: blocks that are interpreted when cold and compiled to Python when hot.

A block is compiled once it has been interpreted ``HOT`` times, which takes about as long as compiling it
(``benchmarks/evm.py`` measures both); so no sequence of contracts buys compile time with less than a like amount of
paid execution. What is kept is bounded by ``_LARGEST_CACHE``.
"""

import re
import threading
from collections import OrderedDict
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from koinon.kernel.ids import Hash32
from koinon.ledger.evm import calls, effects
from koinon.ledger.evm.frame import Frame, Step
from koinon.ledger.evm.halts import InvalidJump, InvalidOpcode, OutOfGas, StackFault
from koinon.ledger.evm.opcodes import MAX, OPCODES, SIGN
from koinon.ledger.evm.source import BlockWriter, Instruction, defined, function_source

if TYPE_CHECKING:
    from collections.abc import Callable

STACK_LIMIT: Final = 1024
HOT: Final = 48
"""Times a block is interpreted before it is compiled."""

_LONGEST_BLOCK: Final = 192
_PROGRAM_WEIGHT: Final = 20
_COMPILED_WEIGHT: Final = 2
_LARGEST_CACHE: Final = 600_000
"""Weight of all programs kept; one is what an instruction takes when decoded, some 120 bytes."""

_JUMPDEST: Final = 0x5B
_HIDING_PUSHES: Final = re.compile(
    rb"(?:[^\x60-\x7f]|" + b"|".join(rb"\x%02x[^\x5b]{%d}" % (0x60 + size, size + 1) for size in range(32)) + b")*+"
    b"(?:\\Z|((?:" + b"|".join(rb"\x%02x.{0,%d}" % (0x60 + size, size + 1) for size in range(32)) + b")++))",
    re.DOTALL,
)  # fmt: skip
"""What hides no 0x5b in data, as much as there is; then (group 1) a run of PUSHes, of which the first does."""
_MARK_JUMPDESTS: Final = bytes(byte == _JUMPDEST for byte in range(256))

NAMES: Final[dict[str, Any]] = {
    name: value
    for module in (effects, calls)
    for name, value in vars(module).items()
    if callable(value) and not name.startswith("_")
} | {
    "MAX": MAX,
    "SIGN": SIGN,
    "len": len,
    "pow": pow,
    "OutOfGas": OutOfGas,
    "StackFault": StackFault,
    "InvalidOpcode": InvalidOpcode,
    "InvalidJump": InvalidJump,
}
"""What the effects in the table may name."""


class _LooseLinks:
    """References from an instruction's own function, which any program uses: through the frame."""

    def behind(self, _instruction: Instruction) -> str:
        return "frame.program.block(x)"

    def target(self, destination: int | str) -> str | None:
        return f"frame.program.target({destination})"


@cache
def instruction_function(number: int) -> "Callable[[Frame, list[int], int | str], Step | None]":
    """The interpreter's function for one instruction."""
    opcode = OPCODES[number]
    writer = BlockWriter(_LooseLinks(), NAMES)
    writer.write(Instruction(0, opcode, "x", 0))
    if not opcode.ends:
        writer.flush()
    source = function_source("instruction", "frame, stack, x", (), writer.lines)
    return defined(source, "instruction", dict(NAMES))


class Program:
    """Code and what is known about it. Any number of frames and threads may run it at once.

    Attributes:
        blocks: by position, every block that control has reached.
        targets: those among them that begin with a JUMPDEST.
        weight: how much of its cache it takes.
        cache: what keeps it, if anything does.
    """

    __slots__ = ("_destinations", "_names", "blocks", "cache", "code", "hot", "targets", "weight")

    def __init__(self, code: bytes, hot: int = HOT) -> None:
        self.code = code
        self.hot = hot
        self.blocks: dict[int, Step] = {}
        self.targets: dict[int, Step] = {}
        self.weight = _PROGRAM_WEIGHT
        self.cache: ProgramCache | None = None
        self._destinations: bytes | None = None
        self._names: dict[str, Any] | None = None

    def is_destination(self, position: int) -> bool:
        """Whether there is a JUMPDEST that is no PUSH's data."""
        if position >= len(self.code):
            return False
        if self._destinations is None:
            marks = bytearray(self.code.translate(_MARK_JUMPDESTS))
            for match in _HIDING_PUSHES.finditer(self.code):
                start, end = match.span(1)
                if start < end:
                    marks[start:end] = bytes(end - start)
            self._destinations = bytes(marks)
        return self._destinations[position] == 1

    @property
    def entry(self) -> Step:
        """The block that a call begins with."""
        return self.block(0)

    def block(self, position: int) -> Step:
        """The block that begins at ``position``."""
        return self.blocks.get(position) or self._set(position, self._cold(position))

    def target(self, position: int) -> Step:
        """The block that a jump to ``position`` leads to. Raises InvalidJump."""
        step = self.targets.get(position)
        if step is None:
            if not self.is_destination(position):
                raise InvalidJump
            step = self.targets[position] = self.block(position)
        return step

    def instruction(self, position: int) -> Instruction:
        """The instruction at ``position``; STOP behind the end of the code."""
        code = self.code
        opcode = OPCODES[code[position]] if position < len(code) else OPCODES[0]
        follows = position + 1 + opcode.immediate
        x = follows
        if opcode.immediate:
            x = int.from_bytes(code[position + 1 : follows].ljust(opcode.immediate, b"\0"))
        elif opcode.name == "PC":
            x = position
        return Instruction(position, opcode, x, follows)

    def instructions(self, position: int) -> list[Instruction]:
        """The instructions of the block at ``position``."""
        found: list[Instruction] = []
        code, last = self.code, len(self.code)
        while True:
            instruction = self.instruction(position)
            found.append(instruction)
            position = instruction.follows
            if instruction.opcode.ends or instruction.opcode.sees_gas or len(found) == _LONGEST_BLOCK:
                return found
            if position < last and code[position] == _JUMPDEST:
                return found

    def compile(self, position: int, body: list[Instruction]) -> Step:
        """Replace the block at ``position`` by Python that does the same."""
        if self._names is None:
            self._names = {**NAMES, "targets": self.targets, "target": self.target}
            self._names.update((_block_name(at), step) for at, step in self.blocks.items())
        writer = BlockWriter(_FirmLinks(self), NAMES)
        for instruction in body:
            writer.write(instruction)
        if not body[-1].opcode.ends:
            writer.flush()
            writer.lines.append(f"return {self.link(body[-1].follows)}")
        name = _block_name(position)
        source = function_source(name, "frame, stack", _opening(body), writer.lines)
        self.grow(_COMPILED_WEIGHT * len(body))
        return self._set(position, defined(source, name, self._names))

    def grow(self, weight: int) -> None:
        """Account for what was decoded or compiled."""
        self.weight += weight
        if self.cache is not None:
            self.cache.grow(weight)

    def link(self, position: int) -> str:
        """The name of a block in compiled source."""
        assert self._names is not None
        name = _block_name(position)
        self._names[name] = self.block(position)
        return name

    def _cold(self, position: int) -> Step:
        return _ColdBlock(self, position).first

    def _set(self, position: int, step: Step) -> Step:
        self.blocks[position] = step
        if position in self.targets:
            self.targets[position] = step
        if self._names is not None:
            self._names[_block_name(position)] = step
        return step


class _FirmLinks:
    """References between the blocks of one program, by name."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def behind(self, instruction: Instruction) -> str:
        return self._program.link(instruction.follows)

    def target(self, destination: int | str) -> str | None:
        if isinstance(destination, str):
            return f"targets.get({destination}) or target({destination})"
        return self._program.link(destination) if self._program.is_destination(destination) else None


class _ColdBlock:
    """A block that is interpreted."""

    __slots__ = (
        "_body",
        "_follows",
        "_gas",
        "_instructions",
        "_last",
        "_least",
        "_left",
        "_most",
        "_position",
        "_program",
    )

    def __init__(self, program: Program, position: int) -> None:
        self._program = program
        self._position = position
        self._left = program.hot

    def first(self, frame: Frame, stack: list[int]) -> Step | None:
        """Decode, then run."""
        body = self._instructions = self._program.instructions(self._position)
        self._program.grow(len(body))
        self._gas, self._least, self._most = bounds(body)
        steps = [(instruction_function(one.opcode.number), one.x) for one in body]
        self._last = steps.pop() if body[-1].opcode.ends else None
        self._body = steps
        self._follows = body[-1].follows
        if self._program.blocks.get(self._position) == self.first:
            self._program._set(self._position, self.run)
        return self.run(frame, stack)

    def run(self, frame: Frame, stack: list[int]) -> Step | None:
        self._left -= 1
        if self._left < 0:
            return self._program.compile(self._position, self._instructions)(frame, stack)  # type: ignore[no-any-return]
        frame.gas -= self._gas
        if frame.gas < 0:
            raise OutOfGas
        if not self._least <= len(stack) <= self._most:
            raise StackFault
        for effect, x in self._body:
            effect(frame, stack, x)
        if self._last:
            effect, x = self._last
            return effect(frame, stack, x)
        return self._program.block(self._follows)


def _block_name(position: int) -> str:
    return f"block_{position}"


def bounds(body: list[Instruction]) -> tuple[int, int, int]:
    """Static gas, and the least and most items the stack may have, so that no instruction finds too few or too many."""
    gas = height = need = peak = 0
    for instruction in body:
        opcode = instruction.opcode
        gas += opcode.gas
        need = max(need, opcode.pops - height)
        height += opcode.pushes - opcode.pops
        peak = max(peak, height)
    return gas, need, STACK_LIMIT - peak


def _opening(body: list[Instruction]) -> list[str]:
    gas, least, most = bounds(body)
    lines = [f"gas = frame.gas - {gas}", "if gas < 0: raise OutOfGas", "frame.gas = gas"] if gas else []
    if least and most < STACK_LIMIT:
        lines.append(f"if not {least} <= len(stack) <= {most}: raise StackFault")
    elif least:
        lines.append(f"if len(stack) < {least}: raise StackFault")
    elif most < STACK_LIMIT:
        lines.append(f"if len(stack) > {most}: raise StackFault")
    return lines


class ProgramCache:
    """Programs by code hash, least recently used out first."""

    def __init__(self, largest: int = _LARGEST_CACHE, hot: int = HOT) -> None:
        self._programs: OrderedDict[Hash32, Program] = OrderedDict()
        self._lock = threading.Lock()
        self._largest = largest
        self._weight = 0
        self.hot = hot

    def __len__(self) -> int:
        return len(self._programs)

    def get(self, code_hash: Hash32) -> Program | None:
        with self._lock:
            program = self._programs.get(code_hash)
            if program is not None:
                self._programs.move_to_end(code_hash)
            return program

    def add(self, code_hash: Hash32, code: bytes) -> Program:
        """A program for new code; makes room for it."""
        program = Program(code, self.hot)
        program.cache = self
        with self._lock:
            twin = self._programs.setdefault(code_hash, program)
        if twin is program:
            self.grow(program.weight)
        return twin

    def grow(self, weight: int) -> None:
        """Account for ``weight`` more; the programs used least recently go. A frame that runs one keeps it alive."""
        with self._lock:
            self._weight += weight
            while self._weight > self._largest and len(self._programs) > 1:
                _, dropped = self._programs.popitem(last=False)
                dropped.cache = None
                self._weight -= dropped.weight
