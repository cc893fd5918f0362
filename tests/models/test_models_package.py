"""Published models: only recipients open them, and nothing that was changed passes."""

import msgspec
import numpy as np
import pytest

from koinon.crypto.hpke import HpkeKey
from koinon.kernel.codec import encode
from koinon.kernel.errors import Forged, InvalidInput, KoinonError, MalformedMessage, Refused, Unavailable
from koinon.models.card import Contribution, ModelCard, card_hash, decode_card, encode_card
from koinon.models.onnx_export import weights_hash
from koinon.models.package import (
    SealedModel,
    open_model,
    package_blobs,
    read_package,
    seal_model,
    store_model,
)
from koinon.store.blobs import MemoryBlobs
from koinon.wire.committee import Column

CARD = ModelCard(
    name="tumour-risk",
    task="binary-classification",
    features=tuple(Column(f"c{position}", 0.0, 1.0 + position) for position in range(6)),
    target="malignant",
    threshold_ppm=500_000,
    study_id=3,
    contributions=(Contribution(bytes(20), bytes(32), 130),),
    committee=(bytes(32),),
    code_hash=bytes(32),
    intended_use="A second opinion for a physician.",
    licence="Apache-2.0",
)
replace = msgspec.structs.replace


class SeededRng:
    """Random bytes that are the same in every run."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def bytes(self, count: int, /) -> bytes:
        return self._rng.bytes(count)


READER, STRANGER = HpkeKey.from_seed(bytes(31) + b"\x01"), HpkeKey.from_seed(bytes(31) + b"\x02")
OTHER_READER = HpkeKey.from_seed(bytes(31) + b"\x03")


@pytest.fixture
def sealed(exported: bytes) -> SealedModel:
    return seal_model(exported, CARD, [READER.public_key, OTHER_READER.public_key], SeededRng(1))


@pytest.fixture
def blobs(sealed: SealedModel) -> MemoryBlobs:
    store = MemoryBlobs()
    assert store_model(store, sealed) == sealed.name
    return store


def test_every_recipient_opens_the_same_model_and_a_stranger_does_not(
    blobs: MemoryBlobs, sealed: SealedModel, exported: bytes
) -> None:
    for reader in (READER, OTHER_READER):
        package, onnx_bytes = open_model(blobs, sealed.name, reader, weights_hash(exported))
        assert onnx_bytes == exported
        assert package.card == CARD
    with pytest.raises(Refused, match="not granted to this key"):
        open_model(blobs, sealed.name, STRANGER)


def test_no_blob_shows_the_weights(blobs: MemoryBlobs, sealed: SealedModel, exported: bytes) -> None:
    for name in package_blobs(blobs, sealed.name):
        assert exported[100:140] not in blobs.get(name)
    assert sealed.key.secret not in b"".join(blobs.get(name) for name in package_blobs(blobs, sealed.name))


def test_a_model_of_several_chunks_needs_every_one_of_them(exported: bytes) -> None:
    large = exported + bytes(2_500_000)
    sealed = seal_model(large, CARD, [READER.public_key], SeededRng(2))
    store = MemoryBlobs()
    store_model(store, sealed)
    names = package_blobs(store, sealed.name)
    assert len(names) == 2 + 3
    assert open_model(store, sealed.name, READER)[1] == large
    store.delete(names[3])
    with pytest.raises(Unavailable):
        open_model(store, sealed.name, READER)


def test_packages_that_name_other_weights_or_content_are_forged(
    blobs: MemoryBlobs, sealed: SealedModel, exported: bytes
) -> None:
    other = seal_model(exported + b"\x00", CARD, [READER.public_key], SeededRng(3))
    store_model(blobs, other)
    with pytest.raises(Forged, match="other weights than were asked for"):
        open_model(blobs, other.name, READER, weights_hash(exported))
    for forged in (
        replace(sealed.package, weights_hash=bytes(32)),
        replace(sealed.package, content=other.package.content),
        replace(sealed.package, content=other.package.content, size=other.package.size),
        replace(sealed.package, size=sealed.package.size + 1),
        replace(
            sealed.package, grants=tuple(replace(g, sealed=g.sealed[:-1] + b"\x00") for g in sealed.package.grants)
        ),
    ):
        name = blobs.put(encode(forged))
        with pytest.raises(Forged):
            open_model(blobs, name, READER)


def test_a_changed_byte_anywhere_is_noticed(sealed: SealedModel) -> None:
    """A store that lies about bytes is caught by their names; a publisher that lies is caught by the hashes inside."""
    data = encode(sealed.package)
    for position in range(0, len(data), 11):
        damaged = bytearray(data)
        damaged[position] ^= 1
        store = MemoryBlobs()
        store_model(store, sealed)
        name = store.put(bytes(damaged))
        assert name != sealed.name
        try:
            package, onnx_bytes = open_model(store, name, READER)
        except KoinonError:
            continue
        # A change that still opens is one of the card or of another recipient's grant, and has another name.
        assert weights_hash(onnx_bytes) == sealed.package.weights_hash
        assert package != sealed.package


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"version": 2}, "version 2"),
        ({"weights_hash": bytes(31)}, "weights hash or size"),
        ({"size": 0}, "weights hash or size"),
        ({"size": 2**40}, "weights hash or size"),
        ({"content": "not a name"}, "CIDv1"),
        ({"card": replace(CARD, name=" ")}, "name must be"),
    ],
)
def test_packages_that_contradict_themselves_are_refused(
    sealed: SealedModel, change: dict[str, object], expected: str
) -> None:
    with pytest.raises(InvalidInput, match=expected):
        read_package(encode(replace(sealed.package, **change)))


def test_bytes_that_are_no_package_are_refused(sealed: SealedModel) -> None:
    for data in (b"", b"\xc0", encode(sealed.package) + b"\x00", encode(sealed.package)[:-1], bytes(2_000_000)):
        with pytest.raises(MalformedMessage):
            read_package(data)


def test_what_cannot_be_sealed_is_refused(exported: bytes) -> None:
    with pytest.raises(InvalidInput, match="each once"):
        seal_model(exported, CARD, [READER.public_key] * 2, SeededRng(1))
    with pytest.raises(InvalidInput, match="1 to"):
        seal_model(b"", CARD, [READER.public_key], SeededRng(1))
    with pytest.raises(InvalidInput, match="32 bytes"):
        seal_model(exported, CARD, [b"short"], SeededRng(1))
    with pytest.raises(InvalidInput, match="usable"):
        seal_model(exported, CARD, [bytes(32)], SeededRng(1))


BAD_CARDS = {
    "name": {"name": ""},
    "features": {"features": ()},
    "feature range": {"features": (Column("a", 1.0, 1.0),)},
    "threshold": {"threshold_ppm": 1_000_000},
    "study": {"study_id": -1},
    "code": {"code_hash": b""},
    "committee": {"committee": (b"x",)},
    "owner": {"contributions": (Contribution(b"", bytes(32), 1),)},
    "rows": {"contributions": (Contribution(bytes(20), bytes(32), 0),)},
    "version": {"version": 7},
    "use": {"intended_use": "x" * 5000},
}


@pytest.mark.parametrize("name", BAD_CARDS)
def test_cards_that_contradict_themselves_are_neither_written_nor_read(name: str) -> None:
    card = replace(CARD, **BAD_CARDS[name])
    with pytest.raises(InvalidInput):
        encode_card(card)
    with pytest.raises(InvalidInput):
        decode_card(encode(card))


def test_a_card_comes_back_and_every_field_is_in_its_hash() -> None:
    assert decode_card(encode_card(CARD)) == CARD
    changes = [{"name": "b"}, {"study_id": 4}, {"threshold_ppm": 1}, {"committee": ()}, {"licence": "MIT"}]
    hashes = {card_hash(replace(CARD, **change)) for change in changes}
    assert len(hashes) == len(changes)
    assert card_hash(CARD) not in hashes
