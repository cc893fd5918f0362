"""Identifiers in hexadecimal, and errors that name suspects."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koinon.kernel.errors import (
    Expired,
    InvalidInput,
    KoinonError,
    MalformedMessage,
    ProtocolAbort,
    Refused,
    Unavailable,
)
from koinon.kernel.ids import parse_address, parse_hash, parse_node_id, to_hex

PARSERS = [(parse_node_id, 32), (parse_address, 20), (parse_hash, 32)]


@pytest.mark.parametrize(("parse", "size"), PARSERS)
@given(data=st.data())
def test_hexadecimal_comes_back(parse: object, size: int, data: st.DataObject) -> None:
    value = data.draw(st.binary(min_size=size, max_size=size))
    text = to_hex(value)
    for spelling in (text, text[2:], text.upper().replace("0X", "0x")):
        assert parse(spelling) == value  # type: ignore[operator]


@pytest.mark.parametrize(("parse", "size"), PARSERS)
@pytest.mark.parametrize("change", ["", "0", "00", "0x0x", " ", "\n", "g", "٣", "_"])
def test_anything_else_is_refused_with_its_length(parse: object, size: int, change: str) -> None:
    good = "ab" * size
    for text in (change, good + (change or "a"), (change or "a") + good, good[:-1] + (change or "z")):
        if text.removeprefix("0x") == good:
            continue
        if len(text) == len(good) and all(c in "0123456789abcdef" for c in text):
            continue
        with pytest.raises(InvalidInput, match=f"must be {2 * size} hexadecimal digits"):
            parse(text)  # type: ignore[operator]


def test_a_long_wrong_input_is_not_repeated_in_full() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_hash("x" * 10_000)
    assert len(str(caught.value)) < 300


def test_the_tree_of_errors_is_as_drawn() -> None:
    assert issubclass(MalformedMessage, InvalidInput)
    assert issubclass(Refused, InvalidInput)
    assert issubclass(Expired, Unavailable)
    assert issubclass(ProtocolAbort, KoinonError)
    assert not issubclass(Unavailable, InvalidInput)


def test_an_abort_names_its_suspects_in_order() -> None:
    problem = ProtocolAbort("a share does not add up", [3, 1])
    assert problem.suspects == {1, 3}
    assert str(problem) == "a share does not add up (one of: 1 and 3)"
    assert str(ProtocolAbort("nobody knows")) == "nobody knows"
