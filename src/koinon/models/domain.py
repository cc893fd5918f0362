"""Which kind of data a model works on: by its inputs first, then by sample files, then by what its publisher declares.

A shape alone proves little: [N, d] floats can be a table, a sound or a series. So every finding says what it rests on
and whether it is certain, and a contradiction is a question to the publisher, not a guess.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from koinon.kernel.errors import InvalidInput

if TYPE_CHECKING:
    from koinon.models.frames import ModelMetadata

_TEXT_NAMES: Final = re.compile(r"input_ids|token|attention_mask|text", re.IGNORECASE)
_AUDIO_NAMES: Final = re.compile(r"^(sr|sample_rate|sampling_rate|waveform|audio|speech)$", re.IGNORECASE)
_AUDIO_SAMPLES: Final = 8000
"""A rank-2 input this wide is half a second of speech rather than a table."""


class Domain(StrEnum):
    """Kinds of data that the hardening suites distinguish."""

    TABULAR = "tabular"
    IMAGE = "image"
    VIDEO = "video"
    TEXT = "text"
    AUDIO = "audio"


@dataclass(frozen=True)
class DomainFinding:
    """What a model works on.

    Attributes:
        domain: the kind.
        certain: whether inputs, samples or declaration settle it; otherwise it is the most likely reading of the shape.
        reasons: sentences, strongest first.
    """

    domain: Domain
    certain: bool
    reasons: tuple[str, ...]


def detect_domain(
    metadata: "ModelMetadata", samples: Iterable[bytes] = (), declared: Domain | None = None
) -> DomainFinding:
    """Find the domain from a model's inputs, the first bytes of sample files, and the publisher's declaration.

    Raises:
        InvalidInput: the sources contradict each other, or nothing is known; the sentence asks the publisher.
    """
    by_shape, shape_certain, reason = _from_inputs(metadata)
    by_sample = _from_samples(samples)
    if by_shape is not None and shape_certain:
        for other, source in ((by_sample, "the sample files are"), (declared, "the publisher declares")):
            if other is not None and other is not by_shape:
                raise InvalidInput(
                    f"the model's inputs say {by_shape} but {source} {other}; correct the one that is wrong"
                )
        return DomainFinding(by_shape, True, (reason,))
    if by_sample is not None:
        if declared is not None and declared is not by_sample:
            raise InvalidInput(
                f"the sample files are {by_sample} but the publisher declares {declared}; correct one of them"
            )
        return DomainFinding(by_sample, True, (f"the sample files are {by_sample}", reason))
    if declared is not None:
        return DomainFinding(declared, True, (f"the publisher declares {declared}", reason))
    if by_shape is None:
        raise InvalidInput(f"{reason}; declare the model's domain")
    return DomainFinding(by_shape, False, (reason,))


def _from_inputs(metadata: "ModelMetadata") -> tuple[Domain | None, bool, str]:
    """Domain, certainty and reason by names, types and ranks of the inputs."""
    inputs = metadata.inputs
    if any(value.type == "string" for value in inputs):
        return Domain.TEXT, True, "an input takes strings"
    if any(
        value.type in {"int64", "int32"} and len(value.shape) == 2 and _TEXT_NAMES.search(value.name)
        for value in inputs
    ):
        return Domain.TEXT, True, "a rank-2 integer input is named like tokens"
    if any(_AUDIO_NAMES.match(value.name) for value in inputs):
        return Domain.AUDIO, True, "an input is named like sound or its sampling rate"
    first = inputs[0]
    rank = len(first.shape)
    if first.type not in {"float", "float16", "double", "uint8"}:
        return None, False, f"the first input has type {first.type}, which no known domain uses"
    if rank == 5:
        return Domain.VIDEO, True, "the first input has rank 5"
    if rank == 4:
        channels = {first.shape[1], first.shape[3]} & {1, 3, 4}
        if channels:
            return Domain.IMAGE, True, f"the first input has rank 4 and {min(channels)} channels"
        return None, False, "the first input has rank 4 but no axis of 1, 3 or 4 channels"
    if rank == 2 and first.shape[1] >= _AUDIO_SAMPLES:
        return Domain.AUDIO, False, f"the first input is [N, {first.shape[1]}] numbers, as wide as sound"
    if rank == 2:
        return Domain.TABULAR, False, "the first input is [N, d] numbers, which is most often a table"
    return None, False, f"the first input has rank {rank}, which says nothing about the data"


def _from_samples(samples: Iterable[bytes]) -> Domain | None:
    found = {domain for domain in map(sample_domain, samples) if domain is not None}
    if len(found) > 1:
        raise InvalidInput(
            f"the sample files are of different kinds ({', '.join(sorted(found))}); give files of one kind"
        )
    return found.pop() if found else None


def sample_domain(sample: bytes) -> Domain | None:
    """The kind of one sample file by its first bytes; None where they say nothing."""
    head = sample[:64]
    if head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\x00", b"MM\x00*")):
        return Domain.IMAGE
    if head.startswith(b"RIFF"):
        return {b"WAVE": Domain.AUDIO, b"WEBP": Domain.IMAGE, b"AVI ": Domain.VIDEO}.get(head[8:12])
    if head.startswith((b"fLaC", b"OggS", b"ID3")):
        return Domain.AUDIO
    if head[4:8] == b"ftyp" or head.startswith(b"\x1aE\xdf\xa3"):
        return Domain.VIDEO
    if head.startswith(b"PAR1"):
        return Domain.TABULAR
    try:
        # A multi-byte character may be cut by the end of the excerpt.
        lines = sample[:65_536].decode("utf-8", errors="strict" if len(sample) <= 65_536 else "ignore").splitlines()
    except UnicodeDecodeError:
        return None
    commas = [line.count(",") for line in lines[:20] if line.strip()]
    if len(commas) >= 2 and commas[0] >= 1 and len(set(commas)) == 1:
        return Domain.TABULAR
    return Domain.TEXT if any(lines) and "\x00" not in lines[0] else None
