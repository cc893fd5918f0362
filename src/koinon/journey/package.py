"""A model on its way between organisations: card and weights in one encrypted object, named on the chain.

The asset's URI names the encrypted package, its content hash the weights inside; whoever opens a package checks both.
The publisher's node remembers, under its own home:

    model-key/CID        the data key, sealed to this node's own key (``KeyGrant``)
    model-sources/CID    ids of the nodes that confirmed to keep every blob
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from koinon.contracts.assets import Asset, AssetKind
from koinon.contracts.providers import Role
from koinon.crypto.hpke import HpkeKey
from koinon.journey.desk import Desk
from koinon.kernel.codec import Record, decode, encode
from koinon.kernel.errors import Forged, InvalidInput, KoinonError, Refused, Unavailable
from koinon.kernel.ids import Address, Hash32, NodeId
from koinon.kernel.quantities import Seconds
from koinon.models.card import MAXIMUM_CARD_BYTES, ModelCard, check_card
from koinon.store.blobs import Cid, digest_of_cid
from koinon.store.exchange import fetch_object, replicate_object
from koinon.store.objects import DataKey, open_object, read_manifest, seal_object, store_object
from koinon.wire.blobs import KeyGrant, Manifest
from koinon.wire.discovery import Endpoint
from koinon.wire.studies import FetchModelKey, ModelKeyReply

URI_SCHEME: Final = "koinon:"
FEWEST_COPIES: Final = 2
KEY_SECONDS: Final = Seconds(15.0)
COPY_SECONDS: Final = Seconds(20.0)
MAXIMUM_MODEL_BYTES: Final = 512 * 1024 * 1024
"""Of a package's weights; the sandbox has a limit of its own, which is lower."""


class ModelPackage(Record, frozen=True):
    """What is encrypted: the model card, and the ONNX bytes whose SHA-256 is the asset's content hash."""

    card: ModelCard
    onnx: bytes


class _Sources(Record, frozen=True):
    nodes: tuple[NodeId, ...]


@dataclass(frozen=True)
class OpenedModel:
    """A package that was opened and found to be the one the chain names."""

    asset: Asset
    card: ModelCard
    onnx: bytes
    weights_hash: Hash32


# ------------------------------------------------------------------------------------------------ names and records


def uri_of(manifest: Cid) -> str:
    """The asset's URI for a package."""
    return URI_SCHEME + manifest


def manifest_of(uri: str) -> Cid:
    """The package that an asset's URI names. Raises InvalidInput for a URI of another kind."""
    name = uri.removeprefix(URI_SCHEME)
    if name == uri:
        raise InvalidInput(f"the asset's address {uri[:80]!r} is no package of a model; it must begin with koinon:")
    digest_of_cid(name)
    return Cid(name)


# ------------------------------------------------------------------------------------------------ the publisher's side


async def seal_package(desk: Desk, card: ModelCard, onnx: bytes) -> Cid:
    """Encrypt under a fresh key, keep the blobs here and the key sealed to this node; returns the package's name.

    Raises:
        InvalidInput: the card contradicts itself.
        Unavailable: the disk refuses.
    """
    check_card(card)
    key = DataKey.generate(desk.rng)
    sealed = await asyncio.to_thread(seal_object, encode(ModelPackage(card, onnx)), key, desk.rng)
    # The key is durable before anything names the package: a model without its key would be lost.
    desk.memory.write({_key_entry(sealed.name): encode(key.grant(sealed.manifest, desk.sealing_key.public_key))})
    return await asyncio.to_thread(store_object, desk.blobs, sealed)


def own_key(desk: Desk, manifest: Cid) -> DataKey:
    """The data key of a package that this node sealed. Raises Refused where it sealed none of that name."""
    kept = desk.memory.get(_key_entry(manifest))
    if kept is None:
        raise Refused(f"this node did not publish the package {manifest} and has no key to it")
    return DataKey.from_grant(desk.sealing_key, decode(KeyGrant, kept), read_manifest(desk.blobs.get(manifest)))


async def open_own(desk: Desk, manifest: Cid) -> ModelPackage:
    """A package that this node sealed. Raises Refused, Unavailable or Forged as the key and the blobs are."""
    key = own_key(desk, manifest)
    return await asyncio.to_thread(_open, read_manifest(desk.blobs.get(manifest)), key, desk.blobs.get)


async def replicate(desk: Desk, manifest: Cid, copies: int) -> tuple[NodeId, ...]:
    """Have ``copies`` providers keep the encrypted package; those that do not answer are passed over.

    Raises:
        InvalidInput: fewer than two copies are asked for.
        Unavailable: fewer than two providers hold it.
    """
    if copies < FEWEST_COPIES:
        raise InvalidInput(f"a model is kept by at least {FEWEST_COPIES} other nodes; got {copies}")
    waiting = await providers_of(desk, (Role.SERVE, Role.COMPUTE, Role.EVALUATE))
    held: list[NodeId] = []
    while waiting and len(held) < copies:
        missing = copies - len(held)
        turn, waiting = waiting[:missing], waiting[missing:]
        outcomes = await asyncio.gather(*(_copy_to(desk, account, manifest) for account in turn))
        held += [node for node in outcomes if node is not None]
    if len(held) < FEWEST_COPIES:
        raise Unavailable(
            f"only {len(held)} providers keep the model's package and {FEWEST_COPIES} must; try again later"
        )
    if len(held) < copies:
        desk.say(f"only {len(held)} of the {copies} copies could be made; no other provider answers", 0.0)
    desk.memory.write({_sources_entry(manifest): encode(_Sources(tuple(held)))})
    return tuple(held)


def sources_of(desk: Desk, manifest: Cid) -> tuple[NodeId, ...]:
    """The nodes that keep a package of this publisher, itself first."""
    kept = desk.memory.get(_sources_entry(manifest))
    return (desk.node_key.node_id, *(decode(_Sources, kept).nodes if kept else ()))


async def providers_of(desk: Desk, roles: Iterable[Role]) -> list[Address]:
    """Accounts in the pools of these roles, each once and never this node's own, in the pools' order."""
    found: dict[Address, None] = {}
    for role in roles:
        for candidate in await desk.suite.providers.eligible(role):
            found[Address(candidate.account)] = None
    found.pop(desk.account, None)
    return list(found)


async def _copy_to(desk: Desk, account: Address, manifest: Cid) -> NodeId | None:
    """The provider's node once it holds every blob, or None."""
    try:
        record = await desk.directory.find_account(account)
        target = record.endpoint
        await replicate_object(desk.transport, [target], manifest, desk.blobs, 1, timeout=COPY_SECONDS)
    except KoinonError as problem:
        desk.say(f"0x{account.hex()[:8]}… keeps no copy: {problem}", 0.0)
        return None
    return target.node_id


# ------------------------------------------------------------------------------------------------ everybody else's side


async def fetch_model(desk: Desk, model: int, purpose: str, reference: int) -> OpenedModel:
    """Ask the publisher for the key, any keeper for the blobs, and open the model.

    Args:
        purpose: ``evaluate`` or ``serve``.
        reference: number of the evaluation or the service on the chain.

    Raises:
        Refused: the publisher does not give this node the key; says why.
        Forged: key, package or weights are not those that the chain names.
        Unavailable: publisher or blobs cannot be reached.
    """
    asset = await desk.suite.assets.asset_of(model)
    if asset.kind != AssetKind.MODEL:
        raise InvalidInput(f"asset {model} is no model")
    name = manifest_of(asset.uri)
    publisher = await desk.directory.find_account(Address(asset.publisher))
    request = FetchModelKey(model, purpose, reference)
    reply = await desk.transport.call(publisher.endpoint, request, KEY_SECONDS)
    assert isinstance(reply, ModelKeyReply)  # the transport lets no other answer through
    if reply.manifest != name.encode():
        raise Forged(f"the publisher gives another package for model {model} than the chain names")
    sources = await _endpoints(desk, reply.sources, publisher.endpoint)
    manifest = await fetch_object(desk.transport, sources, name, desk.blobs)
    key = granted_key(desk.sealing_key, reply.key.sealed, manifest)
    package = await asyncio.to_thread(_open, manifest, key, desk.blobs.get)
    return OpenedModel(asset, package.card, package.onnx, _check(package, asset, model))


def granted_key(own: HpkeKey, sealed: bytes, manifest: Manifest) -> DataKey:
    """The data key that was sealed to ``own``. Raises Forged where it is another object's or somebody else's."""
    return DataKey.from_grant(own, KeyGrant(manifest.object_id, Hash32(own.public_key), sealed), manifest)


async def _endpoints(desk: Desk, nodes: Sequence[bytes], publisher: Endpoint) -> list[Endpoint]:
    """Where the keepers are; those that the directory has lost are left out. The publisher is asked last."""
    found: list[Endpoint] = []
    for node in nodes:
        if node in (publisher.node_id, desk.node_key.node_id):
            continue
        try:
            found.append((await desk.directory.find_node(NodeId(node))).endpoint)
        except KoinonError:
            continue  # a keeper that is gone is why there are several
    return [*found, publisher]


def _open(manifest: Manifest, key: DataKey, chunk: Callable[[Cid], bytes]) -> ModelPackage:
    plain = open_object(manifest, key, chunk)
    package = decode(ModelPackage, plain, limit=MAXIMUM_MODEL_BYTES + MAXIMUM_CARD_BYTES)
    check_card(package.card)
    return package


def _check(package: ModelPackage, asset: Asset, model: int) -> Hash32:
    from koinon.models.onnx_export import weights_hash

    found = weights_hash(package.onnx)
    if found != asset.content_hash:
        raise Forged(f"the package of model {model} holds other weights than the chain names")
    return found


def _key_entry(manifest: Cid) -> bytes:
    return b"model-key/" + manifest.encode()


def _sources_entry(manifest: Cid) -> bytes:
    return b"model-sources/" + manifest.encode()
