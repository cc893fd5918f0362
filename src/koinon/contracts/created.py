"""Contracts whose address says which code created them, so that nobody has to be believed about it.

Code on a chain does not show what its constructor left in storage. An address of EIP-1014 is a hash of the creation
code and of the account that executed it, here a nameless one that exists for one transaction and creates with salt 0.
"""

from typing import Final

from koinon.contracts.abi import Entry, Interface, encode
from koinon.contracts.artifacts import Artifact
from koinon.contracts.client import ChainClient
from koinon.contracts.transactions import created_address
from koinon.crypto.hash import keccak256
from koinon.kernel.errors import MalformedMessage
from koinon.kernel.ids import Address

MOST_SEARCHED: Final = 1 << 16
"""Transactions of an account among which the one that created a contract is sought, the newest first."""
_SALT: Final = bytes(32)
_HEAD_BYTES: Final = 34


def creation_code(compiled: Artifact, *arguments: object) -> bytes:
    """Creation code with the constructor's arguments."""
    constructor: tuple[Entry, ...] = Interface(compiled).constructor
    return compiled.bytecode + encode(constructor, arguments, f"the constructor of {compiled.name}")


async def deploy_salted(client: ChainClient, compiled: Artifact, *arguments: object) -> Address:
    """Create a contract in such a way. Raises Reverted where its constructor refuses."""
    code = creation_code(compiled, *arguments)
    receipt = await client.send(None, _wrapped(code), doing=f"{compiled.name} refused its deployment")
    if receipt.created is None:
        raise MalformedMessage(f"the chain names no address for the {compiled.name} it created")
    return _salted(receipt.created, keccak256(code))


def is_created(address: Address, creator: Address, transactions: int, code: bytes) -> bool:
    """Whether ``creator`` had this creation code executed at ``address`` by one of its first so many transactions."""
    code_hash = keccak256(code)
    return any(
        _salted(created_address(creator, nonce), code_hash) == address
        for nonce in reversed(range(max(0, transactions - MOST_SEARCHED), transactions))
    )


def _salted(creator: Address, code_hash: bytes) -> Address:
    return Address(keccak256(b"\xff" + creator + _SALT + code_hash)[12:])


def _wrapped(code: bytes) -> bytes:
    """Creation code that creates a contract of ``code`` with salt 0 and nothing else, or fails as that does."""
    size = len(code).to_bytes(2, "big").hex()
    head = bytes.fromhex(
        f"61{size}60{_HEAD_BYTES:02x}600039"  # copy the code to memory
        f"600061{size}60006000f5"  # create
        "15601757005b3d600060003e3d6000fd"  # stop, or revert with what it reverted with
    )
    return head + code
