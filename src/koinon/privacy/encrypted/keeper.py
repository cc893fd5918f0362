"""The disposable child in which keys are made, sums encrypted and totals opened: bytes of others meet the library here.

node → MakeKeys | EncryptSums | OpenTotal     child → Keys | Ciphertext | Total     (encodings, not messages)
"""

from typing import Final, TypeVar

import numpy as np

from koinon.kernel.codec import Record, decode, encode
from koinon.kernel.errors import MalformedMessage
from koinon.kernel.quantities import Seconds
from koinon.privacy.encrypted import ckks
from koinon.privacy.encrypted.studies import DECIMALS, DEPTH
from koinon.worker import Channel, Limits, Worker

TARGET: Final = "koinon.privacy.encrypted.keeper:main"
_MOST_BYTES: Final = 64 * 1024 * 1024
LIMITS: Final = Limits(memory_bytes=2 * 1024**3, cpu_seconds=120, wall_seconds=Seconds(300.0), frame_bytes=_MOST_BYTES)


class Order(Record, frozen=True):
    """What is to be done: ``keys``, ``encrypt`` (public key, numbers) or ``open`` (secret key, ciphertext, count)."""

    kind: str
    key: bytes = b""
    numbers: tuple[float, ...] = ()
    ciphertext: bytes = b""
    count: int = 0


class KeyPair(Record, frozen=True):
    """A result party's keys; ``secret`` never leaves its node."""

    secret: bytes
    public: bytes


class Ciphertext(Record, frozen=True):
    data: bytes


class Total(Record, frozen=True):
    numbers: tuple[float, ...]


_R = TypeVar("_R", bound=Record)


async def make_keys() -> KeyPair:
    """Fresh keys. Raises Unavailable where the extra is not installed."""
    return await _done(Order("keys"), KeyPair)


async def encrypt(public: bytes, numbers: np.ndarray) -> bytes:
    """Numbers (k,) in one ciphertext.

    Raises:
        InvalidInput: too many, too large, or not finite.
        MalformedMessage: a public key that is none.
    """
    return (await _done(Order("encrypt", public, tuple(numbers.tolist())), Ciphertext)).data


async def open_total(secret: bytes, ciphertext: bytes, count: int) -> np.ndarray:
    """The numbers (count,) in a ciphertext, rounded. Raises MalformedMessage where it holds others, or is none."""
    return np.array((await _done(Order("open", secret, (), ciphertext, count), Total)).numbers)


async def _done(order: Order, kind: type[_R]) -> _R:
    async with Worker.start(TARGET, LIMITS) as worker:
        await worker.send(encode(order))
        return decode(kind, await worker.receive(), limit=_MOST_BYTES)


def main(channel: Channel) -> None:
    """The child."""
    order = decode(Order, channel.receive(), limit=_MOST_BYTES)
    match order.kind:
        case "keys":
            made = ckks.generate(DEPTH)
            channel.send(encode(KeyPair(ckks.secret_bytes(made), made.public)))
        case "encrypt":
            sealed = ckks.encrypt_numbers(order.key, np.array(order.numbers), DEPTH)
            channel.send(encode(Ciphertext(sealed)))
        case "open":
            keys = ckks.keys_from(order.key, DEPTH)
            opened = keys.decrypt([order.ciphertext], order.count, DECIMALS)
            channel.send(encode(Total(tuple(opened[:, 0].tolist()))))
        case _:
            raise MalformedMessage(f"the child makes keys, encrypts or opens; not {order.kind[:20]!r}")
