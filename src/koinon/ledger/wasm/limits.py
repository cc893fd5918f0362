"""What a module may be and what it costs: parameters of consensus.

Gas is priced at the rate the EVM's arithmetic reaches here, about 20 million gas for each second of one core, or 50 ns
for each unit; ``benchmarks/wasm.py`` measures every price again.
"""

from typing import Final

# The binary

MAGIC: Final = b"\0asm"

END_MARKER: Final = b"koinon.end"
"""Name of the empty custom section that ends a module. In creation data the constructor's arguments follow it."""

LARGEST_MODULE: Final = 24_576  # as EIP-170
LONGEST_NAME: Final = 64
MOST_TYPES: Final = 256
MOST_PARAMETERS: Final = 32
MOST_FUNCTIONS: Final = 2_048
MOST_IMPORTS: Final = 128
MOST_GLOBALS: Final = 512
MOST_EXPORTS: Final = 128
MOST_ELEMENTS: Final = 1_024
MOST_SEGMENTS: Final = 512
MOST_LOCALS: Final = 256
DEEPEST_NESTING: Final = 256
DEEPEST_LOOP: Final = 32
"""Loops in loops. The compiler's time for values that live across more than 64 of them grows without measure."""

MOST_PAGES: Final = 64
PAGE_BYTES: Final = 65_536

# The stack

STACK_SLOTS: Final = 16_384
"""What calls inside one module may hold in all: for each active function its parameters, locals, operands at most, and
``FRAME_SLOTS``. Their native stack stays below ``NATIVE_STACK_BYTES``: the counted limit comes first."""

FRAME_SLOTS: Final = 16
NATIVE_STACK_BYTES: Final = 512 << 10
"""Where wasmtime itself would trap: more than twice what the worst modules known to us need before they are counted
out. A thread has at least 2 MiB (glibc without a limit of its own) and usually 8."""

DEEPEST_ENTRY: Final = 16
"""How many WebAssembly frames may be active in one transaction. Each takes native stack, an EVM frame does not."""

# Gas

FUEL_PER_GAS: Final = 20
LARGEST_GAS: Final = 1 << 40
"""What one frame can be given; the rest stays with its caller. Keeps fuel in 64 bits."""

ENTRY_GAS: Final = 3_000
PAGE_GAS: Final = 1_000
GROW_GAS: Final = 800
COMPILE_BYTE_GAS: Final = 300
COMPILE_FUNCTION_GAS: Final = 1_000
COMPILE_MERGE_GAS: Final = 20
"""For each place where paths meet, times the values that may meet there: locals and ``MERGED_OPERANDS``."""

MERGED_OPERANDS: Final = 64
LOAD_BYTE_GAS: Final = 1
HOST_GAS: Final = 150
COPY_WORD_GAS: Final = 3  # as the EVM's CALLDATACOPY
