"""The site as an ASGI application: one table of pages, each as HTML and, under ``/api``, as the same facts in JSON.

It reads and never writes: only GET and HEAD exist, there is no cookie and no session, and no request reaches the chain
node with anything but numbers, hashes and names that were checked here.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles

from koinon.gateway.guard import HEADERS, Guard
from koinon.gateway.problems import problem_of
from koinon.gateway.rendering import FOLDER, render
from koinon.gateway.source import ChainSource
from koinon.gateway.views.parts import ProblemPage, View
from koinon.gateway.words import Language, choose_language
from koinon.kernel.errors import InvalidInput, KoinonError
from koinon.kernel.ids import parse_hash, to_hex

NAME: Final = re.compile(r"[a-z0-9]([a-z0-9]|[.-](?=[a-z0-9])){2,63}")
NUMBER: Final = re.compile(r"[0-9]{1,15}")

Build = Callable[[ChainSource, Request], Awaitable[View]]


@dataclass(frozen=True, slots=True)
class Page:
    """One page: its address, its template, and how its view model is made from a request."""

    path: str
    template: str
    build: Build


PAGES: Final = (
    Page("/", "network.html", lambda source, _: source.network()),
    Page("/studies", "studies.html", lambda source, _: source.studies()),
    Page("/studies/{number}", "study.html", lambda source, request: source.study(number_in(request, "number"))),
    Page("/models", "models.html", lambda source, _: source.models()),
    Page("/models/{name}", "model.html", lambda source, request: source.model(name_in(request))),
    Page("/budgets", "budgets.html", lambda source, _: source.budgets()),
    Page("/budgets/{asset}", "budget.html", lambda source, request: source.budget(number_in(request, "asset"))),
    Page("/receipts", "receipts.html", lambda source, _: source.receipts()),
    Page(
        "/settlement/{service}",
        "settlement.html",
        lambda source, request: source.settlement(number_in(request, "service")),
    ),
    Page("/blocks", "blocks.html", lambda source, request: source.blocks(before_in(request))),
    Page("/blocks/{height}", "block.html", lambda source, request: source.block(number_in(request, "height"))),
    Page(
        "/transactions/{hash}",
        "transaction.html",
        lambda source, request: source.transaction(to_hex(parse_hash(request.path_params["hash"]))),
    ),
)


def create_application(source: ChainSource, hosts: tuple[str, ...] = ()) -> FastAPI:
    """The whole site.

    Args:
        source: where facts come from; the application follows the chain while it runs.
        hosts: names besides the loopback's under which browsers may ask for this site. Others are refused, so that
            a page elsewhere cannot read this one through a name of its own (DNS rebinding).
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with source.following():
            yield
        source.changes.close()

    application = FastAPI(title="Koinon", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    for page in PAGES:
        application.add_api_route(page.path, _html(source, page), methods=["GET", "HEAD"])
        application.add_api_route(f"/api{page.path}", _json(source, page), methods=["GET", "HEAD"])
    application.add_api_route("/find", _find(source), methods=["GET", "HEAD"])
    application.add_api_route("/healthz", _health(source), methods=["GET", "HEAD"])
    application.add_api_route("/events", _events(source), methods=["GET"])
    application.mount("/static", StaticFiles(directory=FOLDER / "static"), name="static")
    for expected in (KoinonError, 404, 405, Exception):
        application.add_exception_handler(expected, _failed)
    application.add_middleware(Guard, hosts=hosts, refuse=_refused)
    return application


# What a request says -------------------------------------------------------------------------------------------------


def number_in(request: Request, name: str) -> int:
    """A number in the address. Raises InvalidInput unless it is at most 15 digits."""
    return _number(request.path_params[name])


def before_in(request: Request) -> int | None:
    """The height under which to list blocks, where the address asks for it."""
    text = request.query_params.get("before")
    return None if text is None else _number(text)


def name_in(request: Request) -> str:
    """A name in the address. Raises InvalidInput where it could not be a name on the chain."""
    text = request.path_params["name"]
    if NAME.fullmatch(text) is None:
        raise InvalidInput(
            "A name has 3 to 64 lower-case letters, digits, '-' or '.', which stand neither first, last nor together."
        )
    return str(text)


def language_of(request: Request) -> Language:
    """The language this request should be answered in."""
    return choose_language(request.query_params.get("lang"), request.headers.get("accept-language"))


def _number(text: str) -> int:
    if NUMBER.fullmatch(text) is None:
        raise InvalidInput("A number in the address has 1 to 15 digits and nothing else.")
    return int(text)


# Answers -------------------------------------------------------------------------------------------------------------


def _html(source: ChainSource, page: Page) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        view = await page.build(source, request)
        return _page(request, page.template, view)

    return answer


def _json(source: ChainSource, page: Page) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return _facts(await page.build(source, request))

    return answer


def _find(source: ChainSource) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        wanted = request.query_params.get("q", "")[:128]
        place = await source.find(wanted)
        if place is None:
            raise InvalidInput(
                "Nothing on this chain is known by that text; try a name, a height, a hash, or “study 1”."
            )
        language = request.query_params.get("lang")
        return RedirectResponse(place + (f"?lang={language_of(request)}" if language else ""), status_code=303)

    return answer


def _health(source: ChainSource) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_: Request) -> Response:
        return _facts(await source.health())

    return answer


def _events(source: ChainSource) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_: Request) -> Response:
        source.changes.check_room()
        return StreamingResponse(
            source.changes.stream(), media_type="text/event-stream", headers={"cache-control": "no-store"}
        )

    return answer


async def _failed(request: Request, error: Exception) -> Response:
    response = _refused(request, problem_of(error, request.url.path))
    response.headers.update(HEADERS)  # an answer to an unforeseen error does not pass the guard on its way out
    return response


def _refused(request: Request, problem: ProblemPage) -> Response:
    if request.url.path.startswith(("/api", "/healthz", "/events")):
        return _facts(problem, problem.status)
    return _page(request, "problem.html", problem, problem.status)


def _page(request: Request, template: str, view: View, status: int = 200) -> Response:
    asked = request.query_params.get("lang")
    html = render(template, view, language_of(request), request.url.path, explicit=asked in ("en", "zh"))
    return HTMLResponse(html, status_code=status, headers={"vary": "accept-language", "cache-control": "no-cache"})


def _facts(view: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(view), status, {"cache-control": "no-cache"}, "application/json")
