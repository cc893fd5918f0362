"""The evidence bundle: putting one together, and checking one offline, with no key and no network."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeVar

from koinon.audit import chain_evidence, model_checks, money_checks, study_checks
from koinon.audit.archive import LONGEST_ARCHIVE, MANIFEST, read_archive, write_archive
from koinon.audit.evidence import (
    FORMAT,
    KOINON_CHAIN,
    OUTSIDE_CHAIN,
    STUDY_DOCUMENTS,
    Document,
    Fact,
    Manifest,
    ManifestEntry,
    Network,
    OutsideBlock,
    ServiceReceipts,
    SignedManifest,
    Subject,
    check_manifest,
    sign_manifest,
)
from koinon.audit.exhibit import Exhibit
from koinon.audit.facts import Facts, ProvenTransaction, read_facts
from koinon.crypto.hash import blake3
from koinon.crypto.signature import NodeKey
from koinon.kernel.codec import decode, encode
from koinon.kernel.errors import Forged, InvalidInput, KoinonError, Unavailable
from koinon.kernel.ids import Address, Hash32, to_hex
from koinon.ledger.types import ValidatorSet
from koinon.wire.consensus import FinalityProof

_T = TypeVar("_T")


@dataclass(frozen=True)
class ChainProof:
    """What a chain reader collected: ``finality`` and ``facts`` of our chain, or ``blocks`` of an outside one."""

    finality: tuple[FinalityProof, ...] = ()
    facts: tuple[Fact, ...] = ()
    blocks: tuple[OutsideBlock, ...] = ()


class ProofReader(Protocol):
    """Collects proofs from a node of the chain; the node implements it."""

    async def prove(self, transactions: Collection[Hash32], heights: Collection[int], /) -> ChainProof:
        """Proofs for these transactions, and final headers of these further heights (randomness of draws).

        Raises:
            Unavailable: the chain cannot be asked, or one of them is not final yet.
        """
        ...


@dataclass(frozen=True)
class Check:
    """One thing that was checked.

    Attributes:
        identifier: short and stable, for programs.
        sentence: what holds, if it holds.
        ok: whether it does.
        detail: numbers where it does; which entry is wrong and why where it does not.
    """

    identifier: str
    sentence: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class ProvenResult:
    """What the bundle proves of the study's result, for whoever is shown the result itself.

    Attributes:
        split: revenue of the service that came of it, by account in basis points; empty for a study alone.
    """

    study: int
    specification_hash: Hash32
    attempt: int
    output_digest: Hash32
    split: Mapping[Address, int]


@dataclass(frozen=True)
class VerificationReport:
    """Outcome of a verification.

    Attributes:
        trusts: what a reader still takes on trust, in sentences.
        about: what the bundle is about, in words; empty where it cannot be read that far.
        validators: hash of the validator set that everything rests on, to compare with the one of a genesis that the
            reader knows; None for an outside chain, or where the bundle cannot be read that far.
        result: of the study; None where a check does not hold.
    """

    checks: tuple[Check, ...]
    trusts: tuple[str, ...]
    validators: Hash32 | None = None
    about: str = ""
    result: ProvenResult | None = None

    @property
    def holds(self) -> bool:
        """Whether every check holds."""
        return all(check.ok for check in self.checks)

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that do not hold."""
        return tuple(check for check in self.checks if not check.ok)


Story = tuple[tuple[str, Callable[[Exhibit], str]], ...]

STUDY_STORY: Final[Story] = (
    ("study", study_checks.check_study_file),
    ("consents", study_checks.check_consents),
    ("shares", study_checks.check_share_manifests),
    ("committee", study_checks.check_draw),
    ("result", study_checks.check_result),
    ("fees", money_checks.check_study_fees),
)
"""What is checked of a study alone."""
STORY: Final[Story] = (
    *STUDY_STORY,
    ("provenance", model_checks.check_provenance),
    ("documents", model_checks.check_documents),
    ("evaluation", model_checks.check_evaluation),
    ("name", model_checks.check_name),
    ("split", money_checks.check_split),
    ("receipts", money_checks.check_receipts),
    ("passes", money_checks.check_passes),
    ("settlements", money_checks.check_settlements),
)


def make_bundle(
    subject: Subject,
    network: Network,
    proof: ChainProof,
    documents: Sequence[Document],
    receipts: Sequence[ServiceReceipts],
    exporter: NodeKey,
) -> bytes:
    """The bundle of collected evidence; the same evidence gives the same bytes.

    Raises:
        InvalidInput: too much for one bundle.
    """
    entries = {"subject": encode(subject), "network": encode(network)}
    entries |= {f"finality/{number:04}": encode(each) for number, each in enumerate(proof.finality)}
    entries |= {f"block/{number:06}": encode(each) for number, each in enumerate(proof.blocks)}
    entries |= {f"fact/{number:06}": encode(each) for number, each in enumerate(proof.facts)}
    entries |= {f"receipts/{number:02}": encode(each) for number, each in enumerate(receipts)}
    for number, document in enumerate(documents):
        entries[f"document/{document.kind}-{number:02}"] = encode(document)
    listing = tuple(ManifestEntry(name, len(data), blake3(data)) for name, data in sorted(entries.items()))
    manifest = Manifest(FORMAT, listing, exporter.node_id)
    return write_archive({MANIFEST: encode(sign_manifest(exporter, manifest)), **entries})


def verify(path: Path) -> VerificationReport:
    """Check a bundle file. Raises Unavailable only where the file itself cannot be read."""
    try:
        if path.stat().st_size > LONGEST_ARCHIVE:
            raise InvalidInput(f"{path.name} is longer than any bundle ({LONGEST_ARCHIVE} bytes)")
        archive = path.read_bytes()
    except OSError as problem:
        raise Unavailable(f"the bundle {path.name} cannot be read: {problem.strerror}") from None
    except InvalidInput as problem:
        return VerificationReport((Check("container", _CONTAINER, False, str(problem)),), ())
    return verify_bundle(archive)


_CONTAINER: Final = "The container has the one form bundles have, and no byte of it is out of place."
_MANIFEST: Final = "Every entry has the length and BLAKE3 that the exporter signed."
_CHAIN: Final = "Every transaction in the bundle is on the chain, in a final block."


def verify_bundle(archive: bytes) -> VerificationReport:
    """Check a bundle's bytes. Any changed byte fails a check whose detail names the entry; nothing is raised."""
    checks: list[Check] = []

    def run(identifier: str, sentence: str, work: Callable[[], tuple[_T, str]]) -> _T | None:
        try:
            result, detail = work()
        except KoinonError as problem:
            checks.append(Check(identifier, sentence, False, str(problem)))
            return None
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError) as problem:
            # A forged value of an unforeseen form stops its check and is told; it is never taken for a pass.
            checks.append(Check(identifier, sentence, False, f"cannot be read ({type(problem).__name__})"))
            return None
        checks.append(Check(identifier, sentence, True, detail))
        return result

    entries = run("container", _CONTAINER, lambda: _read_container(archive))
    if entries is None:
        return VerificationReport(tuple(checks), ())
    manifest = run("manifest", _MANIFEST, lambda: _check_entries(entries))
    exhibit = run("chain", _CHAIN, lambda: _read_exhibit(entries))
    if exhibit is None:
        return VerificationReport(tuple(checks), ())
    for identifier, check in STUDY_STORY if exhibit.subject.is_study else STORY:
        sentence = (check.__doc__ or "").strip()
        run(identifier, sentence, lambda check=check: (None, check(exhibit)))  # type: ignore[misc]
    network = exhibit.network
    validators = ValidatorSet(network.validators).hash if network.kind == KOINON_CHAIN else None
    result = _result(exhibit) if all(check.ok for check in checks) else None
    return VerificationReport(tuple(checks), _trusts(exhibit, manifest), validators, _about(exhibit.subject), result)


def _result(exhibit: Exhibit) -> ProvenResult:
    study = exhibit.subject.study
    completed = exhibit.facts.one("Studies", "Completed", studyId=study)
    proposed, _ = study_checks.terms_of(exhibit)
    split = {} if exhibit.subject.is_study else money_checks.split_of(exhibit)
    return ProvenResult(study, proposed["specHash"], completed["attempt"], completed["outputDigest"], split)


def _read_container(archive: bytes) -> tuple[dict[str, bytes], str]:
    entries, damaged = read_archive(archive)
    if damaged:
        raise Forged(f"the entry {damaged[0]} was changed: its checksum does not match")
    return entries, f"{len(entries)} entries, {len(archive)} bytes"


def _check_entries(entries: dict[str, bytes]) -> tuple[Manifest, str]:
    if MANIFEST not in entries:
        raise Forged("the bundle has no manifest")
    signed = _read(SignedManifest, MANIFEST, entries)
    manifest = signed.manifest
    if manifest.version != FORMAT:
        raise Forged(f"manifest: bundles of version {manifest.version} are not known here")
    check_manifest(signed)
    listed = {entry.name: entry for entry in manifest.entries}
    different = set(listed).symmetric_difference(set(entries) - {MANIFEST})
    if different or len(listed) != len(manifest.entries):
        raise Forged(f"manifest and bundle differ in the entry {sorted(different)[0] if different else 'listed twice'}")
    for name, entry in listed.items():
        if (len(entries[name]), blake3(entries[name])) != (entry.size, entry.blake3):
            raise Forged(f"the entry {name} is not the one that the manifest lists")
    return manifest, f"signed by {to_hex(manifest.exporter)[:18]}…"


def _read_exhibit(entries: dict[str, bytes]) -> tuple[Exhibit, str]:
    subject, network = _read(Subject, "subject", entries), _read(Network, "network", entries)
    contracts = {each.contract: each.address for each in network.contracts}
    if len(contracts) != len(network.contracts):
        raise Forged("network: a contract is named twice")
    hashes, transactions, detail = _read_chain(network, entries)
    ordered = tuple(sorted(transactions, key=lambda each: (each.height, each.index)))
    if len({(each.height, each.index) for each in ordered}) != len(ordered):
        raise Forged("a transaction is shown twice")
    read = read_facts(contracts, ordered)
    exhibit = Exhibit(
        subject,
        network,
        Facts(read.contracts, read.events, hashes),
        _read_documents(entries),
        _read_numbered(ServiceReceipts, "receipts", 2, entries),
    )
    _refuse_unknown(entries)
    _check_subject(exhibit)
    return exhibit, f"{len(ordered)} transactions, {detail}"


def _read_chain(
    network: Network, entries: dict[str, bytes]
) -> tuple[dict[int, Hash32], tuple[ProvenTransaction, ...], str]:
    if network.kind == KOINON_CHAIN:
        headers = chain_evidence.final_headers(network, _read_numbered(FinalityProof, "finality", 4, entries))
        facts = tuple(
            chain_evidence.proven_fact(name, fact, headers) for name, fact in _read_numbered(Fact, "fact", 6, entries)
        )
        hashes = {height: chain_evidence.hash_of_header(header) for height, header in headers.items()}
        return hashes, facts, f"{len(headers)} final headers"
    if network.kind == OUTSIDE_CHAIN:
        if network.validators:
            raise Forged("network: an outside chain has no validators of ours")
        blocks = _read_numbered(OutsideBlock, "block", 6, entries)
        if len({block.height for _, block in blocks}) != len(blocks):
            raise Forged("a block is shown twice")
        transactions = tuple(
            transaction
            for name, block in blocks
            for transaction in chain_evidence.outside_transactions(name, block, network.chain_id)
        )
        return {block.height: Hash32(block.hash) for _, block in blocks}, transactions, f"{len(blocks)} blocks"
    raise Forged(f"network: {network.kind[:32]!r} is no kind of chain")


def _read_documents(entries: dict[str, bytes]) -> tuple[tuple[str, Document], ...]:
    found = []
    names = sorted(name for name in entries if name.startswith("document/"))
    for name in names:
        document = _read(Document, name, entries)
        if name.removeprefix("document/").rpartition("-")[0] != document.kind:
            raise Forged(f"{name}: the document inside is of the kind {document.kind[:32]!r}")
        found.append((name, document))
    numbers = sorted(int(name.rpartition("-")[2]) for name in names)
    if numbers != list(range(len(names))):
        raise Forged("the documents are not numbered without a gap")
    return tuple(found)


def _read_numbered(kind: type[_T], folder: str, digits: int, entries: dict[str, bytes]) -> tuple[tuple[str, _T], ...]:
    names = sorted(name for name in entries if name.startswith(f"{folder}/"))
    if names != [f"{folder}/{number:0{digits}}" for number in range(len(names))]:
        raise Forged(f"the entries {folder}/ are not numbered without a gap")
    return tuple((name, _read(kind, name, entries)) for name in names)


def _check_subject(exhibit: Exhibit) -> None:
    """A bundle is about a name with everything behind it, or about a study and nothing else: never half of either."""
    subject = exhibit.subject
    if not subject.is_study:
        if not (subject.name and subject.model):
            raise Forged("subject: bundles are about a name with its model, or about a study alone")
        return
    more = exhibit.receipts or any(document.kind not in STUDY_DOCUMENTS for _, document in exhibit.documents)
    if subject.service or subject.evaluation or more:
        raise Forged("subject: a bundle about a study alone shows nothing of a model, a service or an evaluation")


def _refuse_unknown(entries: dict[str, bytes]) -> None:
    known = ("finality/", "block/", "fact/", "document/", "receipts/")
    for name in entries:
        if name not in (MANIFEST, "subject", "network") and not name.startswith(known):
            raise Forged(f"the entry {name} is none that bundles have")


def _read(kind: type[_T], name: str, entries: dict[str, bytes]) -> _T:
    if name not in entries:
        raise Forged(f"the bundle has no entry {name}")
    try:
        return decode(kind, entries[name], limit=LONGEST_ARCHIVE)
    except InvalidInput as problem:
        raise Forged(f"{name}: {problem}") from None


def _about(subject: Subject) -> str:
    if subject.is_study:
        return f"study {subject.study} alone: no model, no name and no answers"
    return f"the name {subject.name}, model {subject.model} of study {subject.study}, service {subject.service}"


def _trusts(exhibit: Exhibit, manifest: Manifest | None) -> tuple[str, ...]:
    network = exhibit.network
    if network.kind == KOINON_CHAIN:
        digest = to_hex(ValidatorSet(network.validators).hash)
        chain = (
            f"that the validator set {digest} is that of chain {network.chain_id}, "
            "and that no more than a third of its members lie"
        )
    else:
        exporter = to_hex(manifest.exporter) if manifest else "the exporter"
        chain = (
            f"the chain's RPC at export: that these block headers are of chain {network.chain_id}, "
            f"as node {exporter} read them"
        )
    contracts = ", ".join(f"{name} {to_hex(address)}" for name, address in exhibit.facts.contracts.items())
    return (chain, f"that the suite at these addresses is the one you mean: {contracts}")
