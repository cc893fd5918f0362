"""Words for people: plain English and plain Chinese of the same sentences.

English text is the key; a sentence that has no Chinese yet is shown in English rather than not at all, and a test
lists every sentence of the templates and views that lacks one.
"""

from functools import cache
from importlib import resources
from typing import Final, Literal, TypeAlias, get_args

import msgspec

from koinon.gateway.views.parts import Sentence

Language: TypeAlias = Literal["en", "zh"]
LANGUAGES: Final[tuple[Language, ...]] = get_args(Language)


def choose_language(asked: str | None, accepted: str | None) -> Language:
    """The language of a page: what the address asks for, else the first of ours the browser accepts, else English."""
    if asked in LANGUAGES:
        return "zh" if asked == "zh" else "en"
    weighted: list[tuple[float, int, Language]] = []
    for position, entry in enumerate((accepted or "")[:200].split(",")):
        tag, _, parameter = entry.strip().partition(";")
        primary = tag.split("-")[0].lower()
        weight = _quality(parameter)
        if weight > 0 and primary in LANGUAGES:
            weighted.append((-weight, position, "zh" if primary == "zh" else "en"))
    return min(weighted)[2] if weighted else "en"


@cache
def chinese() -> dict[str, str]:
    """Every sentence of the site in Chinese, by its English text; ``chinese.json``."""
    return msgspec.json.decode(resources.files(__package__).joinpath("chinese.json").read_bytes(), type=dict[str, str])


def say(sentence: Sentence | str, language: Language) -> str:
    """The sentence in a language, its gaps filled. Values are plain text: escape the result where it becomes HTML."""
    text = sentence if isinstance(sentence, str) else sentence.text
    if language == "zh":
        text = chinese().get(text, text)
    if isinstance(sentence, str):
        return text
    filled = {
        name: say(value, language) if isinstance(value, Sentence) else value for name, value in sentence.values.items()
    }
    return text.format_map(filled)


def _quality(parameter: str) -> float:
    name, _, number = parameter.strip().partition("=")
    if name.strip() != "q":
        return 1.0
    digits = number.strip()
    return float(digits) if digits.replace(".", "", 1).isdecimal() and digits.isascii() else 0.0
