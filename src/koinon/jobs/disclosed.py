"""A study's result that its result party shows to others, such as what owners' rows are worth, and checking it.

The committee signed a digest of everything that was opened, and the chain holds it. Whoever has the packages that
became the result can therefore prove to anybody what it was: the values are not taken on anyone's word. It is all or
nothing; of a study that opens a model and its rows' worth, the model is shown with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from koinon.jobs.gate import check_output, check_released
from koinon.jobs.inputs import shared_parameters
from koinon.jobs.sessions import session_key, study_key
from koinon.jobs.study import SignedStudy, StudyFile, open_study_named
from koinon.kernel.codec import Record, decode
from koinon.kernel.errors import Forged, InvalidInput, KoinonError, Refused
from koinon.kernel.ids import Hash32
from koinon.kernel.quantities import BasisPoints
from koinon.wire.committee import OutputPackage, ShareManifest

LONGEST: Final = 256 * 1024**2


class DisclosedResult(Record, frozen=True):
    """What the result party shows: the study file, who shared how many rows, and the committee's packages."""

    number: int
    attempt: int
    study: SignedStudy
    manifests: tuple[ShareManifest, ...]
    packages: tuple[OutputPackage, ...]


@dataclass(frozen=True)
class OnChain:
    """What the chain says of the study."""

    specification_hash: Hash32
    attempt: int
    output_digest: Hash32


@dataclass(frozen=True)
class CheckedResult:
    """A result that holds: the study, rows shared by each owner, and the outputs by name."""

    study: StudyFile
    rows: tuple[int, ...]
    outputs: Mapping[str, np.ndarray]


def read_disclosed(data: bytes) -> DisclosedResult:
    """Read such a file. Raises InvalidInput where it is none."""
    try:
        return decode(DisclosedResult, data, limit=LONGEST)
    except KoinonError:
        raise InvalidInput("this is no disclosed result; it is written by: koinon study disclose") from None


def check_disclosed(shown: DisclosedResult, known: OnChain) -> CheckedResult:
    """The outputs, if they are those that three members of the committee signed.

    Raises:
        Forged: file, manifests or packages are not those of the study on the chain.
        Refused: another version of the algorithm is installed here, or the result was held back.
        MalformedMessage: packages that do not fit the study.
    """
    from koinon.privacy.backend import named_outputs
    from koinon.privacy.opening import reconstruct
    from koinon.privacy.programs import registry
    from koinon.privacy.sharing import check_manifest

    study = open_study_named(shown.study, known.specification_hash)
    if shown.attempt != known.attempt:
        raise Forged(f"the chain has the result of attempt {known.attempt}, not {shown.attempt}")
    if registry.algorithm_hash(study.algorithm, study.engine) != study.algorithm_hash:
        raise Refused(f"the study was computed by another version of {study.algorithm} than is installed here")
    if len(shown.manifests) != len(study.owners):
        raise Forged("there is not one share manifest of each owner")
    for owner, manifest in zip(study.owners, shown.manifests, strict=True):
        check_manifest(manifest)
        if (manifest.owner, manifest.study, manifest.attempt) != (
            owner.node_id,
            study_key(study, shown.number),
            shown.attempt,
        ):
            raise Forged(f"the share manifest of {owner.name} is of another study or attempt")
    session = session_key(study, shown.number, shown.attempt)
    values, _ = reconstruct(shown.packages, session, known.output_digest)
    check_output(study, shown.manifests, values.size)
    rows = tuple(manifest.rows for manifest in shown.manifests)
    outputs = named_outputs(registry.load(study.algorithm, shared_parameters(study, shown.manifests)), values)
    check_released(study, {name: array.ravel().tolist() for name, array in outputs.items()})
    return CheckedResult(study, rows, outputs)


def owed_shares(found: CheckedResult) -> tuple[BasisPoints, ...]:
    """What each owner gets of the model's revenue by the result: by worth where it was opened, else all the same."""
    from koinon.privacy.valuation.shapley import WORTH, revenue_shares

    study = found.study
    if WORTH not in found.outputs:
        return (study.owner_revenue,) * len(study.owners)
    together = BasisPoints(len(study.owners) * study.owner_revenue)
    return revenue_shares(found.outputs[WORTH].tolist(), together)
