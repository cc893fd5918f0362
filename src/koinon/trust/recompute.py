"""The stranger's check: the same rows, the same model and the evidence give the same numbers, or name what differs."""

from dataclasses import dataclass
from typing import Final

import msgspec

from koinon.data.commitment import check_table
from koinon.data.table import Table
from koinon.kernel.errors import Forged
from koinon.kernel.ids import Hash32
from koinon.models.card import ModelCard, card_hash
from koinon.trust.evaluation import Task, evaluate
from koinon.trust.evidence import Evidence, Finding, evidence_hash, finding_hash
from koinon.trust.queries import Predict
from koinon.trust.vector import KINDS, TrustVector, check_vector

ROUNDING_ALLOWANCE: Final = 1_000
"""In millionths: what another processor's or version's last bits may do to a metric."""
ATTACK_ALLOWANCE: Final = 100_000
"""The same for attacks, whose path a single rounded comparison can change."""


@dataclass(frozen=True)
class Difference:
    """One number that was claimed and found again.

    Attributes:
        criterion: its name.
        part: "value", "low" or "high".
        claimed, found: millionths; None where one side says the criterion is absent.
        allowed: how far apart they may be.
        holds: whether the claim stands.
    """

    criterion: str
    part: str
    claimed: int | None
    found: int | None
    allowed: int
    holds: bool


def check_linked(vector: TrustVector, evidence: Evidence) -> None:
    """Check that a trust vector is the one that this evidence shows, without any rows.

    Raises:
        Forged: a hash or a number of the vector is not that of the evidence.
        InvalidInput: the vector contradicts itself.
    """
    check_vector(vector)
    if vector.weights_hash != evidence.weights_hash:
        raise Forged("the trust vector and its evidence are about different weights")
    if vector.evidence_hash != evidence_hash(evidence):
        raise Forged("the trust vector names another evidence document than this one")
    claimed = [(c.name, c.value, c.low, c.high, c.evidence) for c in vector.criteria]
    shown = [(f.criterion, f.value, f.low, f.high, bytes(finding_hash(f))) for f in evidence.findings]
    if claimed != shown:
        raise Forged("the trust vector's criteria are not those of its evidence")


async def recompute(
    evidence: Evidence,
    table: Table,
    secret: bytes,
    card: ModelCard,
    predict: Predict,
    weights_hash: Hash32,
    members: Table | None = None,
) -> tuple[Difference, ...]:
    """Measure everything again that does not depend on the machine, and compare.

    Args:
        evidence: the claim.
        table, secret: the evaluator's rows, and the secret of the commitment to them.
        card: the model's card.
        predict, weights_hash: the model, and the SHA-256 of the bytes that were opened for it.
        members: rows of the membership criterion, where the claim has one.

    Returns:
        One entry per number; the claim stands where all of them hold. Machine-dependent criteria are left out.

    Raises:
        Forged: rows, card or weights are not those that the evidence names.
        As ``evaluate`` otherwise.
    """
    check_table(Hash32(evidence.rows_root), table, secret)
    if card_hash(card) != evidence.card_hash:
        raise Forged("the model card is not the one that the evidence names")
    if weights_hash != evidence.weights_hash:
        raise Forged("the model's weights are not those that the evidence names")
    settings = msgspec.structs.replace(evidence.settings, load_rates=())
    task = Task(card, weights_hash, table, Hash32(evidence.rows_root), settings, evidence.seed, members)
    again = (await evaluate(predict, task)).evidence
    claimed = {finding.criterion: finding for finding in evidence.findings}
    found = {finding.criterion: finding for finding in again.findings}
    # The same processor kind and packages compute the same bits.
    exact = (again.machine, again.versions) == (evidence.machine, evidence.versions)
    return tuple(
        difference
        for name, kind in KINDS.items()
        if not kind.machine_dependent and (name in claimed or name in found)
        for difference in _compare(name, claimed.get(name), found.get(name), 0 if exact else _allowance(kind.family))
    )


def _compare(name: str, claimed: Finding | None, found: Finding | None, allowed: int) -> list[Difference]:
    differences = []
    for part in ("value", "low", "high"):
        ours = None if found is None else int(getattr(found, part))
        theirs = None if claimed is None else int(getattr(claimed, part))
        holds = ours is not None and theirs is not None and abs(ours - theirs) <= allowed
        differences.append(Difference(name, part, theirs, ours, allowed, holds))
    return differences


def _allowance(family: str) -> int:
    return ATTACK_ALLOWANCE if family == "robustness" else ROUNDING_ALLOWANCE
