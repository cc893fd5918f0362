"""Vouchers and passes as they come in headers: what is not exactly one is refused with a sentence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koinon.contracts.eip712 import channels_domain
from koinon.crypto.hash import sha256
from koinon.crypto.signature import AccountKey
from koinon.kernel.errors import Forged, InvalidInput, Refused
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import ChainId, TokenAmount, UnixSeconds
from koinon.market.passes import Pass, PassAccount, give_back, parse_pass_number, use
from koinon.market.payments import Terms
from koinon.market.vouchers import Voucher, format_voucher, parse_voucher, sign_voucher, signer_of

KEY = AccountKey.from_secret(sha256(b"payer"))
DOMAIN = channels_domain(ChainId(31337), Address(bytes(range(20))))
CHANNEL = sha256(b"channel")
SIGNED = sign_voucher(KEY, DOMAIN, CHANNEL, TokenAmount(42))
OWNER, STRANGER = Address(b"o" * 20), Address(b"s" * 20)
NOW = UnixSeconds(100)


@given(st.binary(min_size=32, max_size=32), st.integers(0, 2**128 - 1), st.binary(min_size=65, max_size=65))
def test_a_header_reads_back_as_what_was_written(channel: bytes, total: int, signature: bytes) -> None:
    voucher = Voucher(Hash32(channel), TokenAmount(total), signature)
    assert parse_voucher(format_voucher(voucher)) == voucher


def read(text: str) -> Voucher | str:
    """A voucher, or the sentence that refuses it."""
    try:
        return parse_voucher(text)
    except InvalidInput as problem:
        return str(problem)


@given(st.text(max_size=300))
def test_any_text_is_a_voucher_or_one_short_sentence(text: str) -> None:
    outcome = read(text)
    assert isinstance(outcome, Voucher) or 0 < len(outcome) < 300


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "CHANNEL:TOTAL:SIGNATURE"),
        ("a:b", "CHANNEL:TOTAL:SIGNATURE"),
        (f"{'0' * 63}:1:{'0' * 130}", "64 hexadecimal digits"),
        (f"{'0' * 64}:-1:{'0' * 130}", "decimal number"),
        (f"{'0' * 64}:²:{'0' * 130}", "decimal number"),
        (f"{'0' * 64}:{2**128}:{'0' * 130}", "below 2\\^128"),
        (f"{'0' * 64}:{'9' * 5000}:{'0' * 130}", "below 2\\^128"),
        (f"{'0' * 64}:1:{'0' * 128}", "130 hexadecimal digits"),
        (f"{'0' * 64}:1:{'z' * 130}", "130 hexadecimal digits"),
    ],
)
def test_a_malformed_header(text: str, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        parse_voucher(text)


def test_a_signature_covers_channel_total_chain_and_contract() -> None:
    assert signer_of(DOMAIN, SIGNED) == KEY.address
    others = [
        (DOMAIN, Voucher(CHANNEL, TokenAmount(43), SIGNED.signature)),
        (DOMAIN, Voucher(sha256(b"other"), TokenAmount(42), SIGNED.signature)),
        (channels_domain(ChainId(1), DOMAIN.contract), SIGNED),
        (channels_domain(ChainId(31337), Address(bytes(20))), SIGNED),
    ]
    for domain, voucher in others:
        try:
            signer = signer_of(domain, voucher)
        except Forged:
            continue
        assert signer != KEY.address


def test_a_total_outside_uint128_is_never_signed() -> None:
    for total in (-1, 2**128):
        with pytest.raises(InvalidInput, match="between 0 and 2\\^128"):
            sign_voucher(KEY, DOMAIN, CHANNEL, TokenAmount(total))


PASS = Pass(3, 7, OWNER, 5, UnixSeconds(1_000))


@pytest.mark.parametrize(
    ("account", "caller", "service", "answers", "now", "sentence"),
    [
        (PassAccount(PASS), OWNER, 8, 1, NOW, "for service 7, not 8"),
        (PassAccount(PASS), STRANGER, 7, 1, NOW, "belongs to"),
        (PassAccount(PASS), OWNER, 7, 1, UnixSeconds(1_000), "expired"),
        (PassAccount(PASS, 5), OWNER, 7, 1, NOW, "0 of 5 answers left, 1 asked"),
        (PassAccount(PASS, 3), OWNER, 7, 3, NOW, "2 of 5 answers left, 3 asked"),
    ],
)
def test_a_pass_that_does_not_allow_the_call(
    account: PassAccount, caller: Address, service: int, answers: int, now: UnixSeconds, sentence: str
) -> None:
    with pytest.raises(Refused, match=sentence):
        use(account, caller=caller, service=service, answers=answers, now=now)


@given(st.lists(st.integers(1, 4), max_size=20))
def test_no_order_of_calls_exceeds_the_quota(calls: list[int]) -> None:
    account, answered = PassAccount(PASS), 0
    for answers in calls:
        try:
            counted = use(account, caller=OWNER, service=7, answers=answers, now=NOW)
        except Refused:
            assert answered + answers > PASS.quota
            continue
        if answers == 4:
            assert give_back(counted, answers) == account
            continue
        account, answered = counted, answered + answers
    assert account.used == answered <= PASS.quota


@pytest.mark.parametrize("text", ["", "0", "-1", "1.0", "0x1", "٣", str(2**256), "1" * 100, "1 2"])
def test_a_malformed_pass_number(text: str) -> None:
    with pytest.raises(InvalidInput, match="decimal number of a pass"):
        parse_pass_number(text)


@pytest.mark.parametrize(
    ("price", "pass_required", "settle_seconds", "sentence"),
    [
        (-1, False, 60, "0 to 2\\^128"),
        (2**128, False, 60, "0 to 2\\^128"),
        (0, True, 60, "at least 1"),
        (1, False, -1, "cannot be negative"),
    ],
)
def test_impossible_terms(price: int, pass_required: bool, settle_seconds: int, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        Terms(1, TokenAmount(price), pass_required, settle_seconds)
