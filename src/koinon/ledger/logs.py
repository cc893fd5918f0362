"""Which final blocks may hold a log, without reading their receipts: an index beside the blocks.

For every block and every address or topic that occurs in its logs the store has one key

    l + kind + digest + height         kind: 0xff address, 0 to 3 the topic's place, 0xfe any log at all

with the first eight bytes of the item's Keccak-256 as digest. Two items may share a digest: the index names blocks in
which to look, and who asks still compares the logs themselves.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final

from koinon.crypto.hash import keccak256
from koinon.kernel.effects import StoreView
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import Height
from koinon.ledger.execution import Receipt

PREFIX: Final = b"l"
_ADDRESS: Final = b"\xff"
_ANY: Final = b"\xfe" + bytes(8)
_DIGEST_BYTES: Final = 8
_WINDOW: Final = 65_536
"""Heights that are looked at together: it bounds what a query over a long chain holds in memory."""


@lru_cache(maxsize=65_536)
def item_digest(item: bytes) -> Hash32:
    """Keccak-256 of an address or topic; contracts and event names come again and again."""
    return keccak256(item)


def index_keys(receipts: Iterable[Receipt], height: Height) -> set[bytes]:
    """The keys of one block's logs."""
    items: set[bytes] = set()
    for receipt in receipts:
        for log in receipt.logs:
            items.add(_ADDRESS + item_digest(log.address)[:_DIGEST_BYTES])
            for place, topic in enumerate(log.topics):
                items.add(bytes([place]) + item_digest(topic)[:_DIGEST_BYTES])
    if items:
        items.add(_ANY)
    suffix = height.to_bytes(8, "big")
    return {PREFIX + item + suffix for item in items}


def candidate_heights(
    store: StoreView,
    first: int,
    last: int,
    addresses: Collection[Address],
    topics: Sequence[Collection[bytes]],
) -> Iterator[Height]:
    """Heights from ``first`` to ``last`` whose blocks may hold a log that fits, ascending.

    Args:
        addresses: of contracts, any of which will do; none lets all through.
        topics: by place, the values that will do there; an empty collection lets all through.
    """
    wanted = [[_ADDRESS + item_digest(address)[:_DIGEST_BYTES] for address in addresses]]
    for place, options in enumerate(topics):
        wanted.append([bytes([place]) + item_digest(topic)[:_DIGEST_BYTES] for topic in options])
    constraints = [options for options in wanted if options] or [[_ANY]]
    for begin in range(first, last + 1, _WINDOW):
        end = min(begin + _WINDOW - 1, last)
        found: set[int] | None = None
        for options in constraints:
            heights = {height for item in options for height in _heights_of(store, item, begin, end)}
            found = heights if found is None else found & heights
            if not found:
                break
        yield from map(Height, sorted(found or ()))


def _heights_of(store: StoreView, item: bytes, first: int, last: int) -> Iterator[int]:
    prefix = PREFIX + item
    for key, _ in store.scan(prefix, prefix + first.to_bytes(8, "big")):
        height = int.from_bytes(key[len(prefix) :], "big")
        if height > last:
            return
        yield height
