"""Final history: receipts by hash, the log index against a plain search, and pruning."""

import os
from pathlib import Path

import pytest
from eth_account.signers.local import LocalAccount
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_chain import GrowingChain
from ledger_network import sign

from koinon.kernel.errors import Unavailable
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import Gas, Height
from koinon.ledger.execution import Log, Receipt
from koinon.ledger.finality import verify_finality
from koinon.ledger.history import LEAST_KEPT
from koinon.ledger.logs import candidate_heights, index_keys
from koinon.store.keyvalue import LmdbStore, MemoryStore

STRANGER = "0x" + "00" * 19 + "99"
# Its code logs topic 1 without data and stops.
LOGGER_CREATION = bytes.fromhex("6008600c60003960086000f3600160006000a100")
ADDRESSES = [Address(bytes([number]) * 20) for number in range(4)]
TOPICS = [bytes([number]) * 32 for number in range(4)]
LOGS = st.builds(
    Log,
    st.sampled_from(ADDRESSES),
    st.lists(st.sampled_from(TOPICS), max_size=4).map(tuple),
    st.just(b""),
)


def _receipt(logs: list[Log]) -> Receipt:
    return Receipt(Hash32(os.urandom(32)), 1, Gas(1), Gas(1), b"", None, tuple(logs))


@settings(max_examples=200)
@given(
    st.dictionaries(st.integers(0, 300_000), st.lists(LOGS, max_size=3), max_size=12),
    st.sets(st.sampled_from(ADDRESSES), max_size=2),
    st.lists(st.sets(st.sampled_from(TOPICS), max_size=2), max_size=4),
    st.integers(0, 300_000),
    st.integers(0, 300_000),
)
def test_the_index_names_every_block_that_a_search_finds(
    blocks: dict[int, list[Log]], addresses: set[Address], topics: list[set[bytes]], first: int, last: int
) -> None:
    store = MemoryStore()
    for height, logs in blocks.items():
        store.write(dict.fromkeys(index_keys([_receipt(logs)], Height(height)), b"\x01"))

    def fits(log: Log) -> bool:
        return (not addresses or log.address in addresses) and all(
            not options or (place < len(log.topics) and log.topics[place] in options)
            for place, options in enumerate(topics)
        )

    found = list(candidate_heights(store, first, last, addresses, topics))
    matching = {h for h, logs in blocks.items() if first <= h <= last and any(fits(log) for log in logs)}
    assert found == sorted(set(found))
    assert matching <= set(found) <= {h for h, logs in blocks.items() if first <= h <= last and logs}


def test_receipts_are_found_by_hash_with_the_number_of_their_first_log(rich: LocalAccount) -> None:
    grown = GrowingChain(MemoryStore(), rich)
    creation = sign(rich, 0, data=LOGGER_CREATION, gas=200_000)
    grown.grow([creation])
    logger = grown.chain.receipts_at(1)[0].contract
    assert logger is not None
    calls = [sign(rich, nonce, "0x" + logger.hex(), gas=60_000) for nonce in (1, 3)]
    plain = sign(rich, 2, STRANGER)
    last = grown.grow([calls[0], plain, calls[1]])
    for receipt, index, first_log in zip(grown.chain.receipts_at(last.height), range(3), (0, 1, 1), strict=True):
        found = grown.chain.receipt_of(receipt.transaction)
        assert found is not None
        assert (found.receipt, found.place.index, found.place.first_log) == (receipt, index, first_log)
    assert grown.chain.receipt_of(Hash32(bytes(32))) is None
    assert list(grown.chain.log_heights(0, 10**9, [logger], [])) == [last.height]
    assert list(grown.chain.log_heights(0, 10**9, [], [[bytes(31) + b"\x01"]])) == [last.height]
    assert list(grown.chain.log_heights(0, 10**9, [], [[], [bytes(31) + b"\x01"]])) == []


@pytest.mark.parametrize("disk", [False, True])
def test_pruning_takes_bodies_and_leaves_headers_and_proofs(tmp_path: Path, rich: LocalAccount, disk: bool) -> None:
    store = LmdbStore.open(tmp_path) if disk else MemoryStore()
    grown = GrowingChain(store, rich, keep_blocks=LEAST_KEPT)
    raw = sign(rich, 0, data=LOGGER_CREATION, gas=200_000)
    grown.grow([raw])
    transaction = grown.chain.receipts_at(1)[0].transaction
    keys = {key for key, _ in store.scan(b"")}
    for _ in range(8):
        grown.grow(*[()] * 40)
    chain = grown.chain
    assert chain.oldest_body == chain.final_height - LEAST_KEPT + 1
    assert chain.place_of(transaction) is None
    for use in (lambda: chain.block_at(1), lambda: chain.receipts_at(1), lambda: chain.log_heights(1, 400, [], [])):
        with pytest.raises(Unavailable, match=f"pruned; this node keeps them from block {chain.oldest_body} on"):
            use()
    proof = chain.finality_proof(1)
    assert verify_finality(proof.headers, proof.certificates, chain.validators) == chain.header_at(1)
    assert chain.block_at(chain.oldest_body).header == chain.header_at(chain.oldest_body)
    left = {key for key, _ in store.scan(b"")}
    assert {key for key in keys - left if key[:1] in (b"b", b"r", b"t", b"l")} == keys - left
    assert not any(key[:1] == b"t" for key in left)
    store.close()


def test_unfinalised_blocks_are_forgotten_in_order_of_height(rich: LocalAccount) -> None:
    grown = GrowingChain(MemoryStore(), rich)
    grown.store.write({b"u" + (1).to_bytes(8, "big") + bytes(32): b"x", b"u" + (9).to_bytes(8, "big"): b"y"})
    grown.grow([])
    assert [key[1:9] for key, _ in grown.store.scan(b"u")] == [(9).to_bytes(8, "big")]
