"""The host's functions for hashing, signatures, BN254, ElGamal and Groth16.

Those that check something give 1 for yes and 0 for no; malformed points and proofs are a no, never a trap. Prices cover
the processor time measured at 50 ns for a unit of gas (``benchmarks/wasm.py``), or are the EVM's where it has one.
"""

from collections.abc import Callable
from typing import Final

from koinon.crypto import bls, bn254, elgamal, groth16
from koinon.crypto.bn254 import G1_BYTES, PAIR_BYTES
from koinon.crypto.elgamal import BALLOT_PROOF_BYTES, CIPHERTEXT_BYTES, SHARE_PROOF_BYTES, Ciphertext
from koinon.crypto.groth16 import PROOF_BYTES, VerifyingKey
from koinon.crypto.hash import blake3, keccak256, sha256
from koinon.crypto.signature import recover_address
from koinon.kernel.errors import Forged, InvalidInput
from koinon.ledger.evm.effects import charge
from koinon.ledger.wasm.host import WORD, Crossing, Entry, entry

_KECCAK_GAS: Final = 30
_HASH_GAS: Final = 60
_KECCAK_WORD_GAS: Final = 6
_HASH_WORD_GAS: Final = 12
_RECOVER_GAS: Final = 3_000
_BLS_GAS: Final = 60_000
_ADD_GAS: Final = 700
_MULTIPLY_GAS: Final = 6_000
_PAIRING_GAS: Final = 45_000
_PAIR_GAS: Final = 34_000
_BALLOT_GAS: Final = 50_000
_SHARE_GAS: Final = 26_000
_SIGNATURE_BYTES: Final = 65
_PLACED_SHARE_BYTES: Final = WORD + G1_BYTES
MOST_TRUSTEES: Final = 1_024


def _hash(at: Crossing, place: int, size: int, to: int, word_gas: int, digest: Callable[[bytes], bytes]) -> None:
    charge(at.frame, word_gas * ((size + 31) // 32))
    at.put(to, digest(at.take(place, size)))


def keccak(at: Crossing, place: int, size: int, to: int) -> None:
    _hash(at, place, size, to, _KECCAK_WORD_GAS, keccak256)


def sha2(at: Crossing, place: int, size: int, to: int) -> None:
    _hash(at, place, size, to, _HASH_WORD_GAS, sha256)


def blake(at: Crossing, place: int, size: int, to: int) -> None:
    _hash(at, place, size, to, _HASH_WORD_GAS, blake3)


def recover(at: Crossing, digest: int, signature: int, to: int) -> int:
    """Write the account whose key signed a 32-byte digest; the signature is r, s (lower half) and v (27 or 28)."""
    try:
        account = recover_address(at.take(digest, WORD), at.take(signature, _SIGNATURE_BYTES))
    except Forged:
        return 0
    at.put(to, account)
    return 1


def bls_verify(at: Crossing, key: int, message: int, size: int, signature: int) -> int:
    """A validator's signature: 48-byte key, message, 96-byte signature (proof-of-possession scheme on BLS12-381)."""
    charge(at.frame, _HASH_WORD_GAS * ((size + 31) // 32))
    return int(
        bls.verify(at.take(key, bls.PUBLIC_KEY_BYTES), at.take(message, size), at.take(signature, bls.SIGNATURE_BYTES))
    )


def bn254_add(at: Crossing, left: int, right: int, to: int) -> int:
    """Write the sum of two points of 64 bytes."""
    try:
        points = [bn254.decode_point(at.take(place, G1_BYTES)) for place in (left, right)]
    except InvalidInput:
        return 0
    at.put(to, bn254.encode_point(bn254.add(*points)))
    return 1


def bn254_multiply(at: Crossing, point: int, scalar: int, to: int) -> int:
    """Write the multiple of a point; the scalar has 32 bytes."""
    try:
        decoded = bn254.decode_point(at.take(point, G1_BYTES))
    except InvalidInput:
        return 0
    at.put(to, bn254.encode_point(bn254.multiply(decoded, at.take_word(scalar))))
    return 1


def bn254_pairing(at: Crossing, pairs: int, count: int) -> int:
    """Whether the product of pairings is one; each pair has 192 bytes, as in EIP-197."""
    charge(at.frame, _PAIR_GAS * count)
    data = at.take(pairs, PAIR_BYTES * count)
    parts = [data[start : start + PAIR_BYTES] for start in range(0, len(data), PAIR_BYTES)]
    try:
        return int(bn254.pairing_is_one([(bn254.decode_point(part[:G1_BYTES]), part[G1_BYTES:]) for part in parts]))
    except InvalidInput:
        return 0


def elgamal_add(at: Crossing, left: int, right: int, to: int) -> int:
    """Write the sum of two ciphertexts of 128 bytes."""
    try:
        first, second = (Ciphertext.decode(at.take(place, CIPHERTEXT_BYTES)) for place in (left, right))
    except InvalidInput:
        return 0
    at.put(to, (first + second).encode())
    return 1


def elgamal_scale(at: Crossing, ciphertext: int, factor: int, to: int) -> int:
    """Write the ciphertext of a multiple; the factor has 32 bytes."""
    try:
        decoded = Ciphertext.decode(at.take(ciphertext, CIPHERTEXT_BYTES))
    except InvalidInput:
        return 0
    at.put(to, decoded.scaled(at.take_word(factor)).encode())
    return 1


def elgamal_ballot(at: Crossing, key: int, ciphertext: int, context: int, proof: int) -> int:
    """Whether a ciphertext under ``key`` holds 0 or 1, by a proof of 128 bytes made for the 32-byte context."""
    try:
        point = bn254.decode_point(at.take(key, G1_BYTES))
        ballot = Ciphertext.decode(at.take(ciphertext, CIPHERTEXT_BYTES))
    except InvalidInput:
        return 0
    return int(elgamal.verify_ballot(point, ballot, at.take(context, WORD), at.take(proof, BALLOT_PROOF_BYTES)))


def elgamal_share(at: Crossing, key: int, first: int, share: int, context: int, proof: int) -> int:
    """Whether ``share`` opens ``first`` with the secret of the verification key, by a proof of 64 bytes."""
    try:
        own, opened, part = (bn254.decode_point(at.take(place, G1_BYTES)) for place in (key, first, share))
    except InvalidInput:
        return 0
    return int(elgamal.verify_share(own, opened, part, at.take(context, WORD), at.take(proof, SHARE_PROOF_BYTES)))


def elgamal_open(at: Crossing, ciphertext: int, shares: int, count: int, to: int) -> int:
    """Write m·G of an encrypted m; each checked share is its trustee's number (32 bytes, from 1) and a point."""
    charge(at.frame, (_MULTIPLY_GAS + _ADD_GAS) * count)
    data = at.take(shares, _PLACED_SHARE_BYTES * count)
    parts = [data[start : start + _PLACED_SHARE_BYTES] for start in range(0, len(data), _PLACED_SHARE_BYTES)]
    placed = {int.from_bytes(part[:WORD]): part[WORD:] for part in parts}
    if len(placed) != count or not all(0 < place < MOST_TRUSTEES for place in placed):
        return 0
    try:
        decoded = Ciphertext.decode(at.take(ciphertext, CIPHERTEXT_BYTES))
        opened = elgamal.opened(decoded, {place: bn254.decode_point(point) for place, point in placed.items()})
    except InvalidInput:
        return 0
    at.put(to, bn254.encode_point(opened))
    return 1


def groth16_verify(at: Crossing, key: int, size: int, proof: int, inputs: int, count: int) -> int:
    """Whether a proof of 256 bytes holds for public inputs of 32 bytes each; for keys see ``koinon.crypto.groth16``."""
    charge(at.frame, (_MULTIPLY_GAS + _ADD_GAS) * count)
    try:
        decoded = VerifyingKey.decode(at.take(key, size))
    except InvalidInput:
        return 0
    words = at.take(inputs, WORD * count)
    numbers = [int.from_bytes(words[start : start + WORD]) for start in range(0, len(words), WORD)]
    return int(groth16.verify(decoded, at.take(proof, PROOF_BYTES), numbers))


CRYPTO_FUNCTIONS: Final[dict[str, Entry]] = {
    "keccak256": entry("iii", _KECCAK_GAS, keccak),
    "sha256": entry("iii", _HASH_GAS, sha2),
    "blake3": entry("iii", _HASH_GAS, blake),
    "recover": entry("iii>i", _RECOVER_GAS, recover),
    "bls_verify": entry("iiii>i", _BLS_GAS, bls_verify),
    "bn254_add": entry("iii>i", _ADD_GAS, bn254_add),
    "bn254_multiply": entry("iii>i", _MULTIPLY_GAS, bn254_multiply),
    "bn254_pairing": entry("ii>i", _PAIRING_GAS, bn254_pairing),
    "elgamal_add": entry("iii>i", 2 * _ADD_GAS, elgamal_add),
    "elgamal_scale": entry("iii>i", 2 * _MULTIPLY_GAS, elgamal_scale),
    "elgamal_ballot": entry("iiii>i", _BALLOT_GAS, elgamal_ballot),
    "elgamal_share": entry("iiiii>i", _SHARE_GAS, elgamal_share),
    "elgamal_open": entry("iiii>i", _ADD_GAS, elgamal_open),
    "groth16_verify": entry("iiiii>i", _PAIRING_GAS + 4 * _PAIR_GAS, groth16_verify),
}
