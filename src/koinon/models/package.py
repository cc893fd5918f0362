"""A published model: public card, encrypted weights, and a key for everybody who may open them.

The package is one small public blob that names the encrypted object; its own CID is what the asset on the chain
names. Anybody can keep and pass on all of its blobs; only holders of a granted key open the weights, and what they
open is checked against the weights hash that the package, the chain and every receipt name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from koinon.crypto.hpke import HpkeKey
from koinon.kernel.codec import Record, decode, encode
from koinon.kernel.effects import Rng
from koinon.kernel.errors import Forged, InvalidInput, Refused
from koinon.kernel.ids import Hash32
from koinon.models.card import MAXIMUM_CARD_BYTES, ModelCard, check_card
from koinon.models.onnx_export import weights_hash
from koinon.store.blobs import BlobStore, Cid, cid, digest_of_cid
from koinon.store.objects import (
    DataKey,
    SealedObject,
    object_blobs,
    open_object,
    read_manifest,
    seal_object,
    store_object,
)
from koinon.wire.blobs import KeyGrant

PACKAGE_VERSION: Final = 1
MOST_RECIPIENTS: Final = 256
LARGEST_PACKAGE: Final = MAXIMUM_CARD_BYTES + MOST_RECIPIENTS * 256
LARGEST_MODEL: Final = 1024 * 1024 * 1024


class ModelPackage(Record, frozen=True):
    """What a publisher makes public.

    Attributes:
        card: the model card.
        weights_hash: SHA-256 of the ONNX bytes.
        size: of the ONNX bytes.
        content: CID of the encrypted object's manifest.
        grants: the object's key, sealed to each recipient.
        version: of this record's meaning.
    """

    card: ModelCard
    weights_hash: bytes
    size: int
    content: str
    grants: tuple[KeyGrant, ...]
    version: int = PACKAGE_VERSION


@dataclass(frozen=True)
class SealedModel:
    """A package and the encrypted object it names, in memory.

    Attributes:
        key: opens the weights; the publisher keeps it to grant further recipients.
    """

    package: ModelPackage
    content: SealedObject
    key: DataKey

    @property
    def name(self) -> Cid:
        """The CID of the package: the model's content hash on the chain."""
        return cid(encode(self.package))


def seal_model(onnx_bytes: bytes, card: ModelCard, recipients: Sequence[bytes], rng: Rng) -> SealedModel:
    """Encrypt a model for its recipients.

    Args:
        onnx_bytes: the exported model; its hash becomes the weights hash.
        card: the model's card.
        recipients: HPKE public keys, 32 bytes each, none twice.
        rng: for the data key and the object's id.

    Raises:
        InvalidInput: no model, a card that contradicts itself, too many or repeated recipients, or an unusable key.
    """
    check_card(card)
    if not 0 < len(onnx_bytes) <= LARGEST_MODEL:
        raise InvalidInput(f"a model has 1 to {LARGEST_MODEL} bytes; got {len(onnx_bytes)}")
    if len(recipients) > MOST_RECIPIENTS or len(set(recipients)) != len(recipients):
        raise InvalidInput(f"a model is sealed to at most {MOST_RECIPIENTS} recipients, each once")
    key = DataKey.generate(rng)
    content = seal_object(onnx_bytes, key, rng)
    grants = tuple(key.grant(content.manifest, recipient) for recipient in recipients)
    package = ModelPackage(card, weights_hash(onnx_bytes), len(onnx_bytes), content.name, grants)
    return SealedModel(package, content, key)


def store_model(blobs: BlobStore, sealed: SealedModel) -> Cid:
    """Keep every blob of a model, the package last; returns the package's name. Raises as ``BlobStore.put`` does."""
    store_object(blobs, sealed.content)
    return blobs.put(encode(sealed.package))


def read_package(data: bytes) -> ModelPackage:
    """A package from its bytes.

    Raises:
        MalformedMessage: not exactly one package.
        InvalidInput: it or its card contradicts itself.
    """
    package = decode(ModelPackage, data, limit=LARGEST_PACKAGE)
    if package.version != PACKAGE_VERSION:
        raise InvalidInput(f"model package version {package.version} is not known here; version {PACKAGE_VERSION} is")
    if len(package.weights_hash) != 32 or not 0 < package.size <= LARGEST_MODEL:
        raise InvalidInput("the model package's weights hash or size is out of range")
    if len(package.grants) > MOST_RECIPIENTS:
        raise InvalidInput(f"the model package grants its key to more than {MOST_RECIPIENTS} recipients")
    digest_of_cid(package.content)
    check_card(package.card)
    return package


def package_blobs(blobs: BlobStore, name: Cid) -> tuple[Cid, ...]:
    """The names of every blob of a model whose package and manifest are in ``blobs``: what has to be replicated."""
    content = Cid(read_package(blobs.get(name)).content)
    return (name, *object_blobs(content, read_manifest(blobs.get(content))))


def open_model(blobs: BlobStore, name: Cid, key: HpkeKey, expected: Hash32 | None = None) -> tuple[ModelPackage, bytes]:
    """The package and the ONNX bytes of a model whose blobs are all in ``blobs``. The bytes are still untrusted.

    Args:
        name: the package's CID.
        key: the opener's HPKE key.
        expected: the weights hash that the chain or a name says; None to rely on the package alone.

    Raises:
        Refused: the model is not granted to this key.
        Forged: a blob, grant or chunk was changed, or the weights are not those that are named.
        Unavailable: a blob is not here.
        InvalidInput: the package contradicts itself.
    """
    package = read_package(blobs.get(name))
    if expected is not None and package.weights_hash != expected:
        raise Forged("the model package names other weights than were asked for")
    manifest = read_manifest(blobs.get(Cid(package.content)))
    if manifest.size != package.size:
        raise Forged("the model package and its content disagree about the size of the weights")
    grant = next((grant for grant in package.grants if grant.recipient == key.public_key), None)
    if grant is None:
        raise Refused("the model is not granted to this key; ask its publisher for a grant")
    onnx_bytes = open_object(manifest, DataKey.from_grant(key, grant, manifest), blobs.get)
    if weights_hash(onnx_bytes) != package.weights_hash:
        raise Forged("the weights in the package are not those of the weights hash it names")
    return package, onnx_bytes
