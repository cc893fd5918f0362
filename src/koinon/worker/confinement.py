"""What a child does to itself before it runs anything: limits, and a system-call filter it can never take off.

The filter (seccomp-bpf) forbids new processes, new programs, tracing and, unless allowed, sockets. It stops a model
file that turns out to be a program from phoning home; it does not hide files that the user can read.
"""

import ctypes
import errno
import multiprocessing
import os
import platform
import resource
import signal
import struct
import sys
import threading
from typing import Final

from koinon.kernel.errors import Unavailable
from koinon.worker.limits import Limits

_SET_PARENT_DEATH_SIGNAL: Final = 1
_SET_SECCOMP: Final = 22
_SECCOMP_FILTER: Final = 2
_SET_NO_NEW_PRIVILEGES: Final = 38

_LOAD_WORD: Final = 0x20
_JUMP_EQUAL: Final = 0x15
_JUMP_AT_LEAST: Final = 0x35
_JUMP_ANY_BIT: Final = 0x45
_RETURN: Final = 0x06
_OFFSET_OF_CALL: Final = 0
_OFFSET_OF_ARCHITECTURE: Final = 4
_OFFSET_OF_FIRST_ARGUMENT: Final = 16
_ALLOW: Final = 0x7FFF0000
_KILL_PROCESS: Final = 0x80000000
_FAIL_WITH: Final = 0x00050000
_CLONE_THREAD: Final = 0x00010000
_FOREIGN_CALLS: Final = 0x40000000
"""x86-64 kernels also answer the calls of the x32 convention, numbered from here."""

# Numbers of: calls always forbidden, calls that reach the network (io_uring_setup, 425, can open sockets), clone.
_CALLS: Final = {
    # audit architecture; execve, execveat, fork, vfork, ptrace, process_vm_readv, process_vm_writev; socket; clone
    "x86_64": (0xC000003E, (59, 322, 57, 58, 101, 310, 311), (41, 425), 56),
    "aarch64": (0xC00000B7, (221, 281, 117, 270, 271), (198, 425), 220),
}
_CLONE3: Final = 435


def die_with(parent: int) -> None:
    """Make sure that this process does not outlive ``parent``, even if the parent is killed before this line.

    The kernel sends the signal when the parent's *thread* that started us ends: nodes start workers from their loop.
    """
    if sys.platform == "linux":
        _prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def end_with_parent() -> None:
    """In a process of ``multiprocessing``: end when the process that started it has, however that ended.

    For parents that start processes from any of their threads, whose end must not be taken for the parent's.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None, "called in a process that multiprocessing did not start"

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, name="end with parent", daemon=True).start()


def apply(limits: Limits) -> None:
    """Apply every limit that the kernel can hold. Raises Unavailable if it will not."""
    for kind, value, above in (
        (resource.RLIMIT_AS, limits.memory_bytes, 0),
        # The soft limit sends SIGXCPU, which names the reason; the hard one a second later cannot be caught.
        (resource.RLIMIT_CPU, limits.cpu_seconds, 1),
        (resource.RLIMIT_FSIZE, limits.file_bytes, 0),
        (resource.RLIMIT_NOFILE, limits.open_files, 0),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        _, ceiling = resource.getrlimit(kind)
        soft, hard = value, value + above
        if ceiling != resource.RLIM_INFINITY:
            soft, hard = min(soft, ceiling), min(hard, ceiling)
        resource.setrlimit(kind, (soft, hard))
    if sys.platform == "linux" and platform.machine() in _CALLS:
        _filter_calls(platform.machine(), network=limits.network)


def _filter_calls(machine: str, *, network: bool) -> None:
    architecture, always, reaching_out, clone = _CALLS[machine]
    denied = _FAIL_WITH | errno.EPERM
    program = [
        _instruction(_LOAD_WORD, _OFFSET_OF_ARCHITECTURE),
        _instruction(_JUMP_EQUAL, architecture, 1, 0),
        _instruction(_RETURN, _KILL_PROCESS),
        _instruction(_LOAD_WORD, _OFFSET_OF_CALL),
        _instruction(_JUMP_AT_LEAST, _FOREIGN_CALLS, 0, 1),
        _instruction(_RETURN, denied),
        # The flags of clone3 lie in memory that a filter cannot read; without it the C library falls back to clone.
        _instruction(_JUMP_EQUAL, _CLONE3, 0, 1),
        _instruction(_RETURN, _FAIL_WITH | errno.ENOSYS),
    ]
    for call in always if network else always + reaching_out:
        program += [_instruction(_JUMP_EQUAL, call, 0, 1), _instruction(_RETURN, denied)]
    program += [
        _instruction(_JUMP_EQUAL, clone, 0, 3),
        _instruction(_LOAD_WORD, _OFFSET_OF_FIRST_ARGUMENT),
        _instruction(_JUMP_ANY_BIT, _CLONE_THREAD, 1, 0),
        _instruction(_RETURN, denied),
        _instruction(_RETURN, _ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(program))
    header = struct.pack("@HP", len(program), ctypes.addressof(code))
    _prctl(_SET_NO_NEW_PRIVILEGES, 1)
    _prctl(_SET_SECCOMP, _SECCOMP_FILTER, ctypes.create_string_buffer(header))


def _instruction(code: int, value: int, when_true: int = 0, when_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, when_true, when_false, value)


def _prctl(option: int, argument: int, pointer: "ctypes.Array[ctypes.c_char] | None" = None) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    address = ctypes.c_void_p(ctypes.addressof(pointer) if pointer is not None else 0)
    if library.prctl(ctypes.c_int(option), ctypes.c_ulong(argument), address, ctypes.c_ulong(0), ctypes.c_ulong(0)):
        code = ctypes.get_errno()
        raise Unavailable(f"this kernel refuses to confine a worker (prctl {option}): {os.strerror(code)}")
