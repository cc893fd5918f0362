"""Groth16 proofs made by another implementation (zksnake 0.1.0's prover): the right one passes, no other does."""

import json
from pathlib import Path

import pytest

from koinon.crypto import bn254, groth16
from koinon.crypto.groth16 import VerifyingKey
from koinon.kernel.errors import InvalidInput

VECTOR = json.loads((Path(__file__).parent / "groth16_cubic.json").read_text())
KEY = bytes.fromhex(VECTOR["key"])
PROOF = bytes.fromhex(VECTOR["proof"])
INPUTS = VECTOR["inputs"]


def test_the_proof_of_another_implementation_passes() -> None:
    key = VerifyingKey.decode(KEY)
    assert groth16.verify(key, PROOF, INPUTS)
    assert key.encode() == KEY


@pytest.mark.parametrize("inputs", [[], [36], [35, 35], [35 + bn254.ORDER], [-1]])
def test_other_inputs_fail(inputs: list[int]) -> None:
    assert not groth16.verify(VerifyingKey.decode(KEY), PROOF, inputs)


@pytest.mark.parametrize("place", range(0, groth16.PROOF_BYTES, 31))
def test_a_changed_byte_anywhere_fails(place: int) -> None:
    tampered = bytes(byte ^ (number == place) for number, byte in enumerate(PROOF))
    assert not groth16.verify(VerifyingKey.decode(KEY), tampered, INPUTS)


def test_a_proof_of_other_points_of_the_curve_fails() -> None:
    opposite = bn254.encode_point(bn254.negate(bn254.decode_point(PROOF[:64]))) + PROOF[64:]
    assert not groth16.verify(VerifyingKey.decode(KEY), opposite, INPUTS)
    nothing = bytes(64) + PROOF[64:192] + bytes(64)
    assert not groth16.verify(VerifyingKey.decode(KEY), nothing, INPUTS)
    assert not groth16.verify(VerifyingKey.decode(KEY), PROOF[:-1], INPUTS)


@pytest.mark.parametrize(
    "encoded", [b"", KEY[:-1], KEY[:448], KEY + bytes(64 * 64), b"\x01" * 64 + KEY[64:], KEY[:448] + b"\x01" * 64]
)
def test_what_is_no_key_is_refused(encoded: bytes) -> None:
    with pytest.raises(InvalidInput):
        VerifyingKey.decode(encoded)
