"""The edge of the data plane: headers, bodies and their limits, before anything is believed."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from koinon.kernel.errors import InvalidInput, KoinonError
from koinon.kernel.quantities import Seconds
from koinon.market.payments import Credentials

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers: TypeAlias = list[tuple[bytes, bytes]]

_LONGEST_INTEGER: Final = 20


@dataclass(frozen=True)
class RequestLimits:
    """What one caller may ask of the data plane at once.

    Attributes:
        body_bytes: longest request body, before and after decompression.
        rows: most rows in one call.
        calls: calls in progress at the same time; more are answered 429.
        body_seconds: time for the body to arrive after the headers.
        answer_seconds: time for gate, model and log together.
    """

    body_bytes: int = 4 * 1024 * 1024
    rows: int = 4096
    calls: int = 256
    body_seconds: Seconds = field(default=Seconds(10.0))
    answer_seconds: Seconds = field(default=Seconds(30.0))


class HttpProblem(KoinonError):
    """A request that HTTP's own status codes describe better than the error tree."""

    def __init__(self, status: int, reason: str, *headers: tuple[bytes, bytes]) -> None:
        self.status = status
        self.headers = headers
        super().__init__(reason)


@dataclass(frozen=True)
class CallHeaders:
    """The headers of a call that mean something here; each may come once."""

    content_length: int | None
    header_length: int | None
    encoding: str
    credentials: Credentials

    @classmethod
    def read(cls, headers: Headers) -> "CallHeaders":
        """Raises InvalidInput for a repeated or unreadable header that matters."""
        known: dict[bytes, str] = {}
        for name, value in headers:
            if name in _MEANT:
                if name in known:
                    raise InvalidInput(f"the header {name.decode()} is sent twice")
                known[name] = value.decode("latin-1").strip()
        encoding = known.get(b"content-encoding", "identity").lower() or "identity"
        if encoding not in ("identity", "gzip", "deflate"):
            raise HttpProblem(415, "the content encoding must be gzip, deflate or none")
        return cls(
            _integer(known, b"content-length"),
            _integer(known, b"inference-header-content-length"),
            encoding,
            Credentials(known.get(b"koinon-pass", ""), known.get(b"koinon-voucher", "")),
        )


_MEANT: Final = frozenset(
    (
        b"content-length",
        b"content-encoding",
        b"inference-header-content-length",
        b"koinon-pass",
        b"koinon-voucher",
    )
)


def parse_integer(text: str, name: str) -> int:
    """Read a decimal number of at most 20 digits. Raises InvalidInput for anything else."""
    if not (text.isascii() and text.isdigit()) or len(text) > _LONGEST_INTEGER:
        raise InvalidInput(f"{name} must be a decimal number")
    return int(text)


def _integer(known: Mapping[bytes, str], name: bytes) -> int | None:
    text = known.get(name)
    return None if text is None else parse_integer(text, f"the header {name.decode()}")


def _decompress(body: bytes | bytearray, encoding: str, limit: int, too_long: KoinonError) -> bytes:
    inflate = zlib.decompressobj(31 if encoding == "gzip" else 15)
    try:
        plain = inflate.decompress(body, limit + 1)
    except zlib.error:
        raise InvalidInput(f"the request body is not {encoding} data") from None
    if len(plain) > limit:
        raise too_long
    if not inflate.eof or inflate.unused_data:
        raise InvalidInput(f"the {encoding} request body is cut short or has something behind its end")
    return plain


def check_method(scope: Scope, method: str) -> None:
    """Raises HttpProblem 405 for another method."""
    allowed = ("GET", "HEAD") if method == "GET" else (method,)
    if scope["method"] not in allowed:
        raise HttpProblem(405, f"this address takes {method} only", (b"allow", ", ".join(allowed).encode()))


async def read_body(headers: CallHeaders, receive: Receive, limits: RequestLimits) -> bytes:
    """The body of a request, decompressed. Raises HttpProblem or InvalidInput where it is late, too long or damaged."""
    limit = limits.body_bytes
    too_long = HttpProblem(413, f"the request body is longer than the {limit} bytes allowed; send fewer rows")
    if headers.content_length is not None and headers.content_length > limit:
        raise too_long
    try:
        async with asyncio.timeout(limits.body_seconds):
            message = await receive()
            body: bytes | bytearray = message.get("body", b"")
            if message.get("more_body"):
                body = bytearray(body)
                while message.get("more_body"):
                    if len(body) > limit:
                        raise too_long
                    message = await receive()
                    body += message.get("body", b"")
    except TimeoutError:
        raise HttpProblem(
            408, f"the request body did not arrive within {limits.body_seconds:g} s", (b"connection", b"close")
        ) from None
    if message["type"] == "http.disconnect":
        raise HttpProblem(400, "the caller left before the request was complete")
    if len(body) > limit:
        raise too_long
    if headers.encoding == "identity":
        return bytes(body)
    return _decompress(body, headers.encoding, limit, too_long)
