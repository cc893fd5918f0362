"""The one place that knows wasmtime: compiling modules, running instances, calling back.

It goes below the package's public classes where those are slow or unsafe for us: their callbacks cost ten times as
much, and they keep the last exception in one variable for all threads. The names used are those of wasmtime's C
interface (``wasmtime.h``); the exact version is pinned, and part of consensus for the fuel it counts.
"""

import ctypes
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import wasmtime
from wasmtime import _bindings as c

from koinon.ledger.evm.halts import ExceptionalHalt, OutOfGas
from koinon.ledger.wasm.binary import InvalidModule
from koinon.ledger.wasm.instructions import I32
from koinon.ledger.wasm.limits import MOST_PAGES, NATIVE_STACK_BYTES, PAGE_BYTES
from koinon.ledger.wasm.rewrite import SLOTS_LEFT
from koinon.ledger.wasm.scan import HOST_MODULE, FunctionType

_MASK_32: Final = 2**32 - 1
_MASK_64: Final = 2**64 - 1
CANNOT_GROW: Final = _MASK_32
_OUT_OF_FUEL: Final = wasmtime.TrapCode.OUT_OF_FUEL.value
_NO_FINALIZER: Final = ctypes.cast(0, ctypes.CFUNCTYPE(None, ctypes.c_void_p))
_TRAP_TEXT: Final = ctypes.create_string_buffer(b"stopped by the host")

HostFunction = Callable[..., int | None]
"""Takes the instance and the arguments as unsigned numbers; gives the result if its type has one."""


class Trap(ExceptionalHalt):
    """The module trapped: unreachable code, memory or table out of bounds, a division by zero."""


class TooManyCalls(ExceptionalHalt):
    """Calls inside the module nest deeper than ``limits.STACK_SLOTS`` allow."""


class Compiler:
    """Compiles rewritten modules and links them with the host's functions.

    Args:
        host: each function that modules may import, with its type.
    """

    def __init__(self, host: Mapping[str, tuple[FunctionType, HostFunction]]) -> None:
        self._engine = wasmtime.Engine(_configuration())
        self._linker = wasmtime.Linker(self._engine)
        self._callbacks = [self._define(name, kind, function) for name, (kind, function) in host.items()]

    def compile(self, binary: bytes) -> wasmtime.Module:
        """Raises InvalidModule if the types of the instructions do not fit together."""
        try:
            return wasmtime.Module(self._engine, binary)
        except wasmtime.WasmtimeError as problem:
            raise InvalidModule(f"the module does not compile: {_first_line(problem)}") from None

    def restore(self, image: bytes) -> wasmtime.Module:
        """A module from what its ``serialize`` gave in this very process; native code, never from anywhere else."""
        return wasmtime.Module.deserialize(self._engine, image)

    def link(self, module: wasmtime.Module) -> wasmtime.InstancePre:
        return self._linker.instantiate_pre(module)

    def instance(self, linked: wasmtime.InstancePre, owner: Any, fuel: int) -> "Instance":
        """A fresh instance; ``owner`` is what the host's functions find in it.

        Raises:
            OutOfGas: the fuel does not suffice to fill memory and table.
        """
        return Instance(self._engine, linked, owner, fuel)

    def _define(self, name: str, kind: FunctionType, function: HostFunction) -> Any:
        callback = c.wasmtime_func_unchecked_callback_t(_callback(kind, function))
        place, label = ctypes.create_string_buffer(HOST_MODULE), ctypes.create_string_buffer(name.encode())
        types = [
            [wasmtime.ValType.i32() if code == I32 else wasmtime.ValType.i64() for code in codes]
            for codes in (kind.parameters, kind.results)
        ]
        function_type = wasmtime.FuncType(*types)
        error = c.wasmtime_linker_define_func_unchecked(
            self._linker.ptr(), place, len(HOST_MODULE), label, len(name), function_type.ptr(),
            callback, None, _NO_FINALIZER,
        )  # fmt: skip
        assert not error, "every host function is defined once"
        return callback


class Instance:
    """A module at work in one frame.

    Attributes:
        owner: what runs it.
    """

    __slots__ = ("_base", "_context", "_instance", "_memory", "_size", "_stop", "_store", "owner")

    def __init__(self, engine: wasmtime.Engine, linked: wasmtime.InstancePre, owner: Any, fuel: int) -> None:
        self.owner = owner
        self._stop: BaseException | None = None
        self._store = wasmtime.Store(engine)
        self._store.set_limits(memory_size=MOST_PAGES * PAGE_BYTES, instances=1, tables=1, memories=1)
        self._context = self._store._context()
        self._store.set_fuel(fuel)
        try:
            self._instance = linked.instantiate(self._store)._instance
        except wasmtime.Trap:
            # Segments were found to lie inside, and there is no start function: nothing else can go wrong.
            self._store.close()
            raise OutOfGas from None
        self._memory = self._export("memory").of.memory
        # Memory never moves: all it may ever have is reserved.
        self._base = (
            ctypes.cast(c.wasmtime_memory_data(self._context, ctypes.byref(self._memory)), ctypes.c_void_p).value or 0
        )
        self._size = self._memory_bytes()

    @property
    def pages(self) -> int:
        """Size of the memory."""
        return self._size // PAGE_BYTES

    @property
    def fuel(self) -> int:
        """What is left."""
        fuel = ctypes.c_uint64()
        c.wasmtime_context_get_fuel(self._context, ctypes.byref(fuel))
        return fuel.value

    @fuel.setter
    def fuel(self, fuel: int) -> None:
        c.wasmtime_context_set_fuel(self._context, fuel)

    def call(self, name: str) -> None:
        """Run an exported function that takes and gives nothing.

        Raises:
            OutOfGas: the fuel ran out.
            Trap: the module trapped.
            TooManyCalls: its calls nest too deep.
            BaseException: whatever a host function raised.
        """
        trap = ctypes.POINTER(c.wasm_trap_t)()
        function = self._export(name).of.func
        _running.instances.append(self)
        try:
            error = c.wasmtime_func_call(self._context, ctypes.byref(function), None, 0, None, 0, ctypes.byref(trap))
        finally:
            _running.instances.pop()
        code = ctypes.c_uint8()
        is_coded = bool(trap) and c.wasmtime_trap_code(trap, ctypes.byref(code))
        if trap:
            c.wasm_trap_delete(trap)
        if error:
            c.wasmtime_error_delete(error)
        if self._stop is not None:
            raise self._stop
        if is_coded and code.value == _OUT_OF_FUEL:
            raise OutOfGas
        if trap or error:
            raise Trap if self._has_slots_left() else TooManyCalls

    def read(self, place: int, size: int) -> bytes:
        """Bytes of the memory. Raises Trap outside it."""
        self.check(place, size)
        return ctypes.string_at(self._base + place, size) if size else b""

    def write(self, place: int, content: bytes) -> None:
        """Put bytes into the memory. Raises Trap outside it."""
        self.check(place, len(content))
        ctypes.memmove(self._base + place, content, len(content))

    def grow(self, pages: int) -> int:
        """The size before, in pages; ``CANNOT_GROW`` if it cannot grow so far."""
        before = ctypes.c_uint64()
        error = c.wasmtime_memory_grow(self._context, ctypes.byref(self._memory), pages, ctypes.byref(before))
        if error:
            c.wasmtime_error_delete(error)
            return CANNOT_GROW
        self._size = self._memory_bytes()
        return before.value

    def _has_slots_left(self) -> bool:
        value = c.wasmtime_val_t()
        c.wasmtime_global_get(self._context, ctypes.byref(self._export(SLOTS_LEFT).of.global_), ctypes.byref(value))
        return bool(value.of.i32 >= 0)

    def stop(self, reason: BaseException) -> None:
        """What ``call`` is to raise when it comes back from native code."""
        self._stop = reason

    def close(self) -> None:
        """Give memory and table back now; what stopped it may refer to it until the next garbage collection."""
        self._stop = None
        self._store.close()

    def check(self, place: int, size: int) -> None:
        """Raises Trap where the memory does not reach so far."""
        if place + size > self._size:
            raise Trap

    def _memory_bytes(self) -> int:
        return int(c.wasmtime_memory_data_size(self._context, ctypes.byref(self._memory)))

    def _export(self, name: str) -> Any:
        found = c.wasmtime_extern_t()
        label = name.encode()
        is_there = c.wasmtime_instance_export_get(
            self._context, ctypes.byref(self._instance), ctypes.create_string_buffer(label), len(label),
            ctypes.byref(found),
        )  # fmt: skip
        assert is_there, f"the scanner wants an export {name}"
        return found


class _Running(threading.local):
    """Instances at work in this thread, the innermost last, and how many wait for them in other threads."""

    def __init__(self) -> None:
        self.instances: list[Instance] = []
        self.waiting = 0


_running: Final = _Running()


def entries() -> int:
    """How many instances are at work, one inside the other, the last of them in this thread."""
    return _running.waiting + len(_running.instances)


@contextmanager
def waited_for_by(count: int) -> Iterator[None]:
    """What runs in this thread now runs for ``count`` instances of another."""
    _running.waiting = count
    try:
        yield
    finally:
        _running.waiting = 0


def _callback(kind: FunctionType, function: HostFunction) -> Callable[[Any, Any, Any, int], int]:
    is_narrow = [code == I32 for code in kind.parameters]
    gives = kind.results
    gives_narrow = kind.results == bytes([I32])

    def callback(_environment: Any, _caller: Any, raw: Any, _count: int) -> int:
        instance = _running.instances[-1]
        try:
            arguments = [
                raw[place].i32 & _MASK_32 if narrow else raw[place].i64 & _MASK_64
                for place, narrow in enumerate(is_narrow)
            ]
            result = function(instance, *arguments)
            if gives:
                assert result is not None, "a host function gives what its type says"
                if gives_narrow:
                    raw[0].i32 = result
                else:
                    raw[0].i64 = result
        except BaseException as reason:
            # Nothing may unwind through native code; ``Instance.call`` raises it again on the other side.
            instance.stop(reason)
            trap = c.wasmtime_trap_new(_TRAP_TEXT, len(_TRAP_TEXT.value))
            return ctypes.cast(trap, ctypes.c_void_p).value or 0
        return 0

    return callback


def _configuration() -> wasmtime.Config:
    """Everything that could differ between two machines or two runs is off or fixed."""
    configuration = wasmtime.Config()
    configuration.consume_fuel = True
    configuration.cranelift_opt_level = "none"  # compiling is bounded best without passes that look at whole functions
    configuration.cranelift_nan_canonicalization = True
    configuration.parallel_compilation = False
    configuration.max_wasm_stack = NATIVE_STACK_BYTES
    configuration.memory_reservation = MOST_PAGES * PAGE_BYTES
    configuration.memory_reservation_for_growth = 0
    configuration.memory_guard_size = PAGE_BYTES
    configuration.memory_may_move = False
    configuration.memory_init_cow = False
    # The scanner lets none of these through; that they are off as well costs nothing. Reference types cannot be
    # switched off alone: the library aborts the process.
    configuration.wasm_threads = False
    configuration.wasm_simd = False
    configuration.wasm_relaxed_simd = False
    configuration.wasm_multi_memory = False
    configuration.wasm_memory64 = False
    configuration.wasm_tail_call = False
    return configuration


def _first_line(problem: Exception) -> str:
    return str(problem).partition("\n")[0]
