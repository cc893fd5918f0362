"""Calls outside any block: what a revert says, and how much gas a call needs."""

from typing import Final

from koinon.kernel.errors import Refused
from koinon.kernel.quantities import Gas
from koinon.ledger.execution import BlockContext, Call, CallResult, ExecutionEngine
from koinon.ledger.rpc import Reverted
from koinon.ledger.state import StateView

_REVERT_SELECTOR: Final = bytes.fromhex("08c379a0")
_PANIC_SELECTOR: Final = bytes.fromhex("4e487b71")
_LONGEST_REASON: Final = 1024
_PRECISION: Final = 64


def checked(result: CallResult) -> bytes:
    """The output of a call that succeeded.

    Raises:
        Reverted: the contract took it back; with its data.
        Refused: it failed in another way; says which.
    """
    if result.succeeded:
        return result.output
    if result.reason == "Revert":
        raise Reverted(revert_message(result.output), result.output)
    raise Refused(f"the call failed: {result.reason}")


def revert_message(output: bytes) -> str:
    """What a revert says, in the words that clients look for."""
    if output[:4] == _REVERT_SELECTOR and len(output) >= 68:
        length = min(int.from_bytes(output[36:68], "big"), _LONGEST_REASON)
        return "execution reverted: " + output[68 : 68 + length].decode("utf-8", "replace")
    if output[:4] == _PANIC_SELECTOR and len(output) == 36:
        return f"execution reverted: panic 0x{int.from_bytes(output[4:], 'big'):02x}"
    return "execution reverted"


def estimate_gas(engine: ExecutionEngine, call: Call, context: BlockContext, state: StateView) -> int:
    """Gas with which the call succeeds; at most a 64th more than the least that would do.

    A run with all the gas tells how much is used before the refund, which nearly always is enough. A call that hands on
    all but a 64th of its gas may need more; bisection finds it.

    Raises:
        Reverted, Refused: it fails even with all the gas.
    """
    whole = engine.call(call, context, state)
    checked(whole)

    def succeeds(gas: int) -> bool:
        offer = Call(call.sender, call.to, Gas(gas), call.value, call.data, call.gas_price)
        return engine.call(offer, context, state).succeeded

    short: int = whole.gas_before_refund
    if succeeds(short):
        return short
    enough: int = call.gas
    while enough - short > enough // _PRECISION:
        middle = (enough + short) // 2
        if succeeds(middle):
            enough = middle
        else:
            short = middle
    return enough
