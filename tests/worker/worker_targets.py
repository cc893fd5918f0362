"""What the children of the worker tests run."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

from koinon.kernel.errors import Refused
from koinon.worker import AsyncChannel, Channel
from koinon.worker.channel import READY


def echo(channel: Channel) -> None:
    while True:
        channel.send(channel.receive())


async def echo_async(channel: AsyncChannel) -> None:
    while True:
        await channel.send(await channel.receive())


def answer_once(channel: Channel) -> None:
    channel.send([b"last ", bytearray(b"words")])


def take_memory(channel: Channel) -> None:
    bytearray(int(channel.receive()))


def take_native_memory(channel: Channel) -> None:
    print("terminate called after throwing an instance of 'std::bad_alloc'", file=sys.stderr, flush=True)
    os.abort()


def burn(channel: Channel) -> None:
    while True:
        pass


def crash(channel: Channel) -> None:
    ctypes.string_at(0)


def refuse(channel: Channel) -> None:
    raise Refused("the model asks for too much; publish a smaller one")


def raise_with_data(channel: Channel) -> None:
    raise ValueError("patient 17: 0.25")


def chatter(channel: Channel) -> None:
    for _ in range(100):
        print("x" * 10_000)
    print("the end", flush=True)


def describe(channel: Channel) -> None:
    """What this process can see and reach."""
    findings = []
    for name, attempt in {
        "socket": socket.socket,
        "fork": os.fork,
        "program": lambda: subprocess.run([sys.executable, "-c", ""], check=True),
        "exec": lambda: os.execv(sys.executable, [sys.executable]),
    }.items():
        try:
            result = attempt()  # type: ignore[operator]
            if name == "fork" and result == 0:
                os._exit(0)
            if isinstance(result, socket.socket):
                result.close()
            findings.append(f"{name} allowed")
        except PermissionError:
            findings.append(f"{name} forbidden")
    thread = threading.Thread(target=lambda: findings.append("thread allowed"))
    thread.start()
    thread.join()
    targets = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            targets.append(str(entry.readlink()).split(":")[0])
        except FileNotFoundError:
            continue  # the descriptor of the listing itself
    findings.append("descriptors " + " ".join(sorted(targets)))
    findings.append("group " + str(os.getpgid(0) == os.getpid()))
    findings += [f"{name}={value}" for name, value in os.environ.items() if name not in ("PATH", "PYTHONPATH")]
    channel.send("\n".join(findings).encode())


def write_file(channel: Channel) -> None:
    try:
        Path(channel.receive().decode()).write_bytes(bytes(100_000))
    except OSError as problem:
        channel.send(f"{type(problem).__name__} {problem.errno}".encode())


def ignore_everything(channel: Channel) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    channel.send(b"deaf")
    while True:
        signal.pause()


def never_read(channel: Channel) -> None:
    channel.send(b"ready")
    signal.pause()


def send_too_much(channel: Channel) -> None:
    channel.send(bytes(2_000_000))


def send_ready_again(channel: Channel) -> None:
    channel.send_frame(READY, ())
    signal.pause()
