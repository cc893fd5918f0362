"""Blobs and encrypted objects: how they are described, and the messages that move them (0x0401 to 0x0405)."""

from typing import Annotated, Final

from msgspec import Meta

from koinon.kernel.codec import Record
from koinon.kernel.ids import Hash32
from koinon.wire.catalogue import Done, Message, message

LARGEST_BLOB: Final = 8 * 1024 * 1024
CHUNK_BYTES: Final = 1024 * 1024
MOST_CHUNKS: Final = 16_384
"""An encrypted object is at most 16 GiB."""

MOST_ASKED_BLOBS: Final = 1024

_Digest = Annotated[Hash32, Meta(min_length=32, max_length=32)]


class Manifest(Record, frozen=True):
    """An encrypted object: what its chunks are and how they join. Its own CID names the object.

    Attributes:
        version: 1.
        object_id: 32 random bytes; the key of the chunks is derived from the data key and this.
        size: length of the plaintext.
        chunks: SHA-256 of each encrypted chunk, in order. Every chunk holds 1 MiB of plaintext and a 16-byte tag, but
            the last, which may hold less.
        key_commitment: to the data key, so that nobody can make two readers open two different objects.
    """

    version: Annotated[int, Meta(ge=1, le=1)]
    object_id: _Digest
    size: Annotated[int, Meta(ge=0, le=MOST_CHUNKS * CHUNK_BYTES)]
    chunks: Annotated[tuple[_Digest, ...], Meta(min_length=1, max_length=MOST_CHUNKS)]
    key_commitment: _Digest


class KeyGrant(Record, frozen=True):
    """The data key of an object, sealed to one recipient (HPKE)."""

    object_id: _Digest
    recipient: _Digest
    sealed: Annotated[bytes, Meta(min_length=80, max_length=80)]


@message(0x0401, answers=(Done,), limit=LARGEST_BLOB + 16)
class PutBlob(Message, frozen=True):
    """Keep these bytes."""

    data: Annotated[bytes, Meta(max_length=LARGEST_BLOB)]


@message(0x0403, limit=LARGEST_BLOB + 16)
class BlobData(Message, frozen=True):
    """The bytes of a blob; whoever asked checks their hash."""

    data: Annotated[bytes, Meta(max_length=LARGEST_BLOB)]


@message(0x0402, answers=(BlobData,), limit=64)
class GetBlob(Message, frozen=True):
    """Send me the blob with this SHA-256."""

    digest: _Digest


@message(0x0405, limit=MOST_ASKED_BLOBS + 16)
class BlobsHeld(Message, frozen=True):
    """One flag for each digest asked for, in order."""

    held: Annotated[tuple[bool, ...], Meta(max_length=MOST_ASKED_BLOBS)]


@message(0x0404, answers=(BlobsHeld,), limit=MOST_ASKED_BLOBS * 40)
class HasBlobs(Message, frozen=True):
    """Which of these blobs do you hold?"""

    digests: Annotated[tuple[_Digest, ...], Meta(max_length=MOST_ASKED_BLOBS)]
