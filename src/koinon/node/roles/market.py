"""The keys to a publisher's models: given to drawn evaluators and contracted service nodes, refused to everybody else.

Who asks is known by the key of the connection; which account that is, by the record that both keys signed; what that
account may have, by the chain.
"""

from collections.abc import Awaitable
from typing import Final, TypeVar

from koinon.contracts.assets import Asset, AssetKind
from koinon.contracts.evaluations import EvaluationPhase
from koinon.contracts.refusals import Reverted
from koinon.journey.desk import Desk
from koinon.journey.package import manifest_of, own_key, sources_of
from koinon.journey.serve import contract_entry
from koinon.journey.validate import plan_entry
from koinon.kernel.errors import Refused
from koinon.kernel.ids import NodeId
from koinon.net.discovery import NodeRecord
from koinon.node.context import Context
from koinon.store.blobs import Cid
from koinon.store.objects import read_manifest
from koinon.wire.catalogue import Message
from koinon.wire.studies import (
    EvaluationPlanReply,
    FetchEvaluationPlan,
    FetchModelKey,
    ModelKeyReply,
    WrappedKey,
)

EVALUATE: Final = "evaluate"
SERVE: Final = "serve"

_T = TypeVar("_T")


class ModelKeys:
    """Answers for the models that this node published."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def attach(self) -> None:
        """Answer requests for keys and for the settings of evaluations."""
        self._context.transport.handle(FetchModelKey, self._key)
        self._context.transport.handle(FetchEvaluationPlan, self._plan)

    async def _key(self, sender: NodeId, request: FetchModelKey) -> Message:
        """The data key, sealed to the asking node. Raises Refused with the reason for everybody who may not have it."""
        desk = self._context.desk(_silent)
        asset = await own_model(desk, request.model)
        asker = await self._context.directory.find_node(sender)
        match request.purpose:
            case purpose if purpose == EVALUATE:
                await check_evaluator(desk, asker, request.model, request.reference)
            case purpose if purpose == SERVE:
                await check_service_node(desk, asker, request.model, request.reference)
            case _:
                raise Refused("a model's key is given to evaluate or to serve, for nothing else")
        return wrap_key(desk, asker, manifest_of(asset.uri))

    async def _plan(self, _: NodeId, request: FetchEvaluationPlan) -> Message:
        found = await _found(self._context.suite.evaluations.request_of(request.evaluation))
        kept = self._context.memory.get(plan_entry(found.nonce_commitment)) if found else None
        if kept is None:
            raise Refused(f"this node did not ask for evaluation {request.evaluation}")
        return EvaluationPlanReply(kept)


async def own_model(desk: Desk, model: int) -> Asset:
    """A model that this node's account minted. Raises Refused for anything else."""
    asset = await _found(desk.suite.assets.asset_of(model))
    if asset is None or asset.kind != AssetKind.MODEL or asset.publisher != desk.account:
        raise Refused(f"asset {model} is no model that this node published")
    return asset


async def check_evaluator(desk: Desk, asker: NodeRecord, model: int, evaluation: int) -> None:
    """Raises Refused unless the chain drew the asker for an open evaluation of the model."""
    contract, account = desk.suite.evaluations, asker.claim.account
    request = await _found(contract.request_of(evaluation))
    if request is None or (await contract.terms_of(evaluation)).model_id != model:
        raise Refused(f"there is no evaluation {evaluation} of model {model}")
    if account not in request.evaluators:
        raise Refused(f"the chain did not draw you for evaluation {evaluation}")
    if request.phase != EvaluationPhase.COMMITTING or desk.clock.unix() > request.deadline:
        raise Refused(f"evaluation {evaluation} takes no more commitments, so its model is not needed any more")
    await _check_provider(desk, asker)


async def check_service_node(desk: Desk, asker: NodeRecord, model: int, service: int) -> None:
    """Raises Refused unless this publisher asked the asker to serve the model under a service of its own."""
    asset = await _found(desk.suite.assets.asset_of(service))
    if asset is None or asset.kind != AssetKind.SERVICE or asset.publisher != desk.account:
        raise Refused(f"asset {service} is no service of this publisher")
    if model not in asset.parents:
        raise Refused(f"service {service} does not answer with model {model}")
    if desk.memory.get(contract_entry(service, asker.claim.node_id)) is None:
        raise Refused(f"this publisher did not ask you to answer for service {service}")
    await _check_provider(desk, asker)


def wrap_key(desk: Desk, asker: NodeRecord, manifest: Cid) -> ModelKeyReply:
    """The answer to somebody who may have the key."""
    key = own_key(desk, manifest)
    grant = key.grant(read_manifest(desk.blobs.get(manifest)), asker.claim.encryption_key)
    return ModelKeyReply(WrappedKey(grant.sealed), manifest.encode(), sources_of(desk, manifest))


async def _check_provider(desk: Desk, asker: NodeRecord) -> None:
    """The account's stake must be behind this very node: keys go to the node that the chain knows."""
    provider = await desk.suite.providers.provider_of(asker.claim.account)
    if provider.node_id != asker.claim.node_id:
        raise Refused("your account registered another node as provider; ask from that one")


async def _found(reading: Awaitable[_T]) -> _T | None:
    """What the chain knows under a number, or None where it knows nothing."""
    try:
        return await reading
    except Reverted as refusal:
        if refusal.error in ("Unknown", "ERC721NonexistentToken"):
            return None
        raise


def _silent(_sentence: str, _fraction: float) -> None:
    """A node that answers others has nobody to tell how far it is."""
