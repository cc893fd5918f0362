"""The instructions of fork Cancun, once: interpreter and compiler are both made from this table.

A row gives number, name, items taken from the stack, items put on it, static gas, and the effect as Python source, in
which these names stand for something:

    a, b, c … q     the items taken, a from the top
    x               what the code around the instruction gives: a PUSH's number, the position (PC), what comes next
    frame, memory   the call's frame, its memory

Its last line may be one of four more:

    push E, F       put the values on the stack, F on top
    jump E          go on at the JUMPDEST at E
    jump E if F     … if F is not zero, else behind this instruction
    wait            the call that the frame now requests comes first; its result is put on the stack
    halt            the call is over

Everything with a price of its own beyond the static gas charges it in ``effects``. ``sees_gas`` marks instructions that
depend on what gas is left exactly, so that nothing behind them may have been charged before.
"""

from dataclasses import dataclass
from typing import Final

MAX: Final = 2**256 - 1
SIGN: Final = 2**255


@dataclass(frozen=True, slots=True)
class Opcode:
    """A row of the table; see the module."""

    number: int
    name: str
    pops: int
    pushes: int
    gas: int
    effect: str
    sees_gas: bool = False

    @property
    def immediate(self) -> int:
        """Bytes of the code behind the instruction that belong to it."""
        return max(self.number - 0x5F, 0) if self.number <= 0x7F else 0

    @property
    def ends(self) -> bool:
        """Whether control may go elsewhere than to the next instruction, or rests."""
        return self.effect.rsplit("\n", 1)[-1].split(" ", 1)[0] in ("jump", "wait", "halt", "raise")


_ROWS: Final[tuple[tuple[int, str, int, int, int, str] | tuple[int, str, int, int, int, str, bool], ...]] = (
    (0x00, "STOP", 0, 0, 0, "halt"),
    (0x01, "ADD", 2, 1, 3, "push (a + b) & MAX"),
    (0x02, "MUL", 2, 1, 5, "push (a * b) & MAX"),
    (0x03, "SUB", 2, 1, 3, "push (a - b) & MAX"),
    (0x04, "DIV", 2, 1, 5, "push a // b if b else 0"),
    (0x05, "SDIV", 2, 1, 5, "push signed_divide(a, b)"),
    (0x06, "MOD", 2, 1, 5, "push a % b if b else 0"),
    (0x07, "SMOD", 2, 1, 5, "push signed_modulo(a, b)"),
    (0x08, "ADDMOD", 3, 1, 8, "push (a + b) % c if c else 0"),
    (0x09, "MULMOD", 3, 1, 8, "push (a * b) % c if c else 0"),
    (0x0A, "EXP", 2, 1, 10, "charge(frame, (b.bit_length() + 7) // 8 * 50)\npush pow(a, b, MAX + 1)"),  # EIP-160
    (0x0B, "SIGNEXTEND", 2, 1, 5, "push sign_extended(a, b)"),
    (0x10, "LT", 2, 1, 3, "push 1 if a < b else 0"),
    (0x11, "GT", 2, 1, 3, "push 1 if a > b else 0"),
    (0x12, "SLT", 2, 1, 3, "push 1 if a ^ SIGN < b ^ SIGN else 0"),
    (0x13, "SGT", 2, 1, 3, "push 1 if a ^ SIGN > b ^ SIGN else 0"),
    (0x14, "EQ", 2, 1, 3, "push 1 if a == b else 0"),
    (0x15, "ISZERO", 1, 1, 3, "push 1 if not a else 0"),
    (0x16, "AND", 2, 1, 3, "push a & b"),
    (0x17, "OR", 2, 1, 3, "push a | b"),
    (0x18, "XOR", 2, 1, 3, "push a ^ b"),
    (0x19, "NOT", 1, 1, 3, "push a ^ MAX"),
    (0x1A, "BYTE", 2, 1, 3, "push b >> 248 - 8 * a & 255 if a < 32 else 0"),
    (0x1B, "SHL", 2, 1, 3, "push b << a & MAX if a < 256 else 0"),  # EIP-145
    (0x1C, "SHR", 2, 1, 3, "push b >> a if a < 256 else 0"),
    (0x1D, "SAR", 2, 1, 3, "push shifted_signed(a, b)"),
    (0x20, "KECCAK256", 2, 1, 30, "push keccak(frame, a, b)"),
    (0x30, "ADDRESS", 0, 1, 2, "push from_bytes(frame.address)"),
    (0x31, "BALANCE", 1, 1, 0, "push balance(frame, a)"),  # EIP-2929
    (0x32, "ORIGIN", 0, 1, 2, "push from_bytes(frame.run.origin)"),
    (0x33, "CALLER", 0, 1, 2, "push from_bytes(frame.caller)"),
    (0x34, "CALLVALUE", 0, 1, 2, "push frame.value"),
    (0x35, "CALLDATALOAD", 1, 1, 3, "push data_word(frame.data, a)"),
    (0x36, "CALLDATASIZE", 0, 1, 2, "push len(frame.data)"),
    (0x37, "CALLDATACOPY", 3, 0, 3, "copy(frame, a, frame.data, b, c)"),
    (0x38, "CODESIZE", 0, 1, 2, "push len(frame.code)"),
    (0x39, "CODECOPY", 3, 0, 3, "copy(frame, a, frame.code, b, c)"),
    (0x3A, "GASPRICE", 0, 1, 2, "push frame.run.gas_price"),
    (0x3B, "EXTCODESIZE", 1, 1, 0, "push len(code_of(frame, a))"),
    (0x3C, "EXTCODECOPY", 4, 0, 0, "copy(frame, b, code_of(frame, a), c, d)"),
    (0x3D, "RETURNDATASIZE", 0, 1, 2, "push len(frame.returned)"),
    (0x3E, "RETURNDATACOPY", 3, 0, 3, "copy_returned(frame, a, b, c)"),  # EIP-211
    (0x3F, "EXTCODEHASH", 1, 1, 0, "push code_hash_of(frame, a)"),  # EIP-1052
    (0x40, "BLOCKHASH", 1, 1, 20, "push block_hash(frame, a)"),
    (0x41, "COINBASE", 0, 1, 2, "push from_bytes(frame.run.context.beneficiary)"),
    (0x42, "TIMESTAMP", 0, 1, 2, "push frame.run.context.timestamp"),
    (0x43, "NUMBER", 0, 1, 2, "push frame.run.context.height"),
    (0x44, "PREVRANDAO", 0, 1, 2, "push from_bytes(frame.run.context.mix)"),  # EIP-4399
    (0x45, "GASLIMIT", 0, 1, 2, "push frame.run.context.gas_limit"),
    (0x46, "CHAINID", 0, 1, 2, "push frame.run.context.chain_id"),
    (0x47, "SELFBALANCE", 0, 1, 5, "push frame.journal.balance(frame.address)"),
    (0x48, "BASEFEE", 0, 1, 2, "push frame.run.context.base_fee"),  # EIP-3198
    (0x49, "BLOBHASH", 1, 1, 3, "push blob_hash(frame, a)"),  # EIP-4844
    (0x4A, "BLOBBASEFEE", 0, 1, 2, "push frame.run.context.blob_base_fee"),  # EIP-7516
    (0x50, "POP", 1, 0, 2, ""),
    (0x51, "MLOAD", 1, 1, 3, "if a + 32 > len(memory): expand(frame, a, 32)\npush from_bytes(memory[a:a + 32])"),
    (0x52, "MSTORE", 2, 0, 3, "if a + 32 > len(memory): expand(frame, a, 32)\nmemory[a:a + 32] = b.to_bytes(32)"),
    (0x53, "MSTORE8", 2, 0, 3, "if a >= len(memory): expand(frame, a, 1)\nmemory[a] = b & 255"),
    (0x54, "SLOAD", 1, 1, 0, "push load(frame, a)"),  # EIP-2929
    (0x55, "SSTORE", 2, 0, 0, "store(frame, a, b)", True),  # EIP-2200, 2929, 3529
    (0x56, "JUMP", 1, 0, 8, "jump a"),
    (0x57, "JUMPI", 2, 0, 10, "jump a if b"),
    (0x58, "PC", 0, 1, 2, "push x"),
    (0x59, "MSIZE", 0, 1, 2, "push len(memory)"),
    (0x5A, "GAS", 0, 1, 2, "push frame.gas", True),
    (0x5B, "JUMPDEST", 0, 0, 1, ""),
    (0x5C, "TLOAD", 1, 1, 100, "push frame.storage.transient.get(a, 0)"),  # EIP-1153
    (0x5D, "TSTORE", 2, 0, 100, "store_transient(frame, a, b)"),
    (0x5E, "MCOPY", 3, 0, 3, "copy_memory(frame, a, b, c)"),  # EIP-5656
    (0x5F, "PUSH0", 0, 1, 2, "push 0"),  # EIP-3855
    *((0x5F + size, f"PUSH{size}", 0, 1, 3, "push x") for size in range(1, 33)),
    *(
        (
            0x7F + place,
            f"DUP{place}",
            place,
            place + 1,
            3,
            "push " + ", ".join(("abcdefghijklmnop"[:place])[::-1] + "abcdefghijklmnop"[place - 1]),
        )
        for place in range(1, 17)
    ),
    *(
        (
            0x8F + place,
            f"SWAP{place}",
            place + 1,
            place + 1,
            3,
            "push a, " + ", ".join(("bcdefghijklmnop"[: place - 1])[::-1] + "bcdefghijklmnopq"[place - 1]),
        )
        for place in range(1, 17)
    ),
    (0xA0, "LOG0", 2, 0, 375, "log(frame, a, b, ())"),
    (0xA1, "LOG1", 3, 0, 750, "log(frame, a, b, (c,))"),
    (0xA2, "LOG2", 4, 0, 1125, "log(frame, a, b, (c, d))"),
    (0xA3, "LOG3", 5, 0, 1500, "log(frame, a, b, (c, d, e))"),
    (0xA4, "LOG4", 6, 0, 1875, "log(frame, a, b, (c, d, e, f))"),
    (0xF0, "CREATE", 3, 1, 32_000, "create(frame, a, b, c)\nwait", True),
    (0xF1, "CALL", 7, 1, 0, "call(frame, a, b, c, d, e, f, g)\nwait", True),
    (0xF2, "CALLCODE", 7, 1, 0, "call_code(frame, a, b, c, d, e, f, g)\nwait", True),
    (0xF3, "RETURN", 2, 0, 0, "frame.output = read(frame, a, b)\nhalt"),
    (0xF4, "DELEGATECALL", 6, 1, 0, "delegate_call(frame, a, b, c, d, e, f)\nwait", True),  # EIP-7
    (0xF5, "CREATE2", 4, 1, 32_000, "create_salted(frame, a, b, c, d)\nwait", True),  # EIP-1014
    (0xFA, "STATICCALL", 6, 1, 0, "static_call(frame, a, b, c, d, e, f)\nwait", True),  # EIP-214
    (0xFD, "REVERT", 2, 0, 0, "frame.output = read(frame, a, b)\nframe.reverted = True\nhalt"),  # EIP-140
    (0xFE, "INVALID", 0, 0, 0, "raise InvalidOpcode"),
    (0xFF, "SELFDESTRUCT", 1, 0, 5_000, "destroy(frame, a)\nhalt"),  # EIP-6780
)

_KNOWN: Final = {row[0]: Opcode(*row) for row in _ROWS}

OPCODES: Final = tuple(
    _KNOWN.get(number) or Opcode(number, f"0x{number:02x}", 0, 0, 0, "raise InvalidOpcode") for number in range(256)
)
"""By number; what is not assigned halts like INVALID."""
