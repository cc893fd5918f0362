"""Money in channels: whatever callers offer and however calls end, nobody pays for an answer that did not leave."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from koinon.contracts.eip712 import channels_domain
from koinon.crypto.hash import sha256
from koinon.crypto.signature import AccountKey
from koinon.kernel.errors import InvalidInput, Refused
from koinon.kernel.ids import Address
from koinon.kernel.quantities import ChainId, TokenAmount, UnixSeconds
from koinon.market import channels
from koinon.market.channels import (
    MOST_HELD,
    Account,
    Answered,
    Channel,
    Charge,
    Failed,
    Offered,
    Purse,
    Seen,
    catch_up,
    paid,
    pay,
)
from koinon.market.payments import Payment, PaymentRequired
from koinon.market.vouchers import Voucher, signer_of

PAYER = Address(sha256(b"payer")[:20])
OTHER = Address(sha256(b"other")[:20])
DOMAIN = channels_domain(ChainId(1), OTHER)
KEY = AccountKey.from_secret(sha256(b"purse"))
NOW = UnixSeconds(1_000)


def channel(deposit: int = 1_000) -> Channel:
    return Channel(sha256(b"c"), PAYER, OTHER, 1, TokenAmount(deposit), TokenAmount(0), UnixSeconds(5_000))


def voucher(total: int) -> Voucher:
    return Voucher(sha256(b"c"), TokenAmount(total), b"signed")


def offer(total: int, price: int = 10, now: int = NOW) -> Offered:
    return Offered(voucher(total), PAYER, TokenAmount(price), UnixSeconds(now), 60)


def payment(total: int, charged: int) -> Payment:
    return Payment(sha256(b"c"), TokenAmount(total), b"signed", TokenAmount(charged), 0, 1)


def take(account: Account, event: Offered) -> tuple[Account, Payment]:
    account, effects = channels.step(account, event)
    (charge,) = effects
    assert isinstance(charge, Charge)
    return account, payment(event.voucher.cumulative, charge.amount)


BAD_OFFERS = [
    (replace(offer(10), signer=OTHER), Refused, "not signed by the channel's payer"),
    (replace(offer(10), voucher=Voucher(sha256(b"d"), TokenAmount(10), b"")), InvalidInput, "another channel"),
    (offer(9), PaymentRequired, "needs at least 10"),
    (offer(0), PaymentRequired, "needs at least 10"),
    (offer(1_001), PaymentRequired, "above the channel's deposit"),
    (offer(10, now=4_941), PaymentRequired, "ends in less than 60 s"),
]


@pytest.mark.parametrize(("event", "kind", "sentence"), BAD_OFFERS)
def test_a_bad_offer_is_refused(event: Offered, kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        channels.step(Account(channel()), event)


def test_a_replay_says_what_is_due() -> None:
    account, _ = take(Account(channel()), offer(10))
    with pytest.raises(PaymentRequired) as refusal:
        channels.step(account, offer(10))
    assert refusal.value.due == 20


def test_answers_that_overtake_each_other_never_make_more_claimable_than_earned() -> None:
    account, first = take(Account(channel()), offer(10))
    account, second = take(account, offer(20))
    account, _ = channels.step(account, Answered(second))
    assert (account.earned, account.claimable and account.claimable.cumulative) == (10, 10)
    account, _ = channels.step(account, Answered(first))
    assert account.claimable is not None
    assert account.claimable.cumulative == 20


def test_a_failed_call_can_be_paid_with_the_same_voucher_again() -> None:
    account, failed = take(Account(channel()), offer(10))
    account, _ = channels.step(account, Failed(failed))
    account, again = take(account, offer(10))
    account, _ = channels.step(account, Answered(again))
    assert account.claimable is not None
    assert account.claimable.cumulative == 10


def test_a_chain_that_is_ahead_raises_the_books_and_one_that_is_behind_does_not() -> None:
    account, _ = channels.step(Account(channel()), Seen(replace(channel(), settled=TokenAmount(50))))
    assert (account.floor, account.earned) == (50, 50)
    account, _ = channels.step(account, Seen(channel()))
    assert (account.floor, account.earned) == (50, 50)


def test_vouchers_kept_for_calls_that_only_fail_are_bounded() -> None:
    account = Account(channel(deposit=10**6))
    for total in range(10, 10 + 2 * MOST_HELD):
        account, lost = take(account, offer(total))
        account, _ = channels.step(account, Failed(lost))
    assert len(account.held) == MOST_HELD


class Books(RuleBasedStateMachine):
    """CHANNEL-MONEY-1 and -2 under any order of offers, answers, failures, top-ups, settlements and crashes."""

    def __init__(self) -> None:
        super().__init__()
        self.account = Account(channel())
        self.flying: list[Payment] = []
        self.log: list[Payment] = []
        self.highest_signed = 0

    @rule(ahead=st.integers(-50, 200), price=st.integers(1, 60))
    def offer(self, ahead: int, price: int) -> None:
        total = max(0, self.account.floor + ahead)
        try:
            self.account, payment = take(self.account, offer(total, price))
        except PaymentRequired:
            assert total < self.account.floor + price or total > self.account.channel.deposit
        else:
            assert payment.charged >= price
            self.flying.append(payment)
            self.highest_signed = max(self.highest_signed, total)

    @precondition(lambda self: self.flying)
    @rule(which=st.integers(0, 10**6))
    def answer(self, which: int) -> None:
        payment = self.flying.pop(which % len(self.flying))
        self.log.append(payment)
        self.account, _ = channels.step(self.account, Answered(payment))

    @precondition(lambda self: self.flying)
    @rule(which=st.integers(0, 10**6))
    def fail(self, which: int) -> None:
        payment = self.flying.pop(which % len(self.flying))
        self.account, _ = channels.step(self.account, Failed(payment))

    @rule(amount=st.integers(0, 500))
    def top_up(self, amount: int) -> None:
        topped = replace(self.account.channel, deposit=TokenAmount(self.account.channel.deposit + amount))
        self.account, _ = channels.step(self.account, Seen(topped))

    @precondition(lambda self: self.account.claimable is not None)
    @rule()
    def settle(self) -> None:
        claimable = self.account.claimable
        assert claimable is not None
        self.account, _ = channels.step(self.account, Seen(replace(self.account.channel, settled=claimable.cumulative)))

    @rule()
    def crash(self) -> None:
        """Calls in flight are lost; the log gives the same earnings and the same claim again."""
        before = self.account
        self.flying.clear()
        account = Account(replace(before.channel, settled=TokenAmount(0)))
        for payment in self.log:
            account = channels.replay(account, payment)
        self.account, _ = channels.step(account, Seen(before.channel))
        assert self.account.earned == before.earned
        # A voucher of a call that never was answered may be forgotten, to the seller's loss.
        assert (self.account.claimable or voucher(0)).cumulative <= (before.claimable or voucher(0)).cumulative

    @invariant()
    def money(self) -> None:
        account = self.account
        assert 0 <= account.earned <= account.floor <= max(self.highest_signed, account.channel.settled)
        assert account.floor <= account.channel.deposit
        assert account.floor == account.earned + sum(payment.charged for payment in self.flying)
        assert account.earned == sum(payment.charged for payment in self.log)
        if account.claimable is not None:
            assert account.claimable.cumulative <= account.earned
        assert all(held.cumulative > (account.claimable or voucher(0)).cumulative for held in account.held)


TestBooks = Books.TestCase
TestBooks.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 400), st.sampled_from(["paid", "failed", "lost"])), max_size=12))
def test_a_purse_never_signs_above_its_deposit_and_agrees_with_the_receiver(calls: list[tuple[int, str]]) -> None:
    purse = Purse(DOMAIN, sha256(b"c"), TokenAmount(1_000))
    account = Account(replace(channel(), payer=KEY.address))
    for price, outcome in calls:
        try:
            purse, signed = pay(purse, KEY, TokenAmount(price))
        except Refused:
            assert purse.spent + price > purse.deposit
            continue
        assert signed.cumulative <= purse.signed <= purse.deposit
        assert signer_of(DOMAIN, signed) == KEY.address
        offered = Offered(signed, KEY.address, TokenAmount(price), NOW, 60)
        account, effects = channels.step(account, offered)
        charge = next(effect.amount for effect in effects if isinstance(effect, Charge))
        used = payment(signed.cumulative, charge)
        if outcome == "failed":
            account, _ = channels.step(account, Failed(used))
            continue
        account, _ = channels.step(account, Answered(used))
        purse = paid(purse, signed) if outcome == "paid" else catch_up(purse, account.floor)
        assert purse.spent == account.floor


def test_a_purse_in_an_impossible_state_cannot_be_made() -> None:
    for spent, signed in ((1, 0), (-1, 0), (0, 1_001)):
        with pytest.raises(InvalidInput, match="0 ≤ spent ≤ signed ≤ deposit"):
            Purse(DOMAIN, sha256(b"c"), TokenAmount(1_000), TokenAmount(spent), TokenAmount(signed))


def test_a_purse_believes_only_what_it_signed() -> None:
    purse, signed = pay(Purse(DOMAIN, sha256(b"c"), TokenAmount(1_000)), KEY, TokenAmount(5))
    with pytest.raises(Refused, match="never signed above 5"):
        catch_up(purse, TokenAmount(6))
    with pytest.raises(InvalidInput, match="not 7"):
        paid(purse, replace_total(signed, 7))
    with pytest.raises(InvalidInput, match="cannot be negative"):
        pay(purse, KEY, TokenAmount(-1))


def replace_total(signed: Voucher, total: int) -> Voucher:
    return Voucher(signed.channel, TokenAmount(total), signed.signature)
