"""What the staking contract asks of the machine: are these keys the owner's, and is this proof of double signing?

Both inputs are packed bytes that begin with the chain id (8 bytes, big-endian); both outputs are one word.
"""

from collections.abc import Mapping
from typing import Final

from koinon.crypto.bls import PUBLIC_KEY_BYTES, SIGNATURE_BYTES, check_possession, verify
from koinon.crypto.signature import NodeKey, verify_node_signature
from koinon.kernel.codec import encode
from koinon.kernel.errors import Forged, KoinonError, MalformedMessage
from koinon.kernel.ids import Address, NodeId
from koinon.kernel.quantities import ChainId
from koinon.ledger.giskard.evidence import contradiction, decode_evidence
from koinon.ledger.precompile import Precompile, PrecompileFailure, precompile_address

REGISTRATION: Final = precompile_address(0x0400)
DOUBLE_SIGNING: Final = precompile_address(0x0401)

_CHAIN: Final = slice(0, 8)
_OWNER: Final = slice(8, 28)
_NODE: Final = slice(28, 60)
_KEY: Final = slice(60, 60 + PUBLIC_KEY_BYTES)
_POSSESSION: Final = slice(108, 108 + SIGNATURE_BYTES)
_NODE_SIGNATURE: Final = slice(204, 268)
_REGISTRATION_BYTES: Final = 268
_REGISTRATION_GAS: Final = 120_000
"""A check takes about as long as two pairs of EIP-2537, with room for the node's signature."""
_EVIDENCE_GAS: Final = 220_000
_EVIDENCE_BYTE_GAS: Final = 8
_DOMAIN: Final = "koinon/staking/registration/1"


def registration_proof(chain_id: ChainId, owner: Address, node: NodeKey, key: bytes, possession: bytes) -> bytes:
    """The 160 bytes that ``register`` takes: possession of the BLS key, and the node key's word for owner and key."""
    return possession + node.sign(_DOMAIN, _registration(chain_id, owner, key))


def _registration(chain_id: int, owner: bytes, key: bytes) -> bytes:
    return encode((chain_id, owner, key))


def check_registration(data: bytes) -> bytes:
    """Whether an owner may register a node and a BLS key; the word 1.

    Args:
        data: chain id (8), owner (20), node id (32), BLS key (48), proof of possession (96), node's signature (64).

    Raises:
        PrecompileFailure: the input has another length, the key is the identity or no point of the subgroup, or one of
            the proofs is not the key's own.
    """
    if len(data) != _REGISTRATION_BYTES:
        raise PrecompileFailure(f"a registration has {_REGISTRATION_BYTES} bytes")
    chain_id = int.from_bytes(data[_CHAIN], "big")
    statement = _registration(chain_id, data[_OWNER], data[_KEY])
    try:
        check_possession(data[_KEY], data[_POSSESSION])
        verify_node_signature(NodeId(data[_NODE]), _DOMAIN, statement, data[_NODE_SIGNATURE])
    except KoinonError as problem:
        raise PrecompileFailure(str(problem)) from None
    return (1).to_bytes(32, "big")


def check_double_signing(data: bytes) -> bytes:
    """The epoch, as a word, in which the holder of a key signed two messages that contradict each other.

    Which do is in ``koinon.ledger.giskard.evidence``.

    Args:
        data: chain id (8), BLS key (48), evidence as ``encode_evidence`` makes it.

    Raises:
        PrecompileFailure: the evidence is malformed, shows no contradiction, or is not signed by the key.
    """
    chain_id, key, evidence = ChainId(int.from_bytes(data[:8], "big")), data[8:56], data[56:]
    try:
        shown = contradiction(decode_evidence(evidence), chain_id)
    except (MalformedMessage, Forged) as problem:
        raise PrecompileFailure(str(problem)) from None
    for statement, signature in shown.signed:
        if not verify(key, statement, signature):
            raise PrecompileFailure("a signature of the evidence is not this key's")
    return int(shown.epoch).to_bytes(32, "big")


STAKING_PRECOMPILES: Final[Mapping[Address, Precompile]] = {
    REGISTRATION: Precompile(lambda _: _REGISTRATION_GAS, check_registration),
    DOUBLE_SIGNING: Precompile(lambda data: _EVIDENCE_GAS + _EVIDENCE_BYTE_GAS * len(data), check_double_signing),
}
