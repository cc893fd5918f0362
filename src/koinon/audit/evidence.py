"""What an evidence bundle is made of.

    manifest             name, size and BLAKE3 of every other entry; who exported, with its signature
    subject              what the bundle is about, by its numbers on the chain
    network              which chain, which contracts, which validators
    finality/NNNN        our chain: headers with the certificate that makes them final
    block/NNNNNN         an outside chain: a header with its receipts, as its RPC gave them at export
    fact/NNNNNN          a transaction and its receipt with proofs into a header
    document/KIND-NN     study file, model card, package manifest, evaluation evidence, …: bytes bound by hash
    receipts/NN          a service node's signed batches and a sample answer's receipt

Nothing in a bundle is secret and nothing is a row: documents are the ones their owners publish.
"""

from typing import Annotated, Final

from msgspec import Meta

from koinon.audit.receipts import ReceiptProof, SignedBatch
from koinon.crypto.signature import NodeKey, verify_node_signature
from koinon.kernel.codec import Record, encode
from koinon.kernel.ids import Address, Hash32, NodeId
from koinon.kernel.quantities import ChainId, Height
from koinon.ledger.types import Validator
from koinon.wire.ledger import EpochEnd

FORMAT: Final = 1
KOINON_CHAIN: Final = "koinon"
OUTSIDE_CHAIN: Final = "outside"
_MANIFEST_DOMAIN: Final = "koinon/audit/manifest/1"

Digest = Annotated[Hash32, Meta(min_length=32, max_length=32)]
Account = Annotated[Address, Meta(min_length=20, max_length=20)]
Node = Annotated[NodeId, Meta(min_length=32, max_length=32)]
Number = Annotated[int, Meta(ge=0, le=2**62)]


class ManifestEntry(Record, frozen=True):
    """One entry of the bundle: its name, length in bytes and BLAKE3."""

    name: str
    size: Number
    blake3: Digest


class Manifest(Record, frozen=True):
    """What is in the bundle, in order of name, and who put it together."""

    version: Number
    entries: tuple[ManifestEntry, ...]
    exporter: Node


class SignedManifest(Record, frozen=True):
    """The manifest under its exporter's signature, which vouches for what the exporter read from an outside chain."""

    manifest: Manifest
    signature: bytes


class Subject(Record, frozen=True):
    """What the bundle is about.

    Attributes:
        name: as registered on the chain; empty for a bundle about a study alone, such as one that makes no model.
        study, model, service, evaluation: their numbers on the chain; all but the first are 0 for a study alone.
    """

    name: str
    study: Number
    model: Number
    service: Number
    evaluation: Number

    @property
    def is_study(self) -> bool:
        """Whether the bundle is about a study alone."""
        return not self.name and not self.model


class ContractAddress(Record, frozen=True):
    """One contract of the suite."""

    contract: str
    address: Account


class Network(Record, frozen=True):
    """The chain that everything is on.

    Attributes:
        kind: ``koinon``, whose finality the bundle proves, or ``outside``, whose RPC the exporter trusted.
        validators: the first set that signed headers, that of genesis; empty for an outside chain.
        epochs: how each epoch that has ended handed over to the next, from the first on.
    """

    kind: str
    chain_id: ChainId
    contracts: tuple[ContractAddress, ...]
    validators: tuple[Validator, ...]
    epochs: tuple[EpochEnd, ...] = ()


class OutsideBlock(Record, frozen=True):
    """A block of an outside EVM chain.

    Attributes:
        header: RLP of the header.
        transactions: raw transactions of the block, in order (EIP-2718).
        receipts: their receipts in consensus encoding, in order.
    """

    height: Height
    hash: Digest
    header: bytes
    transactions: tuple[bytes, ...]
    receipts: tuple[bytes, ...]


class Fact(Record, frozen=True):
    """A transaction of our chain with its receipt, each under a root of the header at ``height``.

    Attributes:
        index: position in the block.
        count: number of transactions in the block.
        receipt: encoding of ``ledger.execution.Receipt``.
    """

    height: Height
    index: Number
    count: Number
    transaction: bytes
    transaction_path: tuple[Digest, ...]
    receipt: bytes
    receipt_path: tuple[Digest, ...]


class Document(Record, frozen=True):
    """Published bytes: bound by their digest, which the chain or another document names, or by a party's signature.

    Attributes:
        kind: one of ``DOCUMENT_KINDS``.
        function: ``keccak256``, ``sha256``, ``blake3`` or ``tagged:DOMAIN`` (``crypto.hash.tagged_hash``); empty where
            only the signature binds it.
        node: whose node key signed ``body`` under ``domain``; these three are empty where nobody did.
    """

    kind: str
    function: str
    body: bytes
    node: bytes = b""
    domain: str = ""
    signature: bytes = b""


DOCUMENT_KINDS: Final = ("study", "card", "package", "evaluation", "shares", "variants")
"""study file; model card; package manifest; an evaluator's evidence; an owner's share manifest; report on variants."""
STUDY_DOCUMENTS: Final = ("study", "shares")
"""The kinds that a bundle about a study alone has."""
MODEL_CONTRACTS: Final = ("Token", "Providers", "Studies", "Assets", "Evaluations", "Names", "Market", "Receipts")
"""What a bundle about a model shows events of; a dispute that came before its result is no part of it."""
STUDY_CONTRACTS: Final = ("Token", "Providers", "Studies")
"""The contracts that have to do with a study alone; a bundle names no contract that it shows nothing of."""


class ServiceReceipts(Record, frozen=True):
    """Receipts of one service node.

    Attributes:
        account: the node's account, which anchors.
        batches: every signed batch from the first, in order.
        samples: receipts of single answers with their paths.
    """

    account: Account
    batches: tuple[SignedBatch, ...]
    samples: tuple[ReceiptProof, ...]


def sign_manifest(key: NodeKey, manifest: Manifest) -> SignedManifest:
    """Sign a manifest with the key of the exporter it names."""
    return SignedManifest(manifest, key.sign(_MANIFEST_DOMAIN, encode(manifest)))


def check_manifest(signed: SignedManifest) -> None:
    """Check the exporter's signature. Raises Forged."""
    verify_node_signature(signed.manifest.exporter, _MANIFEST_DOMAIN, encode(signed.manifest), signed.signature)
