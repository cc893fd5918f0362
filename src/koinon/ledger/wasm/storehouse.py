"""Compiled modules by code hash: the recent ones in memory, the others on disk for as long as the process lives."""

import os
import tempfile
import threading
import weakref
from collections import OrderedDict
from typing import Final

from wasmtime import InstancePre

from koinon.kernel.ids import Hash32
from koinon.ledger.wasm.native import Compiler

MEMORY_BYTES: Final = 128 << 20
DISK_BYTES: Final = 1 << 30
"""Filling it with modules that compile to much takes some 20 thousand million gas."""


class Storehouse:
    """Compiled modules. A module is compiled once in a process: who called a thousand others in turn would otherwise
    buy a compilation with each call, which pays for none. Several threads may use it.
    """

    def __init__(self, compiler: Compiler, memory_bytes: int = MEMORY_BYTES, disk_bytes: int = DISK_BYTES) -> None:
        self._compiler = compiler
        self._memory_bytes = memory_bytes
        self._disk_bytes = disk_bytes
        self._lock = threading.Lock()
        self._linked: OrderedDict[Hash32, tuple[InstancePre, int]] = OrderedDict()
        self._bytes = 0
        self._file: int | None = None
        self._end = 0
        self._written: dict[Hash32, tuple[int, int]] = {}

    def get(self, code_hash: Hash32) -> InstancePre | None:
        """A module that was added before, unless so many followed that even the disk's part is full."""
        with self._lock:
            found = self._linked.get(code_hash)
            if found is not None:
                self._linked.move_to_end(code_hash)
                return found[0]
            written = self._written.get(code_hash)
            if written is None:
                return None
            place, size = written
            linked = self._compiler.link(self._compiler.restore(os.pread(self._descriptor(), size, place)))
            self._remember(code_hash, linked, size)
            return linked

    def add(self, code_hash: Hash32, binary: bytes) -> InstancePre:
        """Compile a rewritten module. Raises InvalidModule."""
        module = self._compiler.compile(binary)
        linked = self._compiler.link(module)
        image = bytes(module.serialize())
        with self._lock:
            if code_hash not in self._written and self._end + len(image) <= self._disk_bytes:
                self._write(code_hash, image)
            if code_hash not in self._linked:
                self._remember(code_hash, linked, len(image))
        return linked

    def _remember(self, code_hash: Hash32, linked: InstancePre, size: int) -> None:
        self._linked[code_hash] = linked, size
        self._bytes += size
        while self._bytes > self._memory_bytes:
            _, (_, freed) = self._linked.popitem(last=False)
            self._bytes -= freed

    def _write(self, code_hash: Hash32, image: bytes) -> None:
        """Keep an image on disk, where there is room. A full disk costs time and nothing else."""
        try:
            size = os.pwrite(self._descriptor(), image, self._end)
        except OSError:
            return
        if size == len(image):
            self._written[code_hash] = self._end, size
            self._end += size

    def _descriptor(self) -> int:
        """A file without a name: however the process ends, it is gone with it."""
        if self._file is None:
            with tempfile.TemporaryFile(prefix="koinon-wasm-") as file:
                self._file = os.dup(file.fileno())
            weakref.finalize(self, os.close, self._file)
        return self._file
