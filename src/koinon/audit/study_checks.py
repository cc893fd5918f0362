"""Checks of the agreement and its result: study file, consents, the committee's draw, the committee's signatures."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from koinon.audit.exhibit import Exhibit, document_digest
from koinon.audit.facts import Event
from koinon.contracts.eip712 import Domain, consent_digest, result_digest, studies_domain
from koinon.crypto.hash import keccak256
from koinon.crypto.signature import recover_address, verify_node_signature
from koinon.kernel.codec import Record, decode
from koinon.kernel.errors import Forged
from koinon.kernel.ids import Address, Hash32, NodeId, to_hex

COMPUTE: Final = 1
COMMITTEE_SIZE: Final = 4
SIGNATURES_NEEDED: Final = 3


class PartyOutline(Record, frozen=True):
    """A party as a study file names it."""

    name: str
    node_id: NodeId
    account: Address


class StudyOutline(Record, frozen=True):
    """A study file, with types only for what an auditor compares; the whole is ``jobs.study.StudyFile``."""

    version: int
    title: str
    purpose: str
    algorithm: str
    algorithm_hash: Hash32
    columns: Any
    target: str
    sensitive_column: str
    outputs: Any
    epsilon: float
    minimum_rows: int
    owners: tuple[PartyOutline, ...]
    publisher: PartyOutline
    owner_revenue: int
    terms: Any
    chain_id: int
    studies_contract: Address
    settings: bytes = b""
    held: Any = ()
    people: bytes = b""
    join: str = ""
    planted: int = 0
    engine: str = "rep4"


def study_of(exhibit: Exhibit) -> StudyOutline:
    """The study file. Raises Forged unless there is exactly one."""
    found = list(exhibit.of_kind("study"))
    if len(found) != 1:
        raise Forged(f"the bundle needs one study file; it has {len(found)}")
    return decode(StudyOutline, found[0][1].body)


def terms_of(exhibit: Exhibit) -> tuple[Event, Mapping[str, Any]]:
    """The proposal on the chain and its terms, from the call that made it."""
    proposed = exhibit.facts.one("Studies", "Proposed", studyId=exhibit.subject.study)
    return proposed, exhibit.facts.call(proposed).values["terms"]


def check_study_file(exhibit: Exhibit) -> str:
    """The study file is the one whose hash is on the chain, signed by its publisher, about this chain and parties."""
    name, document = next(exhibit.of_kind("study"), ("", None))
    study = study_of(exhibit)
    proposed, terms = terms_of(exhibit)
    assert document is not None
    if document.function != "keccak256" or document_digest(name, document) != proposed["specHash"]:
        raise Forged(f"{name}: the study file is not the one whose hash is on the chain")
    if document.node != study.publisher.node_id:
        raise Forged(f"{name}: the study file is signed by another node than its publisher's")
    verify_node_signature(study.publisher.node_id, document.domain, document.body, document.signature)
    if (study.chain_id, study.studies_contract) != (exhibit.network.chain_id, exhibit.contract("Studies")):
        raise Forged(f"{name}: the study file is about another chain or contract")
    if study.algorithm_hash != proposed["algorithmHash"] or study.publisher.account != proposed["publisher"]:
        raise Forged(f"{name}: publisher or algorithm differ from the proposal on the chain")
    if tuple(owner.account for owner in study.owners) != tuple(terms["owners"]):
        raise Forged(f"{name}: the owners differ from those on the chain")
    return f"study {exhibit.subject.study}, {len(study.owners)} owners, computed on the engine {study.engine}"


def check_consents(exhibit: Exhibit) -> str:
    """Every data owner signed this study file, its own dataset and its nonce commitment."""
    _, terms = terms_of(exhibit)
    for owner in terms["owners"]:
        event = exhibit.facts.one("Studies", "Consented", studyId=exhibit.subject.study, owner=owner)
        digest = consent_digest(
            _domain(exhibit),
            exhibit.subject.study,
            terms["specHash"],
            event["datasetHash"],
            event["nonceCommitment"],
            terms["consentDeadline"],
        )
        if recover_address(digest, event["signature"]) != owner:
            raise Forged(f"the consent of {to_hex(owner)} is not signed by it")
    return f"{len(terms['owners'])} signatures recovered"


def check_draw(exhibit: Exhibit) -> str:
    """The committee follows from the parties' nonces and a block hash fixed before them, by the published rule."""
    facts, study = exhibit.facts, exhibit.subject.study
    proposed, terms = terms_of(exhibit)
    parties = (proposed["publisher"], *terms["owners"])
    nonces = []
    for number, party in enumerate(parties):
        nonce = facts.one("Studies", "Revealed", studyId=study, party=party)["nonce"]
        committed = (
            proposed["nonceCommitment"]
            if number == 0
            else facts.one("Studies", "Consented", studyId=study, owner=party)["nonceCommitment"]
        )
        if keccak256(word(party) + terms["specHash"] + nonce) != committed:
            raise Forged(f"the nonce of {to_hex(party)} is not the one it committed to")
        nonces.append(nonce)
    captured = facts.one("Studies", "EntropyCaptured", studyId=study)
    _check_block_hash(exhibit, captured["height"], captured["entropy"])
    words = [word(0x40), captured["entropy"], word(len(nonces)), *nonces]
    seed = keccak256(b"".join(words))
    if facts.one("Studies", "Seeded", studyId=study)["seed"] != seed:
        raise Forged("the seed on the chain is not the hash of the nonces and the block")
    drawn = list(facts.all("Studies", "Drawn", studyId=study))
    for event in drawn:
        attempt = event["attempt"]
        expected = seed
        if attempt > 0:
            scheduled = list(facts.all("Studies", "DrawScheduled", studyId=study, attempt=attempt))
            if not scheduled:
                raise Forged(f"the bundle does not show when attempt {attempt} was scheduled")
            fresh = exhibit.facts.block_hashes.get(scheduled[-1]["drawHeight"])
            if fresh is None:
                raise Forged(f"the bundle lacks the block whose hash enters the draw of attempt {attempt}")
            expected = keccak256(seed + word(attempt) + fresh)
        if event["seed"] != expected:
            raise Forged(f"the seed of attempt {attempt} does not follow from the first one and its block")
        barred = {*parties, terms["resultParty"]}
        check_sample(exhibit, event, "committee", COMPUTE, COMMITTEE_SIZE, barred)
    completed = facts.one("Studies", "Completed", studyId=study)
    if [event["attempt"] for event in drawn] != list(range(completed["attempt"] + 1)):
        raise Forged("the bundle does not show the draw of every attempt up to the one that completed")
    return f"{len(nonces)} nonces, {len(drawn)} draw{'s' if len(drawn) > 1 else ''} repeated"


def check_sample(exhibit: Exhibit, drawn: Event, key: str, role: int, count: int, barred: set[Address]) -> None:
    """Repeat the sampling of ``Providers.sample`` from the pool that its event shows. Raises Forged."""
    sampled = [
        event
        for event in exhibit.facts.all("Providers", "Sampled", seed=drawn["seed"], role=role)
        if event.transaction is drawn.transaction
    ]
    if len(sampled) != 1:
        raise Forged(f"the draw of {drawn.contract} {drawn.transaction.height} does not show the pool it was made from")
    event = sampled[0]
    excluded = set(event["excluded"])
    if not barred <= excluded:
        raise Forged("a party to the matter was not kept out of the draw")
    best: dict[bytes, tuple[int, Address]] = {}
    for account, joined in event["pool"]:
        if joined > event["latestJoin"] or account in excluded:
            continue
        operator = _operator(exhibit, account, event)
        ticket = int.from_bytes(keccak256(drawn["seed"] + word(account)), "big")
        best[operator] = min(best.get(operator, (ticket, account)), (ticket, account))
    expected = tuple(account for _, account in sorted(best.values())[:count])
    if not expected == tuple(event["chosen"]) == tuple(drawn[key]):
        raise Forged(f"the {key} of {drawn.contract} is not the one that the seed gives")


def check_result(exhibit: Exhibit) -> str:
    """At least three of the four committee members signed the digest of the output."""
    completed = exhibit.facts.one("Studies", "Completed", studyId=exhibit.subject.study)
    call = exhibit.facts.call(completed).values
    drawn = exhibit.facts.one("Studies", "Drawn", studyId=exhibit.subject.study, attempt=completed["attempt"])
    digest = result_digest(_domain(exhibit), exhibit.subject.study, completed["attempt"], completed["outputDigest"])
    signers = []
    for member, signature in zip(drawn["committee"], call["signatures"], strict=True):
        if not signature:
            continue
        if recover_address(digest, signature) != member:
            raise Forged(f"the signature of committee member {to_hex(member)} on the output is not its own")
        signers.append(member)
    if len(signers) < SIGNATURES_NEEDED or tuple(signers) != tuple(completed["signers"]):
        raise Forged("fewer than three committee members signed the output")
    return f"output {to_hex(completed['outputDigest'])[:18]}…, {len(signers)} signatures"


def check_share_manifests(exhibit: Exhibit) -> str:
    """Each share manifest in the bundle is signed by the node of a data owner of this study."""
    owners = {owner.node_id: owner.name for owner in study_of(exhibit).owners}
    found = list(exhibit.of_kind("shares"))
    for name, document in found:
        if document.node not in owners:
            raise Forged(f"{name}: the share manifest is by no data owner of the study")
        verify_node_signature(NodeId(document.node), document.domain, document.body, document.signature)
    return f"{len(found)} manifests"


def word(value: int | bytes) -> bytes:
    """An ABI word: a number or an address, padded on the left."""
    return value.to_bytes(32, "big") if isinstance(value, int) else value.rjust(32, b"\0")


def _domain(exhibit: Exhibit) -> Domain:
    return studies_domain(exhibit.network.chain_id, exhibit.contract("Studies"))


def _check_block_hash(exhibit: Exhibit, height: int, entropy: bytes) -> None:
    known = exhibit.facts.block_hashes.get(height)
    if known is None:
        raise Forged(f"the bundle lacks block {height}, whose hash entered the draw")
    if known != entropy:
        raise Forged(f"the randomness taken from block {height} is not its hash")


def _operator(exhibit: Exhibit, account: Address, before: Event) -> bytes:
    events: Sequence[Event] = exhibit.facts.events
    latest: bytes | None = None
    for event in events:
        if event is before:
            break
        if (event.contract, event.name) == ("Providers", "Registered") and event["account"] == account:
            latest = event["operator"]
    if latest is None:
        raise Forged(f"the bundle does not show who operates {to_hex(account)}, who was in the pool")
    return latest
