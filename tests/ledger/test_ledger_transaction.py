"""Transactions: our reading of them against eth-account's writing, and every way to get them wrong."""

import pytest
import rlp as reference
from eth_account import Account as Wallet
from hypothesis import given
from hypothesis import strategies as st
from ledger_network import CHAIN_ID, sign

from koinon.kernel.errors import Forged, InvalidInput, MalformedMessage, Refused
from koinon.kernel.quantities import Gas, Wei
from koinon.ledger import rlp
from koinon.ledger.mempool import PER_SENDER, Mempool
from koinon.ledger.rpc.forms import transaction_form
from koinon.ledger.state import EMPTY_CODE_HASH, Account, encode_account
from koinon.ledger.transaction import parse_transaction

WALLET = Wallet.from_key(b"\x05" * 32)
STRANGER = "0x" + "00" * 19 + "99"
ITEMS = st.recursive(st.binary(max_size=80), lambda inner: st.lists(inner, max_size=5), max_leaves=20)


@given(ITEMS)
def test_rlp_agrees_with_the_reference(item: object) -> None:
    encoded = reference.encode(item)
    assert rlp.encode(item) == encoded  # type: ignore[arg-type]
    if _depth(item) > 4:
        with pytest.raises(MalformedMessage, match="nested too deeply"):
            rlp.decode(encoded)
    else:
        assert rlp.decode(encoded) == item


def _depth(item: object) -> int:
    return 1 + max(map(_depth, item), default=0) if isinstance(item, list) else 0


@given(st.binary(max_size=60))
def test_rlp_refuses_what_it_would_not_write(data: bytes) -> None:
    try:
        item = rlp.decode(data)
    except MalformedMessage:
        return
    assert rlp.encode(item) == data


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_reads_what_eth_account_signs(kind: int) -> None:
    fees = {"maxFeePerGas": 7, "maxPriorityFeePerGas": 3} if kind == 2 else {"gasPrice": 7}
    access = [{"address": STRANGER, "storageKeys": ["0x" + "00" * 31 + "05"]}]
    fields = {
        "chainId": CHAIN_ID,
        "nonce": 9,
        "gas": 50_000,
        "to": STRANGER,
        "value": 2**70,
        "data": b"\x00\x01",
        **fees,
        **({"type": kind, "accessList": access} if kind else {}),
    }
    signed = WALLET.sign_transaction(fields)
    parsed = parse_transaction(bytes(signed.raw_transaction))
    assert "0x" + parsed.sender.hex() == WALLET.address.lower()
    assert parsed.hash == bytes(signed.hash)
    assert (parsed.chain_id, parsed.nonce, parsed.gas, parsed.value) == (CHAIN_ID, 9, 50_000, 2**70)
    assert (parsed.maximum_fee, parsed.maximum_tip) == (7, 3 if kind == 2 else 7)
    assert parsed.intrinsic_gas == 21_000 + 4 + 16 + (2_400 + 1_900 if kind else 0)


def test_every_changed_byte_is_noticed() -> None:
    raw = sign(WALLET, 1, STRANGER, value=5)
    genuine = parse_transaction(raw)
    for position in range(len(raw)):
        changed = raw[:position] + bytes([raw[position] ^ 1]) + raw[position + 1 :]
        try:
            parsed = parse_transaction(changed)
        except (MalformedMessage, Forged, Refused):
            continue
        assert parsed.sender != genuine.sender
        assert parsed.hash != genuine.hash


def _edited(**changes: object) -> bytes:
    """A type-2 transaction whose fields were replaced after signing."""
    fields = reference.decode(sign(WALLET, 1, STRANGER)[1:])
    for name, value in changes.items():
        fields[int(name[1:])] = value
    return b"\x02" + reference.encode(fields)


@pytest.mark.parametrize(
    ("raw", "error", "says"),
    [
        (b"", MalformedMessage, "1 to 131072 bytes"),
        (b"\xc0" + bytes(200_000), MalformedMessage, "1 to 131072 bytes"),
        (b"\xc0", MalformedMessage, "list of 9 fields"),
        (b"\x02\xc0", MalformedMessage, "list of 12 fields"),
        (b"\x01\x80", MalformedMessage, "list of 11 fields"),
        (b"\x7f", MalformedMessage, "no transaction type 127"),
        (b"\x02" + reference.encode([b""] * 12) + b"x", MalformedMessage, "1 bytes follow"),
        (_edited(_1=b"\x00\x01"), MalformedMessage, "nonce of a transaction is an integer"),
        (_edited(_1=[b"1"]), MalformedMessage, "nonce of a transaction is a byte string"),
        (_edited(_1=b"\xff" * 9), MalformedMessage, "nonce or the gas limit"),
        (_edited(_2=b"\xff" * 8), MalformedMessage, "max priority fee per gas higher than max fee per gas"),
        (_edited(_4=b"\xff" * 8), MalformedMessage, "nonce or the gas limit"),
        (_edited(_5=b"\x01" * 19), MalformedMessage, "empty or 20 bytes"),
        (_edited(_6=b"\x01" * 33), MalformedMessage, "value of a transaction is an integer"),
        (_edited(_8=b"x"), MalformedMessage, "access list of a transaction is a list"),
        (_edited(_8=[[b"x"]]), MalformedMessage, "an address and a list of slots"),
        (_edited(_8=[[b"x" * 20, [b"y" * 31]]]), MalformedMessage, "addresses of 20 bytes"),
        (_edited(_9=b"\x02"), MalformedMessage, "y parity"),
        (_edited(_11=b"\xff" * 32), Forged, "s in the upper half"),
        (_edited(_10=b""), Forged, "no account key recovers"),
    ],
)
def test_malformed_transactions(raw: bytes, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        parse_transaction(raw)


class _Rich:
    """Every account owns 10^20 wei at nonce 0."""

    def get(self, key: bytes, /) -> bytes | None:
        return encode_account(Account(0, Wei(10**20), EMPTY_CODE_HASH)) if key[:1] == b"a" else None


def _pool() -> Mempool:
    return Mempool(CHAIN_ID, Gas(1_000_000), Wei(10))


def test_the_pool_orders_by_tip_and_nonce() -> None:
    pool, state = _pool(), _Rich()
    others = [Wallet.from_key(bytes([number]) * 32) for number in (6, 7)]
    transactions = [
        parse_transaction(sign(wallet, nonce, STRANGER, maxPriorityFeePerGas=tip))
        for wallet, nonce, tip in ((others[0], 1, 900), (others[0], 0, 1), (others[1], 0, 50), (others[1], 2, 999))
    ]
    for transaction in transactions:
        assert pool.add(transaction, state)
    assert not pool.add(transactions[0], state)
    assert list(pool.candidates(state)) == [transactions[2], transactions[1], transactions[0]]
    pool.settle([transactions[1]])
    assert len(pool) == 3
    pool.drop(transactions)
    assert len(pool) == 0
    assert not pool.has_candidate(state)


def test_a_replacement_must_pay_more_and_then_stands_alone() -> None:
    pool, state = _pool(), _Rich()
    first = parse_transaction(sign(WALLET, 0, STRANGER, maxFeePerGas=1_000, maxPriorityFeePerGas=100))
    dearer = parse_transaction(sign(WALLET, 0, STRANGER, maxFeePerGas=1_100, maxPriorityFeePerGas=110))
    cheap = parse_transaction(sign(WALLET, 0, STRANGER, maxFeePerGas=1_100, maxPriorityFeePerGas=109))
    pool.add(first, state)
    with pytest.raises(Refused, match="underpriced"):
        pool.add(cheap, state)
    assert pool.add(dearer, state)
    assert pool.all_raw() == (dearer.raw,)


def test_the_pool_has_a_limit_for_each_sender() -> None:
    pool, state = _pool(), _Rich()
    for nonce in range(PER_SENDER):
        pool.add(parse_transaction(sign(WALLET, nonce, STRANGER)), state)
    with pytest.raises(Refused, match="nonce too high"):
        pool.add(parse_transaction(sign(WALLET, PER_SENDER, STRANGER)), state)
    assert pool.next_nonce(parse_transaction(sign(WALLET, 0, STRANGER)).sender, state) == PER_SENDER


def test_the_pool_counts_what_waits_against_the_balance() -> None:
    pool, state = _pool(), _Rich()
    pool.add(parse_transaction(sign(WALLET, 0, STRANGER, value=9 * 10**19)), state)
    with pytest.raises(Refused, match="insufficient funds"):
        pool.add(parse_transaction(sign(WALLET, 1, STRANGER, value=9 * 10**19)), state)


def test_the_pool_refuses_unprotected_transactions() -> None:
    legacy = WALLET.sign_transaction({"nonce": 0, "gas": 21_000, "to": STRANGER, "value": 1, "gasPrice": 50})
    read = parse_transaction(bytes(legacy.raw_transaction))
    with pytest.raises(InvalidInput, match="replay-protected"):
        _pool().add(read, _Rich())
    # One that a proposer put into a block is shown as it was signed, for no chain.
    form = transaction_form(read, None, 0, 0)
    assert (int(form["v"], 16), "chainId" in form) == (legacy.v, False)
