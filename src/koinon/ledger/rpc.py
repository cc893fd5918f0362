"""JSON-RPC over HTTP as an ASGI application: bounded requests, batches, standard error codes.

Only ``POST /`` with ``Content-Type: application/json`` is answered, and no CORS header is ever sent: a web page of
another origin can neither read an answer nor, because of the content type, cause a request. On a loopback address the
``Host`` must be a loopback name as well, so that a name which a stranger points at 127.0.0.1 does not help either.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import msgspec

from koinon.kernel.errors import Forged, InvalidInput, KoinonError, Refused, Unavailable

MAXIMUM_BODY_BYTES: Final = 2 * 1024 * 1024
MAXIMUM_BATCH: Final = 200
BODY_SECONDS: Final = 10.0
DEEPEST_NESTING: Final = 32

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMETERS: Final = -32602
INTERNAL_ERROR: Final = -32603
SERVER_ERROR: Final = -32000
UNAVAILABLE: Final = -32001
REVERTED: Final = 3

_LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_STRINGS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"')
_BRACKETS: Final = re.compile(rb"[\[\]{}]")
_log: Final = logging.getLogger("koinon.ledger.rpc")

Method = Callable[[list[Any]], Awaitable[Any]]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Reverted(KoinonError):
    """A call that the contract reverted; ``data`` is what it returned."""

    def __init__(self, reason: str, data: bytes) -> None:
        super().__init__(reason)
        self.data = data


class RpcApplication:
    """An ASGI application over a table of methods.

    Args:
        loopback: whether only requests that name a loopback host are answered.
    """

    def __init__(self, methods: dict[str, Method], *, loopback: bool) -> None:
        self._methods = methods
        self._loopback = loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        status, body = await self._answer(scope, receive)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if status == 405:
            headers.append((b"allow", b"POST"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, bytes]:
        headers = dict(scope["headers"])
        if scope["method"] != "POST":
            return 405, _failure(None, INVALID_REQUEST, "send JSON-RPC with POST")
        if scope["path"] != "/":
            return 404, _failure(None, INVALID_REQUEST, "JSON-RPC is answered at / only")
        if headers.get(b"content-type", b"").split(b";")[0].strip().lower() != b"application/json":
            return 415, _failure(None, INVALID_REQUEST, "the content type must be application/json")
        host = headers.get(b"host", b"").decode("latin-1").rsplit(":", 1)[0].lower()
        if self._loopback and host not in _LOOPBACK_NAMES:
            return 403, _failure(None, INVALID_REQUEST, "this RPC answers requests to localhost only")
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _read_body(receive)
        except TimeoutError:
            return 408, _failure(None, INVALID_REQUEST, f"the request did not arrive within {BODY_SECONDS:.0f} seconds")
        if body is None:
            return 413, _failure(None, INVALID_REQUEST, f"a request has at most {MAXIMUM_BODY_BYTES} bytes")
        if _nests_too_deeply(body):
            return 200, _failure(None, PARSE_ERROR, f"a request nests at most {DEEPEST_NESTING} deep")
        try:
            request = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return 200, _failure(None, PARSE_ERROR, "the request is not JSON")
        if not isinstance(request, list):
            return 200, await self._answer_one(request) or b""
        if not request:
            return 200, _failure(None, INVALID_REQUEST, "a batch holds at least one request")
        if len(request) > MAXIMUM_BATCH:
            return 200, _failure(None, INVALID_REQUEST, f"a batch holds at most {MAXIMUM_BATCH} requests")
        answers = [answer for entry in request if (answer := await self._answer_one(entry)) is not None]
        return 200, b"[" + b",".join(answers) + b"]" if answers else b""

    async def _answer_one(self, request: Any) -> bytes | None:
        """The answer to one request; None to a notification."""
        if not isinstance(request, dict) or request.get("jsonrpc") != "2.0":
            return _failure(None, INVALID_REQUEST, 'a request is an object with "jsonrpc": "2.0"')
        name, parameters, identifier = request.get("method"), request.get("params", []), request.get("id")
        if not isinstance(name, str) or not isinstance(parameters, list | dict):
            return _failure(None, INVALID_REQUEST, "a request has a method name and a list of parameters")
        if isinstance(identifier, bool) or not isinstance(identifier, str | int | float | None):
            return _failure(None, INVALID_REQUEST, "the id of a request is a string or a number")
        answer = await self._call(name, parameters, identifier)
        return answer if "id" in request else None

    async def _call(self, name: str, parameters: list[Any] | dict[str, Any], identifier: Any) -> bytes:
        method = self._methods.get(name)
        if method is None:
            return _failure(identifier, METHOD_NOT_FOUND, f"the method {name[:80]!r} does not exist here")
        if isinstance(parameters, dict):
            return _failure(identifier, INVALID_PARAMETERS, f"the parameters of {name} are a list")
        try:
            result = await method(parameters)
        except Reverted as problem:
            return _failure(identifier, REVERTED, str(problem), "0x" + problem.data.hex())
        except (Refused, Forged) as problem:
            return _failure(identifier, SERVER_ERROR, str(problem))
        except InvalidInput as problem:
            return _failure(identifier, INVALID_PARAMETERS, str(problem))
        except Unavailable as problem:
            return _failure(identifier, UNAVAILABLE, str(problem))
        except Exception:
            _log.exception("the method %s failed", name)
            return _failure(identifier, INTERNAL_ERROR, f"the node could not answer {name}; its log says why")
        return msgspec.json.encode({"jsonrpc": "2.0", "id": identifier, "result": result})


async def _read_body(receive: Receive) -> bytes | None:
    """The whole body; None if it is too large."""
    parts: list[bytes] = []
    size = 0
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            return b""
        part = event.get("body", b"")
        size += len(part)
        if size > MAXIMUM_BODY_BYTES:
            return None
        parts.append(part)
        if not event.get("more_body", False):
            return b"".join(parts)


def _nests_too_deeply(body: bytes) -> bool:
    """Whether brackets nest beyond the limit; the decoder recurses for each, and only Python's limit would stop it."""
    if body.count(b"[") + body.count(b"{") <= DEEPEST_NESTING:
        return False
    depth = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub(b"", body)):
        depth += 1 if bracket in b"[{" else -1
        if depth > DEEPEST_NESTING:
            return True
    return False


def _failure(identifier: Any, code: int, reason: str, data: str | None = None) -> bytes:
    error: dict[str, Any] = {"code": code, "message": reason}
    if data is not None:
        error["data"] = data
    return msgspec.json.encode({"jsonrpc": "2.0", "id": identifier, "error": error})
