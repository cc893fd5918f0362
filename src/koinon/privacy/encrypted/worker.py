"""The child in which a stranger's ciphertexts meet the model: one for each question, and nothing outlives it."""

from typing import Final

from koinon.kernel.codec import Record, decode, encode
from koinon.kernel.quantities import Seconds
from koinon.privacy.encrypted.ckks import evaluate
from koinon.privacy.encrypted.models import EncryptedModel
from koinon.wire.encrypted import EncryptedQuestion
from koinon.worker import Channel, Limits, Worker

_MOST_BYTES: Final = 192 * 1024 * 1024
LIMITS: Final = Limits(memory_bytes=4 * 1024**3, cpu_seconds=300, wall_seconds=Seconds(600.0), frame_bytes=_MOST_BYTES)


class Work(Record, frozen=True):
    """A question and the model that answers it."""

    model: EncryptedModel
    question: EncryptedQuestion


class Done(Record, frozen=True):
    """One ciphertext for each output."""

    columns: tuple[bytes, ...]


async def answer(model: EncryptedModel, question: EncryptedQuestion, limits: Limits = LIMITS) -> tuple[bytes, ...]:
    """Answer in a child: one ciphertext for each output.

    Raises:
        InvalidInput, MalformedMessage: as ``ckks.evaluate``.
        Unavailable: the child ran out of memory or time; nothing else is harmed.
    """
    async with Worker.start("koinon.privacy.encrypted.worker:main", limits) as worker:
        await worker.send(encode(Work(model, question)))
        return decode(Done, await worker.receive(), limit=_MOST_BYTES).columns


def main(channel: Channel) -> None:
    """The child."""
    work = decode(Work, channel.receive(), limit=_MOST_BYTES)
    channel.send(encode(Done(evaluate(work.model, work.question.public, work.question.columns))))
