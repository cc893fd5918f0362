"""Blobs that lose, tear and lie; encrypted objects that somebody cuts, swaps and reuses."""

import resource
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koinon.crypto.hpke import HpkeKey
from koinon.crypto.random import SystemRng
from koinon.kernel.codec import decode, encode
from koinon.kernel.errors import Forged, InvalidInput, MalformedMessage, Refused, Unavailable
from koinon.kernel.ids import Hash32
from koinon.store.blobs import BlobStore, Cid, DirectoryBlobs, MemoryBlobs, cid, digest_of_cid
from koinon.store.objects import (
    DataKey,
    SealedObject,
    load_object,
    open_object,
    read_manifest,
    seal_object,
    store_object,
)
from koinon.wire.blobs import CHUNK_BYTES, LARGEST_BLOB, Manifest

RNG = SystemRng()


@pytest.fixture(params=["directory", "memory"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    return DirectoryBlobs(tmp_path / "blobs") if request.param == "directory" else MemoryBlobs()


@pytest.mark.parametrize(
    ("data", "name"),
    [
        # `ipfs add --cid-version=1 --raw-leaves` prints these for the same bytes.
        (b"", "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"),
        (b"hello world", "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"),
    ],
)
def test_names_are_those_of_ipfs(data: bytes, name: str) -> None:
    assert cid(data) == name


@given(st.binary(max_size=64))
def test_a_name_gives_back_its_digest_and_no_other_spelling_does(data: bytes) -> None:
    name = cid(data)
    assert cid(data) == "b" + name[1:]
    for wrong in (name.upper(), name[:-1], name + "a", "z" + name[1:], name[:-1] + "1", " " + name):
        with pytest.raises(InvalidInput, match="CIDv1"):
            digest_of_cid(wrong)
    # The last character carries padding bits: other values of them spell the same digest and are refused.
    twins = [name[:-1] + letter for letter in "abcdefghijklmnopqrstuvwxyz234567" if letter != name[-1]]
    for twin in twins:
        try:
            digest_of_cid(twin)
        except InvalidInput:
            continue
        assert digest_of_cid(twin) != digest_of_cid(name)


def test_a_name_under_another_codec_is_refused() -> None:
    with pytest.raises(InvalidInput):
        digest_of_cid("bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi")


def test_blobs_are_kept_found_and_forgotten(blobs: BlobStore) -> None:
    name = blobs.put(b"weights")
    assert blobs.put(b"weights") == name == cid(b"weights")
    assert blobs.has(name)
    assert blobs.get(name) == b"weights"
    blobs.delete(name)
    blobs.delete(name)
    assert not blobs.has(name)
    with pytest.raises(Unavailable, match=f"{name} is not here"):
        blobs.get(name)


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "b" + "a" * 58, cid(b"x").upper()])
def test_no_name_of_ours_reaches_the_disk(blobs: BlobStore, name: str) -> None:
    for use in (blobs.get, blobs.has, blobs.delete):
        with pytest.raises(InvalidInput):
            use(Cid(name))


def test_a_blob_too_long_is_refused(blobs: BlobStore) -> None:
    with pytest.raises(InvalidInput, match="cut it in chunks"):
        blobs.put(bytes(LARGEST_BLOB + 1))


def _files(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if file.is_file()]


def test_a_changed_file_is_forged_by_name_and_can_be_replaced(tmp_path: Path) -> None:
    blobs = DirectoryBlobs(tmp_path)
    name = blobs.put(b"weights")
    (file,) = _files(tmp_path)
    for damage in (b"wEights", b"weight", b"weights and more", b""):
        file.write_bytes(damage)
        with pytest.raises(Forged, match=name):
            blobs.get(name)
    assert blobs.put(b"weights") == name
    assert blobs.get(name) == b"weights"
    assert blobs.held_bytes == len(b"weights")


def test_a_full_disk_is_said_clearly_and_leaves_nothing(tmp_path: Path) -> None:
    blobs = DirectoryBlobs(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(Unavailable, match=r"disk .* is full"):
            blobs.put(bytes(10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert _files(tmp_path) == []
    assert blobs.held_bytes == 0


def test_what_a_crash_left_half_written_is_removed(tmp_path: Path) -> None:
    name = DirectoryBlobs(tmp_path).put(b"whole")
    (tmp_path / name[-2:] / ".partial-1234").write_bytes(b"ha")
    blobs = DirectoryBlobs(tmp_path)
    assert blobs.held_bytes == len(b"whole")
    assert [file.name for file in _files(tmp_path)] == [name]


def test_the_folder_keeps_to_its_bound(tmp_path: Path) -> None:
    blobs = DirectoryBlobs(tmp_path, most_bytes=10)
    first = blobs.put(b"123456")
    with pytest.raises(Refused, match="no room for 5 more"):
        blobs.put(b"abcde")
    blobs.put(b"123456")
    blobs.delete(first)
    blobs.put(b"abcde")
    with pytest.raises(Refused):
        DirectoryBlobs(tmp_path, most_bytes=10).put(b"123456")


def test_a_folder_that_is_a_file_is_said_clearly(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="blob folder"):
        DirectoryBlobs(tmp_path / "file")


# Encrypted objects.

KEY = DataKey(bytes(range(32)))
PLAINTEXT = bytes(range(256)) * 9000  # three chunks, the last one short


@pytest.fixture(scope="module")
def sealed() -> SealedObject:
    return seal_object(PLAINTEXT, KEY, RNG)


def open_with(manifest: Manifest, chunks: tuple[bytes, ...], key: DataKey = KEY) -> bytes:
    by_name = {cid(chunk): chunk for chunk in chunks}
    return open_object(manifest, key, by_name.__getitem__)


@pytest.fixture
def manifest(sealed: SealedObject) -> Manifest:
    return sealed.manifest


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES])
def test_an_object_of_any_size_opens_again(size: int, blobs: BlobStore) -> None:
    plaintext = bytes(size)
    name = store_object(blobs, seal_object(plaintext, KEY, RNG))
    assert load_object(blobs, name, KEY) == plaintext
    assert len(read_manifest(blobs.get(name)).chunks) == max(1, -(-size // CHUNK_BYTES))


def test_two_objects_under_one_key_share_no_key_stream() -> None:
    one, other = (seal_object(bytes(64), KEY, RNG) for _ in range(2))
    assert one.manifest.object_id != other.manifest.object_id
    assert one.chunks[0] != other.chunks[0]


def reseal(manifest: Manifest, chunks: tuple[bytes, ...], size: int) -> Manifest:
    """A manifest that a liar might publish over given chunks."""
    return msgspec.structs.replace(manifest, size=size, chunks=tuple(digest_of_cid(cid(chunk)) for chunk in chunks))


def test_chunks_cannot_be_swapped_repeated_or_cut_off(sealed: SealedObject) -> None:
    first, second, third = sealed.chunks
    size = len(PLAINTEXT)
    for chunks, claimed in [
        ((second, first, third), size),
        ((first, first, third), size),
        ((first, second), 2 * CHUNK_BYTES),
        ((first,), CHUNK_BYTES),
        ((first, second, third, third), size + CHUNK_BYTES),
    ]:
        with pytest.raises(Forged, match="chunk"):
            open_with(reseal(sealed.manifest, chunks, claimed), chunks)


def test_a_chunk_of_another_object_is_forged(sealed: SealedObject) -> None:
    other = seal_object(PLAINTEXT, KEY, RNG)
    chunks = (sealed.chunks[0], other.chunks[1], sealed.chunks[2])
    with pytest.raises(Forged, match="chunk 1"):
        open_with(reseal(sealed.manifest, chunks, len(PLAINTEXT)), chunks)


def test_other_bytes_than_the_manifest_names_are_forged(sealed: SealedObject) -> None:
    with pytest.raises(Forged, match="chunk 0"):
        open_object(sealed.manifest, KEY, lambda _: b"something else")


def test_a_wrong_size_in_the_manifest_is_forged(sealed: SealedObject) -> None:
    with pytest.raises(Forged, match="its manifest says"):
        open_with(reseal(sealed.manifest, sealed.chunks, len(PLAINTEXT) - 1), sealed.chunks)


def test_another_key_is_forged(sealed: SealedObject) -> None:
    with pytest.raises(Forged):
        open_with(sealed.manifest, sealed.chunks, DataKey.generate(RNG))


def test_a_manifest_that_contradicts_itself_is_malformed(manifest: Manifest) -> None:
    for wrong in (
        msgspec.structs.replace(manifest, size=CHUNK_BYTES),
        msgspec.structs.replace(manifest, chunks=manifest.chunks[:1]),
        msgspec.structs.replace(manifest, version=2),
        msgspec.structs.replace(manifest, object_id=Hash32(b"short")),
        msgspec.structs.replace(manifest, chunks=()),
        msgspec.structs.replace(manifest, size=-1),
    ):
        with pytest.raises(MalformedMessage):
            read_manifest(encode(wrong))
    with pytest.raises(MalformedMessage):
        read_manifest(encode(manifest) + b"\0")
    assert read_manifest(encode(manifest)) == manifest == decode(Manifest, encode(manifest))


def test_a_grant_opens_for_its_recipient_and_object_only(sealed: SealedObject, manifest: Manifest) -> None:
    reader, stranger = HpkeKey.generate(RNG), HpkeKey.generate(RNG)
    grant = KEY.grant(manifest, reader.public_key)
    assert DataKey.from_grant(reader, grant, manifest).secret == KEY.secret
    other = seal_object(b"", KEY, RNG).manifest
    changed = msgspec.structs.replace(grant, sealed=grant.sealed[:-1] + bytes([grant.sealed[-1] ^ 1]))
    readdressed = msgspec.structs.replace(grant, recipient=Hash32(stranger.public_key))
    moved = msgspec.structs.replace(grant, object_id=other.object_id)
    for key, shown, about in [
        (stranger, grant, manifest),
        (stranger, readdressed, manifest),
        (reader, changed, manifest),
        (reader, grant, other),
        (reader, moved, other),
        (reader, DataKey.generate(RNG).grant(manifest, reader.public_key), manifest),
    ]:
        with pytest.raises(Forged):
            DataKey.from_grant(key, shown, about)


def test_a_data_key_never_shows_itself() -> None:
    assert KEY.secret.hex() not in f"{KEY} {KEY!r}"
    with pytest.raises(InvalidInput, match="32 bytes"):
        DataKey(b"short")


@settings(max_examples=30)
@given(st.binary(max_size=3000))
def test_any_plaintext_opens_to_itself(plaintext: bytes) -> None:
    made = seal_object(plaintext, KEY, RNG)
    assert open_with(made.manifest, made.chunks) == plaintext
