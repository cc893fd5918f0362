"""The catalogue: each message has one number for ever, one struct, and one list of messages that may answer it.

Number ranges by protocol:

    0x01xx  transport and discovery      0x05xx  studies: consents, shares, committee work, results
    0x02xx  consensus (Giskard)          0x06xx  committee links (rep4 between workers)
    0x03xx  ledger: transactions, sync   0x07xx  serving and evaluation
    0x04xx  blobs                        0x08xx  control of a node by its operator
    0x09xx  federated learning           0x0Axx  joins: private set intersection
    0x0Bxx  encrypted questions               0x0Cxx  questions to models kept as shares

A module of this room defines the messages of one range with ``@message(number, answers=…)``.
"""

from collections.abc import Callable
from typing import Final, TypeVar

from koinon.kernel.codec import MAXIMUM_MESSAGE_BYTES, Record, decode, encode
from koinon.kernel.errors import MalformedMessage


class Message(Record, frozen=True):
    """Base of every numbered message."""


class Failure(Message, frozen=True):
    """The answer to any request that was refused: one sentence, no secrets.

    ``kind`` is the name of a class of ``kernel.errors``; ``reason`` says what to do.
    """

    kind: str
    reason: str


class Done(Message, frozen=True):
    """The answer to a request that has nothing to say but that it was carried out."""


_M = TypeVar("_M", bound=type[Message])

_NUMBER_BYTES: Final = 2
_by_number: Final[dict[int, type[Message]]] = {}
_numbers: Final[dict[type[Message], int]] = {}
_answers: Final[dict[type[Message], frozenset[type[Message]]]] = {}
_limits: Final[dict[type[Message], int]] = {}


def message(
    number: int, *, answers: tuple[type[Message], ...] = (), limit: int = MAXIMUM_MESSAGE_BYTES
) -> Callable[[_M], _M]:
    """Enter a struct in the catalogue.

    Args:
        number: 1 to 0xFFFF, never reused.
        answers: the messages that may answer it; ``Failure`` always may. Empty for one-way messages.
        limit: the most bytes its encoding may take.
    """

    def enter(kind: _M) -> _M:
        if number in _by_number:
            raise ValueError(f"{number:#06x} is {_by_number[number].__name__} already; take the next free number")
        _by_number[number] = kind
        _numbers[kind] = number
        _answers[kind] = frozenset(answers)
        _limits[kind] = limit
        return kind

    return enter


def number_of(kind: type[Message]) -> int:
    """The catalogue number of a message type. Raises KeyError for a type that is not in the catalogue."""
    return _numbers[kind]


def may_answer(request: type[Message], answer: type[Message]) -> bool:
    """Whether ``answer`` is an allowed answer to ``request``."""
    return answer is Failure or answer in _answers[request]


def expects_answer(request: type[Message]) -> bool:
    """Whether somebody waits for an answer to this message."""
    return bool(_answers[request])


def limit_of(number: int) -> int:
    """The most bytes a message of this number may take. Raises MalformedMessage for a number not in the catalogue."""
    kind = _by_number.get(number)
    if kind is None:
        raise MalformedMessage(f"no message has the number {number:#06x}")
    return _limits[kind]


def messages() -> dict[int, type[Message]]:
    """The whole catalogue by number."""
    return dict(sorted(_by_number.items()))


def pack(value: Message) -> tuple[int, bytes]:
    """Number and encoding of a message."""
    return _numbers[type(value)], encode(value)


def unpack(number: int, body: bytes | memoryview) -> Message:
    """Decode a message from its number and bytes. Raises MalformedMessage for anything that is not exactly one."""
    kind = _by_number.get(number)
    if kind is None:
        raise MalformedMessage(f"no message has the number {number:#06x}")
    return decode(kind, body, limit=_limits[kind])


def to_frame(value: Message) -> bytes:
    """A message as one frame of a link or a worker's channel: its number in two bytes, then its encoding."""
    number, body = pack(value)
    return number.to_bytes(_NUMBER_BYTES, "big") + body


def from_frame(frame: bytes | bytearray) -> Message:
    """Raises MalformedMessage unless ``frame`` holds exactly one message of the catalogue."""
    if len(frame) < _NUMBER_BYTES:
        raise MalformedMessage("a frame begins with the number of its message, in two bytes")
    return unpack(int.from_bytes(frame[:_NUMBER_BYTES], "big"), memoryview(frame)[_NUMBER_BYTES:])


message(0x0101)(Failure)
message(0x0102)(Done)
