"""The pool when it is full, when senders leave gaps, and its books after any series of events."""

import os
from dataclasses import dataclass

import pytest
from eth_account import Account as Wallet
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from ledger_network import CHAIN_ID

from koinon.kernel.errors import MalformedMessage, Refused
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import Gas, Wei
from koinon.ledger.mempool import Mempool, read_offered
from koinon.ledger.state import EMPTY_CODE_HASH, Account, encode_account
from koinon.ledger.transaction import Transaction, parse_transaction, read_transaction

STRANGER = "0x" + "00" * 19 + "99"
BALANCE = 10**12


@dataclass
class _Nonces:
    """A state in which everybody owns the same and has sent what ``sent`` says."""

    sent: dict[Address, int]

    def get(self, key: bytes, /) -> bytes | None:
        nonce = self.sent.get(Address(key[1:]), 0)
        return encode_account(Account(nonce, Wei(BALANCE), EMPTY_CODE_HASH)) if key[:1] == b"a" else None


def transaction(sender: int, nonce: int, tip: int = 0, fee: int = 1_000, size: int = 0) -> Transaction:
    """As if a signature had been checked: the pool does not look at signatures."""
    return Transaction(
        raw=bytes(100 + size), hash=Hash32(os.urandom(32)), sender=Address(bytes([sender]) * 20), kind=2,
        chain_id=CHAIN_ID, nonce=nonce, maximum_tip=Wei(tip), maximum_fee=Wei(fee), gas=Gas(21_000),
        to=Address(bytes(20)), value=Wei(0), data=b"", access_list=(), parity=0, r=1, s=1,
    )  # fmt: skip


def pool(total: int = 4, total_bytes: int = 10**6) -> Mempool:
    return Mempool(CHAIN_ID, Gas(1_000_000), Wei(10), total, total_bytes)


def test_a_full_pool_makes_room_for_who_pays_more() -> None:
    full, state = pool(), _Nonces({})
    offered = [transaction(sender, 0, tip) for sender, tip in ((1, 5), (2, 3), (3, 9), (4, 7))]
    for each in offered:
        full.add(each, state)
    with pytest.raises(Refused, match=r"transaction underpriced: the transaction pool is full.*tip of 3"):
        full.add(transaction(5, 0, 3), state)
    dearer = transaction(5, 0, 4)
    assert full.add(dearer, state)
    assert full.get(offered[1].hash) is None
    assert list(full.candidates(state)) == [offered[2], offered[3], offered[0], dearer]


def test_what_follows_the_evicted_leaves_with_it() -> None:
    full, state = pool(), _Nonces({})
    chain = [transaction(1, 0, 9), transaction(1, 1, 1), transaction(1, 2, 50)]
    for each in (*chain, transaction(2, 0, 2)):
        full.add(each, state)
    newcomer = transaction(3, 0, 6)
    assert full.add(newcomer, state)
    assert [full.get(each.hash) for each in chain] == [chain[0], None, None]
    assert len(full) == 3


def test_what_cannot_run_yet_drives_out_nothing_that_can() -> None:
    full, state = pool(), _Nonces({})
    for sender in range(4):
        full.add(transaction(sender, 0, 1), state)
    with pytest.raises(Refused, match="underpriced"):
        full.add(transaction(9, 5, 900), state)
    gapped, runnable = pool(), transaction(9, 0, 1)
    for sender in range(4):
        gapped.add(transaction(sender, 7, 900), state)
    assert gapped.add(runnable, state)
    assert list(gapped.candidates(state)) == [runnable]


def test_bytes_are_bounded_too() -> None:
    full, state = pool(100, 1_000), _Nonces({})
    for sender in range(5):
        full.add(transaction(sender, 0, sender, size=100), state)
    with pytest.raises(Refused, match="underpriced"):
        full.add(transaction(9, 0, 0), state)
    assert full.add(transaction(9, 0, 4, size=700), state)
    assert len(full) == 2


def test_a_replacement_cannot_take_the_pool_over_its_limit() -> None:
    full, state = pool(100, 300), _Nonces({})
    full.add(transaction(1, 0, 10, 100, size=100), state)
    full.add(transaction(2, 0, 10, 100), state)
    with pytest.raises(Refused, match="a replacement may not be larger now"):
        full.add(transaction(2, 0, 50, 500, size=1), state)
    assert full.add(transaction(1, 0, 50, 500), state)


def test_what_a_block_took_already_is_not_owed_twice() -> None:
    crowded, sender = pool(), Address(bytes([1]) * 20)
    first = transaction(1, 0, fee=BALANCE // 21_000)
    crowded.add(first, _Nonces({}))
    second = transaction(1, 1, fee=BALANCE // 21_000)
    with pytest.raises(Refused, match=r"insufficient funds for gas \* price \+ value"):
        crowded.add(second, _Nonces({}))
    assert crowded.add(second, _Nonces({sender: 1}))


def test_candidates_are_looked_for_again_when_something_changes() -> None:
    waiting, sender = pool(), Address(bytes([1]) * 20)
    state = _Nonces({sender: 1})
    assert not waiting.has_candidate(state)
    waiting.add(transaction(1, 2), state)
    assert not waiting.has_candidate(state)
    waiting.add(transaction(1, 1), state)
    assert waiting.has_candidate(state)
    assert not waiting.has_candidate(_Nonces({sender: 3}))


@pytest.mark.parametrize("kind", [3, 4])
def test_blobs_and_set_code_are_refused_in_whatever_wrapping(kind: int) -> None:
    for rest in (b"", b"\xc0", os.urandom(200)):
        with pytest.raises(Refused, match=f"transaction type not supported: type {kind}"):
            read_offered(bytes([kind]) + rest)


def test_a_blob_transaction_is_read_for_what_it_is() -> None:
    wallet = Wallet.from_key(b"\x05" * 32)
    fields = {
        "type": 3, "chainId": CHAIN_ID, "nonce": 1, "gas": 21_000, "maxFeePerGas": 9, "maxPriorityFeePerGas": 2,
        "to": STRANGER, "value": 1, "data": b"", "maxFeePerBlobGas": 77,
        "blobVersionedHashes": [b"\x01" + bytes(31)],
    }  # fmt: skip
    raw = bytes(wallet.sign_transaction(fields).raw_transaction)
    parsed = parse_transaction(raw)
    assert "0x" + parsed.sender.hex() == wallet.address.lower()
    assert (parsed.kind, parsed.maximum_blob_fee, parsed.blob_hashes) == (3, 77, (b"\x01" + bytes(31),))
    with pytest.raises(MalformedMessage, match="list of 14 fields"):
        read_transaction(b"\x03\xc0")


class PoolModel(RuleBasedStateMachine):
    """Whatever happens, the pool's books agree with what it holds, within its limits."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = pool(6, 1_200)
        self.sent: dict[Address, int] = {}

    @rule(
        sender=st.integers(1, 4), nonce=st.integers(0, 5), tip=st.integers(0, 40), fee=st.integers(5, 60),
        size=st.sampled_from((0, 0, 300)),
    )  # fmt: skip
    def offer(self, sender: int, nonce: int, tip: int, fee: int, size: int) -> None:
        each = transaction(sender, nonce, min(tip, fee), fee, size)
        before = self.pool.all_raw()
        try:
            taken = self.pool.add(each, _Nonces(dict(self.sent)))
        except Refused:
            assert self.pool.all_raw() == before
            return
        assert taken
        assert self.pool.get(each.hash) is each

    @rule(base_fee=st.integers(5, 50))
    def settle(self, base_fee: int) -> None:
        final = next(iter(self.pool.candidates(_Nonces(self.sent), Wei(0))), None)
        if final is not None:
            self.sent[final.sender] = final.nonce + 1
        self.pool.settle([final] if final else [], Wei(base_fee))

    @rule(place=st.integers(0, 5))
    def drop(self, place: int) -> None:
        held = [each for queue in self.pool.queues().values() for each in queue.values()]
        self.pool.drop(held[place : place + 1])

    @invariant()
    def books_agree(self) -> None:
        senders = self.pool._by_sender
        held = [each for queue in senders.values() for each in queue.waiting.values()]
        assert {each.hash for each in held} == set(self.pool._by_hash)
        assert self.pool._bytes == sum(len(each.raw) for each in held) <= 1_200
        assert len(held) <= 6
        for queue in senders.values():
            assert queue.waiting
            assert queue.owed == sum(each.largest_cost for each in queue.waiting.values())
        state = _Nonces(dict(self.sent))
        chosen = list(self.pool.candidates(state, Wei(0)))
        assert bool(chosen) == self.pool.has_candidate(state)
        nonces = dict(self.sent)
        for each in chosen:
            assert each.nonce == nonces.get(each.sender, 0)
            nonces[each.sender] = each.nonce + 1


TestPool = PoolModel.TestCase
TestPool.settings = settings(max_examples=60, stateful_step_count=30)
