"""Ports for processes that are about to start."""

import socket
from pathlib import Path

import pytest

from koinon.kernel.errors import Unavailable
from koinon.net import listening
from koinon.net.listening import free_ports


def test_free_ports_are_different_free_and_not_for_outgoing_connections() -> None:
    ports = free_ports(40)
    assert len(set(ports)) == 40
    first_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split()[0])
    assert all(1024 <= port < first_outgoing for port in ports)
    for port in ports:
        with socket.create_server(("127.0.0.1", port)):
            pass


def test_a_port_in_use_is_never_given_and_too_few_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", free_ports(1)[0])) as held:
        taken = held.getsockname()[1]
        monkeypatch.setattr(listening, "_LOWEST", taken)
        monkeypatch.setattr(listening, "_first_outgoing", lambda: taken + 8)
        assert taken not in free_ports(1)
        with pytest.raises(Unavailable, match="8 free ports are needed"):
            free_ports(8)
