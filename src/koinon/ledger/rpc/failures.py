"""What a request that fails is answered with: a code, one sentence, and the data of a revert.

    -32700  the bytes are no JSON                     -32000  understood and refused
    -32600  the JSON is no request                    -32001  what is asked for is not there
    -32601  no such method                            -32005  one of the caller's limits is reached
    -32602  a parameter is not what the method takes       3  a contract took the call back; data holds its words
    -32603  a fault of the node

Sources: JSON-RPC 2.0 section 5.1, EIP-1474, and for 3 what go-ethereum made the custom.
"""

from typing import Any, Final

import msgspec

from koinon.kernel.errors import Forged, InvalidInput, KoinonError, Refused, Unavailable

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMETERS: Final = -32602
INTERNAL_ERROR: Final = -32603
SERVER_ERROR: Final = -32000
UNAVAILABLE: Final = -32001
LIMIT_EXCEEDED: Final = -32005
REVERTED: Final = 3


class Reverted(KoinonError):
    """A call that the contract reverted; ``data`` is what it returned."""

    def __init__(self, reason: str, data: bytes) -> None:
        super().__init__(reason)
        self.data = data


class LimitExceeded(Refused):
    """The caller has reached one of its limits, or asks for more than an answer may hold."""


_CODES: Final[tuple[tuple[type[KoinonError], int], ...]] = (
    (Reverted, REVERTED),
    (LimitExceeded, LIMIT_EXCEEDED),
    (Refused, SERVER_ERROR),
    (Forged, SERVER_ERROR),
    (InvalidInput, INVALID_PARAMETERS),
    (Unavailable, UNAVAILABLE),
)


def code_of(problem: KoinonError) -> int:
    """The code that belongs to an error raised on purpose."""
    return next((code for kind, code in _CODES if isinstance(problem, kind)), INTERNAL_ERROR)


def failure(identifier: Any, code: int, reason: str, data: str | None = None) -> bytes:
    """The encoded answer to a request that failed."""
    error: dict[str, Any] = {"code": code, "message": reason}
    if data is not None:
        error["data"] = data
    return msgspec.json.encode({"jsonrpc": "2.0", "id": identifier, "error": error})


def failure_of(identifier: Any, problem: KoinonError) -> bytes:
    """The encoded answer to a request that ``problem`` ended."""
    data = "0x" + problem.data.hex() if isinstance(problem, Reverted) else None
    return failure(identifier, code_of(problem), str(problem), data)
