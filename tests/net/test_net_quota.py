"""Token buckets: what is granted over any stretch of time is bounded, whatever the order of events."""

from hypothesis import given
from hypothesis import strategies as st

from koinon.kernel.quantities import Seconds
from koinon.net.quota import Allowance, Quotas

FOUR_AT_ONCE = Allowance(per_second=2.0, burst=4.0)


def test_a_burst_is_granted_and_then_the_rate() -> None:
    quotas = Quotas(FOUR_AT_ONCE)
    assert [quotas.try_spend(b"a", 1, Seconds(0)) for _ in range(5)] == [True] * 4 + [False]
    assert not quotas.try_spend(b"a", 1, Seconds(0.4))
    assert quotas.try_spend(b"a", 1, Seconds(0.5))
    assert quotas.try_spend(b"b", 4, Seconds(0.5)), "names do not share a bucket"


def test_debt_tells_how_long_to_wait() -> None:
    quotas = Quotas(FOUR_AT_ONCE)
    assert quotas.spend(b"a", 4, Seconds(0)) == 0
    assert quotas.spend(b"a", 3, Seconds(0)) == 1.5
    assert quotas.spend(b"a", 0, Seconds(1)) == 0.5
    assert quotas.spend(b"a", 0, Seconds(2)) == 0


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 5)), max_size=40))
def test_no_schedule_gets_more_than_burst_and_rate(events: list[tuple[float, float]]) -> None:
    quotas, now, granted = Quotas(FOUR_AT_ONCE), 0.0, 0.0
    for pause, amount in events:
        now += pause
        if quotas.try_spend(b"a", amount, Seconds(now)):
            granted += amount
        assert granted <= FOUR_AT_ONCE.burst + FOUR_AT_ONCE.per_second * now + 1e-6


def test_strangers_with_many_names_neither_fill_memory_nor_reset_buckets() -> None:
    quotas = Quotas(FOUR_AT_ONCE, most_names=10)
    assert quotas.try_spend(b"spent", 4, Seconds(0))
    for number in range(100):
        quotas.try_spend(f"stranger {number}".encode(), 1, Seconds(0))
    assert not quotas.try_spend(b"spent", 1, Seconds(0)), "the bucket was not forgotten"
    assert not quotas.try_spend(b"one more", 1, Seconds(0)), "no room for another name yet"
    assert quotas.try_spend(b"one more", 1, Seconds(60)), "full buckets made room"
