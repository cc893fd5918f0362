"""The engine of our networks: Cancun with BLS12-381 (EIP-2537), what staking asks for, contracts in WebAssembly."""

from functools import cached_property

from koinon.ledger.evm.engine import EvmEngine
from koinon.ledger.evm.frame import Frame
from koinon.ledger.evm.precompiles import bls12_381_precompiles
from koinon.ledger.evm.run import Machine
from koinon.ledger.staking.precompiles import STAKING_PRECOMPILES
from koinon.ledger.wasm.limits import LARGEST_MODULE, MAGIC


def network_engine() -> EvmEngine:
    """A new engine. Loads the libraries behind the precompiled contracts."""
    return EvmEngine(precompiles={**bls12_381_precompiles(), **STAKING_PRECOMPILES}, machines=[_WasmWhenNeeded()])


class _WasmWhenNeeded:
    """The WebAssembly machine, loaded with the first module, so that a node's start does not wait for it."""

    prefix = MAGIC
    longest_code = LARGEST_MODULE

    @cached_property
    def _machine(self) -> Machine:
        from koinon.ledger.wasm.machine import WasmMachine

        return WasmMachine()

    def check_code(self, frame: Frame, code: bytes) -> None:
        self._machine.check_code(frame, code)

    def run(self, frame: Frame) -> None:
        self._machine.run(frame)
