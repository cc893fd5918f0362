"""Checks of what came of the study: provenance, documents, evaluation, name."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from koinon.audit.evidence import Document
from koinon.audit.exhibit import Exhibit, document_digest
from koinon.audit.facts import Event
from koinon.audit.study_checks import check_sample, word
from koinon.crypto.hash import keccak256
from koinon.kernel.errors import Forged
from koinon.kernel.ids import Hash32, to_hex
from koinon.store.blobs import cid

EVALUATE: Final = 2
DATASET, MODEL, SERVICE = 0, 1, 2
REVEALS_NEEDED: Final = 2
_SIGN_BIT: Final = 1 << 256

_Score = tuple[int, int, int]


def check_provenance(exhibit: Exhibit) -> str:
    """The service comes from the model, the model from the study, the study from the consented datasets."""
    facts, subject = exhibit.facts, exhibit.subject
    service = facts.one("Assets", "Minted", assetId=subject.service)
    if service["kind"] != SERVICE or subject.model not in service["parents"]:
        raise Forged(f"asset {subject.service} is no service of model {subject.model}")
    model = facts.one("Assets", "Minted", assetId=subject.model)
    trained = _trained(exhibit, model)
    if trained["kind"] != MODEL:
        raise Forged(f"asset {trained['assetId']} is no model")
    datasets = []
    for parent in trained["parents"]:
        minted = facts.one("Assets", "Minted", assetId=parent)
        if minted["kind"] != DATASET:
            continue
        consent = facts.one("Studies", "Consented", studyId=subject.study, owner=minted["publisher"])
        if consent["datasetHash"] != minted["contentHash"]:
            raise Forged(f"dataset {parent} is not the one that its owner consented with")
        datasets.append(parent)
    _, consents = _consented_owners(exhibit)
    if len(datasets) != consents:
        raise Forged(f"the model names {len(datasets)} datasets; the study used {consents}")
    return f"service {subject.service} ← model {subject.model} ← study {subject.study} ← {len(datasets)} datasets"


def check_documents(exhibit: Exhibit) -> str:
    """Every document is named by its digest on the chain, or by a document that is, or is a party's signed one."""
    named = b"\0".join(_chain_bytes(exhibit))
    waiting = [(name, document, document_digest(name, document)) for name, document in exhibit.documents]
    bound: list[str] = []
    while True:
        found = [
            (name, document)
            for name, document, digest in waiting
            if digest is None or any(form in named for form in _forms(document, digest))
        ]
        if not found:
            break
        bound += [name for name, _ in found]
        named = b"\0".join((named, *(document.body for _, document in found)))
        waiting = [entry for entry in waiting if entry[0] not in bound]
    if waiting:
        raise Forged(f"{waiting[0][0]}: nothing on the chain or in another document names these bytes")
    for kind in ("card", "package"):
        if len(list(exhibit.of_kind(kind))) > 1:
            raise Forged(f"the bundle has several documents of the kind {kind}")
    return f"{len(bound)} documents"


def check_evaluation(exhibit: Exhibit) -> str:
    """Evaluators drawn by chance opened what they had committed to; the vector is the median of what they measured."""
    facts, number = exhibit.facts, exhibit.subject.evaluation
    if number == 0:
        return "the name claims no evaluation"
    requested = facts.one("Evaluations", "Requested", requestId=number)
    terms = facts.call(requested).values["terms"]
    if requested["modelId"] != exhibit.subject.model:
        raise Forged(f"evaluation {number} is of model {requested['modelId']}, not {exhibit.subject.model}")
    drawn = facts.one("Evaluations", "Drawn", requestId=number)
    captured = facts.one("Evaluations", "EntropyCaptured", requestId=number)
    if facts.block_hashes.get(captured["height"]) != captured["entropy"]:
        raise Forged(f"the randomness of evaluation {number} is not the hash of a block in the bundle")
    commitment = keccak256(word(requested["requester"]) + word(requested["modelId"]) + drawn["nonce"])
    if requested["nonceCommitment"] != commitment and requested["nonceCommitment"] != drawn["nonce"]:
        raise Forged(f"the nonce of evaluation {number} is not the one committed to")
    if keccak256(drawn["nonce"] + captured["entropy"]) != drawn["seed"]:
        raise Forged(f"the seed of evaluation {number} is not the hash of the nonce and the block")
    check_sample(exhibit, drawn, "evaluators", EVALUATE, terms["evaluators"], {requested["requester"]})
    scores = [_opened(exhibit, event) for event in facts.all("Evaluations", "Revealed", requestId=number)]
    if len(scores) < REVEALS_NEEDED:
        raise Forged(f"evaluation {number} has {len(scores)} opened reports; it needs {REVEALS_NEEDED}")
    vector = facts.one("Evaluations", "Finalised", requestId=number)["vector"]
    if tuple(map(tuple, vector)) != medians(scores):
        raise Forged(f"the vector of evaluation {number} is not the median of the opened reports")
    return f"{len(scores)} reports, {len(vector)} criteria, medians recomputed"


def check_name(exhibit: Exhibit) -> str:
    """The name stands for this model, these weights and this evaluation, and lists who serves it."""
    subject = exhibit.subject
    name_hash = keccak256(subject.name.encode())
    exhibit.facts.one("Names", "NameRegistered", nameHash=name_hash)
    resolution = last(exhibit, "Names", "ResolutionSet", nameHash=name_hash)
    if resolution["name"] != subject.name:
        raise Forged(f"the name on the chain is {resolution['name'][:64]!r}, not {subject.name[:64]!r}")
    if (resolution["modelId"], resolution["evaluationId"]) != (subject.model, subject.evaluation):
        raise Forged(f"{subject.name!r} stands for another model or evaluation")
    endpoints = exhibit.facts.call(resolution).values["resolution"]["endpoints"]
    return f"weights {to_hex(resolution['weightsHash'])[:18]}…, {len(endpoints)} endpoints"


def medians(scores: Sequence[Sequence[_Score]]) -> tuple[_Score, ...]:
    """Per criterion the median of values, of lower and of upper ends, rounded down: ``Consensus.agree``."""
    return tuple(
        (_median([s[0] for s in column]), _median([s[1] for s in column]), _median([s[2] for s in column]))
        for column in zip(*scores, strict=True)
    )


def last(exhibit: Exhibit, contract: str, name: str, **wanted: object) -> Event:
    """The latest event of its kind. Raises Forged where there is none."""
    found = list(exhibit.facts.all(contract, name, **wanted))
    if not found:
        raise Forged(f"the bundle shows no event {contract}.{name} of its subject")
    return found[-1]


def _median(column: list[int]) -> int:
    ordered = sorted(column)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) >> 1


def _opened(exhibit: Exhibit, revealed: Event) -> Sequence[_Score]:
    number, evaluator = revealed["requestId"], revealed["evaluator"]
    salt = exhibit.facts.call(revealed).values["salt"]
    committed = exhibit.facts.one("Evaluations", "Committed", requestId=number, evaluator=evaluator)["commitment"]
    scores = tuple(map(tuple, revealed["scores"]))
    words = [word(0x20), word(len(scores)), *(word(part % _SIGN_BIT) for score in scores for part in score)]
    opening = word(number) + word(evaluator) + keccak256(b"".join(words)) + revealed["evidenceHash"] + salt
    if keccak256(opening) != committed:
        raise Forged(f"the report of evaluator {to_hex(evaluator)} is not the one it committed to")
    return scores


def _trained(exhibit: Exhibit, model: Event) -> Event:
    """The model that the study produced: the served one, or the one that it is a variant of."""
    seen: set[int] = set()
    waiting = [model]
    while waiting:
        event = waiting.pop()
        if event["studyId"] == exhibit.subject.study and any(
            exhibit.facts.one("Assets", "Minted", assetId=parent)["kind"] == DATASET for parent in event["parents"]
        ):
            return event
        for parent in event["parents"]:
            minted = exhibit.facts.one("Assets", "Minted", assetId=parent)
            if parent not in seen and minted["kind"] == MODEL:
                seen.add(parent)
                waiting.append(minted)
    raise Forged(f"model {exhibit.subject.model} does not come from study {exhibit.subject.study}")


def _consented_owners(exhibit: Exhibit) -> tuple[set[bytes], int]:
    owners = {event["owner"] for event in exhibit.facts.all("Studies", "Consented", studyId=exhibit.subject.study)}
    return owners, len(owners)


def _chain_bytes(exhibit: Exhibit) -> list[bytes]:
    """Everything that the chain's events and calls say, as bytes to look for digests in."""
    said: list[bytes] = []
    for event in exhibit.facts.events:
        said += [_flat(value) for value in event.values.values()]
        said.append(event.transaction.data)
    return said


def _forms(document: Document, digest: Hash32) -> tuple[bytes, ...]:
    """How others may write a digest: as bytes, in hexadecimal, or as the CID of the bytes."""
    forms = (bytes(digest), digest.hex().encode())
    return (*forms, cid(document.body).encode()) if document.function == "sha256" else forms


def _flat(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, Mapping):
        return b"\0".join(map(_flat, value.values()))
    if isinstance(value, tuple | list):
        return b"\0".join(map(_flat, value))
    return str(value).encode()
