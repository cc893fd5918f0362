"""Whether a block is final, decided from headers and certificates alone: what auditors run offline."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from koinon.crypto import bls, merkle
from koinon.crypto.hash import keccak256
from koinon.kernel.codec import decode, encode
from koinon.kernel.errors import Forged, MalformedMessage
from koinon.ledger.execution import Receipt
from koinon.ledger.giskard.certificates import check_certificate
from koinon.ledger.giskard.rules import LINKED_CERTIFICATES, is_final
from koinon.ledger.types import Header, QuorumCertificate, Validator, ValidatorSet, header_hash, is_closing
from koinon.wire.ledger import EpochEnd, SnapshotManifest


class BlsVerifier:
    """Checks the BLS signatures of a validator set's members, by position."""

    def __init__(self, validators: ValidatorSet) -> None:
        self._keys = tuple(member.bls_key for member in validators.members)

    def verify(self, signer: int, message: bytes, signature: bytes) -> bool:
        return 0 <= signer < len(self._keys) and bls.verify(self._keys[signer], message, signature)

    def verify_aggregate(self, signers: Sequence[int], message: bytes, signature: bytes) -> bool:
        keys = [self._keys[signer] for signer in signers]
        return bls.verify_aggregate(keys, message, signature)

    def aggregate(self, signatures: Sequence[bytes]) -> bytes:
        return bls.aggregate_signatures(signatures)


def verify_finality(
    headers: Sequence[Header], certificates: Sequence[QuorumCertificate], validators: ValidatorSet
) -> Header:
    """Check that the block of the first header is final, and return that header.

    Args:
        headers: at least three, each the parent of the next.
        certificates: of the last three headers, in order.
        validators: the set whose keys were checked for possession (from a trusted genesis).

    Raises:
        Forged: anything was edited, left out or signed by too few; names which header or certificate.
    """
    if len(headers) < LINKED_CERTIFICATES or len(certificates) != LINKED_CERTIFICATES:
        raise Forged(
            f"a finality proof has at least three headers and exactly three certificates; "
            f"got {len(headers)} and {len(certificates)}"
        )
    for parent, child in pairwise(headers):
        if child.parent != header_hash(parent) or child.height != parent.height + 1:
            raise Forged(f"header {child.height} is not the child of header {parent.height} in the finality proof")
    if is_closing(headers[0]):
        raise Forged(f"block {headers[0].height} closes epoch {headers[0].epoch}; closing blocks are never final")
    proven = list(headers[-LINKED_CERTIFICATES:])
    verifier = BlsVerifier(validators)
    for header, certificate in zip(proven, certificates, strict=True):
        if header.validators != validators.hash:
            raise Forged(f"header {header.height} names another validator set than the one given")
        if header.epoch != proven[0].epoch:
            raise Forged(f"header {header.height} is of another epoch than the certified header before it")
        named = (certificate.block, certificate.epoch, certificate.view, certificate.index, certificate.height)
        if named != (header_hash(header), header.epoch, header.view, header.index, header.height):
            raise Forged(f"the certificate given for header {header.height} is for another block")
        try:
            check_certificate(certificate, header.chain_id, len(validators), validators.quorum, verifier)
        except MalformedMessage as problem:
            raise Forged(str(problem)) from None
    if not is_final(proven):
        raise Forged(
            f"the views of headers {proven[0].height} to {proven[-1].height} leave a gap, so they prove nothing final"
        )
    return headers[0]


def verify_epochs(first: ValidatorSet, ends: Sequence[EpochEnd]) -> tuple[ValidatorSet, ...]:
    """The validator sets of all epochs, from the first, which is trusted, to the one after the last end given.

    Raises:
        Forged: an end is not proven by its epoch's validators, or names another next set than its header; says which.
    """
    sets = [first]
    for epoch, end in enumerate(ends):
        header = verify_finality(end.proof.headers, end.proof.certificates, sets[-1])
        if header.epoch != epoch or header.next_validators != keccak256(end.members):
            raise Forged(f"what is given as the end of epoch {epoch} does not name the validators of the next")
        if not is_closing(end.proof.headers[1]):
            raise Forged(f"what is given as the end of epoch {epoch} is not its last block: no closing block follows")
        # The members need no check of their own: a quorum has signed their hash after checking every key's possession.
        sets.append(ValidatorSet(decode(tuple[Validator, ...], end.members)))
    return tuple(sets)


def manifest_check(first: ValidatorSet) -> Callable[[SnapshotManifest], Header]:
    """How a node that trusts the validators of genesis believes a snapshot's manifest; gives the final header."""

    def check(manifest: SnapshotManifest) -> Header:
        sets = verify_epochs(first, manifest.epochs)
        certificate, claimed = manifest.certificate, manifest.proof.headers[0]
        if claimed.epoch >= len(sets):
            raise Forged(f"the snapshot is of epoch {claimed.epoch} and does not show how validators came to it")
        validators = sets[claimed.epoch]
        header = verify_finality(manifest.proof.headers, manifest.proof.certificates, validators)
        named = (certificate.block, certificate.epoch, certificate.view, certificate.index, certificate.height)
        if named != (header_hash(header), header.epoch, header.view, header.index, header.height):
            raise Forged(f"the certificate given for block {header.height} is for another block")
        try:
            check_certificate(certificate, header.chain_id, len(validators), validators.quorum, BlsVerifier(validators))
        except MalformedMessage as problem:
            raise Forged(str(problem)) from None
        if sets[-1].hash != header.next_validators:
            raise Forged("the snapshot leaves out the end of its epoch, or adds one")
        return header

    return check


def verify_receipt(
    header: Header,
    raw_transaction: bytes,
    receipt: Receipt,
    index: int,
    count: int,
    transaction_path: Sequence[bytes],
    receipt_path: Sequence[bytes],
) -> None:
    """Check that a transaction stands at ``index`` of a block of ``count`` and that it had this receipt.

    Raises:
        Forged: one of them is not what the header commits to; names which.
    """
    if not merkle.verify(header.transactions_root, raw_transaction, index, count, transaction_path):
        raise Forged(f"the transaction is not number {index} of block {header.height}")
    if not merkle.verify(header.receipts_root, encode(receipt), index, count, receipt_path):
        raise Forged(f"the receipt is not that of transaction {index} of block {header.height}")
