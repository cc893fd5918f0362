"""The door of the site: what may ask, how long an address may be, and which headers every answer carries."""

from collections.abc import Callable
from typing import Final

from fastapi import Request
from fastapi.responses import Response
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from koinon.gateway.problems import problem
from koinon.gateway.views.parts import ProblemPage

LONGEST_ADDRESS: Final = 2_048
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
METHODS: Final = ("GET", "HEAD")
HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}

Refuse = Callable[[Request, ProblemPage], Response]


class Guard:
    """ASGI middleware: refuses at the edge, and adds the headers.

    Args:
        hosts: names under which this site may be asked, besides the loopback's.
        refuse: writes the answer for a refusal.
    """

    def __init__(self, app: ASGIApp, hosts: tuple[str, ...], refuse: Refuse) -> None:
        self.app = app
        self.hosts = LOOPBACK | {host.lower() for host in hosts}
        self.refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                if scope["path"].startswith("/static/vendor/"):
                    headers["cache-control"] = "public, max-age=86400"
            await send(message)

        refusal = self._refusal(scope)
        if refusal is None:
            await self.app(scope, receive, send_with_headers)
        else:
            await self.refuse(Request(scope), refusal)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> ProblemPage | None:
        if scope["method"] not in METHODS:
            return problem(405)
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > LONGEST_ADDRESS:
            scope["query_string"] = b""
            return problem(414)
        host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1").lower()
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        return None if name in self.hosts else problem(421)
