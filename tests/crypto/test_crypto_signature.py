"""Node keys against RFC 8032, account keys against Ethereum, and every way to forge either."""

import pytest
from eth_keys.datatypes import PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from koinon.crypto.random import SystemRng
from koinon.crypto.signature import SECP256K1_ORDER, AccountKey, NodeKey, recover_address, verify_node_signature
from koinon.kernel.errors import Forged, InvalidInput
from koinon.kernel.ids import NodeId

# RFC 8032, section 7.1, tests 1 to 3: seed and public key.
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
    ),
]


@pytest.mark.parametrize(("seed", "public"), RFC_8032)
def test_node_id_is_the_rfc_8032_public_key(seed: str, public: str) -> None:
    assert NodeKey.from_seed(bytes.fromhex(seed)).node_id.hex() == public


@settings(max_examples=25)
@given(st.binary(min_size=32, max_size=32), st.text(min_size=1, max_size=40), st.binary(max_size=200))
def test_a_node_signature_holds_only_for_its_node_domain_and_message(seed: bytes, domain: str, message: bytes) -> None:
    key = NodeKey.from_seed(seed)
    signature = key.sign(domain, message)
    verify_node_signature(key.node_id, domain, message, signature)
    other = NodeKey.from_seed(bytes(b ^ 1 for b in seed)).node_id
    flipped = bytes([signature[0] ^ 1]) + signature[1:]
    for node_id, about, text, claimed in [
        (other, domain, message, signature),
        (key.node_id, domain + "x", message, signature),
        (key.node_id, domain, message + b"x", signature),
        (key.node_id, domain, message, flipped),
        (key.node_id, domain, message, signature[:-1]),
        (NodeId(b"short"), domain, message, signature),
    ]:
        with pytest.raises(Forged):
            verify_node_signature(node_id, about, text, claimed)


def test_moving_bytes_between_domain_and_message_is_a_forgery() -> None:
    key = NodeKey.generate(SystemRng())
    with pytest.raises(Forged):
        verify_node_signature(key.node_id, "vote", b"s/yes", key.sign("vote/", b"s/yes"[1:]))
    with pytest.raises(Forged):
        verify_node_signature(key.node_id, "a", b"bc", key.sign("ab", b"c"))


@pytest.mark.parametrize("domain", ["", "x" * 256])
def test_a_domain_out_of_range_is_refused(domain: str) -> None:
    with pytest.raises(InvalidInput, match="domain"):
        NodeKey.generate(SystemRng()).sign(domain, b"")


def test_account_addresses_are_those_of_ethereum() -> None:
    # The addresses of the scalars 1 and 2, known from every Ethereum client.
    assert AccountKey.from_secret((1).to_bytes(32, "big")).address.hex() == "7e5f4552091a69125d5dfcb7b8c2659029395bdf"
    assert AccountKey.from_secret((2).to_bytes(32, "big")).address.hex() == "2b5ad5c4795c026514f8317c7a215e218dccd6cf"


def test_an_account_signature_is_the_one_eth_keys_makes() -> None:
    secret, digest = bytes(range(1, 33)), bytes(range(32))
    theirs = PrivateKey(secret).sign_msg_hash(digest)
    ours = AccountKey.from_secret(secret).sign_digest(digest)
    assert ours == theirs.to_bytes()[:64] + bytes([27 + theirs.v])


@settings(max_examples=25)
@given(st.integers(1, SECP256K1_ORDER - 1), st.binary(min_size=32, max_size=32))
def test_recovery_finds_the_signer_and_s_is_low(scalar: int, digest: bytes) -> None:
    key = AccountKey.from_secret(scalar.to_bytes(32, "big"))
    signature = key.sign_digest(digest)
    assert recover_address(digest, signature) == key.address
    assert int.from_bytes(signature[32:64], "big") <= SECP256K1_ORDER // 2
    assert signature[64] in (27, 28)


def test_the_high_s_twin_of_a_signature_is_refused() -> None:
    key, digest = AccountKey.generate(SystemRng()), bytes(32)
    signature = key.sign_digest(digest)
    high = SECP256K1_ORDER - int.from_bytes(signature[32:64], "big")
    twin = signature[:32] + high.to_bytes(32, "big") + bytes([55 - signature[64]])
    with pytest.raises(Forged, match="upper half"):
        recover_address(digest, twin)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s[:64],
        lambda s: s + b"\0",
        lambda s: s[:64] + bytes([s[64] - 27]),
        lambda s: s[:64] + b"\x1d",
        lambda s: bytes(32) + s[32:],
        lambda s: s[:32] + bytes(32) + s[64:],
        lambda s: b"\xff" * 32 + s[32:],
    ],
    ids=["short", "long", "v 0 or 1", "v 29", "r zero", "s zero", "r above the order"],
)
def test_malformed_account_signatures_are_forged(change: object) -> None:
    signature = AccountKey.from_secret(bytes(range(1, 33))).sign_digest(bytes(32))
    with pytest.raises(Forged):
        recover_address(bytes(32), change(signature))  # type: ignore[operator]


@pytest.mark.parametrize("secret", [b"", bytes(31), bytes(32), SECP256K1_ORDER.to_bytes(32, "big"), b"\xff" * 32])
def test_an_account_secret_out_of_range_is_refused(secret: bytes) -> None:
    with pytest.raises(InvalidInput, match="account key"):
        AccountKey.from_secret(secret)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_node_seed_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(InvalidInput, match="node key"):
        NodeKey.from_seed(bytes(size))


def test_an_account_signs_digests_only() -> None:
    with pytest.raises(InvalidInput, match="32 bytes"):
        AccountKey.generate(SystemRng()).sign_digest(b"a message, not a digest")


def test_no_key_shows_its_secret() -> None:
    secret = bytes(range(1, 33))
    for key in (NodeKey.from_seed(secret), AccountKey.from_secret(secret)):
        assert secret.hex() not in f"{key} {key!r}"
        assert not hasattr(key, "__dict__")
