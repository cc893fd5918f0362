"""What a chain proves about its transactions: our chain by finality certificates, an outside chain by its own headers.

Our chain: headers link to one another; the last three carry linked quorum certificates of the validator set; each
transaction and each receipt has a Merkle path to the roots of its header. Nothing is taken on trust but the validator
set, whose hash the report names.

An outside EVM chain: the header hashes to the block hash, the receipts and transactions make up the header's roots.
That this header is of that chain is what the exporter's RPC said; the report says so.
"""

from collections.abc import Iterable, Mapping

from koinon.audit.evidence import Fact, Network, OutsideBlock
from koinon.audit.facts import Log, ProvenTransaction
from koinon.audit.ordered_trie import ordered_trie_root
from koinon.crypto import merkle
from koinon.crypto.hash import keccak256
from koinon.kernel.codec import decode
from koinon.kernel.errors import Forged, MalformedMessage
from koinon.kernel.ids import Address, Hash32
from koinon.ledger import rlp
from koinon.ledger.execution import Receipt
from koinon.ledger.transaction import parse_transaction
from koinon.ledger.types import Header, ValidatorSet, header_hash, is_closing
from koinon.wire.consensus import FinalityProof

_HEADER_FIELDS_BEFORE = 15
_TRANSACTIONS_ROOT, _RECEIPTS_ROOT, _HEIGHT, _TIMESTAMP = 4, 5, 8, 11


def final_headers(network: Network, proofs: Iterable[tuple[str, FinalityProof]]) -> dict[int, Header]:
    """Headers that the certificates show to be final, by height.

    Raises:
        Forged: names the entry whose headers or certificates do not hold.
    """
    from koinon.ledger.finality import verify_epochs, verify_finality

    try:
        sets = verify_epochs(ValidatorSet(network.validators), network.epochs)
    except (Forged, MalformedMessage) as problem:
        raise Forged(f"network: {problem}") from None
    headers: dict[int, Header] = {}
    for name, proof in proofs:
        epoch = proof.headers[-1].epoch
        if epoch >= len(sets):
            raise Forged(f"{name}: the bundle does not show who validates in epoch {epoch}")
        try:
            verify_finality(proof.headers, proof.certificates, sets[epoch])
        except (Forged, MalformedMessage) as problem:
            raise Forged(f"{name}: {problem}") from None
        for header in (header for header in proof.headers[:-2] if not is_closing(header)):
            if header.chain_id != network.chain_id:
                raise Forged(f"{name}: block {header.height} is of chain {header.chain_id}, not {network.chain_id}")
            known = headers.setdefault(header.height, header)
            if known != header:
                raise Forged(f"{name}: there are two different final blocks at height {header.height}")
    return headers


def proven_fact(name: str, fact: Fact, headers: Mapping[int, Header]) -> ProvenTransaction:
    """Check one transaction of our chain against its header. Raises Forged naming the entry."""
    header = headers.get(fact.height)
    if header is None:
        raise Forged(f"{name}: no final header of block {fact.height} is in the bundle")
    for what, root, leaf, path in (
        ("transaction", header.transactions_root, fact.transaction, fact.transaction_path),
        ("receipt", header.receipts_root, fact.receipt, fact.receipt_path),
    ):
        if not merkle.verify(root, leaf, fact.index, fact.count, path):
            raise Forged(f"{name}: the {what} is not number {fact.index} of block {fact.height}")
    transaction = parse_transaction(fact.transaction)
    receipt = decode(Receipt, fact.receipt)
    if receipt.transaction != transaction.hash:
        raise Forged(f"{name}: the receipt is of another transaction")
    if receipt.status != 1:
        raise Forged(f"{name}: the transaction was reverted and shows nothing")
    logs = tuple(Log(log.address, log.topics, log.data) for log in receipt.logs)
    return ProvenTransaction(
        transaction.hash,
        fact.height,
        fact.index,
        header.timestamp,
        transaction.sender,
        transaction.to,
        transaction.data,
        logs,
    )


def outside_transactions(name: str, block: OutsideBlock, chain_id: int) -> tuple[ProvenTransaction, ...]:
    """Check a block of an outside chain against its own header; successful transactions of a type we read.

    Raises:
        Forged: names the entry, and what does not fit.
    """
    fields = rlp.decode(block.header)
    if not isinstance(fields, list) or len(fields) < _HEADER_FIELDS_BEFORE:
        raise Forged(f"{name}: the header is no block header")
    if keccak256(block.header) != block.hash:
        raise Forged(f"{name}: the header does not hash to the block hash")
    if _integer(fields[_HEIGHT]) != block.height:
        raise Forged(f"{name}: the header is of block {_integer(fields[_HEIGHT])}, not {block.height}")
    if ordered_trie_root(block.transactions) != fields[_TRANSACTIONS_ROOT]:
        raise Forged(f"{name}: the transactions are not those of block {block.height}")
    if ordered_trie_root(block.receipts) != fields[_RECEIPTS_ROOT]:
        raise Forged(f"{name}: the receipts are not those of block {block.height}")
    if len(block.transactions) != len(block.receipts):
        raise Forged(f"{name}: there are {len(block.transactions)} transactions and {len(block.receipts)} receipts")
    proven = []
    for index, (raw, encoded) in enumerate(zip(block.transactions, block.receipts, strict=True)):
        if raw[:1] not in (b"\x01", b"\x02") and raw[:1] < b"\xc0":
            continue  # blob and later types carry no call of the suite's clients
        succeeded, logs = _outside_receipt(name, encoded)
        if not succeeded:
            continue
        transaction = parse_transaction(raw)
        if transaction.chain_id not in (None, chain_id):
            raise Forged(f"{name}: transaction {index} is for chain {transaction.chain_id}, not {chain_id}")
        proven.append(
            ProvenTransaction(
                transaction.hash,
                block.height,
                index,
                _integer(fields[_TIMESTAMP]),
                transaction.sender,
                transaction.to,
                transaction.data,
                logs,
            )
        )
    return tuple(proven)


def hash_of_header(header: Header) -> Hash32:
    """The block hash, which is also what the EVM's BLOCKHASH gives."""
    return header_hash(header)


def _outside_receipt(name: str, encoded: bytes) -> tuple[bool, tuple[Log, ...]]:
    """Status and logs of a receipt in consensus encoding (EIP-2718)."""
    item = rlp.decode(encoded if encoded[:1] >= b"\xc0" else encoded[1:])
    if not isinstance(item, list) or len(item) != 4 or not isinstance(item[3], list):
        raise Forged(f"{name}: a receipt is not four fields")
    logs = []
    for entry in item[3]:
        if not isinstance(entry, list) or len(entry) != 3:
            raise Forged(f"{name}: a log is not three fields")
        address, topics, data = entry
        if not isinstance(address, bytes) or not isinstance(topics, list) or not isinstance(data, bytes):
            raise Forged(f"{name}: a log has fields of the wrong kind")
        logs.append(Log(Address(address), tuple(topic for topic in topics if isinstance(topic, bytes)), data))
    return item[0] == b"\x01", tuple(logs)


def _integer(item: rlp.Item) -> int:
    if not isinstance(item, bytes):
        raise MalformedMessage("a number in a header is a list")
    return int.from_bytes(item, "big")
