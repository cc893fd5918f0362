"""How a call ends before its code says so. Every halt takes all gas of the call and undoes what the call did.

ExceptionalHalt                 yellow paper, section 9.4.2
├── OutOfGas                    the gas does not pay for the next step
├── StackFault                  fewer items than the instruction takes, or more than 1,024
├── InvalidOpcode               a byte that is no instruction
├── InvalidJump                 the destination is no JUMPDEST
├── WriteProtection             a change of state inside a static call (EIP-214)
├── ReturnDataOutOfBounds       RETURNDATACOPY beyond what the last call returned (EIP-211)
├── InvalidCode                 the creation returned code that is too long (EIP-170) or reserved (EIP-3541)
└── AddressCollision            the address of the new contract is taken (EIP-684)
"""


class ExceptionalHalt(Exception):
    """Base of all; the class's name is what a trace and a call's result show as the reason."""


class OutOfGas(ExceptionalHalt):
    """The gas does not pay for the next step."""


class StackFault(ExceptionalHalt):
    """Fewer items than the instruction takes, or more than 1,024."""


class InvalidOpcode(ExceptionalHalt):
    """A byte that is no instruction."""


class InvalidJump(ExceptionalHalt):
    """The destination is no JUMPDEST."""


class WriteProtection(ExceptionalHalt):
    """A change of state inside a static call (EIP-214)."""


class ReturnDataOutOfBounds(ExceptionalHalt):
    """RETURNDATACOPY beyond what the last call returned (EIP-211)."""


class InvalidCode(ExceptionalHalt):
    """The creation returned code that is too long (EIP-170) or reserved (EIP-3541)."""


class AddressCollision(ExceptionalHalt):
    """The address of the new contract is taken (EIP-684)."""
