"""Every sentence of ours has its Chinese, with the same gaps; numbers are written exactly."""

import ast
import re
import string
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
from gateway_world import NAME
from hypothesis import given
from hypothesis import strategies as st

import koinon.gateway
from koinon.gateway import words
from koinon.gateway.origins import sentence
from koinon.gateway.pages.calling import PLAIN_ADDRESS, ways_to_call
from koinon.gateway.pages.vectors import LABELS, place
from koinon.gateway.words import chinese, choose_language, say
from koinon.gateway.writing import exact_decimal, exact_time, shorten
from koinon.trust import vector as trust

FOLDER = Path(koinon.gateway.__file__).parent
LATIN_ALIKE = re.compile(r"[\d\W_]*")


def gaps(text: str) -> list[str]:
    return sorted(field for _, field, _, _ in string.Formatter().parse(text) if field)


def sentences() -> set[str]:
    """Every text that a template or a view gives to the reader."""
    found: set[str] = set()
    for template in (FOLDER / "templates").glob("*.html"):
        text = template.read_text("utf-8")
        found |= set(re.findall(r"\b_\(\s*'([^']+)'", text))
        found |= {
            part for pair in re.findall(r"marks\.(?:empty|state)\('([^']+)'(?:, '([^']+)')?", text) for part in pair
        }
    for module in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "sentence":
                found |= {
                    part.value
                    for part in ast.walk(node.args[0])
                    if isinstance(part, ast.Constant) and isinstance(part.value, str)
                }
    return found - {""}


def test_the_scan_finds_the_sentences() -> None:
    assert len(sentences()) > 250


def test_every_sentence_has_chinese() -> None:
    known = chinese()
    missing = {one for one in sentences() if one not in known and not LATIN_ALIKE.fullmatch(one)}
    missing |= {label for label in LABELS.values() if label not in known}
    missing |= {kind.unit for kind in trust.KINDS.values()} - set(known)
    assert missing == set()


def test_chinese_fills_the_same_gaps() -> None:
    assert {english: text for english, text in chinese().items() if gaps(english) != gaps(text)} == {}


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/studies/1",
        "/studies/2",
        "/studies/3",
        f"/models/{NAME}",
        "/settlement/5",
        "/budgets",
        "/budgets/1",
        "/budgets/2",
    ],
)
async def test_no_word_of_ours_stays_english_on_a_chinese_page(
    browser: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    missed: set[str] = set()

    class Recording(dict[str, str]):
        def get(self, key: str, default: str = "") -> str:  # type: ignore[override]
            if key not in self and re.search("[a-zA-Z]", key):
                missed.add(key)
            return super().get(key, default)

    table = Recording(chinese())
    monkeypatch.setattr(words, "chinese", lambda: table)
    assert (await browser.get(path, params={"lang": "zh"})).status_code == 200
    # What may stay: short addresses, names that people gave, and the hexadecimal of the chain.
    stays = re.compile(rf"0x[0-9a-f]+(…[0-9a-f]+)?|{re.escape(NAME)}.*")
    meanings = {kind.meaning for kind in trust.KINDS.values()}  # another room's words; shown on hover, English if new
    assert {one for one in missed - meanings if not stays.fullmatch(one)} == set()


@pytest.mark.parametrize(
    ("asked", "accepted", "language"),
    [
        (None, None, "en"),
        ("zh", "en", "zh"),
        ("en", "zh", "en"),
        ("fr", "zh-TW", "zh"),
        (None, "en;q=0.2, zh;q=0.9", "zh"),
        (None, "zh;q=0, en", "en"),
        (None, "zh;q=²", "en"),
        (None, ";q=1," * 500, "en"),
    ],
)
def test_language_is_chosen(asked: str | None, accepted: str | None, language: str) -> None:
    assert choose_language(asked, accepted) == language


def test_a_sentence_within_a_sentence_is_translated_too() -> None:
    nested = sentence("Attempt {number} gave no result: {reason}.", number=2, reason=sentence("complaint"))
    assert say(nested, "zh") == "第 2 次尝试没有结果：投诉。"
    assert say(nested, "en") == "Attempt 2 gave no result: complaint."


@given(st.integers(-(10**40), 10**40), st.integers(0, 30), st.integers(0, 4))
def test_amounts_are_written_exactly(units: int, decimals: int, least: int) -> None:
    written = exact_decimal(units, decimals, least=min(least, decimals))
    plain = written.replace(",", "").replace("−", "-")
    sign, digits, exponent = Decimal(plain).as_tuple()
    assert isinstance(exponent, int)
    value = int("".join(map(str, digits))) * 10 ** (decimals + exponent)
    assert (-value if sign else value) == units


@given(st.integers(-(10**18), 10**18))
def test_every_time_can_be_written(unix: int) -> None:
    assert exact_time(unix).endswith((" UTC", " s"))


@given(st.text(max_size=100))
def test_short_forms_keep_both_ends(text: str) -> None:
    assert len(shorten(text)) <= 13
    assert shorten(text).startswith(text[:6])
    assert shorten(text).endswith(text[-4:] if len(text) > 4 else text)


@pytest.mark.parametrize("name", sorted(trust.GRADE_BOUNDS))
def test_the_rings_of_the_radar_are_the_bounds_of_the_grades(name: str) -> None:
    a, b, c = trust.GRADE_BOUNDS[name]
    assert [place(name, bound) for bound in (c, b, a)] == [250_000, 500_000, 750_000]


@given(st.sampled_from(sorted(trust.GRADE_BOUNDS)), st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1))
def test_a_better_value_never_stands_lower(name: str, one: int, other: int) -> None:
    better = max(one, other) if trust.KINDS[name].higher_is_better else min(one, other)
    worse = one + other - better
    placed, below = place(name, better), place(name, worse)
    assert placed is not None
    assert below is not None
    assert 0 <= below <= placed <= trust.SCALE


@given(st.text(max_size=200))
def test_only_plain_addresses_reach_a_command(url: str) -> None:
    texts = "".join(call.text for call in ways_to_call(NAME, [url]))
    if PLAIN_ADDRESS.fullmatch(url) is None:
        assert "curl" not in texts
        assert "tritonclient" not in texts


@pytest.mark.parametrize(
    "url",
    [
        "http://x\nrm",
        "http://x y",
        "http://x'",
        "http://x$(id)",
        "http://user:pass@x",
        "ftp://x",
        "http://x/?q=1",
        "http://x/#",
        "",
    ],
)
def test_addresses_of_another_form_are_left_out(url: str) -> None:
    assert PLAIN_ADDRESS.fullmatch(url) is None
