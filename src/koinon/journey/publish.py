"""publish: what the committee opened becomes an ONNX model, encrypted, replicated, and minted with its origin.

Revenue is split as the study file says: owners the same each or by what their rows are worth, the publisher the rest.
"""

import asyncio
from typing import Final

from koinon.contracts.assets import AssetKind, Mint, Minted
from koinon.jobs.study import StudyFile, specification_hash
from koinon.journey.desk import Desk
from koinon.journey.package import replicate, seal_package, uri_of
from koinon.journey.predictors import Predictor, features_of, predictor_of
from koinon.journey.results import Published, Trained
from koinon.kernel.errors import InvalidInput, Unavailable
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import ALL_BASIS_POINTS, BasisPoints
from koinon.models.card import Contribution, ModelCard

THRESHOLD_PPM: Final = 500_000
LICENCE: Final = "use through services of this market only"


async def publish(desk: Desk, trained: Trained, study: StudyFile, name: str, copies: int) -> Published:
    """Publish the model of a study.

    Args:
        study: the file that ``trained`` came from.
        name: what people will call the model.
        copies: nodes beside the publisher that keep the encrypted package; at least 2.

    Raises:
        InvalidInput: the output does not fit the study, or is no model.
        Unavailable: an owner's data set is no asset, or fewer than two nodes keep the package.
    """
    check_output(trained, study)
    predictor = await asyncio.to_thread(predictor_of, trained, study)
    difference = predictor.difference
    desk.say(f"exported to ONNX; answers differ from the trained formula by at most {difference:.1g}", 0.2)
    committee = [(await desk.suite.providers.provider_of(account)).node_id for account in trained.committee]
    card = card_of(trained, study, predictor, name, tuple(bytes(node) for node in committee))
    parents = await _dataset_assets(desk, trained, study)
    manifest = await seal_package(desk, card, predictor.onnx)
    desk.say("encrypted with AES-256-GCM; only this node holds the key", 0.4)
    replicas = await replicate(desk, manifest, copies)
    desk.say(f"{len(replicas)} other nodes keep the encrypted package", 0.7)
    payees, shares = revenue_split(study, trained)
    weights = _weights_hash(predictor.onnx)
    model = await desk.suite.assets.mint(
        Mint(
            kind=AssetKind.MODEL,
            content_hash=weights,
            uri=uri_of(manifest),
            parents=parents,
            payees=payees,
            shares=shares,
            code_hash=study.algorithm_hash,
            study_id=trained.study.number,
        )
    )
    desk.say(f"minted as asset {model}, from data sets {', '.join(map(str, parents))}", 1.0)
    return Published(trained, model, parents, weights, manifest, replicas, name)


def check_output(trained: Trained, study: StudyFile) -> None:
    """Refuse an output that is not this study's. Raises InvalidInput."""
    if specification_hash(study) != trained.study.specification_hash:
        raise InvalidInput("the study file is not the one that the training followed")
    if tuple(sorted(one.name for one in trained.outputs)) != tuple(sorted(study.outputs)):
        raise InvalidInput("the outputs that were opened are not those that the study declares")
    if not len(trained.training_rows) == len(trained.study.dataset_hashes) == len(study.owners):
        raise InvalidInput("the output names another number of owners than the study")


def card_of(
    trained: Trained, study: StudyFile, predictor: Predictor, name: str, committee: tuple[bytes, ...]
) -> ModelCard:
    """The model's card: only what the study file and the chain already say in public."""
    from koinon.privacy.engines import engine_named

    return ModelCard(
        name=name,
        task=predictor.task,
        features=features_of(study),
        target=study.target,
        threshold_ppm=THRESHOLD_PPM,
        study_id=trained.study.number,
        contributions=tuple(
            Contribution(owner.account, dataset, rows)
            for owner, dataset, rows in zip(
                study.owners, trained.study.dataset_hashes, trained.training_rows, strict=True
            )
        ),
        committee=committee,
        code_hash=study.algorithm_hash,
        intended_use=study.purpose,
        licence=LICENCE,
        engine=study.engine,
        protection=engine_named(study.engine).adversary.statement,
    )


def revenue_split(study: StudyFile, trained: Trained) -> tuple[tuple[Address, ...], tuple[BasisPoints, ...]]:
    """Payees and shares of 10,000: the publisher and every owner, without those who get nothing.

    Owners get the same, or, where the study opened what their rows are worth, together as much and each in proportion.
    """
    from koinon.privacy.valuation.shapley import WORTH, revenue_shares

    together = BasisPoints(len(study.owners) * study.owner_revenue)
    opened = [one.values for one in trained.outputs if one.name == WORTH]
    owned = revenue_shares(opened[0], together) if opened else (study.owner_revenue,) * len(study.owners)
    everybody = [(study.publisher.account, BasisPoints(ALL_BASIS_POINTS - together))]
    everybody += [(owner.account, share) for owner, share in zip(study.owners, owned, strict=True)]
    paid = [(account, share) for account, share in everybody if share]
    return tuple(account for account, _ in paid), tuple(share for _, share in paid)


async def _dataset_assets(desk: Desk, trained: Trained, study: StudyFile) -> tuple[int, ...]:
    """The asset of every owner's data set; an owner that minted it twice is known by the first."""
    minted = [found.event for found in await desk.suite.assets.events(Minted)]
    assets: list[int] = []
    for owner, dataset in zip(study.owners, trained.study.dataset_hashes, strict=True):
        wanted = (AssetKind.DATASET, owner.account, dataset)
        own = [e.asset_id for e in minted if (e.kind, e.publisher, e.content_hash) == wanted]
        if not own:
            raise Unavailable(f"the data set of {owner.name} is no asset yet; its owner runs: koinon data add")
        assets.append(own[0])
    return tuple(assets)


def _weights_hash(onnx: bytes) -> Hash32:
    from koinon.models.onnx_export import weights_hash

    return weights_hash(onnx)
