"""The evidence bundle: it holds, and no byte of it can be changed — not even by somebody who signs it anew."""

import asyncio
import io
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from audit_world import EXPORTER, OWNERS, PROVIDERS, SECRET_ROW, Evidence, Journey, account, node, proving_chain
from hypothesis import given, settings
from hypothesis import strategies as st

from koinon.audit.archive import read_archive, write_archive
from koinon.audit.bundle import STORY, ChainProof, VerificationReport, make_bundle, verify, verify_bundle
from koinon.audit.collect import collect
from koinon.audit.evidence import Document, Manifest, ManifestEntry, Subject, sign_manifest
from koinon.audit.facts import decode_call
from koinon.audit.study_checks import StudyOutline
from koinon.crypto.hash import blake3, sha256
from koinon.crypto.signature import NodeKey
from koinon.jobs.study import StudyFile
from koinon.kernel.codec import encode
from koinon.kernel.errors import Forged, InvalidInput, Unavailable
from koinon.ledger.transaction import parse_transaction
from koinon.ledger.types import ValidatorSet

STRANGER = NodeKey.from_seed(sha256(b"a stranger"))
STEP_IN_FILE = 311
STEP_IN_ENTRY = 401

Entries = dict[str, bytes]


@pytest.fixture(scope="session", params=["koinon", "outside"])
def evidence(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    outside = request.param == "outside"
    journey = Journey(tmp_path_factory.mktemp("journey"), proving_chain(outside=outside), outside=outside)
    return asyncio.run(journey.evidence())


@pytest.fixture(scope="session")
def bundle(evidence: Evidence) -> bytes:
    return bundle_of(evidence)


@pytest.fixture
def entries(bundle: bytes) -> Entries:
    return read_archive(bundle)[0]


def bundle_of(evidence: Evidence, documents: tuple[Document, ...] | None = None) -> bytes:
    return make_bundle(
        evidence.subject,
        evidence.network,
        evidence.proof,
        evidence.documents if documents is None else documents,
        evidence.receipts,
        EXPORTER,
    )


def signed_anew(entries: Entries) -> bytes:
    """The entries with a manifest that fits them, signed by somebody else."""
    listing = tuple(
        ManifestEntry(name, len(data), blake3(data)) for name, data in sorted(entries.items()) if name != "manifest"
    )
    manifest = sign_manifest(STRANGER, Manifest(1, listing, STRANGER.node_id))
    return write_archive({**entries, "manifest": encode(manifest)})


def detail(report: VerificationReport) -> str:
    return " | ".join(f"{check.identifier}: {check.detail}" for check in report.failures)


def test_every_check_holds_and_the_same_evidence_gives_the_same_bytes(evidence: Evidence, bundle: bytes) -> None:
    report = verify_bundle(bundle)
    assert report.holds, detail(report)
    assert [check.identifier for check in report.checks] == ["container", "manifest", "chain", *dict(STORY)]
    assert all(check.detail and check.sentence.endswith(".") for check in report.checks)
    assert bundle_of(evidence) == bundle


def test_signed_anew_it_still_holds_because_the_evidence_speaks_for_itself(entries: Entries) -> None:
    assert verify_bundle(signed_anew(entries)).holds


def test_what_is_taken_on_trust_is_said(evidence: Evidence, bundle: bytes) -> None:
    report = verify_bundle(bundle)
    chain, contracts = report.trusts
    members = evidence.network.validators
    assert report.validators == (ValidatorSet(members).hash if members else None)
    expected = "the chain's RPC at export" if evidence.network.kind == "outside" else "that the validator set 0x"
    assert chain.startswith(expected)
    assert "Studies 0x" in contracts


def test_any_zip_program_opens_it(bundle: bytes, entries: Entries) -> None:
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == entries


def test_any_changed_byte_of_the_file_is_found(bundle: bytes) -> None:
    for position in range(0, len(bundle), STEP_IN_FILE):
        changed = bytearray(bundle)
        changed[position] ^= 1 << position % 8
        report = verify_bundle(bytes(changed))
        assert not report.holds, position
        assert all(check.detail for check in report.failures)


def test_the_report_names_the_changed_entry(bundle: bytes, entries: Entries) -> None:
    for name, data in entries.items():
        position = bundle.index(data) + len(data) // 2
        changed = bytearray(bundle)
        changed[position] ^= 0x10
        assert name in detail(verify_bundle(bytes(changed)))


def test_any_changed_byte_of_an_entry_is_found_though_all_sums_are_made_anew(entries: Entries) -> None:
    for name, data in entries.items():
        if name == "manifest":
            continue
        for position in range(0, len(data), STEP_IN_ENTRY):
            changed = bytearray(data)
            changed[position] ^= 1 << position % 8
            assert not verify_bundle(signed_anew({**entries, name: bytes(changed)})).holds, (name, position)


def test_a_bundle_cut_anywhere_is_refused(bundle: bytes) -> None:
    for length in range(0, len(bundle), 997):
        report = verify_bundle(bundle[:length])
        assert not report.holds
    assert not verify_bundle(bundle + b"\0").holds


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=2_000))
def test_no_bytes_make_it_crash(data: bytes) -> None:
    assert not verify_bundle(data).holds
    assert not verify_bundle(b"PK\x03\x04" + data).holds
    assert not verify_bundle(signed_anew({"subject": data, "network": data})).holds


def without(name: str) -> Callable[[Entries], Entries]:
    return lambda entries: {key: value for key, value in entries.items() if key != name}


def first(entries: Entries, folder: str) -> str:
    return next(name for name in sorted(entries) if name.startswith(folder))


def test_a_left_out_entry_that_the_story_needs_is_missed(evidence: Evidence, entries: Entries) -> None:
    needed = ["subject", "network", first(entries, "document/study"), first(entries, "document/card")]
    if evidence.network.kind == "koinon":
        needed += ["finality/0000", first(entries, "fact/")]
    else:
        needed.append(first(entries, "block/"))
    for name in needed:
        assert not verify_bundle(signed_anew(without(name)(entries))).holds, name
        assert not verify_bundle(write_archive(without(name)(entries))).holds, name


def with_one_left_out(proof: ChainProof) -> Iterator[tuple[bytes, ChainProof]]:
    """Each transaction, and the proof without it; an outside chain's test blocks hold one transaction each."""
    for place, fact in enumerate(proof.facts):
        yield fact.transaction, replace(proof, facts=proof.facts[:place] + proof.facts[place + 1 :])
    for place, block in enumerate(proof.blocks):
        (transaction,) = block.transactions
        yield transaction, replace(proof, blocks=proof.blocks[:place] + proof.blocks[place + 1 :])


def test_every_transaction_is_needed_but_the_last_settlement(evidence: Evidence) -> None:
    """That something happened can be shown; that nothing else did, such as one more settlement, cannot."""
    unnoticed = []
    for transaction, proof in with_one_left_out(evidence.proof):
        data = make_bundle(evidence.subject, evidence.network, proof, evidence.documents, evidence.receipts, EXPORTER)
        if verify_bundle(data).holds:
            unnoticed.append(decode_call("Market", parse_transaction(transaction).data))
    assert [(call.function, call.values["cumulative"]) for call in unnoticed] == [("settle", 33 * 12)]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda e: {**e, "extra": b""}, "is none that bundles have"),
        (lambda e: {**e, "document/card-99": e[first(e, "document/card")]}, "numbered without a gap"),
        (lambda e: {**e, "receipts/07": e["receipts/00"]}, "numbered without a gap"),
        (lambda e: {**e, "subject": encode(Subject("x", 1, 1, 1, 1))}, "asset 1 is no service"),
        (lambda e: {**e, "network": b"\x90"}, "network: not a Network"),
        (lambda e: {**e, "receipts/00": b""}, "receipts/00: not a ServiceReceipts"),
    ],
)
def test_an_entry_that_does_not_belong(entries: Entries, change: Callable[[Entries], Entries], sentence: str) -> None:
    assert sentence in detail(verify_bundle(signed_anew(change(entries))))


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        (Document("card", "sha256", b"another card"), "nothing on the chain or in another document names"),
        (Document("study", "keccak256", b"another study"), "needs one study file; it has 2"),
        (Document("rows", "sha256", b"rows"), "is no kind of document"),
        (Document("card", "md5", b"card"), "is no hash function"),
        (Document("shares", "", b"x", STRANGER.node_id, "d", STRANGER.sign("d", b"x")), "by no data owner"),
    ],
)
def test_a_document_that_nothing_names(evidence: Evidence, document: Document, sentence: str) -> None:
    assert sentence in detail(verify_bundle(bundle_of(evidence, (*evidence.documents, document))))


def test_nothing_secret_is_in_it(bundle: bytes) -> None:
    assert SECRET_ROW not in bundle
    assert b"17.123456" not in bundle
    for name in ("publisher", "buyer", *OWNERS, *PROVIDERS):
        assert account(name).secret not in bundle
        assert node(name).seed not in bundle


def _entry(name: bytes, data: bytes, *, method: int = 0, size: int | None = None) -> bytes:
    length = len(data) if size is None else size
    return (
        struct.pack("<4sHHHHHIIIHH", b"PK\x03\x04", 20, 0, method, 0, 33, 0, len(data), length, len(name), 0)
        + name
        + data
    )


@pytest.mark.parametrize(
    ("archive", "sentence"),
    [
        (b"", "no evidence bundle"),
        (b"not a zip", "no evidence bundle"),
        (_entry(b"../../etc/passwd", b"x"), "no proper name"),
        (_entry(b"/absolute", b"x"), "no proper name"),
        (_entry(b"a/../b", b"x"), "no proper name"),
        (_entry("ä".encode(), b"x"), "no proper name"),
        (_entry(b"", b"x"), "no proper name"),
        (_entry(b"huge", b"x", size=0xFFFF_FFF0), "ends inside the entry huge"),
        (_entry(b"twice", b"") + _entry(b"twice", b""), "two entries called twice"),
        (_entry(b"a", b"x" * 10)[:-5], "ends inside the entry a"),
        (_entry(b"a", b"")[:20], "damaged after the beginning"),
    ],
)
def test_a_hostile_container(archive: bytes, sentence: str) -> None:
    assert sentence in detail(verify_bundle(archive))


def test_a_compressed_or_otherwise_different_container_is_refused(entries: Entries) -> None:
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", compression) as archive:
            for name, data in entries.items():
                archive.writestr(name, data)
        assert not verify_bundle(buffer.getvalue()).holds


def test_a_bomb_of_entries_is_refused() -> None:
    many = b"".join(_entry(b"e%d" % number, b"") for number in range(20_001))
    assert "damaged after" in detail(verify_bundle(many))
    with pytest.raises(InvalidInput, match="at most"):
        write_archive({f"e{number}": b"" for number in range(20_001)})


@given(
    st.dictionaries(
        st.from_regex(r"[a-z0-9][a-z0-9-]{0,8}(/[a-z0-9]{1,4})?", fullmatch=True), st.binary(max_size=50), min_size=1
    )
)
def test_an_archive_reads_back_as_what_was_written(entries: Entries) -> None:
    archive = write_archive(entries)
    read, damaged = read_archive(archive)
    assert read == entries
    assert damaged == ()
    with pytest.raises((Forged, InvalidInput)):
        read_archive(archive + b"x")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be read"):
        verify(tmp_path / "nothing.zip")
    (tmp_path / "bundle.zip").write_bytes(b"")
    assert not verify(tmp_path / "bundle.zip").holds


async def test_collecting_for_something_the_chain_does_not_have(tmp_path: Path) -> None:
    journey = Journey(tmp_path, proving_chain())
    await journey.deploy()
    addresses = {name: contract.address for name, contract in journey.suite.contracts.items()}
    with pytest.raises(InvalidInput, match="no study 9"):
        await collect(journey.client, addresses, Subject("nothing.here", 9, 9, 9, 0))


def test_an_auditor_knows_every_field_of_a_study_file() -> None:
    """A field that only the parties know would make every bundle about a study unreadable."""
    assert StudyOutline.__struct_fields__ == StudyFile.__struct_fields__
