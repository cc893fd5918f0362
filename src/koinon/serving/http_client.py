"""httpx with limits on time and length, and with our errors."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from koinon.kernel.errors import Expired, Unavailable
from koinon.kernel.quantities import Seconds

if TYPE_CHECKING:
    import httpx


class _Problem(msgspec.Struct):
    error: str


class BoundedHttp:
    """An HTTP client whose every request is bounded. Open it with ``open_http``."""

    def __init__(self, client: "httpx.AsyncClient") -> None:
        self._client = client

    async def get(self, url: str, /, *, timeout: Seconds, limit: int) -> bytes:
        """The body of a 200 answer. Raises Unavailable for anything else, Expired for one that comes late."""
        status, _, body = await self.request("GET", url, timeout=timeout, limit=limit)
        if status != 200:
            raise Unavailable(f"{url} answered with status {status}: {error_sentence(body)}")
        return body

    async def request(
        self,
        method: str,
        url: str,
        /,
        *,
        timeout: Seconds,
        limit: int,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of an answer of at most ``limit`` bytes, whatever its status."""
        import httpx

        try:
            async with (
                asyncio.timeout(timeout),
                self._client.stream(method, url, content=content, headers=headers) as answer,
            ):
                body = bytearray()
                async for chunk in answer.aiter_bytes():
                    body += chunk
                    if len(body) > limit:
                        raise Unavailable(f"{url} answers with more than {limit} bytes")
                return answer.status_code, answer.headers, bytes(body)
        except TimeoutError:
            raise Expired(f"{url} did not answer within {timeout:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL) as problem:
            raise Unavailable(f"{url} cannot be reached: {type(problem).__name__}") from None


@asynccontextmanager
async def open_http() -> AsyncIterator[BoundedHttp]:
    """An HTTP client without proxies from the environment, redirects or cookies of its own."""
    import httpx

    async with httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=None) as client:  # noqa: S113
        yield BoundedHttp(client)


def error_sentence(body: bytes) -> str:
    """The sentence in ``{"error": …}``, at most 300 characters."""
    try:
        return msgspec.json.decode(body, type=_Problem).error[:300]
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "no reason given"
