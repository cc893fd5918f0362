"""harden: find out what the model works on, make other forms of the same weights, measure all, keep the best."""

from typing import TYPE_CHECKING, Final

from koinon.contracts.assets import AssetKind, Mint
from koinon.journey.desk import Desk
from koinon.journey.package import manifest_of, open_own, replicate, seal_package, uri_of
from koinon.journey.results import Hardened, Published, VariantMeasured
from koinon.kernel.ids import Hash32
from koinon.models.card import ModelCard

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from koinon.models.variants import VariantReport

MEASURED_ROWS: Final = 512


async def harden(desk: Desk, published: Published) -> Hardened:
    """Detect the domain, measure the variants in the sandbox, and publish the best one as an asset of its own.

    A variant is a child of the original with the same split. Where none is better, the original is served.

    Raises:
        Refused: this node did not publish the model.
        InvalidInput: the sandbox refuses the model.
        Unavailable: a sandbox fails, or fewer than two nodes keep the variant.
    """
    from koinon.models.domain import detect_domain
    from koinon.models.sandbox import SandboxedModel
    from koinon.models.variants import AS_PUBLISHED, choose_variant

    original = await desk.suite.assets.asset_of(published.model)
    package = await open_own(desk, manifest_of(original.uri))
    async with SandboxedModel.open(package.onnx) as model:
        finding = detect_domain(model.metadata())
    certainty = "" if finding.certain else ", most likely"
    desk.say(f"the model works on {finding.domain} data{certainty}: {finding.reasons[0]}", 0.2)
    report = await choose_variant(package.onnx, covering_rows(package.card, published.weights_hash))
    variants = measured(report)
    for one in report.measurements:
        if one.remark:
            desk.say(f"{one.name} is left out: {one.remark}", 0.6)
    if report.chosen == AS_PUBLISHED:
        desk.say("no variant is better; the published form is served", 1.0)
        return Hardened(
            published, finding.domain, variants, published.model, published.weights_hash, published.manifest
        )
    manifest = await seal_package(desk, package.card, report.onnx_bytes)
    await replicate(desk, manifest, max(2, len(published.replicas)))
    weights = next(one.weights_hash for one in variants if one.kept)
    asset = await desk.suite.assets.mint(
        Mint(
            kind=AssetKind.MODEL,
            content_hash=weights,
            uri=uri_of(manifest),
            parents=(published.model,),
            payees=original.payees,
            shares=original.shares,
            code_hash=original.code_hash,
            study_id=original.study_id,
        )
    )
    desk.say(f"{report.chosen} is faster and equal within the budget; minted as asset {asset}", 1.0)
    return Hardened(published, finding.domain, variants, asset, weights, manifest)


def measured(report: "VariantReport") -> tuple[VariantMeasured, ...]:
    """The table of the variants that could be made and run."""
    return tuple(
        VariantMeasured(
            one.name,
            one.weights_hash,
            one.difference,
            one.single_seconds * 1e6,
            one.name == report.chosen,
        )
        for one in report.measurements
        if one.weights_hash is not None and not one.remark
    )


def covering_rows(card: ModelCard, weights_hash: Hash32) -> "NDArray[np.float32]":
    """float32 (rows, columns) over the whole of the public ranges and their corners; the same for the same model."""
    import numpy as np

    rng = np.random.default_rng(int.from_bytes(weights_hash, "big"))
    low = np.array([column.low for column in card.features])
    high = np.array([column.high for column in card.features])
    inside = rng.uniform(low, high, (MEASURED_ROWS, len(low)))
    corners = np.where(rng.random((MEASURED_ROWS // 4, len(low))) < 0.5, low, high)
    return np.concatenate([inside, corners, [low, high]]).astype(np.float32)
