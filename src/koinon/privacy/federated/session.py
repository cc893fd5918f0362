"""What both sides of a round compute alike: the terms, what is signed, the masks and the sealed shares.

The protocol is that of K. Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine Learning", CCS
2017, in its form against an aggregator that may lie (section 6.2): keys are signed, and before anything is unmasked t
owners sign whom they were told to have survived. Beyond the paper, a session covers a hash of the model that the owners
start from (against D. Pasquini et al., "Eluding Secure Aggregation via Model Inconsistency", CCS 2022), dealers commit
to every share, and every message is signed, so that who deals or returns a wrong share is named and the aggregator's
sum can be recomputed by whoever holds the messages.

SECAGG-1  Of no owner that follows the protocol are shares of both the seed and the mask key opened by t holders, as
          long as fewer than 2t − n of the others work with the aggregator.
SECAGG-2  What is unmasked, however the aggregator lies, is the sum of the updates of at least t owners.
SECAGG-3  Nobody who follows the protocol is named.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from koinon.crypto.hash import tagged_hash
from koinon.crypto.signature import NodeKey, verify_node_signature
from koinon.kernel.codec import encode
from koinon.kernel.errors import Forged, InvalidInput, MalformedMessage
from koinon.kernel.ids import Hash32, NodeId
from koinon.privacy.federated.encoding import LONGEST, WORD_TYPES, check_range
from koinon.privacy.federated.shamir import MOST_HOLDERS, SHARE_BYTES
from koinon.privacy.rep4.streams import Stream
from koinon.wire.federated import KeyAnnouncement, RoundTerms, SealedShare

MOST_ROUNDS: Final = 1 << 20
_SESSION_DOMAIN: Final = "koinon/federated/session/1"
_SIGNATURE_DOMAIN: Final = "koinon/federated/statement/1"
_PAIR_DOMAIN: Final = "koinon/federated/pair-mask/1"
_SEAL_DOMAIN: Final = "koinon/federated/sealed-share/1"
_SHARE_DOMAIN: Final = "koinon/federated/share/1"
_SEED_DOMAIN: Final = "koinon/federated/seed/1"
_KEYS_DOMAIN: Final = "koinon/federated/key-list/1"
_DERIVED_DOMAIN: Final = "koinon/federated/round-secret/1"
_NONCE: Final = bytes(12)
KEY: Final = b"key"
SEED: Final = b"seed"
SEALED_BYTES: Final = 2 * SHARE_BYTES + 16


def check_terms(terms: RoundTerms) -> None:
    """Raises InvalidInput for terms under which no honest owner may take part."""
    names = (terms.study, terms.model, terms.aggregator, *terms.owners)
    if any(len(name) != 32 for name in names):
        raise InvalidInput("a round names study, model, aggregator and owners by 32 bytes each")
    if not 2 <= len(terms.owners) <= MOST_HOLDERS or len(set(terms.owners)) != len(terms.owners):
        raise InvalidInput(f"a round has 2 to {MOST_HOLDERS} owners, each named once; got {len(terms.owners)}")
    check_threshold(terms.threshold, len(terms.owners))
    if not 0 <= terms.round < MOST_ROUNDS or not 1 <= terms.length <= LONGEST or not 0 <= terms.fraction_bits <= 40:
        raise InvalidInput(f"a round has a number, 1 to {LONGEST} words and 0 to 40 fraction bits")
    check_range(len(terms.owners), terms.limit, terms.word_bits)


def check_threshold(threshold: int, owners: int) -> None:
    """Raises InvalidInput for a threshold with which a lying aggregator could unmask somebody all alone."""
    if not 2 <= threshold <= owners or 2 * threshold <= owners:
        raise InvalidInput(
            f"the threshold must be more than half of the {owners} owners and at most all of them,"
            f" or a lying aggregator could unmask one of them; got {threshold}"
        )


def tolerated(terms: RoundTerms) -> int:
    """How many owners may work together with a lying aggregator and still learn nothing of the others' updates."""
    return 2 * terms.threshold - len(terms.owners) - 1


def session_of(terms: RoundTerms) -> Hash32:
    """The name of the round: a hash of everything that was agreed on."""
    return tagged_hash(_SESSION_DOMAIN, encode(terms))


# ----------------------------------------------------------------------------------------------------- secrets


@dataclass(frozen=True, slots=True)
class RoundSecrets:
    """What one owner keeps to itself in one round; ``repr`` shows none of it."""

    cipher_key: X25519PrivateKey
    mask_key: bytes
    seed: bytes
    polynomials: tuple[bytes, bytes]

    def __repr__(self) -> str:
        return "RoundSecrets()"

    @property
    def public_cipher_key(self) -> bytes:
        return self.cipher_key.public_key().public_bytes_raw()

    @property
    def public_mask_key(self) -> bytes:
        return public_key(self.mask_key)


def secrets_from(entropy: bytes, session: bytes, owner: int) -> RoundSecrets:
    """All of a round's secrets from 32 secret bytes. Raises InvalidInput for another length."""
    if len(entropy) != 32:
        raise InvalidInput(f"a round needs 32 random bytes; got {len(entropy)}")

    def derived(label: bytes) -> bytes:
        return tagged_hash(_DERIVED_DOMAIN, entropy, session, _index(owner), label)

    return RoundSecrets(
        X25519PrivateKey.from_private_bytes(derived(b"cipher")),
        derived(b"mask"),
        derived(b"seed"),
        (derived(b"key polynomial"), derived(b"seed polynomial")),
    )


def public_key(private: bytes) -> bytes:
    """The X25519 public key that belongs to 32 private bytes."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def is_usable_key(public: bytes) -> bool:
    """Whether this is an X25519 key with which a secret can be agreed on; points of small order are not."""
    try:
        X25519PrivateKey.from_private_bytes(b"\x01" * 32).exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        return False
    return True


# ----------------------------------------------------------------------------------------------------- masks


def pair_mask(private: bytes, public: bytes, session: bytes, low: int, high: int, terms: RoundTerms) -> np.ndarray:
    """The mask that owners ``low`` and ``high`` share: the lower adds it, the higher subtracts it."""
    shared = _exchange(X25519PrivateKey.from_private_bytes(private), public)
    secret = tagged_hash(_PAIR_DOMAIN, session, _index(low), _index(high), shared)
    return _words(secret, terms)


def own_mask(seed: bytes, session: bytes, terms: RoundTerms) -> np.ndarray:
    """The mask that hides an update even if all the pairwise ones are known."""
    return _words(tagged_hash(_SEED_DOMAIN, session, b"mask", seed), terms)


def _words(secret: bytes, terms: RoundTerms) -> np.ndarray:
    return Stream(secret).draw(0, (terms.length,), WORD_TYPES[terms.word_bits])


# ----------------------------------------------------------------------------------------------------- shares


def seal_shares(
    secrets: RoundSecrets, public: bytes, session: bytes, dealer: int, holder: int, shares: tuple[bytes, bytes]
) -> bytes:
    """The holder's shares of the dealer's mask key and seed, encrypted to it (AES-256-GCM; each key is used once)."""
    return AESGCM(_seal_key(secrets, public, session, dealer, holder)).encrypt(_NONCE, b"".join(shares), None)


def open_shares(secrets: RoundSecrets, public: bytes, session: bytes, share: SealedShare) -> tuple[bytes, bytes]:
    """The two shares. Raises Forged unless they are what the dealer committed to."""
    key = _seal_key(secrets, public, session, share.dealer, share.holder)
    try:
        plain = AESGCM(key).decrypt(_NONCE, share.sealed, None)
    except (InvalidTag, ValueError):
        raise Forged(f"the share that owner {share.dealer} sealed does not open") from None
    pair = plain[:SHARE_BYTES], plain[SHARE_BYTES:]
    expected = share.key_commitment, share.seed_commitment
    if share_commitments(session, share.dealer, share.holder, pair) != expected:
        raise Forged(f"the share that owner {share.dealer} sealed is not the one it committed to")
    return pair


def share_commitments(session: bytes, dealer: int, holder: int, shares: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """Commitments to a holder's shares of key and seed."""
    key, seed = shares
    return share_commitment(session, dealer, holder, KEY, key), share_commitment(session, dealer, holder, SEED, seed)


def share_commitment(session: bytes, dealer: int, holder: int, kind: bytes, share: bytes) -> bytes:
    """Commitment to one share; ``kind`` is KEY or SEED. A share is uniform on 256 bits: its hash needs no salt."""
    return tagged_hash(_SHARE_DOMAIN, session, _index(dealer) + _index(holder), kind, share)


def seed_commitment(session: bytes, owner: int, seed: bytes) -> bytes:
    """Commitment to the seed of an owner's own mask."""
    return tagged_hash(_SEED_DOMAIN, session, b"commitment", _index(owner), seed)


def _seal_key(secrets: RoundSecrets, public: bytes, session: bytes, dealer: int, holder: int) -> bytes:
    shared = _exchange(secrets.cipher_key, public)
    return tagged_hash(_SEAL_DOMAIN, session, _index(dealer), _index(holder), shared)


def _exchange(private: X25519PrivateKey, public: bytes) -> bytes:
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise MalformedMessage("a key of this round is a point of small order") from None


# ----------------------------------------------------------------------------------------------------- statements


def key_statement(announcement: KeyAnnouncement) -> bytes:
    """What an owner signs about its keys."""
    return encode(
        [
            "keys", announcement.session, announcement.owner, announcement.cipher_key, announcement.mask_key,
            announcement.seed_commitment,
        ]
    )  # fmt: skip


def key_list_hash(keys: tuple[KeyAnnouncement, ...]) -> Hash32:
    """Names the set of owners that take part, and their keys."""
    return tagged_hash(_KEYS_DOMAIN, encode(keys))


def share_statement(session: bytes, share: SealedShare) -> bytes:
    """What a dealer signs about the shares of one holder."""
    return encode(
        ["share", session, share.dealer, share.holder, share.sealed, share.key_commitment, share.seed_commitment]
    )


def offer_statement(session: bytes, owner: int, own: tuple[bytes, bytes]) -> bytes:
    """What a dealer signs about the shares that it keeps itself."""
    return encode(["own share", session, owner, own[0], own[1]])


def update_statement(session: bytes, owner: int, words: bytes) -> bytes:
    """What an owner signs about its masked update."""
    return encode(["update", session, owner, tagged_hash(_SESSION_DOMAIN, words)])


def survivor_statement(session: bytes, keys: bytes, dealers: tuple[int, ...], survivors: tuple[int, ...]) -> bytes:
    """What survivors sign: they saw the same keys, dealers and survivors."""
    return encode(["survivors", session, keys, dealers, survivors])


def unmasking_statement(unsigned: object) -> bytes:
    """What an owner signs about the shares it opens."""
    return encode(["unmasking", unsigned])


def sign(key: NodeKey, statement: bytes) -> bytes:
    """An owner's signature."""
    return key.sign(_SIGNATURE_DOMAIN, statement)


def check(terms: RoundTerms, owner: int, statement: bytes, signature: bytes) -> None:
    """Raises Forged unless this is the owner's signature."""
    verify_node_signature(NodeId(terms.owners[owner]), _SIGNATURE_DOMAIN, statement, signature)


def _index(owner: int) -> bytes:
    return owner.to_bytes(4, "big")
