"""Watching a run: every call, every instruction. Without a tracer nothing of this costs anything."""

from typing import Protocol

from koinon.kernel.ids import Address
from koinon.ledger.evm.frame import Frame, Message, Outcome
from koinon.ledger.evm.opcodes import Opcode


class Tracer(Protocol):
    """What a run reports. What it is given is live: whoever wants to keep a stack or message copies it.

    Attributes:
        wants_steps: whether ``step`` is called; a run without it is not slower for it.
        wants_memory: whether ``step`` gets the memory; copying it for every instruction is slow.
    """

    wants_steps: bool
    wants_memory: bool

    def enter(self, message: Message) -> None:
        """A call begins, be it to code, to a precompiled contract or to nobody."""
        ...

    def pause(self) -> None:
        """Called before every few instructions (a basic block); may raise to give the whole run up."""
        ...

    def step(
        self, frame: Frame, position: int, opcode: Opcode, gas: int, cost: int, stack: list[int], memory: bytes
    ) -> None:
        """An instruction was executed.

        Args:
            position: of the instruction in the code.
            gas: left before it.
            cost: what it took, with what it handed on to a call; more than ``gas`` where that was not enough.
            stack: before it, a copy.
            memory: before it; empty unless wanted.
        """
        ...

    def destroy(self, address: Address, beneficiary: Address, value: int) -> None:
        """A contract executed SELFDESTRUCT."""
        ...

    def leave(self, message: Message, outcome: Outcome) -> None:
        """The call is over; calls leave in the reverse order of entering."""
        ...
