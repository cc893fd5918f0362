"""The machine for WebAssembly contracts: deploying modules and running them in frames of the engine.

Creation data is a module up to and with its end marker, then the arguments of its constructor. Deploying pays for the
compilation before it is done, runs the exported ``deploy`` with the arguments as call data, and keeps the module as the
contract's code. A module without ``deploy`` takes neither arguments nor money. A call runs the exported ``call``.

Unlike EVM frames these nest on the native stack: at most ``DEEPEST_ENTRY`` of them. One fits on any thread's stack; the
second moves to a thread whose stack has room for all.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from wasmtime import InstancePre

from koinon.crypto.hash import keccak256
from koinon.ledger.evm.effects import charge
from koinon.ledger.evm.frame import CREATIONS, Frame
from koinon.ledger.evm.halts import InvalidCode
from koinon.ledger.wasm.binary import InvalidModule
from koinon.ledger.wasm.host import Entry, Finished, entry, metered
from koinon.ledger.wasm.host_chain import CHAIN_FUNCTIONS, grow_memory
from koinon.ledger.wasm.host_crypto import CRYPTO_FUNCTIONS
from koinon.ledger.wasm.limits import (
    COMPILE_BYTE_GAS,
    DEEPEST_ENTRY,
    ENTRY_GAS,
    FUEL_PER_GAS,
    GROW_GAS,
    LARGEST_GAS,
    LARGEST_MODULE,
    LOAD_BYTE_GAS,
    MAGIC,
    NATIVE_STACK_BYTES,
    PAGE_GAS,
)
from koinon.ledger.wasm.native import Compiler, HostFunction, entries, waited_for_by
from koinon.ledger.wasm.rewrite import GROW_MEMORY, rewritten
from koinon.ledger.wasm.scan import FunctionType, is_module, scan
from koinon.ledger.wasm.storehouse import Storehouse

HOST_FUNCTIONS: Final[dict[str, Entry]] = {**CHAIN_FUNCTIONS, **CRYPTO_FUNCTIONS}
"""Everything a module may import from ``koinon``, by name."""

HOST_TYPES: Final = {name: described.kind for name, described in HOST_FUNCTIONS.items()}
_FRAME_STACK_BYTES: Final = 256 << 10
"""What the interpreter, the engine and the crossing may take between two instances."""

_STACK_BYTES: Final = (DEEPEST_ENTRY + 1) * (NATIVE_STACK_BYTES + _FRAME_STACK_BYTES)


def host_calls() -> dict[str, tuple[FunctionType, HostFunction]]:
    """What modules are linked with: the functions they import and the one that the rewriting adds, all metered."""
    functions = {**HOST_FUNCTIONS, GROW_MEMORY: entry("i>i", GROW_GAS, grow_memory)}
    return {name: (described.kind, metered(described)) for name, described in functions.items()}


class WasmMachine:
    """The machine. One instance serves any number of threads and engines."""

    prefix = MAGIC
    longest_code = LARGEST_MODULE

    def __init__(self) -> None:
        self._compiler = Compiler(host_calls())
        self._modules = Storehouse(self._compiler)

    def check_code(self, frame: Frame, code: bytes) -> None:
        """Raises InvalidCode unless it is the creation's own module, which was checked and paid for when it began."""
        if not is_module(frame.code) or not frame.code.startswith(code):
            raise InvalidCode

    def run(self, frame: Frame) -> None:
        """See ``Machine``."""
        depth = entries()
        if depth >= DEEPEST_ENTRY:
            # As a call beyond the EVM's depth: nothing happens and the gas goes back.
            frame.reverted = True
        elif depth == 1:
            _on_large_stack(depth, lambda: _enter(self, frame))
        else:
            _enter(self, frame)

    def deploy(self, frame: Frame) -> None:
        """Check and compile the module in creation data, run its constructor. Raises ExceptionalHalt."""
        charge(frame, COMPILE_BYTE_GAS * len(frame.code))
        try:
            module = scan(frame.code, HOST_TYPES)
            prepared = rewritten(module)
            charge(frame, prepared.compile_gas)
            code = frame.code[: module.size]
            code_hash = keccak256(code)
            linked = self._modules.get(code_hash) or self._modules.add(code_hash, prepared.binary)
        except InvalidModule as problem:
            raise InvalidCode(str(problem)) from None
        frame.data = frame.code[module.size :]
        if "deploy" in module.functions_exported:
            self._execute(frame, linked, "deploy")
        elif frame.data or frame.value:
            frame.reverted = True
        if not frame.reverted:
            frame.output = code

    def call(self, frame: Frame) -> None:
        """Run a deployed module. Raises ExceptionalHalt."""
        charge(frame, LOAD_BYTE_GAS * len(frame.code))
        code_hash = frame.journal.code_hash(frame.message.code_address)
        linked = self._modules.get(code_hash)
        if linked is None:
            # Compiled and paid for when it was deployed, in an earlier life of this process; or written into genesis.
            try:
                linked = self._modules.add(code_hash, rewritten(scan(frame.code, HOST_TYPES)).binary)
            except InvalidModule as problem:
                raise InvalidCode(str(problem)) from None
        self._execute(frame, linked, "call")

    def _execute(self, frame: Frame, linked: InstancePre, function: str) -> None:
        spare = max(0, frame.gas - LARGEST_GAS)
        frame.gas -= spare
        charge(frame, ENTRY_GAS)
        instance = self._compiler.instance(linked, frame, frame.gas * FUEL_PER_GAS)
        try:
            frame.gas = instance.fuel // FUEL_PER_GAS
            charge(frame, PAGE_GAS * instance.pages)
            instance.fuel = frame.gas * FUEL_PER_GAS
            instance.call(function)
            frame.gas = instance.fuel // FUEL_PER_GAS
        except Finished:
            pass  # the crossing in which it finished has settled the gas
        finally:
            instance.close()
        frame.gas += spare


def _enter(machine: WasmMachine, frame: Frame) -> None:
    if frame.message.kind in CREATIONS:
        machine.deploy(frame)
    else:
        machine.call(frame)


_threads: Final = ThreadPoolExecutor(max_workers=64, thread_name_prefix="wasm")
_starting: Final = threading.Lock()


def _on_large_stack(depth: int, work: Callable[[], None]) -> None:
    """Do ``work`` below ``depth`` frames on a thread that has the stack for it, and wait for it."""

    def begin() -> None:
        with waited_for_by(depth):
            work()

    with _starting:
        usual = threading.stack_size(_STACK_BYTES)
        try:
            future = _threads.submit(begin)
        finally:
            threading.stack_size(usual)
    future.result()
