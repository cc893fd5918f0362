"""Whether a block is final, decided from headers and certificates alone: what auditors run offline."""

from collections.abc import Sequence
from itertools import pairwise

from koinon.crypto import bls, merkle
from koinon.kernel.codec import encode
from koinon.kernel.errors import Forged, MalformedMessage
from koinon.ledger.execution import Receipt
from koinon.ledger.giskard.certificates import check_certificate
from koinon.ledger.giskard.rules import LINKED_CERTIFICATES, is_final
from koinon.ledger.types import Header, QuorumCertificate, ValidatorSet, header_hash


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
    proven = list(headers[-LINKED_CERTIFICATES:])
    verifier = BlsVerifier(validators)
    for header, certificate in zip(proven, certificates, strict=True):
        if header.validators != validators.hash:
            raise Forged(f"header {header.height} names another validator set than the one given")
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
