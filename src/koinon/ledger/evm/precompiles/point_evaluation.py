"""0x0a: that a committed polynomial has a value at a point (EIP-4844).

A KZG proof holds if e(C − [y]₁, [1]₂) = e(π, [τ − z]₂). Of Ethereum's trusted setup that takes [τ]₂ alone, so there is
no setup file to load.
"""

import hashlib
from typing import Final

from pyblst import BlstP1Element, BlstP2Element, final_verify, miller_loop

from koinon.ledger.precompile import Precompile, PrecompileFailure

_GAS: Final = 50_000
_INPUT_BYTES: Final = 192
_HASH_VERSION: Final = b"\x01"
FIELD_ELEMENTS: Final = 4096
SCALAR_MODULUS: Final = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001

_G1: Final = BlstP1Element.uncompress(
    bytes.fromhex("97f1d3a73197d7942695638c4fa9ac0fc3688c4f9774b905a14e3a3f171bac586c55e83ff97a1aeffb3af00adb22c6bb")
)
_G2: Final = BlstP2Element.uncompress(
    bytes.fromhex(
        "93e02b6052719f607dacd3a088274f65596bd0d09920b61ab5da61bbdc7f5049334cf11213945d57e5ac7d055d042b7e"
        "024aa2b2f08f0a91260805272dc51051c6e47ad4fa403b02b4510b647ae3d1770bac0326a805bbefd48056c8c121bdb8"
    )
)
TAU_G2: Final = bytes.fromhex(
    "b5bfd7dd8cdeb128843bc287230af38926187075cbfbefa81009a2ce615ac53d2914e5870cb452d2afaaab24f3499f72"
    "185cbfee53492714734429b7b38608e23926c911cceceac9a36851477ba4c60b087041de621000edc98edada20c1def2"
)
"""[τ]₂ of the ceremony of 2023: the second of the setup's monomial points in G2."""
_TAU: Final = BlstP2Element.uncompress(TAU_G2)

_ANSWER: Final = FIELD_ELEMENTS.to_bytes(32) + SCALAR_MODULUS.to_bytes(32)


def _evaluate(data: bytes) -> bytes:
    """Versioned hash, z, y, commitment, proof."""
    if len(data) != _INPUT_BYTES:
        raise PrecompileFailure(f"point evaluation takes {_INPUT_BYTES} bytes; got {len(data)}")
    commitment = data[96:144]
    if data[:32] != _HASH_VERSION + hashlib.sha256(commitment).digest()[1:]:
        raise PrecompileFailure("the versioned hash is not the commitment's")
    z, y = int.from_bytes(data[32:64]), int.from_bytes(data[64:96])
    if z >= SCALAR_MODULUS or y >= SCALAR_MODULUS:
        raise PrecompileFailure("the point or the value is not below the scalar field's modulus")
    try:
        committed, proof = BlstP1Element.uncompress(commitment), BlstP1Element.uncompress(data[144:])
    except ValueError:
        raise PrecompileFailure("the commitment or the proof is no point of the group G1") from None
    left = miller_loop(committed + -_G1.scalar_mul(y), _G2)
    right = miller_loop(proof, _TAU + -_G2.scalar_mul(z))
    if not final_verify(left, right):
        raise PrecompileFailure("the proof does not hold")
    return _ANSWER


POINT_EVALUATION: Final = Precompile(lambda _data: _GAS, _evaluate)
