"""Encrypted numbers and proofs in contracts of both machines: what is right passes, nothing tampered with does."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from eth_abi.abi import encode
from ledger_wasm import CONTEXT, PERSON, Ledger, artefact, calldata, contract, decoded

from koinon.crypto import bls, bn254, elgamal, signature
from koinon.crypto.bn254 import GENERATOR, Point
from koinon.crypto.elgamal import Ciphertext, Dealing
from koinon.crypto.hash import blake3, keccak256, sha256
from koinon.kernel.ids import Address

ROOT = Path(__file__).resolve().parents[2]
PROBE = artefact(ROOT / "tests" / "contracts" / "fixtures" / "PrivacyProbe.json")
EVM_TALLY = artefact(ROOT / "src" / "koinon" / "contracts" / "artifacts" / "privacy" / "EncryptedTally.json")
WASM_TALLY = artefact(ROOT / "contracts" / "wasm" / "artifacts" / "Tally.json")
VECTOR = json.loads((ROOT / "tests" / "crypto" / "groth16_cubic.json").read_text())
GROTH16_KEY, GROTH16_PROOF = bytes.fromhex(VECTOR["key"]), bytes.fromhex(VECTOR["proof"])
CLOSES = CONTEXT.timestamp + 100
PLACE = b"\x05" * 32


class Seeded:
    """A reproducible source of bytes for tests."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def bytes(self, count: int, /) -> bytes:
        return self._random.randbytes(count)


RNG = Seeded(2026)
VOTERS = [Address(bytes([0x40 + number]) * 20) for number in range(4)]
TRUSTEES = [Address(bytes([0x60 + number]) * 20) for number in range(3)]
DEALERS = [Dealing.generate(2, RNG) for _ in TRUSTEES]
DEALINGS = [dealer.commitments for dealer in DEALERS]
KEY = elgamal.joint_key(DEALINGS)
OWN_KEYS = [elgamal.verification_key(DEALINGS, place) for place in (1, 2, 3)]
SECRETS = [sum(dealer.share(place) for dealer in DEALERS) % bn254.ORDER for place in (1, 2, 3)]


def words(data: bytes) -> list[int]:
    return [int.from_bytes(data[start : start + 32]) for start in range(0, len(data), 32)]


# The tally, in both machines behind the same few calls


@dataclass
class Poll:
    """A deployed tally. ``vote`` and ``share`` take encoded points and proofs."""

    ledger: Ledger
    address: Address
    vote_call: Callable[[bytes, bytes], bytes]
    share_call: Callable[[bytes, bytes], bytes]
    result_call: bytes

    def context(self, who: Address) -> bytes:
        return self.ledger.send(self.address, calldata("contextOf(address)", who)).output

    def vote(self, who: Address, number: int) -> bool:
        randomness = elgamal.random_scalar(RNG)
        ballot = elgamal.encrypt(KEY, number, randomness).encode()
        proof = elgamal.prove_ballot(KEY, number, randomness, self.context(who), RNG)
        return self.cast(who, ballot, proof)

    def cast(self, who: Address, ballot: bytes, proof: bytes) -> bool:
        return self.ledger.send(self.address, self.vote_call(ballot, proof), sender=who).succeeded

    def sum(self) -> Ciphertext:
        return Ciphertext.decode(self.ledger.send(self.address, calldata("sum()")).output)

    def prove(self, trustee: int) -> tuple[bytes, bytes]:
        who = TRUSTEES[trustee]
        part, proof = elgamal.prove_share(SECRETS[trustee], self.sum().first, self.context(who), RNG)
        return bn254.encode_point(part), proof

    def share(self, trustee: int, part: bytes, proof: bytes) -> bool:
        return self.ledger.send(self.address, self.share_call(part, proof), sender=TRUSTEES[trustee]).succeeded

    def open(self, total: int) -> bool:
        return self.ledger.send(self.address, calldata("open(uint256)", total)).succeeded

    def result(self) -> int:
        return int.from_bytes(self.ledger.send(self.address, self.result_call).output)


def evm_terms(threshold: int, key: Point, own: list[Point], closes: int = CLOSES) -> bytes:
    types = ["bytes32", "uint256", "uint256", "(uint256,uint256)", "address[]", "(uint256,uint256)[]", "address[]"]
    return encode(types, [bytes(32), closes, threshold, key, TRUSTEES, own, [*VOTERS, PERSON]])


def wasm_terms(threshold: int, key: Point, own: list[Point], closes: int = CLOSES) -> bytes:
    flat = [coordinate for point in own for coordinate in point]
    return encode(
        ["uint256", "uint256", "uint256[2]", "address[3]", "uint256[6]"], [closes, threshold, key, TRUSTEES, flat]
    )


def evm_poll() -> Poll:
    ledger = Ledger()

    def vote(ballot: bytes, proof: bytes) -> bytes:
        name = "vote(((uint256,uint256),(uint256,uint256)),(uint256,uint256,uint256,uint256))"
        return keccak256(name.encode())[:4] + ballot + proof

    def share(part: bytes, proof: bytes) -> bytes:
        return keccak256(b"share((uint256,uint256),(uint256,uint256))")[:4] + part + proof

    address = ledger.deploy(EVM_TALLY + evm_terms(2, KEY, OWN_KEYS))
    return Poll(ledger, address, vote, share, calldata("yes()"))


def wasm_poll() -> Poll:
    ledger = Ledger()

    def vote(ballot: bytes, proof: bytes) -> bytes:
        return keccak256(b"vote(uint256[4],uint256[4])")[:4] + ballot + proof

    def share(part: bytes, proof: bytes) -> bytes:
        return keccak256(b"share(uint256[2],uint256[2])")[:4] + part + proof

    address = ledger.deploy(WASM_TALLY + wasm_terms(2, KEY, OWN_KEYS))
    return Poll(ledger, address, vote, share, calldata("result()"))


@pytest.fixture(params=[evm_poll, wasm_poll], ids=["evm", "wasm"])
def poll(request: pytest.FixtureRequest) -> Poll:
    """A fresh tally with three trustees of whom two open it."""
    made = request.param()
    assert isinstance(made, Poll)
    return made


def test_votes_are_summed_in_secret_and_two_trustees_open_the_sum(poll: Poll) -> None:
    for who, number in zip(VOTERS, (1, 0, 1, 1), strict=True):
        assert poll.vote(who, number)
    assert int.from_bytes(poll.ledger.send(poll.address, calldata("ballots()")).output) == 4
    assert not poll.share(0, *poll.prove(0)), "while votes still come"
    poll.ledger.now = CLOSES
    assert not poll.vote(PERSON, 1), "too late"
    assert poll.share(2, *poll.prove(2))
    assert not poll.open(3), "one share is not enough"
    assert poll.share(0, *poll.prove(0))
    for wrong in (2, 4, 5, 2**64 + 3, 3 + bn254.ORDER):
        assert not poll.open(wrong)
    assert poll.open(3)
    assert poll.result() == 3
    assert not poll.open(3), "once"


def test_a_ballot_counts_once_and_only_for_who_made_it(poll: Poll) -> None:
    randomness = elgamal.random_scalar(RNG)
    ballot = elgamal.encrypt(KEY, 1, randomness).encode()
    proof = elgamal.prove_ballot(KEY, 1, randomness, poll.context(VOTERS[0]), RNG)
    before = poll.sum()
    assert not poll.cast(VOTERS[1], ballot, proof), "another's ballot"
    for place in range(0, 128, 13):
        flipped = bytes(byte ^ (number == place) for number, byte in enumerate(proof))
        assert not poll.cast(VOTERS[0], ballot, flipped), "a changed proof"
        flipped = bytes(byte ^ (number == place) for number, byte in enumerate(ballot))
        assert not poll.cast(VOTERS[0], flipped, proof), "a changed ciphertext"
    two = elgamal.encrypt(KEY, 2, randomness).encode()
    assert not poll.cast(VOTERS[0], two, proof), "a vote that counts twice"
    assert poll.sum() == before
    assert poll.cast(VOTERS[0], ballot, proof)
    assert not poll.cast(VOTERS[0], ballot, proof), "again"
    assert poll.sum() == Ciphertext.decode(ballot)


def test_a_wrong_share_is_refused_and_names_nobody_else(poll: Poll) -> None:
    assert poll.vote(VOTERS[0], 1)
    poll.ledger.now = CLOSES
    part, proof = poll.prove(0)
    other = bn254.encode_point(bn254.add(bn254.decode_point(part), GENERATOR))
    assert not poll.share(0, other, proof), "another point"
    assert not poll.share(0, part, proof[::-1]), "another proof"
    assert not poll.share(0, b"\x01" * 64, proof), "no point"
    assert not poll.share(1, part, proof), "another trustee's"
    assert not poll.ledger.send(poll.address, poll.share_call(part, proof), sender=PERSON).succeeded, "no trustee"
    assert poll.share(0, part, proof)
    assert not poll.share(0, part, proof), "again"


@pytest.mark.parametrize(
    "terms",
    [
        evm_terms(0, KEY, OWN_KEYS),
        evm_terms(4, KEY, OWN_KEYS),
        evm_terms(2, KEY, OWN_KEYS, CONTEXT.timestamp),
        evm_terms(2, KEY, OWN_KEYS[:2]),
        evm_terms(2, bn254.add(KEY, GENERATOR), OWN_KEYS),
        evm_terms(2, KEY, [*OWN_KEYS[:2], GENERATOR]),
        evm_terms(2, (1, 3), OWN_KEYS),
        evm_terms(2, bn254.IDENTITY, [bn254.IDENTITY] * 3),
        evm_terms(1, KEY, OWN_KEYS),
    ],
)
def test_a_tally_with_terms_that_cannot_be_kept_is_not_created(terms: bytes) -> None:
    assert not Ledger().send(None, EVM_TALLY + terms).succeeded


@pytest.mark.parametrize(
    "terms",
    [
        wasm_terms(0, KEY, OWN_KEYS),
        wasm_terms(4, KEY, OWN_KEYS),
        wasm_terms(2, KEY, OWN_KEYS, CONTEXT.timestamp),
        wasm_terms(2, KEY, OWN_KEYS)[:-32],
    ],
)
def test_the_modules_constructor_refuses_such_terms_too(terms: bytes) -> None:
    assert not Ledger().send(None, WASM_TALLY + terms).succeeded


# The libraries in Solidity


def test_sums_and_multiples_are_those_of_the_python_side() -> None:
    ledger = Ledger()
    probe = ledger.deploy(PROBE)
    first, second = (elgamal.encrypt(KEY, number, elgamal.random_scalar(RNG)) for number in (3, 4))
    name = b"add(((uint256,uint256),(uint256,uint256)),((uint256,uint256),(uint256,uint256)))"
    result = ledger.send(probe, keccak256(name)[:4] + first.encode() + second.encode())
    assert Ciphertext.decode(result.output) == first + second
    name = b"scale(((uint256,uint256),(uint256,uint256)),uint256)"
    result = ledger.send(probe, keccak256(name)[:4] + first.encode() + (77).to_bytes(32))
    assert Ciphertext.decode(result.output) == first.scaled(77)


def groth16_data(key: bytes, proof: bytes, inputs: list[int]) -> bytes:
    point, second = "(uint256,uint256)", "(uint256[2],uint256[2])"
    types = [f"({point},{second},{second},{second},{point}[])", f"({point},{second},{point})", "uint256[]"]

    def pair(data: bytes) -> tuple[int, int]:
        x, y = words(data)
        return x, y

    def twisted(data: bytes) -> tuple[list[int], list[int]]:
        return words(data[:64]), words(data[64:])

    structured = (
        pair(key[:64]), twisted(key[64:192]), twisted(key[192:320]), twisted(key[320:448]),
        [pair(key[start : start + 64]) for start in range(448, len(key), 64)],
    )  # fmt: skip
    arguments = [structured, (pair(proof[:64]), twisted(proof[64:192]), pair(proof[192:])), inputs]
    return keccak256(f"verifyProof({','.join(types)})".encode())[:4] + encode(types, arguments)


@pytest.mark.parametrize("place", [None, *range(5, 256, 50)])
def test_groth16_in_solidity_accepts_the_proof_and_no_changed_one(place: int | None) -> None:
    ledger = Ledger()
    probe = ledger.deploy(PROBE)
    proof = bytes(byte ^ (number == place) for number, byte in enumerate(GROTH16_PROOF))
    result = ledger.send(probe, groth16_data(GROTH16_KEY, proof, VECTOR["inputs"]), gas=600_000)
    assert result.succeeded
    assert decoded("bool", result.output) == (place is None,)
    if place is None:
        for inputs in ([36], [], [35, 0], [35 + bn254.ORDER]):
            result = ledger.send(probe, groth16_data(GROTH16_KEY, proof, inputs))
            assert decoded("bool", result.output) == (False,)


# The host's functions: call data in, one byte of answer and the output back


def host(name: str, kind: str, arguments: str, output: int = 0) -> Callable[[bytes], bytes]:
    """A contract that copies its call data to memory at zero, calls one host function, gives its answer and output."""
    imports = f"{name} {kind} (result i32)\ncall_data_copy (param i32 i32 i32)\ncall_data_size (result i32)\n"
    pointers = " ".join(f"(i32.const {number})" for number in arguments.split())
    body = f"""(call $call_data_copy (i32.const 0) (i32.const 0) (call $call_data_size))
        (i32.store8 (i32.const 4095) (call ${name} {pointers}))
        (call $finish (i32.const 4095) (i32.const {1 + output}))"""
    ledger = Ledger()
    address = ledger.deploy(contract(body, imports + "finish (param i32 i32)"))

    def call(data: bytes) -> bytes:
        result = ledger.send(address, data)
        assert result.succeeded, result.reason
        return result.output

    return call


def params(count: int) -> str:
    return "(param" + " i32" * count + ")"


FIRST, SECOND = bn254.multiply(GENERATOR, 5), bn254.multiply(GENERATOR, 9)
BAD_POINT = (1).to_bytes(32) + (3).to_bytes(32)


def test_bn254_on_the_host() -> None:
    add = host("bn254_add", params(3), "0 64 4096", 64)
    both = bn254.encode_point(FIRST) + bn254.encode_point(SECOND)
    assert add(both) == b"\1" + bn254.encode_point(bn254.multiply(GENERATOR, 14))
    assert add(BAD_POINT + both[64:])[:1] == b"\0"
    multiply = host("bn254_multiply", params(3), "0 64 4096", 64)
    assert multiply(both[:64] + (7).to_bytes(32)) == b"\1" + bn254.encode_point(bn254.multiply(GENERATOR, 35))
    assert multiply(BAD_POINT + (7).to_bytes(32))[:1] == b"\0"
    pairing = host("bn254_pairing", params(2), "0 2")
    beta = GROTH16_KEY[64:192]
    opposite = bn254.encode_point(bn254.negate(FIRST))
    assert pairing(both[:64] + beta + opposite + beta) == b"\1"
    assert pairing(both[:64] + beta + both[64:] + beta) == b"\0"
    assert pairing(both[:64] + beta[::-1] + opposite + beta) == b"\0"


def test_elgamal_on_the_host() -> None:
    randomness = elgamal.random_scalar(RNG)
    ballot = elgamal.encrypt(KEY, 1, randomness)
    add = host("elgamal_add", params(3), "0 128 4096", 128)
    assert add(ballot.encode() * 2) == b"\1" + (ballot + ballot).encode()
    assert add(BAD_POINT * 4)[:1] == b"\0"
    scale = host("elgamal_scale", params(3), "0 128 4096", 128)
    assert scale(ballot.encode() + (6).to_bytes(32)) == b"\1" + ballot.scaled(6).encode()
    check = host("elgamal_ballot", params(4), "0 64 192 224")
    proof = elgamal.prove_ballot(KEY, 1, randomness, PLACE, RNG)
    data = bn254.encode_point(KEY) + ballot.encode() + PLACE + proof
    assert check(data) == b"\1"
    for place in range(0, len(data), 11):
        assert check(bytes(byte ^ (number == place) for number, byte in enumerate(data))) == b"\0"


def test_shares_and_openings_on_the_host() -> None:
    ciphertext = elgamal.encrypt(KEY, 6, elgamal.random_scalar(RNG))
    share = host("elgamal_share", params(5), "0 64 128 192 224")
    placed = b""
    for trustee in (0, 2):
        part, proof = elgamal.prove_share(SECRETS[trustee], ciphertext.first, PLACE, RNG)
        data = b"".join(map(bn254.encode_point, (OWN_KEYS[trustee], ciphertext.first, part))) + PLACE + proof
        assert share(data) == b"\1"
        for place in range(0, len(data), 17):
            assert share(bytes(byte ^ (number == place) for number, byte in enumerate(data))) == b"\0"
        placed += (trustee + 1).to_bytes(32) + bn254.encode_point(part)
    opening = host("elgamal_open", params(4), "0 128 2 4096", 64)
    assert opening(ciphertext.encode() + placed) == b"\1" + bn254.encode_point(bn254.multiply(GENERATOR, 6))
    assert opening(ciphertext.encode() + placed[:96] * 2)[:1] == b"\0", "the same trustee twice"
    assert opening(ciphertext.encode() + bytes(32) + placed[32:])[:1] == b"\0", "no trustee has number zero"


def test_groth16_on_the_host() -> None:
    size = len(GROTH16_KEY)
    verify = host("groth16_verify", params(5), f"0 {size} {size} {size + 256} 1")
    assert verify(GROTH16_KEY + GROTH16_PROOF + (35).to_bytes(32)) == b"\1"
    assert verify(GROTH16_KEY + GROTH16_PROOF + (36).to_bytes(32)) == b"\0"
    for place in range(3, 256, 50):
        tampered = bytes(byte ^ (number == place) for number, byte in enumerate(GROTH16_PROOF))
        assert verify(GROTH16_KEY + tampered + (35).to_bytes(32)) == b"\0"
    assert verify(b"\1" * size + GROTH16_PROOF + (35).to_bytes(32)) == b"\0"


def test_signatures_and_hashes_on_the_host() -> None:
    account = signature.AccountKey.from_secret(b"\x21" * 32)
    digest = keccak256(b"said")
    recover = host("recover", params(3), "0 32 4096", 20)
    signed = account.sign_digest(digest)
    assert recover(digest + signed) == b"\1" + account.address
    assert recover(digest + signed[:64] + b"\x05")[:1] == b"\0"
    key = bls.BlsKey.from_seed(b"\x22" * 32)
    verify = host("bls_verify", params(4), "0 48 5 53")
    assert verify(key.public_key + b"hello" + key.sign(b"hello")) == b"\1"
    assert verify(key.public_key + b"hullo" + key.sign(b"hello")) == b"\0"
    for name, digest_of in (("sha256", sha256), ("blake3", blake3)):
        imports = f"{name} {params(3)}\ncall_data_copy (param i32 i32 i32)\nfinish (param i32 i32)"
        body = f"""(call $call_data_copy (i32.const 0) (i32.const 0) (i32.const 50))
            (call ${name} (i32.const 0) (i32.const 50) (i32.const 64)) (call $finish (i32.const 64) (i32.const 32))"""
        ledger = Ledger()
        assert ledger.send(ledger.deploy(contract(body, imports)), b"x" * 50).output == digest_of(b"x" * 50)
