"""JSON-RPC 2.0: from the bytes of a request or a batch to the bytes of the answer, whatever carried them.

Hostile bytes are refused whole, before anything runs: what is not strict JSON (RFC 8259, in UTF-8, no NaN), an object
with a name twice (two readers could disagree about which counts), and what nests too deeply.
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from koinon.kernel.errors import KoinonError
from koinon.ledger.rpc.failures import (
    INTERNAL_ERROR,
    INVALID_PARAMETERS,
    INVALID_REQUEST,
    LIMIT_EXCEEDED,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    failure,
    failure_of,
)
from koinon.ledger.rpc.limits import Clients, Limits
from koinon.ledger.rpc.table import Caller, Json, Table

DEEPEST_NESTING: Final = 32
_TURN_SECONDS: Final = 0.01
_STRINGS: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_BRACKETS: Final = re.compile(rb"[\[\]{}]")
_log: Final = logging.getLogger("koinon.ledger.rpc")


class JsonRpc:
    """Answers requests with the methods of a table, within each client's limits."""

    def __init__(self, table: Table, limits: Limits, now: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self.clients = Clients(limits)
        self.now = now
        self._table = table

    async def answer(self, body: bytes, caller: Caller) -> bytes:
        """The answer to a request or a batch; empty if nothing in it wants one."""
        try:
            request = read_json(body)
        except ValueError as problem:
            return failure(None, PARSE_ERROR, str(problem))
        if not isinstance(request, list):
            return await self._answer_one(request, caller) or b""
        if not request:
            return failure(None, INVALID_REQUEST, "a batch holds at least one request")
        if len(request) > self.limits.batch:
            return failure(None, INVALID_REQUEST, f"a batch holds at most {self.limits.batch} requests")
        answers: list[bytes] = []
        size = 0
        turn = time.monotonic()
        for entry in request:
            if time.monotonic() - turn > _TURN_SECONDS:
                # Most methods answer without waiting for anything; others want their turn on the event loop.
                await asyncio.sleep(0)
                turn = time.monotonic()
            answer = await self._answer_one(entry, caller)
            if answer is None:
                continue
            size += len(answer) + 1
            if size > self.limits.answer_bytes:
                return failure(None, LIMIT_EXCEEDED, f"the answers to a batch have at most {self._most_bytes}")
            answers.append(answer)
        return b"[" + b",".join(answers) + b"]" if answers else b""

    async def _answer_one(self, request: Json, caller: Caller) -> bytes | None:
        """The answer to one request; None to a notification."""
        if not isinstance(request, dict) or request.get("jsonrpc") != "2.0":
            return failure(None, INVALID_REQUEST, 'a request is an object with "jsonrpc": "2.0"')
        name, parameters, identifier = request.get("method"), request.get("params"), request.get("id")
        if isinstance(identifier, bool) or not isinstance(identifier, str | int | float | None):
            return failure(None, INVALID_REQUEST, "the id of a request is a string or a number")
        if not isinstance(name, str) or not isinstance(parameters, list | dict | None):
            return failure(identifier, INVALID_REQUEST, "a request has a method name and a list of parameters")
        answer = await self._call(name, [] if parameters is None else parameters, identifier, caller)
        return answer if "id" in request else None

    async def _call(
        self, name: str, parameters: list[Json] | dict[str, Json], identifier: Any, caller: Caller
    ) -> bytes:
        method = self._table.get(name)
        if not caller.client.spend(1 if method is None else method.cost, self.limits, self.now()):
            rate = self.limits.units_per_second
            return failure(identifier, LIMIT_EXCEEDED, f"too many requests: a client has {rate} units a second")
        if method is None:
            return failure(identifier, METHOD_NOT_FOUND, f"the method {name[:80]!r} does not exist here")
        if isinstance(parameters, dict):
            return failure(identifier, INVALID_PARAMETERS, f"the parameters of {name} are a list")
        try:
            result = await method.call(caller, parameters)
        except KoinonError as problem:
            return failure_of(identifier, problem)
        except Exception:
            # Whatever it is, the caller learns nothing about it and the node goes on.
            _log.exception("the method %s failed", name)
            return failure(identifier, INTERNAL_ERROR, f"the node could not answer {name}; its log says why")
        answer = msgspec.json.encode({"jsonrpc": "2.0", "id": identifier, "result": result})
        if len(answer) > self.limits.answer_bytes:
            return failure(identifier, LIMIT_EXCEEDED, f"an answer has at most {self._most_bytes}; ask for less")
        return answer

    @property
    def _most_bytes(self) -> str:
        return f"{self.limits.answer_bytes} bytes"


def read_json(body: bytes) -> Json:
    """Decode strictly.

    Raises:
        ValueError: with a sentence for the client.
    """
    bare = _STRINGS.sub(b"", body)
    if _depth(bare) > DEEPEST_NESTING:
        # The decoder recurses for each level, and only Python's own limit would stop it.
        raise ValueError(f"a request nests at most {DEEPEST_NESTING} deep")
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError("the request is not JSON") from None
    if bare.count(b":") != _count_names(value):
        raise ValueError("an object in the request has the same name twice")
    return value


def _depth(bare: bytes) -> int:
    """How deep brackets nest in JSON without its strings."""
    if bare.count(b"[") + bare.count(b"{") <= DEEPEST_NESTING:
        return 0
    depth = deepest = 0
    for bracket in _BRACKETS.findall(bare):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _count_names(value: Json) -> int:
    """How many names the objects in a value have in all: one colon each in the text, unless a name came twice."""
    if isinstance(value, dict):
        return len(value) + sum(map(_count_names, value.values()))
    if isinstance(value, list):
        return sum(map(_count_names, value))
    return 0
