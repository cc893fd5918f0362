"""What the pages about blocks and transactions say."""

from koinon.gateway.views.parts import Head, Party, Quantity, Sentence, Tone, View


class BlockRow(View, frozen=True):
    """One line of a list of blocks."""

    height: int
    hash: str
    timestamp: int
    transactions: int
    gas_used: int
    proposer: Party
    final: bool


class Argument(View, frozen=True):
    """One decoded argument of a call or an event."""

    name: str
    kind: str
    value: str


class DecodedLog(View, frozen=True):
    """One log entry; ``event`` is empty where none of our contracts made it."""

    index: int
    contract: Party
    event: str
    arguments: tuple[Argument, ...]
    topics: tuple[str, ...]
    data: str


class TransactionRow(View, frozen=True):
    """One line of a block's transactions."""

    hash: str
    sender: Party
    recipient: Party | None
    call: str
    value: Quantity


class BlocksPage(View, frozen=True):
    """``/blocks``: what was written last, and is it final?"""

    head: Head
    answer: Sentence
    blocks: tuple[BlockRow, ...]
    newest: bool
    older: int | None


class BlockPage(View, frozen=True):
    """``/blocks/{height}``: what does this block hold, and can it still change?"""

    head: Head
    answer: Sentence
    block: BlockRow
    parent: str
    state_root: str
    transactions_root: str
    receipts_root: str
    gas_limit: int
    base_fee: Quantity | None
    size: int
    transactions: tuple[TransactionRow, ...]
    not_shown: int


class TracedCall(View, frozen=True):
    """One call that a transaction made.

    Attributes:
        depth: 0 for the transaction's own call.
        kind: the instruction: CALL, DELEGATECALL, STATICCALL, CREATE, CREATE2, SELFDESTRUCT.
        call: name of the function with the suite's interfaces, or the first bytes of what was sent.
        error: why it failed, empty if it did not; ``reason`` is what the contract said about it.
    """

    depth: int
    kind: str
    caller: Party
    callee: Party | None
    call: str
    arguments: tuple[Argument, ...]
    value: int
    gas_used: int
    error: str
    reason: str


class Trace(View, frozen=True):
    """The calls of a transaction in the order in which they began.

    Attributes:
        not_shown: how many there are beyond the ones here.
        problem: why there is no trace, where there is none.
    """

    calls: tuple[TracedCall, ...] = ()
    not_shown: int = 0
    problem: str = ""


class TransactionPage(View, frozen=True):
    """``/transactions/{hash}``: what did this transaction do, and can it still change?"""

    head: Head
    answer: Sentence
    hash: str
    tone: Tone
    height: int | None
    at: int | None
    sender: Party
    recipient: Party | None
    created: Party | None
    call: str
    arguments: tuple[Argument, ...]
    input: str
    value: Quantity
    fee: Quantity | None
    gas_limit: int
    gas_used: int | None
    nonce: int
    kind: int
    trace: Trace | None
    logs: tuple[DecodedLog, ...]
    not_shown: int
