"""A bundle once its bytes are read and its chain evidence holds: what the checks look at."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from koinon.audit.evidence import DOCUMENT_KINDS, Document, Network, ServiceReceipts, Subject
from koinon.audit.facts import Facts
from koinon.crypto.hash import blake3, keccak256, sha256, tagged_hash
from koinon.kernel.errors import Forged
from koinon.kernel.ids import Address, Hash32

_TAGGED: Final = "tagged:"
_FUNCTIONS: Final = {"keccak256": keccak256, "sha256": sha256, "blake3": blake3}


@dataclass(frozen=True)
class Exhibit:
    """Documents and receipts come with the names of their entries, so that a check can say which one is wrong."""

    subject: Subject
    network: Network
    facts: Facts
    documents: tuple[tuple[str, Document], ...]
    receipts: tuple[tuple[str, ServiceReceipts], ...]

    def of_kind(self, kind: str) -> Iterator[tuple[str, Document]]:
        """Documents of one kind with their entries' names."""
        return ((name, document) for name, document in self.documents if document.kind == kind)

    def contract(self, name: str) -> Address:
        """Address of a contract. Raises Forged where the network does not name it."""
        try:
            return self.facts.contracts[name]
        except KeyError:
            raise Forged(f"the network names no contract {name}") from None


def document_digest(name: str, document: Document) -> Hash32 | None:
    """Digest by which others name the document; None where only its signature binds it.

    Raises:
        Forged: the kind or the function is none that bundles have.
    """
    if document.kind not in DOCUMENT_KINDS:
        raise Forged(f"{name}: {document.kind!r} is no kind of document")
    if document.function == "" and document.node:
        return None
    if document.function.startswith(_TAGGED):
        return tagged_hash(document.function.removeprefix(_TAGGED), document.body)
    function = _FUNCTIONS.get(document.function)
    if function is None:
        raise Forged(f"{name}: {document.function!r} is no hash function that bundles use")
    return function(document.body)
