"""Root of the Merkle-Patricia trie over a list, keyed by the RLP of the index (yellow paper, appendix D).

Outside EVM chains commit to a block's transactions and receipts this way; our own chain does not.
"""

from collections.abc import Sequence

from koinon.kernel.ids import Hash32
from koinon.ledger import rlp
from koinon.ledger.trie import trie_root


def ordered_trie_root(values: Sequence[bytes]) -> Hash32:
    """Root over ``values`` in order."""
    return trie_root((rlp.encode(index), value) for index, value in enumerate(values))
