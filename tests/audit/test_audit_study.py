"""A bundle about a study alone: it holds without a model, and is never half of one about a name."""

import asyncio
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from audit_world import EXPORTER, Evidence, Journey, digest_of, proving_chain

from koinon.audit.bundle import STUDY_STORY, make_bundle, verify_bundle
from koinon.audit.evidence import STUDY_DOCUMENTS, Subject
from koinon.journey.audit import check


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    whole = asyncio.run(Journey(tmp_path_factory.mktemp("journey"), proving_chain()).evidence())
    documents = tuple(document for document in whole.documents if document.kind in STUDY_DOCUMENTS)
    alone = Subject("", whole.subject.study, 0, 0, 0)
    return replace(
        whole, subject=alone, documents=documents, receipts=(), proof=whole.study_proof, network=whole.study_network
    )


def bundle_of(evidence: Evidence) -> bytes:
    return make_bundle(
        evidence.subject, evidence.network, evidence.proof, evidence.documents, evidence.receipts, EXPORTER
    )


def test_it_holds_by_the_checks_of_a_study_and_says_what_it_is_about(evidence: Evidence) -> None:
    report = verify_bundle(bundle_of(evidence))
    assert report.holds, [check.detail for check in report.failures]
    assert [check.identifier for check in report.checks] == ["container", "manifest", "chain", *dict(STUDY_STORY)]
    assert report.about == "study 1 alone: no model, no name and no answers"
    assert len(evidence.proof.facts) > 5
    assert report.result is not None
    assert (report.result.study, report.result.attempt, report.result.split) == (1, 1, {})
    assert report.result.output_digest == digest_of("output")


def test_a_file_that_is_no_result_of_it_fails_beside_it(evidence: Evidence, tmp_path: Path) -> None:
    path = tmp_path / "bundle.zip"
    path.write_bytes(bundle_of(evidence))
    report = check(path, b"not a result")
    assert [failed.identifier for failed in report.failures] == ["disclosed"]
    path.write_bytes(bundle_of(replace(evidence, subject=Subject("", 2, 0, 0, 0))))
    spoilt = check(path, b"not a result")
    assert spoilt.result is None
    assert spoilt.failures[-1].identifier == "disclosed"


@pytest.mark.parametrize(
    "change",
    [{"name": "tumour-risk.clinic"}, {"model": 4}, {"service": 5}, {"evaluation": 1}, {"study": 2}],
    ids=str,
)
def test_another_subject_does_not_hold(evidence: Evidence, change: dict[str, object]) -> None:
    other = replace(evidence, subject=msgspec.structs.replace(evidence.subject, **change))
    assert not verify_bundle(bundle_of(other)).holds


@pytest.mark.parametrize("kind", ["evaluation", "card", "package", "variants"])
def test_documents_of_a_model_have_no_place_in_it(evidence: Evidence, kind: str) -> None:
    smuggled = msgspec.structs.replace(evidence.documents[0], kind=kind)
    report = verify_bundle(bundle_of(replace(evidence, documents=(*evidence.documents, smuggled))))
    assert "a study alone shows nothing of a model" in report.failures[0].detail


def test_a_study_file_that_is_missing_or_changed_is_found(evidence: Evidence) -> None:
    shares = tuple(document for document in evidence.documents if document.kind == "shares")
    assert not verify_bundle(bundle_of(replace(evidence, documents=shares))).holds
    study = next(document for document in evidence.documents if document.kind == "study")
    changed = msgspec.structs.replace(study, body=study.body[:-1] + bytes([study.body[-1] ^ 1]))
    assert not verify_bundle(bundle_of(replace(evidence, documents=(changed, *shares)))).holds
