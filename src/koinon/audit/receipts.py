"""Receipts: what a service owes each caller besides the answer, and how a stranger checks one.

Every answer gets a receipt; each names the hash of the one before. Up to 256 receipts, or those of 100 ms, form a
batch: a Merkle tree whose root the node signs once. Batches in turn are anchored on the chain, many at a time.

A receipt holds commitments to the request and the response, salted per call: rows are short and guessable, so a bare
hash of one would give it away. The caller gets the salt with the answer and can open the commitments to anyone.
"""

from typing import Final

from koinon.crypto import commitment, merkle
from koinon.crypto.hash import tagged_hash
from koinon.crypto.signature import NodeKey, verify_node_signature
from koinon.kernel.codec import Record, encode
from koinon.kernel.errors import Forged
from koinon.kernel.ids import Hash32, NodeId, to_hex
from koinon.kernel.quantities import TokenAmount, UnixSeconds

MOST_RECEIPTS_IN_BATCH: Final = 256
MOST_BATCHES_IN_ANCHOR: Final = 4096
REQUEST_DOMAIN: Final = "koinon/audit/request/1"
RESPONSE_DOMAIN: Final = "koinon/audit/response/1"
_RECEIPT_DOMAIN: Final = "koinon/audit/receipt/1"
_BATCH_DOMAIN: Final = "koinon/audit/batch/1"


class Receipt(Record, frozen=True):
    """What one answer was: by whom, with which weights, to what, paid how. No row and no prediction in it.

    Attributes:
        service: asset number of the service.
        node: who answered.
        weights: SHA-256 of the ONNX bytes that answered.
        sequence: 0, 1, 2, … over all answers of this node for this service.
        answered_at: the node's clock.
        request: salted commitment to the request body.
        response: salted commitment to the response body.
        answers: rows answered.
        channel: payment channel, zeros where free.
        cumulative: total of the voucher that paid, 0 where free.
        charged: what this call took of it.
        pass_number: token number of the pass, 0 for none.
        previous: hash of the receipt before; zeros for the first.
    """

    service: int
    node: NodeId
    weights: Hash32
    sequence: int
    answered_at: UnixSeconds
    request: Hash32
    response: Hash32
    answers: int
    channel: Hash32
    cumulative: TokenAmount
    charged: TokenAmount
    pass_number: int
    previous: Hash32


class Batch(Record, frozen=True):
    """Consecutive receipts under one Merkle root (``crypto.merkle`` over receipt hashes)."""

    service: int
    node: NodeId
    first_sequence: int
    count: int
    root: Hash32


class SignedBatch(Record, frozen=True):
    """A batch and its node's Ed25519 signature."""

    batch: Batch
    signature: bytes


class ReceiptProof(Record, frozen=True):
    """One receipt, its place under a signed batch: everything needed to check it alone."""

    receipt: Receipt
    path: tuple[Hash32, ...]
    signed: SignedBatch


class Anchor(Record, frozen=True):
    """Consecutive batches under one root, as it is written on the chain by ``Receipts.anchor``."""

    service: int
    node: NodeId
    root: Hash32
    count: int
    first_sequence: int


def receipt_hash(receipt: Receipt) -> Hash32:
    """BLAKE3 of a receipt under its own domain: the leaf of a batch and the link of the chain."""
    return tagged_hash(_RECEIPT_DOMAIN, encode(receipt))


def sign_batch(key: NodeKey, batch: Batch) -> SignedBatch:
    """Sign a batch with the key of the node it names."""
    return SignedBatch(batch, key.sign(_BATCH_DOMAIN, encode(batch)))


def check_batch(signed: SignedBatch) -> None:
    """Check a batch's signature against the node it names. Raises Forged."""
    verify_node_signature(signed.batch.node, _BATCH_DOMAIN, encode(signed.batch), signed.signature)


def anchor_of(batches: tuple[Batch, ...]) -> Anchor:
    """The anchor over consecutive batches of one service and node; at least one."""
    first = batches[0]
    root = merkle.root([batch.root for batch in batches])
    return Anchor(first.service, first.node, root, sum(batch.count for batch in batches), first.first_sequence)


def verify_receipt(
    proof: ReceiptProof,
    *,
    node: NodeId | None = None,
    service: int | None = None,
    weights: Hash32 | None = None,
    opening: tuple[bytes, bytes, bytes] | None = None,
) -> Receipt:
    """Check that a node signed for this receipt.

    Args:
        proof: as answered by ``/koinon/receipts/{sequence}``.
        node: who must have signed; any node if not given.
        service: asset number it must be for.
        weights: hash of the weights that must have answered.
        opening: request body, response body and the call's salt, for the caller who has them.

    Raises:
        Forged: signature, path, sequence or one of the expected values does not match; says which.
    """
    receipt, batch = proof.receipt, proof.signed.batch
    if (receipt.node, receipt.service) != (batch.node, batch.service):
        raise Forged(f"receipt {receipt.sequence} and its batch are by different nodes or for different services")
    if node is not None and receipt.node != node:
        raise Forged(
            f"receipt {receipt.sequence} is by node {to_hex(receipt.node)[:18]}…, not by the one that was asked"
        )
    if service is not None and receipt.service != service:
        raise Forged(f"receipt {receipt.sequence} is for service {receipt.service}, not {service}")
    if weights is not None and receipt.weights != weights:
        raise Forged(f"receipt {receipt.sequence} names other weights than the ones that were bought")
    check_batch(proof.signed)
    index = receipt.sequence - batch.first_sequence
    if not merkle.verify(batch.root, receipt_hash(receipt), index, batch.count, proof.path):
        raise Forged(f"receipt {receipt.sequence} is not in the batch it is shown with")
    if opening is not None:
        request, response, salt = opening
        commitment.check(receipt.request, REQUEST_DOMAIN, request, salt)
        commitment.check(receipt.response, RESPONSE_DOMAIN, response, salt)
    return receipt
