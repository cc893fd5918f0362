"""Peers that offend: points that fade, and a while of being shunned."""

from koinon.kernel.ids import NodeId
from koinon.kernel.quantities import Seconds
from koinon.net.measures import MOST_POINTS, SHUNNED_SECONDS, Standings

A, B = NodeId(b"a" * 32), NodeId(b"b" * 32)


def test_points_fade_and_one_peer_says_nothing_of_another() -> None:
    standings = Standings()
    assert not standings.offend(A, 60, Seconds(0))
    assert standings.points(A, Seconds(0)) == 60
    assert standings.points(A, Seconds(40)) == 40
    assert standings.points(A, Seconds(1000)) == 0
    assert standings.points(B, Seconds(0)) == 0
    assert standings.known(Seconds(40)) == {A: 40.0}


def test_too_many_points_at_once_shut_a_peer_out_for_a_while() -> None:
    standings = Standings()
    assert not standings.offend(A, MOST_POINTS - 1, Seconds(0))
    assert standings.offend(A, 1, Seconds(0))
    assert standings.is_shunned(A, Seconds(SHUNNED_SECONDS - 0.1))
    assert not standings.is_shunned(B, Seconds(0))
    assert not standings.is_shunned(A, Seconds(SHUNNED_SECONDS))
    assert standings.points(A, Seconds(SHUNNED_SECONDS)) == 0


def test_slow_offences_never_add_up() -> None:
    standings = Standings()
    assert not any(standings.offend(A, 20, Seconds(second)) for second in range(0, 4000, 40))


def test_strangers_take_bounded_memory() -> None:
    standings = Standings()
    for number in range(20_000):
        standings.offend(NodeId(number.to_bytes(32, "big")), 1, Seconds(0))
    assert len(standings.known(Seconds(0))) == 10_000
    standings.offend(A, 50, Seconds(100))
    assert standings.known(Seconds(100)) == {A: 50.0}
    for number in range(20_000):
        assert standings.offend(NodeId(number.to_bytes(32, "big")), 100, Seconds(101))
    assert len(standings.known(Seconds(101))) == 10_000 + 1
    assert standings.is_shunned(NodeId((19_999).to_bytes(32, "big")), Seconds(101))
