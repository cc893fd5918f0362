"""audit: anyone collects the evidence behind a name, from the chain and those who hold it, and checks it offline."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec

from koinon.audit.bundle import Check, ProvenResult, VerificationReport, make_bundle, verify
from koinon.audit.collect import collect
from koinon.audit.evidence import MODEL_CONTRACTS, STUDY_CONTRACTS, Document, ServiceReceipts, Subject
from koinon.audit.proof_readers import KoinonProofs, OutsideProofs
from koinon.audit.receipts import SignedBatch
from koinon.contracts.assets import AssetKind
from koinon.contracts.evaluations import Revealed
from koinon.contracts.receipts import Anchored
from koinon.contracts.studies import Completed, Proposed
from koinon.contracts.suite import Suite
from koinon.crypto.signature import NodeKey
from koinon.jobs.disclosed import OnChain, check_disclosed, owed_shares, read_disclosed
from koinon.jobs.study import SIGNATURE_DOMAIN, SignedStudy, StudyFile, open_study_named
from koinon.journey.disclosure import open_disclosure
from koinon.journey.package import manifest_of
from koinon.kernel.codec import decode, encode
from koinon.kernel.errors import Forged, InvalidInput, KoinonError, Unavailable
from koinon.kernel.ids import Address, to_hex
from koinon.kernel.quantities import Seconds
from koinon.net.discovery import Directory
from koinon.net.transport import Transport
from koinon.privacy.sharing import MANIFEST_DOMAIN
from koinon.store.blobs import digest_of_cid
from koinon.trust.evidence import EVIDENCE_DOMAIN
from koinon.wire.blobs import BlobData, GetBlob
from koinon.wire.catalogue import Message
from koinon.wire.studies import (
    EvaluationEvidenceReply,
    FetchEvaluationEvidence,
    FetchManifest,
    FetchReceipts,
    FetchStudyFile,
    ManifestsReply,
    ReceiptsReply,
    StudyFileReply,
)

CALL_SECONDS: Final = Seconds(15.0)


@dataclass(frozen=True)
class Auditor:
    """Somebody with the chain's RPC, a transport of its own and a fresh key. It needs no rights anywhere."""

    suite: Suite
    transport: Transport
    directory: Directory
    key: NodeKey
    say: Callable[[str, float], None]


async def export(auditor: Auditor, name: str, path: Path) -> Subject:
    """Write the evidence bundle about a name.

    Raises:
        InvalidInput: the name stands for nothing that a study made.
        Unavailable: the chain or the holder of a document cannot be reached.
    """
    return await _export(auditor, await subject_of(auditor.suite, name), path)


async def export_study(auditor: Auditor, number: int, path: Path) -> Subject:
    """Write the evidence bundle about a study alone, whether or not it made a model.

    Raises:
        InvalidInput: there is no such study, or it has no result.
        Unavailable: the chain or the holder of a document cannot be reached.
    """
    if not await auditor.suite.studies.events(Completed, study_id=number):
        raise InvalidInput(f"study {number} has no result on this chain; there is nothing to audit yet")
    return await _export(auditor, Subject("", number, 0, 0, 0), path)


async def _export(auditor: Auditor, subject: Subject, path: Path) -> Subject:
    suite, say = auditor.suite, auditor.say
    addresses = {label: contract.address for label, contract in suite.contracts.items()}
    receipts = [] if subject.is_study else await _receipts(auditor, subject.service)
    say("receipts of every service node", 0.3)
    documents = await _documents(auditor, subject)
    say(f"{len(documents)} documents from those who hold them", 0.5)
    needed = await collect(suite.client, addresses, subject)
    reader = await _reader(suite)
    proof = await reader.prove(needed.transactions, needed.heights)
    shown = {name: addresses[name] for name in (STUDY_CONTRACTS if subject.is_study else MODEL_CONTRACTS)}
    network = await reader.network(shown)  # afterwards: it holds every set that signed what was proven
    say(f"{len(needed.transactions)} transactions with their proofs", 0.8)
    bundle = make_bundle(subject, network, proof, documents, receipts, auditor.key)
    try:
        await asyncio.to_thread(path.write_bytes, bundle)
    except OSError as problem:
        raise Unavailable(f"cannot write {path.name}: {problem.strerror}") from None
    return subject


def check(path: Path, shown: bytes | None = None) -> VerificationReport:
    """Check a bundle offline, with no key, and a result that its result party shows, if there is one.

    Raises:
        Unavailable: the bundle cannot be read.
    """
    report = verify(path)
    if shown is None:
        return report
    try:
        detail = check_shown(report.result, shown)
    except KoinonError as problem:
        return replace(report, checks=(*report.checks, Check("disclosed", _DISCLOSED, False, str(problem))))
    return replace(report, checks=(*report.checks, Check("disclosed", _DISCLOSED, True, detail)))


_DISCLOSED: Final = "The shown result is the one that three members signed, and each owner's share follows from it."


def check_shown(proven: ProvenResult | None, data: bytes) -> str:
    """What a disclosed result says, if it is the one whose digest the bundle proves and the revenue is split by it.

    Args:
        proven: None where the bundle does not hold.

    Raises:
        InvalidInput: the bytes are no disclosed result.
        Forged: it is another result than the study's, or an owner gets another share than follows from it.
        Refused: another version of the algorithm is installed here, or the result was held back.
        MalformedMessage: packages that do not fit the study.
    """
    shown = read_disclosed(data)
    if proven is None:
        raise Forged("the bundle does not hold, so that it proves nothing of the study that this result could be of")
    if shown.number != proven.study:
        raise Forged(f"the result is of study {shown.number}, the bundle of study {proven.study}")
    found = check_disclosed(shown, OnChain(proven.specification_hash, proven.attempt, proven.output_digest))
    owed = owed_shares(found)
    owners: dict[Address, int] = {}
    for owner, share in zip(found.study.owners, owed, strict=True):
        owners[owner.account] = owners.get(owner.account, 0) + int(share)
    for account, due in owners.items():
        if proven.split and proven.split.get(account, 0) != due:
            raise Forged(
                f"by the result {to_hex(account)} is owed {due} basis points of the revenue, and gets"
                f" {proven.split.get(account, 0)}"
            )
    paid = "as paid" if proven.split else "owed"
    return f"{' and '.join(sorted(found.outputs))}; owners' shares {paid}: {', '.join(map(str, owed))} basis points"


async def subject_of(suite: Suite, name: str) -> Subject:
    """The numbers behind a name: study, model, service, evaluation.

    Raises:
        InvalidInput: the name stands for nothing that a study made, or for nothing that is served.
        Refused: nobody registered it.
    """
    _, resolution = await suite.names.resolve(name)
    if not resolution.model_id:
        raise InvalidInput(f"the name {name} stands for nothing yet")
    asset = await suite.assets.asset_of(resolution.model_id)
    while not asset.study_id:
        parents = [await suite.assets.asset_of(parent) for parent in asset.parents]
        models = [parent for parent in parents if parent.kind == AssetKind.MODEL]
        if not models:
            raise InvalidInput(f"the model behind {name} came from no study; there is nothing to audit before it")
        asset = models[0]
    service = await _service_of(suite, resolution.model_id)
    return Subject(name, asset.study_id, resolution.model_id, service, resolution.evaluation_id)


async def _service_of(suite: Suite, model: int) -> int:
    for number in range(await suite.assets.count(), 0, -1):
        asset = await suite.assets.asset_of(number)
        if asset.kind == AssetKind.SERVICE and model in asset.parents:
            return number
    raise InvalidInput("the model is not served yet; there are no answers to audit")


async def _reader(suite: Suite) -> KoinonProofs | OutsideProofs:
    """Our ledger proves finality; any other chain's RPC is taken at its word, and the bundle says so."""
    version = await suite.client.request("web3_clientVersion")
    return KoinonProofs(suite.client) if str(version).lower().startswith("koinon") else OutsideProofs(suite.client)


# ------------------------------------------------------------------------------------------------------ documents


async def _ask(auditor: Auditor, account: Address, request: Message) -> Message:
    record = await auditor.directory.find_account(account)
    return await auditor.transport.call(record.endpoint, request, CALL_SECONDS)


async def study_behind(auditor: Auditor, number: int) -> tuple[StudyFile, SignedStudy]:
    """A study's file from its publisher, checked against its hash on the chain.

    Raises:
        InvalidInput: there is no such study.
        Forged: the publisher gave another file, or one it did not sign.
        Unavailable: the publisher cannot be reached.
    """
    proposals = await auditor.suite.studies.events(Proposed, study_id=number)
    if not proposals:
        raise InvalidInput(f"there is no study {number} on this chain")
    proposed = proposals[0].event
    reply = await _ask(auditor, proposed.publisher, FetchStudyFile(proposed.spec_hash))
    assert isinstance(reply, StudyFileReply)
    signed = decode(SignedStudy, reply.signed_study)
    return open_study_named(signed, proposed.spec_hash), signed


async def _documents(auditor: Auditor, subject: Subject) -> list[Document]:
    suite = auditor.suite
    study, signed = await study_behind(auditor, subject.study)
    found = [Document("study", "keccak256", signed.study, study.publisher.node_id, SIGNATURE_DOMAIN, signed.signature)]
    attempt = (await suite.studies.events(Completed, study_id=subject.study))[0].event.attempt
    for place, owner in enumerate(study.owners):
        request = FetchManifest(subject.study, attempt, place)
        try:
            answer = await _ask(auditor, owner.account, request)
        except Unavailable:  # the result party was delivered it too; the owner's signature says whose it is
            answer = await _ask(auditor, study.publisher.account, request)
        assert isinstance(answer, ManifestsReply)
        unsigned = encode(msgspec.structs.replace(answer.manifest, signature=b""))
        found.append(Document("shares", "", unsigned, owner.node_id, MANIFEST_DOMAIN, answer.manifest.signature))
    if subject.is_study:
        return found
    found.append(await _package(auditor, subject))
    for event in await suite.evaluations.events(Revealed, request_id=subject.evaluation):
        shown = await _ask(auditor, event.event.evaluator, FetchEvaluationEvidence(subject.evaluation))
        assert isinstance(shown, EvaluationEvidenceReply)
        found.append(Document("evaluation", f"tagged:{EVIDENCE_DOMAIN}", shown.evidence))
    return found


async def _package(auditor: Auditor, subject: Subject) -> Document:
    """The manifest of the encrypted weights: what was stored, without what opens it."""
    asset = await auditor.suite.assets.asset_of(subject.model)
    blob = await _ask(auditor, asset.publisher, GetBlob(digest_of_cid(manifest_of(asset.uri))))
    assert isinstance(blob, BlobData)
    return Document("package", "sha256", blob.data)


async def _receipts(auditor: Auditor, service: int) -> list[ServiceReceipts]:
    """Each service node's batches up to its last anchor, and its last answer as a sample."""
    suite = auditor.suite
    anchored = await suite.receipts.events(Anchored, service_id=service)
    found: list[ServiceReceipts] = []
    for account in dict.fromkeys(event.event.node for event in anchored):
        own = [event.event for event in anchored if event.event.node == account]
        last = own[-1].first_sequence + own[-1].count - 1
        reply = await _ask(auditor, account, FetchReceipts(service, last))
        assert isinstance(reply, ReceiptsReply)
        shown = open_disclosure(reply.receipts)
        batches: tuple[SignedBatch, ...] = (*shown.earlier, *shown.batches)
        found.append(ServiceReceipts(account, batches, (shown.proof,)))
    return found
