"""One call: what is asked (``Message``), how it stands (``Frame``), how it ended (``Outcome``)."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from koinon.kernel.ids import Address

if TYPE_CHECKING:
    from koinon.ledger.evm.program import Program
    from koinon.ledger.evm.run import Run

DEEPEST_CALL: Final = 1024
NO_BYTES: Final = b""

Step = Callable[["Frame", list[int]], Any]
"""Runs a piece of a frame's code and gives the next one, or None when the frame ends or waits for a call it made."""


class Kind(Enum):
    """The instructions that begin a call."""

    CALL = "CALL"
    CALLCODE = "CALLCODE"
    DELEGATECALL = "DELEGATECALL"
    STATICCALL = "STATICCALL"
    CREATE = "CREATE"
    CREATE2 = "CREATE2"


CREATIONS: Final = frozenset({Kind.CREATE, Kind.CREATE2})


@dataclass(slots=True)
class Message:
    """A call to make.

    Attributes:
        caller: what CALLER shows inside.
        address: whose storage and balance the code works on; the new contract in a creation.
        code_address: whose code runs; ``address`` except for CALLCODE and DELEGATECALL.
        value: what CALLVALUE shows, in wei.
        transfers: whether the value moves from caller to address (not for DELEGATECALL and CALLCODE).
        data: call data, or the creation code.
        depth: 0 for a transaction's own call.
    """

    kind: Kind
    caller: Address
    address: Address
    code_address: Address
    value: int
    transfers: bool
    data: bytes
    gas: int
    static: bool
    depth: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended.

    Attributes:
        output: returned or revert data; the deployed code for a creation that succeeded.
        reason: empty on success, ``Revert``, or the name of the halt.
    """

    succeeded: bool
    output: bytes
    gas_left: int
    reason: str


class Frame:
    """A call that is running code. Mutable, and owned by one run.

    Attributes:
        gas: what is left.
        returned: what the last call made here returned (RETURNDATASIZE).
        output: what this call will return.
        reverted: whether it ended by REVERT.
        request: a call that this one waits for.
        window: offset and size of the memory that takes the output of the call waited for.
        resume: where to go on.
        checkpoint: of the journal, before this call changed anything.
    """

    __slots__ = (
        "address",
        "caller",
        "checkpoint",
        "code",
        "data",
        "depth",
        "gas",
        "journal",
        "memory",
        "message",
        "output",
        "program",
        "request",
        "resume",
        "returned",
        "reverted",
        "run",
        "stack",
        "static",
        "storage",
        "value",
        "window",
    )

    def __init__(self, run: "Run", message: Message, program: "Program", data: bytes) -> None:
        self.run = run
        self.journal = run.journal
        self.message = message
        self.program = program
        self.code = program.code
        self.gas = message.gas
        self.stack: list[int] = []
        self.memory = bytearray()
        self.data = data
        self.address = message.address
        self.caller = message.caller
        self.value = message.value
        self.static = message.static
        self.depth = message.depth
        self.storage = run.journal.storage(message.address)
        self.returned = NO_BYTES
        self.output = NO_BYTES
        self.reverted = False
        self.request: Message | None = None
        self.window = (0, 0)
        self.resume: Step | None = program.entry
        self.checkpoint = run.journal.checkpoint()
