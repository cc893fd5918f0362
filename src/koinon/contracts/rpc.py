"""JSON-RPC of an EVM chain over HTTP, with several addresses of which one must answer.

Everything that comes back is hostile: bounded in size and time, and read by strict parsers.
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from koinon.kernel.errors import Expired, InvalidInput, MalformedMessage, Unavailable
from koinon.kernel.quantities import Seconds

if TYPE_CHECKING:
    import httpx

ANSWER_LIMIT: Final = 32 * 1024 * 1024
REQUEST_SECONDS: Final = Seconds(20.0)
_LIMIT_EXCEEDED: Final = -32005
_PAUSES: Final = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Seconds between attempts at a request that the chain's node put off because too much waits there (EIP-1474)."""


class RpcError(Unavailable):
    """The chain answered a request with an error.

    Attributes:
        code: JSON-RPC error code.
        data: revert data where the error carries some, else empty.
    """

    def __init__(self, method: str, code: int, message: str, data: bytes = b"") -> None:
        super().__init__(f"the chain refused {method}: {message[:300]} (code {code})")
        self.code = code
        self.message = message
        self.data = data


class Rpc(Protocol):
    """One request to a chain."""

    async def request(self, method: str, parameters: Sequence[object]) -> Any:
        """The result, as JSON values.

        Raises:
            RpcError: the chain answered with an error.
            Unavailable: no address gave an answer that can be read.
        """

    async def close(self) -> None:
        """Give connections back."""


class _Failure(msgspec.Struct):
    code: int = 0
    message: str = ""
    data: Any = None


class _Answer(msgspec.Struct):
    result: Any = None
    error: _Failure | None = None


class HttpRpc:
    """JSON-RPC over HTTP. Tries the addresses in turn, beginning with the one that answered last."""

    def __init__(self, urls: Sequence[str], timeout: Seconds = REQUEST_SECONDS) -> None:
        for url in urls:
            if not url.startswith(("http://", "https://")):
                raise InvalidInput(f"the address of a chain starts with http:// or https://; got {url[:80]!r}")
        if not urls:
            raise InvalidInput("a chain client needs the address of at least one chain node")
        self._urls = tuple(urls)
        self._timeout = timeout
        self._preferred = 0
        self._sequence = 0
        self._client: httpx.AsyncClient | None = None

    async def request(self, method: str, parameters: Sequence[object]) -> Any:
        """See ``Rpc``."""
        self._sequence += 1
        body = msgspec.json.encode(
            {"jsonrpc": "2.0", "id": self._sequence, "method": method, "params": list(parameters)}
        )
        answer = await self._ask(body, method)
        for pause in _PAUSES:
            if answer.error is None or answer.error.code != _LIMIT_EXCEEDED:
                break
            await asyncio.sleep(pause)
            answer = await self._ask(body, method)
        if answer.error is not None:
            error = answer.error
            raise RpcError(method, error.code, error.message, revert_data(error.data))
        return answer.result

    async def _ask(self, body: bytes, method: str) -> _Answer:
        """The first answer of an address, beginning with the one that answered last. Raises Unavailable."""
        problems: list[Unavailable] = []
        for turn in range(len(self._urls)):
            index = (self._preferred + turn) % len(self._urls)
            try:
                answer = await self._post(self._urls[index], body, method)
            except Unavailable as problem:
                problems.append(problem)
                continue
            self._preferred = index
            return answer
        if len(problems) == 1:
            raise problems[0]
        raise Unavailable("no address of the chain answers: " + "; ".join(map(str, problems)))

    async def _post(self, url: str, body: bytes, method: str) -> _Answer:
        import httpx

        if self._client is None:
            # No environment proxies: the address of the chain is the one the operator configured.
            self._client = httpx.AsyncClient(timeout=self._timeout, trust_env=False)
        received = bytearray()
        try:
            async with self._client.stream(
                "POST", url, content=body, headers={"Content-Type": "application/json"}
            ) as response:
                async for piece in response.aiter_bytes():
                    received += piece
                    if len(received) > ANSWER_LIMIT:
                        raise Unavailable(f"{url} answers {method} with more than {ANSWER_LIMIT} bytes; ask for less")
                status = response.status_code
        except httpx.TimeoutException:
            raise Expired(f"{url} did not answer {method} within {self._timeout:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL) as problem:
            raise Unavailable(f"{url} cannot be reached ({type(problem).__name__}); is the chain running?") from None
        try:
            answer = msgspec.json.decode(received, type=_Answer)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Unavailable(f"{url} answers {method} with status {status} and no JSON-RPC") from None
        if status >= 500 and answer.error is None:
            raise Unavailable(f"{url} answers {method} with status {status}")
        return answer

    async def close(self) -> None:
        """See ``Rpc``."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None


# ------------------------------------------------------------------------------------------------ JSON values


def revert_data(data: object) -> bytes:
    """Revert data out of an error's ``data``, in the forms that clients use; empty where there is none."""
    if isinstance(data, dict):
        return revert_data(data.get("data", data.get("result")))
    if isinstance(data, str):
        digits = data.removeprefix("Reverted ").removeprefix("0x")
        try:
            return bytes.fromhex(digits)
        except ValueError:
            return b""
    return b""


def quantity(value: object, what: str) -> int:
    """A ``0x`` number. Raises MalformedMessage for anything else."""
    if not isinstance(value, str) or not value.startswith("0x") or len(value) > 66:
        raise MalformedMessage(f"the chain's {what} is no quantity")
    try:
        return int(value, 16)
    except ValueError:
        raise MalformedMessage(f"the chain's {what} is no quantity") from None


def binary(value: object, what: str, length: int | None = None) -> bytes:
    """``0x`` bytes, of ``length`` where it is given. Raises MalformedMessage for anything else."""
    if not isinstance(value, str) or not value.startswith("0x"):
        raise MalformedMessage(f"the chain's {what} is not in hexadecimal")
    try:
        data = bytes.fromhex(value[2:])
    except ValueError:
        raise MalformedMessage(f"the chain's {what} is not in hexadecimal") from None
    if length is not None and len(data) != length:
        raise MalformedMessage(f"the chain's {what} has {len(data)} bytes, not {length}")
    return data
