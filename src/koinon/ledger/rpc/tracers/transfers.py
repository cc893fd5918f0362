"""Logs and plain transfers of coins in the order in which they happened, a transfer in the form of a log."""

from typing import Final

from koinon.kernel.ids import Address
from koinon.ledger.evm.frame import Frame, Message, Outcome
from koinon.ledger.evm.opcodes import Opcode
from koinon.ledger.execution import Log
from koinon.ledger.rpc.limits import Deadline
from koinon.ledger.rpc.tracers.call_tree import LOG_OPCODES
from koinon.ledger.rpc.tracers.watch import Watch

COIN: Final = Address(b"\xee" * 20)
"""Stands for the token that the chain's own coin is not (ERC-7528)."""
TRANSFER: Final = bytes.fromhex("ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef")
"""Transfer(address,address,uint256)."""


class Transfers(Watch):
    """A tracer.

    Args:
        with_coins: whether transfers of coins are noted among the logs; then every instruction is watched.
    """

    def __init__(self, deadline: Deadline, *, with_coins: bool) -> None:
        super().__init__(deadline)
        self.wants_steps = with_coins
        self.output = b""
        self.reason = ""
        self.logs: list[Log] = []
        self._marks: list[int] = []
        self._logged = 0

    def enter(self, message: Message) -> None:
        self._marks.append(len(self.logs))
        if self.wants_steps and message.transfers and message.value:
            self._note(message.caller, message.address, message.value)

    def step(
        self, frame: Frame, position: int, opcode: Opcode, gas: int, cost: int, stack: list[int], memory: bytes
    ) -> None:
        logged = len(frame.journal.logs)
        if opcode.number in LOG_OPCODES and logged > self._logged:
            self.logs.append(frame.journal.logs[-1])
        self._logged = logged

    def destroy(self, address: Address, beneficiary: Address, value: int) -> None:
        if self.wants_steps and value:
            self._note(address, beneficiary, value)

    def leave(self, message: Message, outcome: Outcome) -> None:
        mark = self._marks.pop()
        if not outcome.succeeded:
            # What a failed call logged or moved never happened.
            self._logged -= sum(log.address != COIN for log in self.logs[mark:])
            del self.logs[mark:]
        if message.depth == 0:
            self.output, self.reason = outcome.output, outcome.reason

    def _note(self, sender: Address, recipient: Address, value: int) -> None:
        topics = (TRANSFER, bytes(12) + sender, bytes(12) + recipient)
        self.logs.append(Log(COIN, topics, value.to_bytes(32, "big")))
