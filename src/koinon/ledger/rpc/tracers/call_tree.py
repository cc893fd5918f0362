"""``callTracer``: every call of a transaction as a tree, in the form go-ethereum gave it."""

from dataclasses import dataclass, field
from typing import Final

from koinon.kernel.ids import Address
from koinon.ledger.evm.frame import CREATIONS, Frame, Kind, Message, Outcome
from koinon.ledger.evm.opcodes import Opcode
from koinon.ledger.execution import Log
from koinon.ledger.journal import Journal
from koinon.ledger.rpc.calls import revert_reason
from koinon.ledger.rpc.failures import LimitExceeded
from koinon.ledger.rpc.forms import data, quantity
from koinon.ledger.rpc.limits import Deadline
from koinon.ledger.rpc.table import Json
from koinon.ledger.rpc.tracers.watch import Watch

MOST_BYTES: Final = 8 * 1024 * 1024
"""Of call data and output in one tree: handing a megabyte of memory on costs a call next to nothing."""
MOST_CALLS: Final = 20_000
LOG_OPCODES: Final = range(0xA0, 0xA5)

_WORDS: Final = {
    "Revert": "execution reverted",
    "OutOfGas": "out of gas",
    "StackFault": "stack underflow or overflow",
    "InvalidOpcode": "invalid opcode",
    "InvalidJump": "invalid jump destination",
    "WriteProtection": "write protection",
    "ReturnDataOutOfBounds": "return data out of bounds",
    "InvalidCode": "invalid code",
    "AddressCollision": "contract address collision",
    "CallDepthExceeded": "max call depth exceeded",
    "InsufficientBalance": "insufficient balance for transfer",
    "NonceOverflow": "nonce uint64 overflow",
    "PrecompileFailure": "precompiled contract failed",
}


@dataclass
class TracedCall:
    """One call of the tree.

    Attributes:
        logs: what it logged, each with the number of calls it had made before.
    """

    message: Message
    outcome: Outcome | None = None
    calls: list["TracedCall | Destruction"] = field(default_factory=list)
    logs: list[tuple[Log, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Destruction:
    """A SELFDESTRUCT, which the tree shows as a call."""

    address: Address
    beneficiary: Address
    value: int


class CallTree(Watch):
    """A tracer.

    Args:
        with_logs: also what each call logged; then every instruction is watched, which is slower.
        only_top: only the transaction's own call.
    """

    def __init__(self, deadline: Deadline, *, with_logs: bool = False, only_top: bool = False) -> None:
        super().__init__(deadline)
        self.wants_steps = with_logs
        self.root: TracedCall | None = None
        self._only_top = only_top
        self._open: list[TracedCall] = []
        self._bytes = 0
        self._calls = 0
        self._journal: Journal | None = None
        self._logged = 0

    def enter(self, message: Message) -> None:
        call = TracedCall(message)
        self._count(len(message.data))
        if self._open and not self._only_top:
            self._open[-1].calls.append(call)
        if self.root is None:
            self.root = call
        self._open.append(call)

    def step(
        self, frame: Frame, position: int, opcode: Opcode, gas: int, cost: int, stack: list[int], memory: bytes
    ) -> None:
        self._journal = frame.journal
        logged = len(frame.journal.logs)
        if opcode.number in LOG_OPCODES and logged > self._logged:
            call = self._open[-1]
            call.logs.append((frame.journal.logs[-1], len(call.calls)))
        self._logged = logged

    def destroy(self, address: Address, beneficiary: Address, value: int) -> None:
        if not self._only_top:
            self._open[-1].calls.append(Destruction(address, beneficiary, value))

    def leave(self, message: Message, outcome: Outcome) -> None:
        call = self._open.pop()
        call.outcome = outcome
        self._count(len(outcome.output))
        if not outcome.succeeded:
            _forget_logs(call)
            # What the call logged was taken back before this.
            self._logged = len(self._journal.logs) if self._journal is not None else 0

    def form(self, gas: int, gas_used: int) -> Json:
        """The tree; the transaction's own call shows the gas of the whole transaction."""
        if self.root is None:
            return None
        return _form(self.root) | {"gas": quantity(gas), "gasUsed": quantity(gas_used)}

    def _count(self, size: int) -> None:
        self._bytes += size
        self._calls += 1
        if self._bytes > MOST_BYTES or self._calls > 2 * MOST_CALLS:
            raise LimitExceeded(f"the trace has more than {MOST_CALLS} calls or {MOST_BYTES} bytes of call data")


def error_words(outcome: Outcome) -> str:
    """Why a call failed, in go-ethereum's words."""
    return _WORDS.get(outcome.reason, outcome.reason)


def _forget_logs(call: TracedCall) -> None:
    """What a failed call logged, and whatever was called from it, never happened."""
    waiting = [call]
    while waiting:
        one = waiting.pop()
        one.logs.clear()
        waiting.extend(child for child in one.calls if isinstance(child, TracedCall))


def _form(root: TracedCall) -> dict[str, Json]:
    """The tree without recursion: calls nest to 1,024."""
    form = _call_form(root)
    waiting = [(root, form)]
    while waiting:
        call, shown = waiting.pop()
        children = []
        for child in call.calls:
            if isinstance(child, Destruction):
                children.append(_destruction_form(child))
                continue
            children.append(_call_form(child))
            waiting.append((child, children[-1]))
        if children:
            shown["calls"] = children
    return form


def _call_form(call: TracedCall) -> dict[str, Json]:
    message, outcome = call.message, call.outcome
    assert outcome is not None, "every call that was entered was left"
    form: dict[str, Json] = {
        "type": message.kind.value,
        "from": data(message.caller if message.kind is not Kind.DELEGATECALL else message.address),
        "to": data(message.address if message.kind in CREATIONS else message.code_address),
        "gas": quantity(message.gas),
        "gasUsed": quantity(message.gas - outcome.gas_left),
        "input": data(message.data),
    }
    if message.kind is not Kind.STATICCALL:
        form["value"] = quantity(message.value)
    if outcome.output:
        form["output"] = data(outcome.output)
    if not outcome.succeeded:
        form["error"] = error_words(outcome)
        if message.kind in CREATIONS:
            del form["to"]
        reason = revert_reason(outcome.output) if outcome.reason == "Revert" else None
        if reason is not None:
            form["revertReason"] = reason
    if call.logs:
        form["logs"] = [
            {
                "address": data(log.address),
                "topics": [data(topic) for topic in log.topics],
                "data": data(log.data),
                "position": quantity(position),
            }
            for log, position in call.logs
        ]
    return form


def _destruction_form(destruction: Destruction) -> dict[str, Json]:
    return {
        "type": "SELFDESTRUCT",
        "from": data(destruction.address),
        "to": data(destruction.beneficiary),
        "gas": "0x0",
        "gasUsed": "0x0",
        "input": "0x",
        "value": quantity(destruction.value),
    }
