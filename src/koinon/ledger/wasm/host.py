"""How the host's functions are declared: their types, their prices, and the crossing between module and host."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from koinon.ledger.evm.effects import charge
from koinon.ledger.evm.frame import Frame
from koinon.ledger.wasm import instructions as op
from koinon.ledger.wasm.limits import COPY_WORD_GAS, FUEL_PER_GAS, HOST_GAS
from koinon.ledger.wasm.native import HostFunction, Instance
from koinon.ledger.wasm.scan import FunctionType

WORD: Final = 32
ADDRESS: Final = 20
_TYPES: Final = {"i": op.I32, "l": op.I64}


class Finished(Exception):
    """The contract is done; frame's output and whether it reverts are set."""


@dataclass(frozen=True)
class Crossing:
    """What a host function works with: the module's memory and the frame's gas, storage and rights."""

    instance: Instance
    frame: Frame

    def take(self, place: int, size: int) -> bytes:
        """Bytes of the module's memory, paid by the word. Raises OutOfGas, Trap."""
        charge(self.frame, COPY_WORD_GAS * ((size + 31) // 32))
        return self.instance.read(place, size)

    def take_word(self, place: int) -> int:
        """32 bytes of memory as a number, the big end first."""
        return int.from_bytes(self.instance.read(place, WORD))

    def put(self, place: int, content: bytes) -> None:
        """Write into the module's memory, paid by the word. Raises OutOfGas, Trap."""
        charge(self.frame, COPY_WORD_GAS * ((len(content) + 31) // 32))
        self.instance.write(place, content)

    def put_word(self, place: int, number: int) -> None:
        self.instance.write(place, number.to_bytes(WORD))

    def copy(self, source: bytes, place: int, offset: int, size: int) -> None:
        """``size`` bytes of ``source`` from ``offset`` into memory; zeros stand for what it does not have."""
        charge(self.frame, COPY_WORD_GAS * ((size + 31) // 32))
        self.instance.check(place, size)
        self.instance.write(place, source[offset : offset + size].ljust(size, b"\0"))


@dataclass(frozen=True)
class Entry:
    """One function of the host. Attributes: its type; gas beside the crossing's; what it does."""

    kind: FunctionType
    gas: int
    run: Callable[..., int | None]


def entry(signature: str, gas: int, run: Callable[..., int | None]) -> Entry:
    """An entry by a short signature: parameters, ``>``, result; i for i32, l for i64. ``"iil>i"``."""
    parameters, _, results = signature.partition(">")
    return Entry(FunctionType(_codes(parameters), _codes(results)), gas, run)


def _codes(letters: str) -> bytes:
    return bytes(_TYPES[letter] for letter in letters)


def metered(described: Entry) -> HostFunction:
    """The function as native code calls it: fuel becomes the frame's gas, and what is left of it fuel again."""
    gas, run = described.gas + HOST_GAS, described.run

    def call(instance: Instance, *arguments: int) -> int | None:
        frame: Frame = instance.owner
        if frame.run.tracer is not None:
            frame.run.tracer.pause()
        frame.gas, rest = divmod(instance.fuel, FUEL_PER_GAS)
        charge(frame, gas)
        result = run(Crossing(instance, frame), *arguments)
        instance.fuel = frame.gas * FUEL_PER_GAS + rest
        return result

    return call
