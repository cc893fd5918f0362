"""The operator's socket: the same messages without keys, for one user only."""

import asyncio
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from net_messages import Ask, Order, Reply, Tell

from koinon.kernel.errors import Expired, InvalidInput, Refused, Unavailable
from koinon.net.control import ControlServer, control_call
from koinon.wire.catalogue import Done


async def echo(message: Ask) -> Reply:
    return Reply(message.data)


async def test_the_operator_is_answered(tmp_path: Path) -> None:
    path = tmp_path / "control"
    async with ControlServer.open(path) as server:
        server.handle(Ask, echo)
        large = bytes(range(256)) * 8_000
        assert await control_call(path, Ask(large)) == Reply(large)
        assert await asyncio.gather(*(control_call(path, Ask(bytes([n]))) for n in range(20))) == [
            Reply(bytes([n])) for n in range(20)
        ]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


async def test_errors_reach_the_operator_as_they_are(tmp_path: Path) -> None:
    async def refuse(_: Order) -> None:
        raise Refused("the study needs three hospitals; add one")

    async with ControlServer.open(tmp_path / "control") as server:
        server.handle(Order, refuse)
        with pytest.raises(Refused, match="add one"):
            await control_call(tmp_path / "control", Order("begin"))
        with pytest.raises(Refused, match="does not answer Ask"):
            await control_call(tmp_path / "control", Ask(b""))


async def test_an_order_without_answer_is_done(tmp_path: Path) -> None:
    async def obey(_: Order) -> None:
        return None

    async with ControlServer.open(tmp_path / "control") as server:
        server.handle(Order, obey)
        assert await control_call(tmp_path / "control", Order("begin")) == Done()


async def test_a_node_that_does_not_run_is_said_clearly(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="koinon node start"):
        await control_call(tmp_path / "nothing", Ask(b""))


async def test_a_node_that_hangs_expires(tmp_path: Path) -> None:
    async def hang(_: Ask) -> Reply:
        await asyncio.Event().wait()
        raise AssertionError

    before = asyncio.all_tasks()
    async with ControlServer.open(tmp_path / "control") as server:
        server.handle(Ask, hang)
        with pytest.raises(Expired, match="did not answer Ask"):
            await control_call(tmp_path / "control", Ask(b""), 0.05)
    assert asyncio.all_tasks() == before


async def test_only_calls_go_to_a_node(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expects no answer"):
        await control_call(tmp_path / "control", Tell(1))


async def test_two_nodes_do_not_share_a_home(tmp_path: Path) -> None:
    path = tmp_path / "control"
    async with ControlServer.open(path) as first:
        first.handle(Ask, echo)
        with pytest.raises(Unavailable, match="another node listens"):
            async with ControlServer.open(path):
                raise AssertionError("opened twice")
        assert await control_call(path, Ask(b"unharmed")) == Reply(b"unharmed")


@pytest.fixture
def abandoned(tmp_path: Path) -> Path:
    """A socket file whose node was killed."""
    path = tmp_path / "control"
    program = (
        "import os, socket, sys\n"
        "listener = socket.socket(socket.AF_UNIX)\n"
        "listener.bind(sys.argv[1])\n"
        "listener.listen()\n"
        "os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(path)], check=False).returncode == -9
    assert path.exists()
    return path


async def test_the_socket_of_a_killed_node_is_replaced(abandoned: Path) -> None:
    async with ControlServer.open(abandoned) as server:
        server.handle(Ask, echo)
        assert await control_call(abandoned, Ask(b"new")) == Reply(b"new")


async def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "control"
    path.write_text("precious")
    with pytest.raises(InvalidInput, match="is no socket"):
        async with ControlServer.open(path):
            raise AssertionError("opened over a file")
    assert path.read_text() == "precious"


async def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="use a shorter home"):
        async with ControlServer.open(tmp_path / ("x" * 110)):
            raise AssertionError("opened")


async def test_a_folder_that_is_not_there_is_said_clearly(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot listen"):
        async with ControlServer.open(tmp_path / "missing" / "control"):
            raise AssertionError("opened")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def connect_as_nobody(client: socket.socket, path: Path) -> None:
    path.chmod(0o777)
    os.seteuid(65534)
    try:
        client.connect(str(path))
    finally:
        os.seteuid(0)
    client.setblocking(False)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become another user")
async def test_another_user_is_hung_up_on_even_where_the_mode_would_let_it_in(open_folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        async with ControlServer.open(open_folder / "control"):
            connect_as_nobody(client, open_folder / "control")
            async with asyncio.timeout(120):
                assert await asyncio.get_running_loop().sock_recv(client, 1) == b""
