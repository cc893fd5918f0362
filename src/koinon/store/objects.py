"""Encrypted objects: plaintext of any size becomes a manifest and chunks that anybody may keep and only grantees open.

AES-256-GCM over chunks of 1 MiB. Each object has a key of its own, derived from the data key and the random object id,
so a nonce is simply the chunk's index. The authenticated data of a chunk is (object id, index, whether it is the last):
chunks cannot be swapped, repeated, cut off or moved between objects. The CID of the manifest names the whole.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from koinon.crypto.commitment import check, commit
from koinon.crypto.hash import sha256, tagged_hash
from koinon.crypto.hpke import HpkeKey, seal
from koinon.kernel.codec import decode, encode
from koinon.kernel.effects import Rng
from koinon.kernel.errors import Forged, InvalidInput, MalformedMessage
from koinon.kernel.ids import Hash32
from koinon.store.blobs import BlobStore, Cid, cid, cid_of_digest
from koinon.wire.blobs import CHUNK_BYTES, LARGEST_BLOB, MOST_CHUNKS, KeyGrant, Manifest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

TAG_BYTES: Final = 16

_VERSION: Final = 1
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_GRANT_INFO: Final = b"koinon/object/grant/1"
_KEY_DOMAIN: Final = "koinon/object/key/1"
_COMMITMENT_DOMAIN: Final = "koinon/object/key-commitment/1"


class DataKey:
    """The secret that opens one object or several. Neither ``repr`` nor an error ever shows it."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) != _KEY_BYTES:
            raise InvalidInput(f"a data key has {_KEY_BYTES} bytes; got {len(secret)}")
        self._secret = bytes(secret)

    @classmethod
    def generate(cls, rng: Rng) -> Self:
        """A fresh key from ``rng``."""
        return cls(rng.bytes(_KEY_BYTES))

    @classmethod
    def from_grant(cls, key: HpkeKey, grant: KeyGrant, manifest: Manifest) -> Self:
        """The data key that was granted to the holder of ``key``.

        Raises:
            Forged: the grant is for another object or recipient, was changed, or holds another key than the object's.
        """
        if grant.object_id != manifest.object_id or grant.recipient != key.public_key:
            raise Forged("the grant is for another object or another recipient")
        secret = key.open(grant.sealed, _GRANT_INFO, grant.object_id)
        made = cls(secret)
        made.check(manifest)
        return made

    @property
    def secret(self) -> bytes:
        """The 32 secret bytes; for a key file and nothing else."""
        return self._secret

    def grant(self, manifest: Manifest, recipient: bytes) -> KeyGrant:
        """The key sealed to the X25519 key ``recipient``. Raises InvalidInput if that is no usable key."""
        sealed = seal(recipient, _GRANT_INFO, self._secret, manifest.object_id)
        return KeyGrant(manifest.object_id, Hash32(recipient), sealed)

    def check(self, manifest: Manifest) -> None:
        """Raises Forged if this is not the key of that object."""
        check(manifest.key_commitment, _COMMITMENT_DOMAIN, self._secret, manifest.object_id)

    def __repr__(self) -> str:
        return "DataKey(secret)"


@dataclass(frozen=True, slots=True)
class SealedObject:
    """An encrypted object in memory.

    Attributes:
        manifest: what names and joins the chunks.
        chunks: the encrypted chunks in order.
    """

    manifest: Manifest
    chunks: tuple[bytes, ...]

    @property
    def name(self) -> Cid:
        """The CID of the manifest, which names the object."""
        return cid(encode(self.manifest))


def seal_object(plaintext: bytes | bytearray | memoryview, key: DataKey, rng: Rng) -> SealedObject:
    """Encrypt ``plaintext``.

    Raises:
        InvalidInput: longer than 16 GiB.
    """
    view = memoryview(plaintext).cast("B")
    count = max(1, -(-len(view) // CHUNK_BYTES))
    if count > MOST_CHUNKS:
        raise InvalidInput(f"an object of {len(view)} bytes is longer than the {MOST_CHUNKS * CHUNK_BYTES} allowed")
    object_id = Hash32(rng.bytes(_KEY_BYTES))
    encrypt = _cipher(key, object_id).encrypt
    chunks = tuple(
        encrypt(
            _nonce(index),
            view[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES],
            _context(object_id, index, is_last=index == count - 1),
        )
        for index in range(count)
    )
    manifest = Manifest(
        _VERSION,
        object_id,
        len(view),
        tuple(sha256(chunk) for chunk in chunks),
        commit(_COMMITMENT_DOMAIN, key.secret, object_id),
    )
    return SealedObject(manifest, chunks)


def open_object(manifest: Manifest, key: DataKey, chunk: Callable[[Cid], bytes]) -> bytes:
    """Decrypt an object.

    Args:
        manifest: from ``read_manifest``, which has checked it.
        key: its data key.
        chunk: gives the encrypted chunk of a name, such as ``BlobStore.get``.

    Returns:
        The plaintext, whole.

    Raises:
        Forged: the key is another object's, or a chunk is not the one the manifest names; says which.
        MalformedMessage: the manifest contradicts itself.
        KoinonError: whatever ``chunk`` raises.
    """
    from cryptography.exceptions import InvalidTag

    check_manifest(manifest)
    key.check(manifest)
    decrypt = _cipher(key, manifest.object_id).decrypt
    plaintext = bytearray()
    for index, digest in enumerate(manifest.chunks):
        name = cid_of_digest(digest)
        data = chunk(name)
        if sha256(data) != digest:
            raise Forged(f"chunk {index} of the object is not {name}; fetch it from another node")
        context = _context(manifest.object_id, index, is_last=index == len(manifest.chunks) - 1)
        try:
            plaintext += decrypt(_nonce(index), data, context)
        except InvalidTag:
            raise Forged(f"chunk {index} ({name}) was not made with the object's key for its place") from None
    if len(plaintext) != manifest.size:
        raise Forged(f"the object has {len(plaintext)} bytes, but its manifest says {manifest.size}")
    return bytes(plaintext)


def check_manifest(manifest: Manifest) -> None:
    """Raises MalformedMessage if the size and the number of chunks contradict each other."""
    if max(1, -(-manifest.size // CHUNK_BYTES)) != len(manifest.chunks):
        raise MalformedMessage(f"a manifest of {manifest.size} bytes cannot have {len(manifest.chunks)} chunks")


def read_manifest(data: bytes) -> Manifest:
    """A manifest from its bytes. Raises MalformedMessage unless they are exactly one, canonical and consistent."""
    manifest = decode(Manifest, data, limit=LARGEST_BLOB)
    check_manifest(manifest)
    return manifest


def store_object(blobs: BlobStore, sealed: SealedObject) -> Cid:
    """Keep every chunk, then the manifest; returns the object's name. Raises as ``BlobStore.put`` does."""
    for chunk in sealed.chunks:
        blobs.put(chunk)
    return blobs.put(encode(sealed.manifest))


def load_object(blobs: BlobStore, name: Cid, key: DataKey) -> bytes:
    """The plaintext of an object whose blobs are all here. Raises as ``BlobStore.get`` and ``open_object`` do."""
    return open_object(read_manifest(blobs.get(name)), key, blobs.get)


def object_blobs(name: Cid, manifest: Manifest) -> Iterable[Cid]:
    """The names of all blobs of an object: its manifest and its chunks."""
    return (name, *(cid_of_digest(digest) for digest in manifest.chunks))


def _cipher(key: DataKey, object_id: Hash32) -> "AESGCM":
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(tagged_hash(_KEY_DOMAIN, key.secret, object_id))


def _nonce(index: int) -> bytes:
    return index.to_bytes(_NONCE_BYTES, "big")


def _context(object_id: Hash32, index: int, *, is_last: bool) -> bytes:
    return object_id + index.to_bytes(8, "big") + bytes([is_last])
