"""Hashes against published vectors; Merkle trees and commitments against every cheat we could think of."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koinon.crypto import merkle
from koinon.crypto.commitment import check, commit
from koinon.crypto.hash import blake3, keccak256, sha256, tagged_hash
from koinon.kernel.errors import Forged, InvalidInput
from koinon.kernel.ids import Hash32

LEAVES = st.lists(st.binary(max_size=40), min_size=1, max_size=20)


@pytest.mark.parametrize(
    ("function", "data", "digest"),
    [
        # EIP-1052's empty code hash; FIPS 180-4 "abc"; the BLAKE3 paper's empty input.
        (keccak256, b"", "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"),
        (keccak256, b"transfer(address,uint256)", "a9059cbb2ab09eb219583f4a59a5d0623ade346d962bcd4e46b11da047c9049b"),
        (sha256, b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (blake3, b"", "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
    ],
)
def test_published_digests(function: object, data: bytes, digest: str) -> None:
    assert function(data).hex() == digest  # type: ignore[operator]
    assert function(memoryview(data)).hex() == digest  # type: ignore[operator]


def test_tagged_hashes_separate_domains_and_cuts() -> None:
    digests = {
        tagged_hash("a", b"bc"),
        tagged_hash("a", b"b", b"c"),
        tagged_hash("a", b"c", b"b"),
        tagged_hash("a", b"bc", b""),
        tagged_hash("ab", b"c"),
        tagged_hash("a"),
    }
    assert len(digests) == 6


@given(LEAVES, st.data())
def test_every_leaf_is_proven_at_its_place_and_nowhere_else(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    tree, count = merkle.root(leaves), len(leaves)
    proof = merkle.prove(leaves, index)
    assert merkle.verify(tree, leaves[index], index, count, proof)
    assert not merkle.verify(tree, leaves[index] + b"x", index, count, proof)
    for elsewhere in range(count):
        if leaves[elsewhere] != leaves[index]:
            assert not merkle.verify(tree, leaves[index], elsewhere, count, proof)
    for other_count in (count - 1, count + 1, 2 * count):
        assert not merkle.verify(tree, leaves[index], index, other_count, proof)
    assert not merkle.verify(tree, leaves[index], index, count, (*proof, Hash32(bytes(32))))
    if proof:
        assert not merkle.verify(tree, leaves[index], index, count, proof[:-1])
        cut = bytes(proof[0])[:31]
        assert not merkle.verify(tree, leaves[index], index, count, (cut, *proof[1:]))


def test_an_inner_node_is_no_leaf() -> None:
    leaves = [b"a", b"b", b"c", b"d"]
    left, right = (keccak256(b"\x00" + leaf) for leaf in leaves[:2])
    forged = left + right
    proof = merkle.prove(leaves, 0)
    assert not merkle.verify(merkle.root(leaves), forged, 0, 2, proof[1:])
    assert not merkle.verify(merkle.root(leaves), b"\x01" + forged, 0, 2, proof[1:])


@given(LEAVES, LEAVES)
def test_roots_differ_when_leaves_do(one: list[bytes], other: list[bytes]) -> None:
    assert (merkle.root(one) == merkle.root(other)) == (one == other)


def test_duplicating_the_last_leaf_changes_the_root() -> None:
    # CVE-2012-2459: trees that pad by repetition give both lists one root.
    assert merkle.root([b"a", b"b", b"c"]) != merkle.root([b"a", b"b", b"c", b"c"])


@pytest.mark.parametrize("index", [-1, 3])
def test_a_leaf_that_does_not_exist_is_refused(index: int) -> None:
    with pytest.raises(InvalidInput, match="does not exist"):
        merkle.prove([b"a", b"b", b"c"], index)
    assert not merkle.verify(merkle.root([b"a", b"b", b"c"]), b"a", index, 3, ())


def test_the_empty_tree_proves_nothing() -> None:
    assert not merkle.verify(merkle.root([]), b"", 0, 0, ())
    assert merkle.root([]) != merkle.root([b""])


@settings(max_examples=30)
@given(st.binary(max_size=50), st.binary(min_size=32, max_size=32))
def test_a_commitment_opens_to_its_value_only(value: bytes, salt: bytes) -> None:
    commitment = commit("score", value, salt)
    check(commitment, "score", value, salt)
    for domain, text, grain in [
        ("vote", value, salt),
        ("score", value + b"\0", salt),
        ("score", value, bytes(b ^ 1 for b in salt)),
    ]:
        with pytest.raises(Forged, match=domain):
            check(commitment, domain, text, grain)
    with pytest.raises(Forged):
        check(commitment[:31], "score", value, salt)


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_salt_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(InvalidInput, match="salt"):
        commit("score", b"value", bytes(size))
