"""The few forms of the contract ABI that system calls need: words, and arrays of records of words."""

from collections.abc import Iterable, Sequence

from koinon.crypto.hash import keccak256
from koinon.kernel.errors import MalformedMessage

WORD = 32

Word = int | bytes
"""An integer, or bytes that fill a word from the left (``bytes1`` to ``bytes32``)."""


def selector(signature: str) -> bytes:
    """The four bytes that name a function."""
    return keccak256(signature.encode())[:4]


def words(values: Iterable[Word]) -> bytes:
    """Values one after the other, each a word."""
    return b"".join(
        value.to_bytes(WORD, "big") if isinstance(value, int) else value.ljust(WORD, b"\x00") for value in values
    )


def arrays(head: Sequence[Word], *tails: Sequence[Sequence[Word]]) -> bytes:
    """Arguments of which the last ones are arrays of records: the plain words first, then offsets, then the arrays."""
    offset = WORD * (len(head) + len(tails))
    offsets: list[int] = []
    bodies: list[bytes] = []
    for tail in tails:
        offsets.append(offset)
        body = words([len(tail)]) + b"".join(words(record) for record in tail)
        bodies.append(body)
        offset += len(body)
    return words([*head, *offsets]) + b"".join(bodies)


def read_word(data: bytes, position: int) -> int:
    """The word at a position counted in words. Raises MalformedMessage beyond the end."""
    chunk = data[WORD * position : WORD * (position + 1)]
    if len(chunk) != WORD:
        raise MalformedMessage(f"a contract's answer ends before word {position}")
    return int.from_bytes(chunk, "big")


def read_records(data: bytes, position: int, size: int) -> list[tuple[int, ...]]:
    """The array of records of ``size`` words whose offset stands at ``position``. Raises MalformedMessage."""
    start = read_word(data, position)
    count = read_word(data[start:], 0)
    body = data[start + WORD :]
    if start % WORD or len(body) < count * size * WORD:
        raise MalformedMessage("a contract's answer ends within an array")
    return [tuple(read_word(body, size * number + place) for place in range(size)) for number in range(count)]
