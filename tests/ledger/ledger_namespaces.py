"""Hosts on one machine: network namespaces joined by a switch in user space that delays, loses and cuts.

Each host has one TUN device whose packets this process reads and hands on: no kernel module for traffic shaping is
needed, only root, ``/dev/net/tun`` and iproute2. Host n has the address 10.77.0.(n + 1), and its loopback.
"""

import ctypes
import fcntl
import heapq
import os
import random
import select
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Final

_TUNSETIFF: Final = 0x400454CA
_IFF_TUN_NO_PI: Final = 0x0001 | 0x1000
_CLONE_NEWNET: Final = 0x40000000
_PACKET_BYTES: Final = 65_535
_QUEUE_PACKETS: Final = 4096
_DESTINATION: Final = slice(16, 20)

_libc = ctypes.CDLL(None, use_errno=True)


def address_of(host: int) -> str:
    """The address at which the other hosts reach this one."""
    return f"10.77.0.{host + 1}"


@dataclass
class Weather:
    """What happens to packets between hosts; may be changed at any time.

    Attributes:
        delay: seconds that a packet takes one way.
        jitter: up to so many seconds more, by chance.
        loss: share of packets lost, 0 to 1.
        cut: pairs (from, to) between which nothing passes.
    """

    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    cut: set[tuple[int, int]] = field(default_factory=set)

    def partition(self, *groups: Iterable[int]) -> None:
        """Let nothing pass between the groups."""
        parts = [tuple(group) for group in groups]
        self.cut = {
            pair
            for number, part in enumerate(parts)
            for other in parts[number + 1 :]
            for one, two in product(part, other)
            for pair in ((one, two), (two, one))
        }

    def heal(self) -> None:
        """Let everything pass again."""
        self.cut = set()


@dataclass
class Lab:
    """Hosts that are up. Made by ``open_lab``.

    Attributes:
        names: of the namespaces.
        weather: between them.
        forwarded, dropped: packets so far.
    """

    names: tuple[str, ...]
    weather: Weather
    forwarded: int = 0
    dropped: int = 0

    def command(self, host: int, *words: str) -> tuple[str, ...]:
        """The command line that runs ``words`` on a host."""
        return ("ip", "netns", "exec", self.names[host], *words)

    def socket(self, host: int) -> socket.socket:
        """A TCP socket that belongs to a host, though this process uses it."""
        own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        theirs = os.open(f"/run/netns/{self.names[host]}", os.O_RDONLY)
        try:
            _enter(theirs)
            try:
                return socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            finally:
                _enter(own)
        finally:
            os.close(own)
            os.close(theirs)


@contextmanager
def open_lab(count: int, weather: Weather, seed: int) -> Iterator[Lab]:
    """``count`` hosts, all joined; gone again when the context is left. ``seed`` decides loss and jitter."""
    prefix = f"k{os.getpid() % 100_000}h"
    lab = Lab(tuple(f"{prefix}{host}" for host in range(count)), weather)
    with ExitStack() as stack:
        devices = [stack.enter_context(_host(name, host)) for host, name in enumerate(lab.names)]
        stop = threading.Event()
        switch = threading.Thread(target=_switch, args=(lab, devices, random.Random(seed), stop), name="switch")
        switch.start()
        stack.callback(switch.join)
        stack.callback(stop.set)
        yield lab


@contextmanager
def _host(name: str, number: int) -> Iterator[int]:
    """A namespace with a TUN device; gives the descriptor at which this process is the cable."""
    device = f"{name}t"
    _ip("netns", "add", name)
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    try:
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH", device.encode(), _IFF_TUN_NO_PI))
        _ip("link", "set", device, "netns", name)  # the descriptor stays with the device
        _ip("-n", name, "addr", "add", f"{address_of(number)}/24", "dev", device)
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", name, "link", "set", device, "txqueuelen", "1000", "up")
        yield descriptor
    finally:
        os.close(descriptor)
        _ip("netns", "delete", name)


def _switch(lab: Lab, devices: list[int], rng: random.Random, stop: threading.Event) -> None:
    """Take packets from every device and hand each on when its time has come."""
    hosts = {descriptor: number for number, descriptor in enumerate(devices)}
    by_address = {socket.inet_aton(address_of(number)): number for number in range(len(devices))}
    waiting: list[tuple[float, int, int, bytes]] = []
    while not stop.is_set():
        pause = min(0.05, max(0.0, waiting[0][0] - time.monotonic())) if waiting else 0.05
        for descriptor in select.select(devices, [], [], pause)[0]:
            for packet in _packets(descriptor):
                sender, receiver = hosts[descriptor], by_address.get(packet[_DESTINATION])
                weather = lab.weather
                lost = weather.loss and rng.random() < weather.loss
                if receiver is None or lost or (sender, receiver) in weather.cut or len(waiting) > _QUEUE_PACKETS:
                    lab.dropped += 1
                    continue
                lab.forwarded += 1
                due = time.monotonic() + weather.delay + (rng.random() * weather.jitter if weather.jitter else 0.0)
                heapq.heappush(waiting, (due, lab.forwarded, receiver, packet))
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, _, receiver, packet = heapq.heappop(waiting)
            try:
                os.write(devices[receiver], packet)
            except OSError:  # its queue is full: what a real router does then
                lab.dropped += 1


def _packets(descriptor: int) -> Iterator[bytes]:
    """What waits at a device, at most a batch."""
    for _ in range(64):
        try:
            packet = os.read(descriptor, _PACKET_BYTES)
        except BlockingIOError:
            return
        if packet[0] >> 4 == 4:
            yield packet


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "cannot enter a network namespace")


def _ip(*words: str) -> None:
    subprocess.run(("ip", *words), check=True, capture_output=True)


def missing_for_namespaces() -> str | None:
    """Why no lab can be opened here, or None if one can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not Path("/dev/net/tun").exists():
        return "there is no /dev/net/tun"
    found = subprocess.run(("sh", "-c", "command -v ip"), capture_output=True, check=False)
    return None if found.returncode == 0 else "iproute2 is not installed"
