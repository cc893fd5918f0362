"""BLS signatures against an independent implementation, and the attacks the draft warns of."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from py_ecc.bls import G2ProofOfPossession
from pyblst import BlstP1Element

from koinon.crypto.bls import (
    CURVE_ORDER,
    BlsKey,
    aggregate_signatures,
    check_possession,
    verify,
    verify_aggregate,
    vrf_output,
)
from koinon.crypto.hash import sha256
from koinon.crypto.random import SystemRng
from koinon.kernel.errors import Forged, InvalidInput

IDENTITY_KEY = b"\xc0" + bytes(47)
IDENTITY_SIGNATURE = b"\xc0" + bytes(95)
KEYS = [BlsKey.from_seed(bytes([n]) * 32) for n in range(1, 6)]
PUBLIC = [key.public_key for key in KEYS]


def _point_outside_the_subgroup() -> bytes:
    """A compressed point of the curve E(F_p) that is not in the prime-order subgroup."""
    prime = int("1a0111ea397fe69a4b1ba7b6434bacd764774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab", 16)
    x = 1
    while pow(x**3 + 4, (prime - 1) // 2, prime) != 1:
        x += 1
    encoded = bytearray(x.to_bytes(48, "big"))
    encoded[0] |= 0x80
    return bytes(encoded)


def test_keys_signatures_and_possession_match_the_reference_implementation() -> None:
    for key in KEYS[:2]:
        scalar = G2ProofOfPossession.KeyGen(key.seed)
        assert key.public_key == G2ProofOfPossession.SkToPk(scalar)
        assert key.sign(b"a vote") == G2ProofOfPossession.Sign(scalar, b"a vote")
        assert key.prove_possession() == G2ProofOfPossession.PopProve(scalar)


def test_an_ethereum_consensus_vector_verifies() -> None:
    # ethereum/consensus-spec-tests, bls/sign: secret 0x263dbd79…, message 32 zero bytes.
    public = bytes.fromhex(
        "a491d1b0ecd9bb917989f0e74f0dea0422eac4a873e5e2644f368dffb9a6e20fd6e10c1b77654d067c0618f6e5a7f79a"
    )
    signature = bytes.fromhex(
        "b6ed936746e01f8ecf281f020953fbf1f01debd5657c4a383940b020b26507f6076334f91e2366c96e9ab279fb5158090352ea1c5b0c9274"
        "504f4f0e7053af24802e51e4568d164fe986834f41e55c8e850ce1f98458c0cfc9ab380b55285a55"
    )
    assert verify(public, bytes(32), signature)
    assert not verify(public, b"\x01" + bytes(31), signature)


@settings(max_examples=10)
@given(st.binary(max_size=100), st.lists(st.sampled_from(range(5)), min_size=1, max_size=5, unique=True))
def test_an_aggregate_verifies_for_exactly_its_signers(message: bytes, signers: list[int]) -> None:
    aggregate = aggregate_signatures([KEYS[i].sign(message) for i in signers])
    public = [PUBLIC[i] for i in signers]
    assert verify_aggregate(public, message, aggregate)
    assert verify_aggregate(list(reversed(public)), message, aggregate)
    assert not verify_aggregate(public, message + b"x", aggregate)
    assert not verify_aggregate(public[1:], message, aggregate)
    assert not verify_aggregate([*public, PUBLIC[signers[0]]], message, aggregate)


def test_the_identity_is_nobodys_key_and_no_sum_of_keys() -> None:
    assert not verify(IDENTITY_KEY, b"m", IDENTITY_SIGNATURE)
    assert not verify_aggregate([PUBLIC[0], IDENTITY_KEY], b"m", KEYS[0].sign(b"m"))
    with pytest.raises(Forged):
        check_possession(IDENTITY_KEY, IDENTITY_SIGNATURE)
    with pytest.raises(Forged):
        vrf_output(IDENTITY_KEY, b"m", IDENTITY_SIGNATURE)
    opposite = (-BlstP1Element.uncompress(PUBLIC[0])).compress()
    assert not verify_aggregate([PUBLIC[0], opposite], b"m", IDENTITY_SIGNATURE)


def test_a_key_made_to_cancel_another_has_no_proof_of_possession() -> None:
    # The attacker claims own − victim, so that the sum with the victim's key is a key the attacker holds.
    victim, attacker = KEYS[0], KEYS[1]
    rogue = (BlstP1Element.uncompress(attacker.public_key) + -BlstP1Element.uncompress(victim.public_key)).compress()
    assert verify_aggregate([victim.public_key, rogue], b"m", attacker.sign(b"m")), "the attack the proof prevents"
    for proof in (attacker.prove_possession(), victim.prove_possession(), attacker.sign(rogue)):
        with pytest.raises(Forged):
            check_possession(rogue, proof)


@pytest.mark.parametrize(
    "key",
    [b"", bytes(48), b"\xff" * 48, PUBLIC[0][:47], PUBLIC[0] + b"\0", _point_outside_the_subgroup(), IDENTITY_KEY],
    ids=["empty", "zero", "ones", "short", "long", "outside the subgroup", "identity"],
)
def test_malformed_keys_verify_nothing(key: bytes) -> None:
    assert not verify(key, b"m", KEYS[0].sign(b"m"))
    with pytest.raises(Forged):
        check_possession(key, KEYS[0].prove_possession())


@settings(max_examples=60)
@given(st.one_of(st.binary(max_size=100), st.binary(min_size=95, max_size=95).map(lambda b: b"\x80" + b)))
def test_arbitrary_bytes_are_no_signature(data: bytes) -> None:
    assert not verify(PUBLIC[0], b"m", data)
    with pytest.raises(Forged, match="signature 1 of the aggregate"):
        aggregate_signatures([KEYS[0].sign(b"m"), data])


def test_signatures_possession_and_randomness_do_not_stand_for_each_other() -> None:
    key = KEYS[0]
    assert not verify(key.public_key, key.public_key, key.prove_possession())
    assert not verify(key.public_key, b"m", key.vrf_prove(b"m"))
    with pytest.raises(Forged):
        vrf_output(key.public_key, b"m", key.sign(b"m"))
    with pytest.raises(Forged):
        check_possession(key.public_key, key.sign(key.public_key))


def test_randomness_is_unique_per_key_and_input() -> None:
    proof = KEYS[0].vrf_prove(b"epoch 7")
    output = vrf_output(PUBLIC[0], b"epoch 7", proof)
    assert output == sha256(proof)
    assert proof == BlsKey.from_seed(KEYS[0].seed).vrf_prove(b"epoch 7")
    assert output not in (
        vrf_output(PUBLIC[0], b"epoch 8", KEYS[0].vrf_prove(b"epoch 8")),
        vrf_output(PUBLIC[1], b"epoch 7", KEYS[1].vrf_prove(b"epoch 7")),
    )
    for public, message in ((PUBLIC[1], b"epoch 7"), (PUBLIC[0], b"epoch 8")):
        with pytest.raises(Forged):
            vrf_output(public, message, proof)


def test_empty_lists_are_refused() -> None:
    with pytest.raises(InvalidInput):
        aggregate_signatures([])
    assert not verify_aggregate([], b"m", IDENTITY_SIGNATURE)


def test_a_key_never_shows_its_secret() -> None:
    key = BlsKey.generate(SystemRng())
    assert key.seed.hex() not in f"{key} {key!r}"
    assert not hasattr(key, "__dict__")
    with pytest.raises(InvalidInput):
        BlsKey.from_seed(CURVE_ORDER.to_bytes(33, "big"))
