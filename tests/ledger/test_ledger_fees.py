"""The base fee against EIP-1559's own arithmetic, and that a chain neither stands still nor overflows with it."""

from pathlib import Path

import msgspec
import pytest
from eth_account import Account as Wallet
from eth_account.signers.local import LocalAccount
from hypothesis import given
from hypothesis import strategies as st
from ledger_chain import GrowingChain
from ledger_network import CHAIN_ID, make_genesis, open_network, sign

from koinon.kernel.quantities import Gas, Milliseconds, Wei
from koinon.ledger.fees import next_base_fee
from koinon.ledger.genesis import Parameters
from koinon.ledger.mempool import Mempool
from koinon.ledger.transaction import parse_transaction
from koinon.ledger.types import Header
from koinon.store.keyvalue import MemoryStore

STRANGER = "0x" + "00" * 19 + "99"


@pytest.fixture
def header(rich: LocalAccount) -> Header:
    return make_genesis(1, rich).header()


# Gas limit, gas used, base fee before and after; from go-ethereum's consensus/misc/eip1559 tests.
@pytest.mark.parametrize(
    ("limit", "used", "before", "after"),
    [
        (20_000_000, 10_000_000, 1_000_000_000, 1_000_000_000),
        (20_000_000, 9_000_000, 1_000_000_000, 987_500_000),
        (20_000_000, 11_000_000, 1_000_000_000, 1_012_500_000),
        (20_000_000, 20_000_000, 1_000_000_000, 1_125_000_000),
        (20_000_000, 0, 1_000_000_000, 875_000_000),
        (20_000_000, 10_000_001, 7, 8),
        (20_000_000, 0, 1_000, 900),
        (20_000_000, 20_000_000, 2**62, 2**62),
    ],
)
def test_moves_as_eip_1559_says(header: Header, limit: int, used: int, before: int, after: int) -> None:
    parent = msgspec.structs.replace(header, gas_limit=Gas(limit), gas_used=Gas(used), base_fee=Wei(before))
    assert next_base_fee(parent, Wei(900)) == max(900, after)


@given(st.integers(0, 10**15), st.integers(0, 2**62), st.integers(100_000, 10**9), st.data())
def test_stays_within_its_bounds(floor: int, fee: int, limit: int, data: st.DataObject) -> None:
    limit -= limit % 2
    used = data.draw(st.integers(0, limit))
    parent = _header(limit, used, max(floor, fee))
    following = next_base_fee(parent, Wei(floor))
    assert floor <= following <= 2**62
    assert parent.base_fee * 7 // 8 <= following <= parent.base_fee * 9 // 8 + 1


def _header(limit: int, used: int, fee: int) -> Header:
    plain = make_genesis(1, Wallet.from_key(b"\x01" * 32)).header()
    return msgspec.structs.replace(plain, gas_limit=Gas(limit), gas_used=Gas(used), base_fee=Wei(fee))


def test_full_blocks_raise_it_and_empty_ones_bring_it_back(rich: LocalAccount) -> None:
    chain = GrowingChain(MemoryStore(), rich, parameters=Parameters(gas_limit=Gas(100_000), base_fee=Wei(1_000_000)))
    transfers = iter([sign(rich, nonce, STRANGER) for nonce in range(8)])
    for _ in range(2):
        chain.build([next(transfers) for _ in range(4)])
    chain.build()
    chain.build()
    dearest = chain.finalise().base_fee
    assert dearest > 1_000_000
    for _ in range(3):
        chain.build()
    assert chain.build().header.base_fee == 1_000_000


def test_the_pool_keeps_what_has_become_too_cheap_for_now(rich: LocalAccount) -> None:
    chain = GrowingChain(MemoryStore(), rich)
    pool, state = Mempool(CHAIN_ID, Gas(1_000_000), Wei(1_000)), chain.chain.state
    waiting = parse_transaction(sign(rich, 0, STRANGER, maxFeePerGas=1_500))
    assert pool.add(waiting, state)
    pool.settle([], Wei(2_000))
    assert list(pool.candidates(state)) == []
    assert pool.has_candidate(state)
    assert list(pool.candidates(state, Wei(1_500))) == [waiting]


async def test_a_network_priced_out_of_its_own_pool_comes_down_again(rich: LocalAccount, tmp_path: Path) -> None:
    parameters = Parameters(gas_limit=Gas(100_000), base_fee=Wei(1_000_000), base_timeout=Milliseconds(1000))
    async with open_network(1, tmp_path, rich, parameters) as (validator,):
        # Every block is full, so the fee rises above what the last of these offer while they wait.
        for nonce in range(24):
            last = validator.submit(sign(rich, nonce, STRANGER, maxFeePerGas=1_200_000))
        while True:
            height = validator.chain.final_height
            if validator.chain.place_of(last.hash) is not None:
                break
            await validator.wait_final(height + 1)
        fees = [validator.chain.header_at(number).base_fee for number in range(1, height + 1)]
        assert max(fees) > 1_200_000
