"""State, its commitment, its undo records and the money in it."""

import os
import random
from typing import Any

import pytest
from eth_account import Account as Wallet
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_network import CHAIN_ID, COUNTER_CREATION, sign

from koinon.kernel.errors import InvalidInput, Refused, Unavailable
from koinon.kernel.ids import ZERO_HASH, Address
from koinon.kernel.quantities import Gas, Height, UnixSeconds, Wei
from koinon.ledger import lattice
from koinon.ledger.evm.engine import EvmEngine
from koinon.ledger.execution import BlockContext, Call, CallResult, build_block
from koinon.ledger.state import (
    EMPTY_CODE_HASH,
    Account,
    FinalState,
    Overlay,
    StateView,
    account_key,
    decode_account,
    encode_account,
    read_account,
)
from koinon.ledger.transaction import parse_transaction
from koinon.store.keyvalue import MemoryStore

COINBASE = Address(b"\xcc" * 20)
BASE_FEE = 1_000
WALLETS = [Wallet.from_key(bytes([number]) * 32) for number in range(1, 5)]
ENGINE = EvmEngine()
ENGINE.prepare()
ENTRIES = st.dictionaries(
    st.binary(min_size=1, max_size=40).map(lambda key: b"s" + key), st.binary(min_size=1), max_size=8
)


def address_of(wallet: Any) -> Address:
    return Address(bytes.fromhex(wallet.address[2:]))


def context(height: int = 1, gas_limit: int = 30_000_000) -> BlockContext:
    return BlockContext(
        chain_id=CHAIN_ID,
        height=Height(height),
        timestamp=UnixSeconds(1_000),
        beneficiary=COINBASE,
        mix=ZERO_HASH,
        gas_limit=Gas(gas_limit),
        base_fee=Wei(BASE_FEE),
        block_hash=lambda _: None,
    )


def funded_state(balance: int = 10**20) -> dict[bytes, bytes]:
    return {
        account_key(address_of(wallet)): encode_account(Account(0, Wei(balance), EMPTY_CODE_HASH)) for wallet in WALLETS
    }


@settings(deadline=None)
@given(ENTRIES, ENTRIES, st.randoms())
def test_lattice_depends_on_the_content_alone(
    before: dict[bytes, bytes], after: dict[bytes, bytes], order: random.Random
) -> None:
    direct = lattice.updated(lattice.EMPTY_ACCUMULATOR, [(key, None, value) for key, value in after.items()])
    steps = [(key, None, value) for key, value in before.items()]
    accumulator = lattice.updated(lattice.EMPTY_ACCUMULATOR, steps)
    changes = [(key, before.get(key), after.get(key)) for key in before.keys() | after.keys()]
    order.shuffle(changes)
    assert lattice.updated(accumulator, changes) == direct


def test_lattice_separates_kinds_and_refuses_others() -> None:
    roots = {
        lattice.root(lattice.updated(lattice.EMPTY_ACCUMULATOR, [(key, None, value)]))
        for key, value in ((b"a1", b"23"), (b"s1", b"23"), (b"c1", b"23"), (b"s12", b"3"), (b"s", b"123"))
    }
    assert len(roots) == 5
    with pytest.raises(InvalidInput, match="starts with a, s or c"):
        lattice.updated(lattice.EMPTY_ACCUMULATOR, [(b"x1", None, b"1")])
    with pytest.raises(InvalidInput, match="2048 bytes"):
        lattice.updated(b"", [])


@settings(deadline=None)
@given(st.lists(ENTRIES, min_size=1, max_size=6))
def test_views_of_final_state_stay_as_they_were(blocks: list[dict[bytes, bytes]]) -> None:
    state = FinalState(MemoryStore(), Height(0))
    expected: list[dict[bytes, bytes | None]] = [{}]
    views = [state.view()]
    for number, changes in enumerate(blocks, start=1):
        difference: dict[bytes, bytes | None] = dict(changes)
        for key in list(expected[-1])[:2]:
            difference.setdefault(key, None)
        overlay = Overlay.over(state, state.accumulator, difference)
        assert all(overlay.get(key) == value for key, value in difference.items())
        state.write([(Height(number), overlay)], {}, ())
        expected.append({**expected[-1], **difference})
        views.append(state.view())
    keys = set().union(*expected)
    for view, content in zip(views, expected, strict=True):
        for key in keys:
            assert view.get(key) == content.get(key)
    rebuilt = [(key, None, value) for key, value in expected[-1].items()]
    assert state.accumulator == lattice.updated(lattice.EMPTY_ACCUMULATOR, rebuilt)


@settings(max_examples=50)
@given(st.lists(ENTRIES, min_size=1, max_size=12))
def test_what_was_written_lately_is_read_without_the_store(blocks: list[dict[bytes, bytes]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("koinon.ledger.state._RECENT_ENTRIES", 5)
        store = MemoryStore()
        state = FinalState(store, Height(0))
        everything: set[bytes] = set()
        for number, changes in enumerate(blocks, start=1):
            difference: dict[bytes, bytes | None] = {**dict.fromkeys(sorted(everything)[:2]), **changes}
            state.write([(Height(number), Overlay.over(state, state.accumulator, difference))], {}, ())
            everything |= set(difference)
            assert all(state.get(key) == store.get(b"w" + key) for key in everything)


def test_a_view_that_is_too_old_says_so() -> None:
    state = FinalState(MemoryStore(), Height(0))
    old = state.view()
    for number in range(1, 70):
        overlay = Overlay.over(state, state.accumulator, {b"s" + os.urandom(4): b"1"})
        state.write([(Height(number), overlay)], {}, ())
    with pytest.raises(Unavailable, match="no longer kept"):
        old.get(b"s1")
    with pytest.raises(Unavailable, match="is not kept"):
        state.view(Height(0))


TRANSFERS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.integers(0, 3),
        st.integers(0, 10**20),
        st.integers(BASE_FEE - 1, 5_000),
        st.integers(0, 2_000),
        st.integers(20_999, 60_000),
        st.booleans(),
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(TRANSFERS)
def test_money_is_conserved(transfers: list[tuple[int, int, int, int, int, int, bool]]) -> None:
    state = funded_state()
    before = 4 * 10**20
    nonces = [0] * 4
    candidates = []
    for source, target, value, fee, tip, gas, create in transfers:
        to = None if create else WALLETS[target].address
        fields = {
            "value": 0 if create else value,
            "gas": gas + 60_000 * create,
            "data": COUNTER_CREATION if create else b"",
        }
        raw = sign(WALLETS[source], nonces[source], to, maxFeePerGas=fee, maxPriorityFeePerGas=min(tip, fee), **fields)
        candidates.append(parse_transaction(raw))
        nonces[source] += 1
    executed, rejected = build_block(
        ENGINE, context(), state_view := _Frozen(state), lattice.EMPTY_ACCUMULATOR, candidates, 60.0, 10**6
    )
    # Of a sender of whom one was refused the rest is left alone.
    assert len(executed.transactions) + len(rejected) <= len(candidates)
    owners = {key for key in (*state, *executed.state.difference) if key[:1] == b"a"}
    after = sum(decode_account(executed.state.get(key)).balance for key in owners)
    assert after + executed.gas_used * BASE_FEE == before
    assert state_view.content == state


class _Frozen:
    """A state view over a dictionary."""

    def __init__(self, content: dict[bytes, bytes]) -> None:
        self.content = dict(content)

    def get(self, key: bytes, /) -> bytes | None:
        return self.content.get(key)


def test_a_refused_transaction_changes_nothing() -> None:
    block = ENGINE.begin(context(), _Frozen(funded_state()))
    table = {
        "signed for chain 5": sign(WALLETS[0], 0, WALLETS[1].address, chainId=5),
        "has nonce 3": sign(WALLETS[0], 3, WALLETS[1].address),
        "needs at least 21000 gas": sign(WALLETS[0], 0, WALLETS[1].address, gas=20_999),
        "gas; 30000000 are left": sign(WALLETS[0], 0, WALLETS[1].address, gas=30_000_001),
        "the base fee is 1000": sign(WALLETS[0], 0, WALLETS[1].address, maxFeePerGas=999),
        "may cost": sign(WALLETS[0], 0, WALLETS[1].address, value=10**20),
    }
    for says, raw in table.items():
        with pytest.raises(Refused, match=says):
            block.apply(parse_transaction(raw))
    assert block.difference() == {}


def test_a_block_takes_what_was_signed_before_eip_155() -> None:
    unprotected = WALLETS[0].sign_transaction(
        {"nonce": 0, "gas": 21_000, "to": WALLETS[1].address, "value": 7, "gasPrice": 2 * BASE_FEE}
    )
    raw = bytes(unprotected.raw_transaction)
    state = _Frozen(funded_state())
    block = ENGINE.begin(context(), state)
    assert block.apply(parse_transaction(raw)).status == 1
    after = decode_account(block.difference()[account_key(address_of(WALLETS[1]))])
    assert after.balance == 10**20 + 7


def test_deep_recursion_ends_the_same_way_for_everybody() -> None:
    # PUSH0 five times, ADDRESS, GAS, CALL, STOP: calls itself with all its gas.
    address = Address(b"\x11" * 20)
    creation = bytes.fromhex("6009600c60003960096000f3" + "5f5f5f5f5f305af100")
    state = _Frozen(funded_state())
    block = ENGINE.begin(context(), state)
    receipt = block.apply(parse_transaction(sign(WALLETS[0], 0, data=creation, gas=100_000)))
    assert receipt.contract is not None
    overlay = Overlay.over(state, lattice.EMPTY_ACCUMULATOR, block.difference())
    for gas in (16_000_000, 10**12):
        call = Call(address, receipt.contract, Gas(gas), Wei(0), b"", Wei(0))
        first = ENGINE.call(call, context(), overlay)
        assert first.succeeded
        assert _called_from_deeper(300, call, overlay) == first


def _called_from_deeper(frames: int, call: Call, state: StateView) -> CallResult:
    return ENGINE.call(call, context(), state) if frames == 0 else _called_from_deeper(frames - 1, call, state)


def test_reading_an_account_that_does_not_exist() -> None:
    assert read_account(_Frozen({}), COINBASE).is_empty
