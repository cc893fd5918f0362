"""Compiled modules by code hash: the recent ones in memory, the others on disk for as long as the process lives."""

import tempfile
import threading
from collections import OrderedDict
from pathlib import Path
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

    def __init__(self, compiler: Compiler) -> None:
        self._compiler = compiler
        self._lock = threading.Lock()
        self._linked: OrderedDict[Hash32, tuple[InstancePre, int]] = OrderedDict()
        self._bytes = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._written: dict[Hash32, int] = {}

    def get(self, code_hash: Hash32) -> InstancePre | None:
        """A module that was added before, unless so many followed that even the disk's part is full."""
        with self._lock:
            found = self._linked.get(code_hash)
            if found is not None:
                self._linked.move_to_end(code_hash)
                return found[0]
            size = self._written.get(code_hash)
            if size is None:
                return None
            linked = self._compiler.link(self._compiler.restore(str(self._path(code_hash))))
            self._remember(code_hash, linked, size)
            return linked

    def add(self, code_hash: Hash32, binary: bytes) -> InstancePre:
        """Compile a rewritten module. Raises InvalidModule."""
        module = self._compiler.compile(binary)
        linked = self._compiler.link(module)
        image = bytes(module.serialize())
        with self._lock:
            if code_hash not in self._written and sum(self._written.values()) + len(image) <= DISK_BYTES:
                self._path(code_hash).write_bytes(image)
                self._written[code_hash] = len(image)
            if code_hash not in self._linked:
                self._remember(code_hash, linked, len(image))
        return linked

    def _remember(self, code_hash: Hash32, linked: InstancePre, size: int) -> None:
        self._linked[code_hash] = linked, size
        self._bytes += size
        while self._bytes > MEMORY_BYTES:
            _, (_, freed) = self._linked.popitem(last=False)
            self._bytes -= freed

    def _path(self, code_hash: Hash32) -> Path:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="koinon-wasm-")
        return Path(self._folder.name) / code_hash.hex()
