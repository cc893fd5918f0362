"""What a service node shows of its receipts: one receipt up to the anchor on the chain, for anybody's audit."""

from typing import Final

from koinon.audit.receipt_log import ReceiptLog
from koinon.audit.receipts import Anchor, ReceiptProof, SignedBatch, anchor_of, verify_receipt
from koinon.kernel.codec import Record, decode, encode
from koinon.kernel.errors import Forged, Unavailable
from koinon.kernel.ids import Hash32

MAXIMUM_DISCLOSURE_BYTES: Final = 16 * 1024 * 1024


class ReceiptDisclosure(Record, frozen=True):
    """A receipt, its signed batch, and the anchor over that batch and its neighbours.

    Attributes:
        proof: the receipt with its path to the signed batch's root.
        batches: all signed batches under the anchor, in order; the receipt's among them.
        earlier: all signed batches under earlier anchors, in order, so that nothing is left out before this one.
        anchor: as it stands on the chain.
        transaction: which put it there.
    """

    proof: ReceiptProof
    batches: tuple[SignedBatch, ...]
    earlier: tuple[SignedBatch, ...]
    anchor: Anchor
    transaction: Hash32


async def disclose(log: ReceiptLog, sequence: int) -> bytes:
    """The encoded disclosure of one receipt.

    Raises:
        InvalidInput: no such receipt.
        Unavailable: its anchor is not on the chain yet.
    """
    proof = await log.prove(sequence)
    earlier: list[SignedBatch] = []
    for anchor, transaction in log.anchors():
        if anchor.first_sequence <= sequence < anchor.first_sequence + anchor.count:
            batches = log.anchored_batches(anchor)
            return encode(ReceiptDisclosure(proof, batches, tuple(earlier), anchor, transaction))
        earlier += log.anchored_batches(anchor)
    raise Unavailable(f"receipt {sequence} is signed but not anchored on the chain yet; ask again in a few seconds")


def open_disclosure(data: bytes) -> ReceiptDisclosure:
    """Read a disclosure and check it from the receipt to the anchor; the anchor itself is for the chain to confirm.

    Raises:
        MalformedMessage: no disclosure.
        Forged: a signature, a path or a root does not hold.
    """
    shown = decode(ReceiptDisclosure, data, limit=MAXIMUM_DISCLOSURE_BYTES)
    verify_receipt(shown.proof, node=shown.anchor.node, service=shown.anchor.service)
    if shown.proof.signed not in shown.batches:
        raise Forged("the receipt's batch is not among those under the anchor")
    if anchor_of(tuple(signed.batch for signed in shown.batches)) != shown.anchor:
        raise Forged("the anchor is not the root over the batches it is shown with")
    return shown
