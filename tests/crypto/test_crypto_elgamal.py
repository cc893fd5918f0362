"""Additive ElGamal: sums open to sums, and nothing tampered with passes."""

import random
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koinon.crypto import bn254, elgamal
from koinon.crypto.bn254 import GENERATOR, ORDER
from koinon.crypto.elgamal import Ciphertext, Dealing
from koinon.kernel.errors import Forged, InvalidInput

SECRET = 0x1234_5678_9ABC_DEF0_1234_5678
KEY = bn254.multiply(GENERATOR, SECRET)
CONTEXT = b"\x07" * 32


class Seeded:
    """A reproducible source of bytes for tests."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def bytes(self, count: int, /) -> bytes:
        return self._random.randbytes(count)


def open_with(secret: int, ciphertext: Ciphertext, largest: int) -> int:
    return elgamal.find_logarithm(elgamal.opened(ciphertext, {1: bn254.multiply(ciphertext.first, secret)}), largest)


@settings(max_examples=15)
@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 3), st.integers(0, 2**32))
def test_sums_and_multiples_open_to_sums_and_multiples(left: int, right: int, factor: int, seed: int) -> None:
    rng = Seeded(seed)
    first = elgamal.encrypt(KEY, left, elgamal.random_scalar(rng))
    second = elgamal.encrypt(KEY, right, elgamal.random_scalar(rng))
    total = Ciphertext.decode((first + second.scaled(factor)).encode())
    assert open_with(SECRET, total, 2_000) == left + factor * right


@pytest.mark.parametrize("number", [0, 1, 30, 31, 999, 1_000])
def test_a_number_is_found_up_to_the_bound_and_not_beyond(number: int) -> None:
    point = bn254.multiply(GENERATOR, number)
    assert elgamal.find_logarithm(point, 1_000) == number
    with pytest.raises(InvalidInput, match="no number from 0 to"):
        elgamal.find_logarithm(bn254.multiply(GENERATOR, 1_001 + number), 1_000)


@pytest.mark.parametrize("vote", [0, 1])
def test_a_ballot_of_zero_or_one_is_proved(vote: int) -> None:
    rng = Seeded(vote)
    randomness = elgamal.random_scalar(rng)
    ballot = elgamal.encrypt(KEY, vote, randomness)
    proof = elgamal.prove_ballot(KEY, vote, randomness, CONTEXT, rng)
    assert elgamal.verify_ballot(KEY, ballot, CONTEXT, proof)
    assert not elgamal.verify_ballot(KEY, ballot, b"\x08" * 32, proof), "made for another context"
    assert not elgamal.verify_ballot(bn254.add(KEY, GENERATOR), ballot, CONTEXT, proof), "made for another key"
    shifted = Ciphertext(ballot.first, bn254.add(ballot.second, GENERATOR))
    assert not elgamal.verify_ballot(KEY, shifted, CONTEXT, proof), "of another ciphertext"
    for place in range(0, elgamal.BALLOT_PROOF_BYTES, 17):
        tampered = bytes(byte ^ (place == number) for number, byte in enumerate(proof))
        assert not elgamal.verify_ballot(KEY, ballot, CONTEXT, tampered)


@pytest.mark.parametrize("number", [2, 3, ORDER - 1])
def test_no_proof_can_be_made_for_more_than_one(number: int) -> None:
    rng = Seeded(number)
    randomness = elgamal.random_scalar(rng)
    ballot = elgamal.encrypt(KEY, number, randomness)
    with pytest.raises(InvalidInput, match="0 or 1"):
        elgamal.prove_ballot(KEY, number, randomness, CONTEXT, rng)
    for vote in (0, 1):
        assert not elgamal.verify_ballot(
            KEY, ballot, CONTEXT, elgamal.prove_ballot(KEY, vote, randomness, CONTEXT, rng)
        )


def test_a_scalar_cannot_be_written_in_two_ways() -> None:
    rng = Seeded(5)
    randomness = elgamal.random_scalar(rng)
    ballot = elgamal.encrypt(KEY, 1, randomness)
    proof = elgamal.prove_ballot(KEY, 1, randomness, CONTEXT, rng)
    larger = int.from_bytes(proof[32:64], "big") + ORDER
    assert larger < 2**256, "the seed gives a response that leaves room for a second form"
    assert not elgamal.verify_ballot(KEY, ballot, CONTEXT, proof[:32] + larger.to_bytes(32, "big") + proof[64:])
    for size in (0, 127, 129):
        assert not elgamal.verify_ballot(KEY, ballot, CONTEXT, proof[:size].ljust(size, b"\0"))


def test_any_two_of_three_trustees_open_and_a_wrong_share_is_noticed() -> None:
    rng = Seeded(9)
    dealers = [Dealing.generate(2, rng) for _ in range(3)]
    dealings = [dealer.commitments for dealer in dealers]
    for dealer in dealers:
        for index in (1, 2, 3):
            elgamal.check_dealt_share(dealer.commitments, index, dealer.share(index))
    with pytest.raises(Forged, match="trustee 2"):
        elgamal.check_dealt_share(dealings[0], 2, dealers[0].share(3))
    secrets = {index: sum(dealer.share(index) for dealer in dealers) % ORDER for index in (1, 2, 3)}
    key = elgamal.joint_key(dealings)
    tally = elgamal.ZERO
    for vote in (1, 0, 1, 1):
        tally += elgamal.encrypt(key, vote, elgamal.random_scalar(rng))
    shares = {}
    for index, secret in secrets.items():
        own = elgamal.verification_key(dealings, index)
        shares[index], proof = elgamal.prove_share(secret, tally.first, CONTEXT, rng)
        assert elgamal.verify_share(own, tally.first, shares[index], CONTEXT, proof)
        wrong = bn254.add(shares[index], GENERATOR)
        assert not elgamal.verify_share(own, tally.first, wrong, CONTEXT, proof)
        assert not elgamal.verify_share(key, tally.first, shares[index], CONTEXT, proof), "another trustee's key"
        assert not elgamal.verify_share(own, tally.first, shares[index], bytes(32), proof), "another context"
        assert not elgamal.verify_share(own, tally.first, shares[index], CONTEXT, proof[::-1])
    for pair in combinations(shares, 2):
        chosen = {index: shares[index] for index in pair}
        assert elgamal.find_logarithm(elgamal.opened(tally, chosen), 4) == 3
    with pytest.raises(InvalidInput, match="no number"):
        elgamal.find_logarithm(elgamal.opened(tally, {1: shares[1]}), 1_000)


def test_a_dealing_shows_nothing_of_its_secret() -> None:
    dealing = Dealing([SECRET, 17])
    assert repr(dealing) == "Dealing(threshold=2)"


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: Ciphertext.decode(bytes(127)), "128 bytes"),
        (lambda: Ciphertext.decode(b"\x01" * 128), "not on BN254"),
        (lambda: elgamal.find_logarithm(GENERATOR, 2**41), "2.40"),
        (lambda: elgamal.find_logarithm(GENERATOR, -1), "2.40"),
        (lambda: elgamal.verify_ballot(KEY, elgamal.ZERO, b"short", bytes(128)), "32 bytes"),
        (lambda: Dealing.generate(0, Seeded(1)), "1 to 64"),
        (lambda: Dealing.generate(65, Seeded(1)), "1 to 64"),
    ],
)
def test_unusable_input_is_refused_with_the_reason(call: object, reason: str) -> None:
    assert callable(call)
    with pytest.raises(InvalidInput, match=reason):
        call()
