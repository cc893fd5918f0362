"""Every message ever released keeps its number, bytes, limit and answers; nothing else is let in."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_examples import description, example, recorded, released

from koinon.kernel import errors
from koinon.kernel.codec import encode
from koinon.kernel.errors import KoinonError, MalformedMessage, ProtocolAbort, Refused, Unavailable
from koinon.wire.catalogue import (
    Done,
    Failure,
    Message,
    expects_answer,
    limit_of,
    may_answer,
    message,
    number_of,
    pack,
    unpack,
)
from koinon.wire.failures import LONGEST_REASON, error_of, failure_of

RELEASED = released()
NUMBERS = list(RELEASED)


def test_every_message_is_recorded() -> None:
    missing = [f"{number:#06x} {kind.__name__}" for number, kind in RELEASED.items() if number not in recorded()]
    assert not missing, "run PYTHONPATH=src python tests/wire/wire_examples.py and commit golden.json"


def test_no_recorded_message_has_gone() -> None:
    gone = [f"{number:#06x} {entry['name']}" for number, entry in recorded().items() if number not in RELEASED]
    assert not gone, "a released number is never given up"


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: f"{number:#06x}")
def test_a_released_message_is_what_it_was(number: int) -> None:
    assert description(number, RELEASED[number]) == recorded()[number]


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: f"{number:#06x}")
def test_recorded_bytes_are_read_and_written_alike(number: int) -> None:
    body = bytes.fromhex(recorded()[number]["bytes"])
    read = unpack(number, body)
    assert read == example(RELEASED[number])
    assert pack(read) == (number, body)
    assert len(body) <= limit_of(number)


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: f"{number:#06x}")
def test_recorded_bytes_cut_or_continued_are_malformed(number: int) -> None:
    body = bytes.fromhex(recorded()[number]["bytes"])
    for changed in (body[:-1], body + b"\0", body + body, b"", b"\xc0", b"\x91" + body):
        with pytest.raises(MalformedMessage):
            unpack(number, changed)


def test_numbers_lie_in_the_range_of_their_protocol() -> None:
    ranges = {
        "catalogue": 0x01, "discovery": 0x01, "consensus": 0x02, "ledger": 0x03, "blobs": 0x04, "studies": 0x05,
        "committee": 0x06, "control": 0x08, "federated": 0x09,
    }  # fmt: skip
    for number, kind in RELEASED.items():
        room = kind.__module__.removeprefix("koinon.wire.")
        if room in ranges:
            assert number >> 8 == ranges[room], f"{kind.__name__} of {room} has the number {number:#06x}"


def test_who_may_answer_is_decided_by_the_request() -> None:
    for kind in RELEASED.values():
        assert may_answer(kind, Failure)
        for answer in RELEASED.values():
            if answer is not Failure and may_answer(kind, answer):
                assert not expects_answer(answer), f"{answer.__name__} is an answer that asks"


def test_a_number_or_an_answer_cannot_be_taken_twice() -> None:
    class Newcomer(Message, frozen=True):
        pass

    with pytest.raises(ValueError, match="0x0101 is Failure already"):
        message(0x0101)(Newcomer)
    with pytest.raises(KeyError):
        number_of(Newcomer)


@pytest.mark.parametrize("number", [0, 0x0100, 0xFFFF, 0x10000])
def test_unknown_numbers_are_malformed(number: int) -> None:
    for use in (lambda: unpack(number, b""), lambda: limit_of(number)):
        with pytest.raises(MalformedMessage, match="no message has the number"):
            use()


def test_a_body_beyond_its_limit_is_not_even_read() -> None:
    number = min(NUMBERS, key=limit_of)
    with pytest.raises(MalformedMessage, match="is longer than the"):
        unpack(number, bytes(limit_of(number) + 1))


@settings(max_examples=200)
@given(st.sampled_from(NUMBERS), st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_or_canonical(number: int, body: bytes) -> None:
    try:
        read = unpack(number, body)
    except MalformedMessage:
        return
    assert pack(read) == (number, body)


@settings(max_examples=200)
@given(st.sampled_from(NUMBERS), st.data())
def test_mutated_messages_are_refused_or_canonical(number: int, data: st.DataObject) -> None:
    body = bytearray.fromhex(recorded()[number]["bytes"])
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = unpack(number, bytes(body))
    except MalformedMessage:
        return
    assert pack(read) == (number, bytes(body))


# Errors across the wire.

ERRORS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, KoinonError)]


@pytest.mark.parametrize("kind", ERRORS)
def test_every_error_of_the_tree_arrives_as_itself(kind: type[KoinonError]) -> None:
    arrived = error_of(failure_of(kind("say it in one sentence")))
    assert type(arrived) is kind
    assert str(arrived) == "say it in one sentence"


def test_an_error_of_a_room_arrives_as_the_nearest_of_the_tree() -> None:
    class TooPoor(Refused):
        """A room's own kind of refusal."""

    assert failure_of(TooPoor("pay more")) == Failure("Refused", "pay more")


@pytest.mark.parametrize("kind", ["", "SystemExit", "Exception", "Failure", "Iterable", "KoinonErro"])
def test_a_failure_cannot_name_another_class(kind: str) -> None:
    assert type(error_of(Failure(kind, "boo"))) is Unavailable


def test_reasons_are_bounded_and_suspects_stay_home() -> None:
    assert len(failure_of(Refused("x" * 5000)).reason) == LONGEST_REASON
    assert len(str(error_of(Failure("Refused", "x" * 5000)))) == LONGEST_REASON
    arrived = error_of(failure_of(ProtocolAbort("it does not add up", [1, 2])))
    assert isinstance(arrived, ProtocolAbort)
    assert arrived.suspects == frozenset()


def test_done_says_nothing() -> None:
    assert encode(Done()) == b"\x90"
