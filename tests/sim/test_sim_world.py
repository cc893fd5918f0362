"""The simulated world: time, randomness, network, disk."""

import pytest

from koinon.kernel.effects import Clock, Rng
from koinon.kernel.errors import Expired
from koinon.sim.disk import Disk
from koinon.sim.network import Faults, Network
from koinon.sim.world import World


def test_time_jumps_from_event_to_event_in_order() -> None:
    world = World(1)
    seen: list[tuple[str, float]] = []
    world.after(2.0, lambda: seen.append(("late", world.monotonic())))
    world.after(1.0, lambda: seen.append(("first", world.monotonic())))
    world.after(1.0, lambda: seen.append(("second", world.monotonic())))
    world.run(1.5)
    assert seen == [("first", 1.0), ("second", 1.0)]
    assert world.monotonic() == 1.5
    world.run(3.0)
    assert seen[-1] == ("late", 2.0)
    assert isinstance(world, Clock)
    assert isinstance(world, Rng)


def test_a_world_that_never_moves_on_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("koinon.sim.world._MOST_EVENTS", 1000)
    world = World(1)

    def again() -> None:
        world.after(0.0, again)

    again()
    with pytest.raises(Expired, match="seed 1"):
        world.run(1.0)


def deliveries(seed: int, faults: Faults) -> list[tuple[float, int]]:
    world = World(seed)
    network = Network(world, faults)
    arrived: list[tuple[float, int]] = []
    network.attach(1, lambda _, message: arrived.append((world.monotonic(), message)))
    for number in range(200):
        network.send(0, 1, number)
    world.run(100.0)
    return arrived


def test_one_seed_replays_every_fault() -> None:
    faults = Faults(delay=(0.1, 0.9), loss=0.2, duplication=0.2, slow_link=0.5)
    assert deliveries(1, faults) == deliveries(1, faults)
    assert deliveries(1, faults) != deliveries(2, faults)


def test_faults_do_what_they_say() -> None:
    assert len(deliveries(1, Faults())) == 200
    assert 120 < len(deliveries(1, Faults(loss=0.2))) < 190
    assert 210 < len(deliveries(1, Faults(duplication=0.2))) < 280
    order = [number for _, number in deliveries(1, Faults(delay=(0.0, 1.0)))]
    assert sorted(order) == list(range(200))
    assert order != sorted(order)
    slow = deliveries(1, Faults(slow_link=1.0, slow_delay=(5.0, 6.0)))
    assert all(5.0 <= at <= 6.0 for at, _ in slow)


def test_partitions_and_crashes_lose_messages() -> None:
    world = World(1)
    network = Network(world, Faults(delay=(0.0, 0.0)))
    arrived: list[int] = []
    for node in (0, 1, 2):
        network.attach(node, lambda _, message: arrived.append(message))
    network.partition({0, 1}, {2})
    network.send(0, 1, 1)
    network.send(0, 2, 2)
    network.heal()
    network.send(0, 2, 3)
    world.run(1.0)
    network.detach(2)
    network.send(0, 2, 4)
    world.run(2.0)
    assert arrived == [1, 3]


def test_a_disk_forgets_what_was_not_synced() -> None:
    disk = Disk()
    disk.write("a", 1)
    disk.write_later("a", 2)
    disk.write_later("b", 3)
    assert (disk.read("a"), disk.read("b")) == (2, 3)
    disk.crash()
    assert (disk.read("a"), disk.read("b")) == (1, None)
    disk.write_later("b", 4)
    disk.sync()
    disk.crash()
    assert disk.items() == {"a": 1, "b": 4}
