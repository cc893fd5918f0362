"""What an evaluator keeps and shows: everything a stranger with the rows needs to find the same numbers again.

Evidence holds hashes, seeds, settings and aggregates, never a row, so it can be published. All numbers are integers.
"""

import json
from itertools import pairwise
from typing import Final

import msgspec

from koinon.kernel.codec import Record, decode, encode
from koinon.kernel.errors import InvalidInput
from koinon.kernel.ids import Hash32

EVIDENCE_VERSION: Final = 1
EVIDENCE_DOMAIN: Final = "koinon/trust/evidence/1"
MAXIMUM_EVIDENCE_BYTES: Final = 1024 * 1024


class EvaluationSettings(Record, frozen=True):
    """What the suite does; part of the evidence. Shares are parts per million, times as the names say.

    Attributes:
        resamples: of every bootstrap; at least 100.
        fairness_column: name of the declared column whose tertiles are compared.
        epsilon_ppm: largest move of a column by an attack "within epsilon", of the column's public range.
        attack_rows: how many rows are attacked, drawn by class from the evaluator's rows.
        square_queries, hop_skip_jump_queries: budget per attacked row.
        noise_ppm: standard deviation of natural noise, of the column's range.
        missing_ppm: chance of each cell to go missing.
        swap_ppm: chance of each row to have two columns exchanged.
        extraction_queries: answers that the surrogate is trained on.
        load_rates: calls per second of each load step, rising; empty leaves the load criteria out.
        load_calls: calls per load step; at least 100.
        objective_microseconds: latency that p99 must meet.
        deadline_milliseconds: wall-clock limit of the whole evaluation; when it passes there is no result at all.
    """

    fairness_column: str
    resamples: int = 1000
    epsilon_ppm: int = 30_000
    attack_rows: int = 60
    square_queries: int = 300
    hop_skip_jump_queries: int = 500
    noise_ppm: int = 50_000
    missing_ppm: int = 100_000
    swap_ppm: int = 100_000
    extraction_queries: int = 1000
    load_rates: tuple[int, ...] = (100, 200, 400, 800)
    load_calls: int = 200
    objective_microseconds: int = 50_000
    deadline_milliseconds: int = 60_000


class Finding(Record, frozen=True):
    """How one criterion was measured.

    Attributes:
        criterion: name of a ``vector.Kind``.
        method: a sentence for a reader.
        queries: rows the model answered for it.
        value, low, high: millionths of the unit, as in the vector.
        numbers: named series of further integers, such as a distance curve.
    """

    criterion: str
    method: str
    queries: int
    value: int
    low: int
    high: int
    numbers: tuple[tuple[str, tuple[int, ...]], ...] = ()


class Evidence(Record, frozen=True):
    """One evaluation.

    Attributes:
        weights_hash: SHA-256 of the ONNX bytes.
        card_hash: of the model card that was evaluated against.
        rows_root: dataset hash of the evaluator's rows; opened with the rows and the commitment's secret.
        rows: how many there were.
        seed: 32 bytes; every random choice follows from it.
        settings: of the suite.
        findings: one per criterion, in the suite's order.
        absent: criteria that could not be measured, each with the reason.
        versions: of the packages that computed the numbers.
        machine: processor architecture; another one may round differently in the last place.
        version: of this record's meaning.
    """

    weights_hash: bytes
    card_hash: bytes
    rows_root: bytes
    rows: int
    seed: bytes
    settings: EvaluationSettings
    findings: tuple[Finding, ...]
    absent: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]
    machine: str
    version: int = EVIDENCE_VERSION


def check_settings(settings: EvaluationSettings) -> None:
    """Refuse settings that no evaluation can follow. Raises InvalidInput naming the setting."""
    bounds = {
        "resamples": (settings.resamples, 100, 100_000),
        "epsilon_ppm": (settings.epsilon_ppm, 1, 1_000_000),
        "attack_rows": (settings.attack_rows, 10, 100_000),
        "square_queries": (settings.square_queries, 2, 100_000),
        "hop_skip_jump_queries": (settings.hop_skip_jump_queries, 100, 100_000),
        "noise_ppm": (settings.noise_ppm, 0, 1_000_000),
        "missing_ppm": (settings.missing_ppm, 0, 1_000_000),
        "swap_ppm": (settings.swap_ppm, 0, 1_000_000),
        "extraction_queries": (settings.extraction_queries, 10, 1_000_000),
        "load_calls": (settings.load_calls, 100, 1_000_000),
        "objective_microseconds": (settings.objective_microseconds, 1, 60_000_000),
        "deadline_milliseconds": (settings.deadline_milliseconds, 100, 86_400_000),
    }
    for name, (value, lowest, highest) in bounds.items():
        if not lowest <= value <= highest:
            raise InvalidInput(f"evaluation setting {name} must be {lowest} to {highest}; got {value}")
    rates = settings.load_rates
    if (
        len(rates) > 32
        or any(rate < 1 for rate in rates)
        or any(later <= earlier for earlier, later in pairwise(rates))
    ):
        raise InvalidInput("evaluation setting load_rates must be at most 32 rates that rise from step to step")


def finding_hash(finding: Finding) -> Hash32:
    """Digest that a criterion in the vector names as its evidence."""
    from koinon.crypto.hash import tagged_hash

    return tagged_hash("koinon/trust/finding/1", encode(finding))


def encode_evidence(evidence: Evidence) -> bytes:
    """The evidence's one encoding."""
    return encode(evidence)


def decode_evidence(data: bytes) -> Evidence:
    """Read evidence. Raises MalformedMessage for other bytes, InvalidInput for another version or bad settings."""
    evidence = decode(Evidence, data, limit=MAXIMUM_EVIDENCE_BYTES)
    if evidence.version != EVIDENCE_VERSION:
        raise InvalidInput(f"evidence of version {evidence.version}; version {EVIDENCE_VERSION} is known here")
    check_settings(evidence.settings)
    return evidence


def evidence_hash(evidence: Evidence) -> Hash32:
    """Digest that the trust vector and the evaluator's commitment name."""
    from koinon.crypto.hash import tagged_hash

    return tagged_hash(EVIDENCE_DOMAIN, encode(evidence))


def to_json(evidence: Evidence) -> str:
    """The same content for human readers, with names; digests in hexadecimal. It is not what is hashed."""
    return json.dumps(_named(evidence), indent=2, ensure_ascii=False)


def _named(value: object) -> object:
    if isinstance(value, msgspec.Struct):
        return {field: _named(getattr(value, field)) for field in value.__struct_fields__}
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, tuple):
        return [_named(item) for item in value]
    return value
