"""The calls that a transaction made, as the chain node traces them (``debug_traceTransaction`` with ``callTracer``)."""

from collections.abc import Mapping
from typing import Any, Final

from koinon.contracts.refusals import explain
from koinon.contracts.rpc import RpcError, quantity
from koinon.gateway.decoding import arguments, write_value
from koinon.gateway.facts import Facts
from koinon.gateway.reading import text
from koinon.gateway.views.chain import Trace, TracedCall
from koinon.kernel.errors import MalformedMessage

CALLS_OF_A_PAGE: Final = 200
_DEEPEST: Final = 1024
_OPTIONS: Final = {"tracer": "callTracer"}


async def traced(facts: Facts, identifier: str) -> Trace:
    """The trace of a transaction; without calls, and with the reason, where the node gives none."""
    try:
        tree = await facts.reader.requests.request("debug_traceTransaction", identifier, _OPTIONS)
    except RpcError as problem:
        return Trace(problem=problem.message)
    rows: list[TracedCall] = []
    count = 0
    waiting: list[tuple[Any, int]] = [(tree, 0)]
    while waiting:
        call, depth = waiting.pop()
        if not isinstance(call, dict) or depth > _DEEPEST:
            raise MalformedMessage("the chain's trace holds a call that is no object")
        count += 1
        if len(rows) < CALLS_OF_A_PAGE:
            rows.append(_row(facts, call, depth))
        inner = call.get("calls") or []
        if not isinstance(inner, list):
            raise MalformedMessage("the calls of the chain's trace are no list")
        waiting.extend((one, depth + 1) for one in reversed(inner))
    return Trace(calls=tuple(rows), not_shown=count - len(rows))


def call_name(decoded: str | None, data: str) -> str:
    """The function's name, or the first bytes of what was sent to it."""
    if decoded is not None:
        return decoded
    return data[:10] if data != "0x" else "–"


def _row(facts: Facts, call: Mapping[str, Any], depth: int) -> TracedCall:
    recipient, data, kind = call.get("to"), text(call, "input"), _optional(call, "type")
    creates = kind.startswith("CREATE")
    decoded = facts.reader.decoder.call(recipient, data) if isinstance(recipient, str) and not creates else None
    return TracedCall(
        depth=depth,
        kind=kind[:16],
        caller=facts.party(text(call, "from")),
        callee=facts.party(recipient.lower()) if isinstance(recipient, str) else None,
        call=call_name(decoded.name if decoded else None, "0x" if creates else data),
        arguments=arguments(decoded) if decoded else (),
        value=quantity(call.get("value", "0x0"), "value of a call"),
        gas_used=quantity(call.get("gasUsed"), "gas of a call"),
        error=_optional(call, "error"),
        reason=_reason(call),
    )


def _reason(call: Mapping[str, Any]) -> str:
    """What the contract said: its text, or its error of the suite with the values; empty if it said nothing known."""
    said, output = _optional(call, "revertReason"), call.get("output")
    if said or "error" not in call or not isinstance(output, str):
        return said
    try:
        refusal = explain(bytes.fromhex(output.removeprefix("0x")), "the call was refused")
    except ValueError:
        raise MalformedMessage("the output of a call in the chain's trace is not in hexadecimal") from None
    if not refusal.error:
        return ""
    return f"{refusal.error}({', '.join(f'{name}={write_value(value)}' for name, value in refusal.arguments.items())})"


def _optional(call: Mapping[str, Any], name: str) -> str:
    value = call.get(name)
    return value[:1024] if isinstance(value, str) else ""
