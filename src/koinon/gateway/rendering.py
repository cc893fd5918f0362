"""From a view model to HTML: the templates, and how numbers, times and hashes are written.

Everything that comes from the chain is hostile text; the environment escapes all of it, and no template switches that
off.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import jinja2
from markupsafe import Markup

from koinon.gateway import figures
from koinon.gateway.views.parts import Quantity, Sentence, View
from koinon.gateway.words import Language, say
from koinon.gateway.writing import clip, exact_decimal, exact_time, grouped, iso_time, measured, rounded, shorten

FOLDER: Final = Path(__file__).parent
_UNIT_WORDS: Final = {
    "wei": "ether",
    "gas": "gas",
    "count": "",
    "ppm": "",
    "seconds": "s",
    "bytes": "bytes",
    "percent": "%",
    "basis points": "%",
}


@cache
def environment() -> jinja2.Environment:
    """The templates, all of them escaping, none silent about a missing name."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        short=shorten,
        clip=clip,
        exact_time=exact_time,
        iso_time=iso_time,
        grouped=grouped,
        decimal=exact_decimal,
        measured=measured,
        rounded=rounded,
    )
    return made


def render(template: str, page: View, language: Language, path: str, *, explicit: bool = False) -> str:
    """One whole page as HTML.

    Args:
        template: its file name in ``templates``.
        page: the view model; the template knows it as ``page``.
        language: of every word that is ours.
        path: of the request, for the navigation and the machine-readable twin.
        explicit: whether the reader chose the language by the address; links then keep it.
    """
    return (
        environment()
        .get_template(template)
        .render(
            page=page,
            path=path,
            language=language,
            _=translator(language),
            figure=lambda kind, *given: figures.FIGURES[kind](page, language, *given),
            provenance=lambda upright: figures.drawing(page, language, upright),
            to=lambda place, **query: _link(place, query | ({"lang": language} if explicit else {})),
            written=lambda quantity: write_quantity(quantity, getattr(page, "head", None), language),
        )
    )


def _link(place: str, query: dict[str, object]) -> str:
    return f"{quote(place, safe='/')}?{urlencode(query)}" if query else quote(place, safe="/")


def translator(language: Language) -> Callable[..., str]:
    """``_(text, **values)`` for a template; text may be a Sentence. The result is plain text, escaped when printed."""

    def translate(text: str | Sentence, **values: Any) -> str:
        return say(Sentence(text=text, values=values) if isinstance(text, str) and values else text, language)

    return translate


def write_quantity(quantity: Quantity, head: Any, language: Language) -> Markup:
    """A number with its unit, exact: digits are never rounded away, only trailing zeros."""
    symbol = head.symbol if head is not None else ""
    decimals = head.decimals if head is not None else 0
    match quantity.unit:
        case "token":
            number, unit = exact_decimal(quantity.value, decimals, least=min(2, decimals)), symbol
        case "wei":
            number, unit = exact_decimal(quantity.value, 18), say("ether", language)
        case "ppm":
            number, unit = measured(quantity.value), ""
        case "basis points":
            number, unit = exact_decimal(quantity.value, 2), "%"
        case _:
            number, unit = grouped(quantity.value), say(_UNIT_WORDS[quantity.unit], language)
    if not unit:
        return Markup('<span class="amount">{}</span>').format(number)
    return Markup('<span class="amount">{}</span> <span class="unit">{}</span>').format(number, unit)
