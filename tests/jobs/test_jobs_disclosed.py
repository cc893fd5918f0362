"""A result shown to others holds against the digest on the chain, and nothing else does: worth can be checked."""

from collections.abc import Callable
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from koinon.audit.bundle import ProvenResult
from koinon.crypto.signature import NodeKey
from koinon.jobs.disclosed import DisclosedResult, OnChain, check_disclosed, owed_shares, read_disclosed
from koinon.jobs.inputs import share_columns
from koinon.jobs.sessions import session_key, study_key
from koinon.jobs.study import StudyFile, sign_study, specification_hash
from koinon.journey.audit import check_shown
from koinon.kernel.codec import encode
from koinon.kernel.errors import Forged, InvalidInput, KoinonError, Refused
from koinon.kernel.ids import Hash32
from koinon.privacy.opening import component_digest, output_digest
from koinon.privacy.programs.registry import algorithm_hash
from koinon.privacy.rep4.adversary import SeededRng
from koinon.privacy.sharing import Dealing, deal
from koinon.wire.committee import POSITIONS, Four, OutputComponent, OutputPackage, ShareManifest

NUMBER, ATTEMPT, BITS = 7, 1, 20
PUBLISHER = NodeKey.from_seed(b"p" * 32)
OWNERS = [NodeKey.from_seed(bytes([number]) * 32) for number in (1, 2, 3)]
WORTH = np.array([0.25, 0.125, -0.0625])
Shown = tuple[DisclosedResult, OnChain]


def packages_of(session: bytes, numbers: np.ndarray) -> tuple[tuple[OutputPackage, ...], Hash32]:
    """What the four members hand over for these outputs."""
    rng = SeededRng(b"packages")
    words = np.round(numbers * 2.0**BITS).astype(np.int64).view(np.uint64)
    components = [np.frombuffer(rng.bytes(words.nbytes), np.uint64) for _ in range(3)]
    components.append(words - components[0] - components[1] - components[2])
    shares = [OutputComponent(j, components[j].astype("<u8").tobytes(), rng.bytes(32)) for j in POSITIONS]
    zeroth, first, second, third = (component_digest(session, s.index, s.values, s.salt) for s in shares)
    digests: Four = (zeroth, first, second, third)

    def package(position: int) -> OutputPackage:
        one, two, three = (share for share in shares if share.index != position)
        return OutputPackage(session, position, len(words), BITS, (one, two, three), digests)

    return tuple(package(position) for position in POSITIONS), output_digest(digests)


def manifest_of(study: StudyFile, owner: int, attempt: int = ATTEMPT) -> ShareManifest:
    columns = share_columns(study, owner)
    rows = np.tile([column.high for column in columns], (12, 1))
    dealing = Dealing(study_key(study, NUMBER), attempt, bytes(32))
    return deal(rows, columns, BITS, dealing, OWNERS[owner], SeededRng(bytes([owner])))[0]


@pytest.fixture
def valued(study: StudyFile) -> StudyFile:
    """A study of which only the worth of rows is opened."""
    owners = tuple(
        msgspec.structs.replace(owner, node_id=key.node_id) for owner, key in zip(study.owners, OWNERS, strict=True)
    )
    return msgspec.structs.replace(
        study,
        owners=owners,
        publisher=msgspec.structs.replace(study.publisher, node_id=PUBLISHER.node_id),
        algorithm_hash=algorithm_hash(study.algorithm),
        outputs=("worth",),
    )


@pytest.fixture
def shown(valued: StudyFile) -> Shown:
    packages, digest = packages_of(session_key(valued, NUMBER, ATTEMPT), WORTH)
    manifests = tuple(manifest_of(valued, owner) for owner in range(3))
    result = DisclosedResult(NUMBER, ATTEMPT, sign_study(valued, PUBLISHER), manifests, packages)
    return result, OnChain(specification_hash(valued), ATTEMPT, digest)


def test_the_worth_of_rows_is_proved_to_anybody_and_gives_the_shares(shown: Shown) -> None:
    found = check_disclosed(read_disclosed(encode(shown[0])), shown[1])
    assert (found.outputs["worth"] == WORTH).all()
    assert found.rows == (12, 12, 12)
    # 6,000 basis points in proportion to 0.25 and 0.125; who did harm gets nothing.
    assert owed_shares(found) == (4000, 2000, 0)


def test_one_lying_or_absent_member_changes_nothing(shown: Shown) -> None:
    result, known = shown
    three = msgspec.structs.replace(result, packages=result.packages[1:])
    assert (check_disclosed(three, known).outputs["worth"] == WORTH).all()


Change = Callable[[DisclosedResult, StudyFile], DisclosedResult]
REPLACE = msgspec.structs.replace
FORGERIES: dict[str, Change] = {
    "other values": lambda shown, study: REPLACE(
        shown, packages=packages_of(session_key(study, NUMBER, ATTEMPT), WORTH[::-1])[0]
    ),
    "packages of another attempt": lambda shown, study: REPLACE(
        shown, packages=packages_of(session_key(study, NUMBER, 0), WORTH)[0]
    ),
    "another attempt": lambda shown, _: REPLACE(shown, attempt=0),
    "another study's number": lambda shown, _: REPLACE(shown, number=8),
    "no packages": lambda shown, _: REPLACE(shown, packages=()),
    "one package four times": lambda shown, _: REPLACE(shown, packages=shown.packages[:1] * 4),
    "an owner too few": lambda shown, _: REPLACE(shown, manifests=shown.manifests[:2]),
    "owners in another order": lambda shown, _: REPLACE(shown, manifests=shown.manifests[::-1]),
    "a manifest of another attempt": lambda shown, study: REPLACE(
        shown, manifests=(manifest_of(study, 0, 0), *shown.manifests[1:])
    ),
    "a manifest with other rows": lambda shown, _: REPLACE(
        shown, manifests=(REPLACE(shown.manifests[0], rows=11), *shown.manifests[1:])
    ),
    "another study file": lambda shown, study: REPLACE(
        shown, study=sign_study(REPLACE(study, outputs=("coefficients",)), PUBLISHER)
    ),
}


@pytest.mark.parametrize("case", FORGERIES)
def test_anything_else_is_refused(shown: Shown, valued: StudyFile, case: str) -> None:
    result, known = shown
    with pytest.raises(KoinonError):
        check_disclosed(FORGERIES[case](result, valued), known)


def test_a_result_of_another_version_is_not_judged(shown: Shown, valued: StudyFile) -> None:
    other = REPLACE(valued, algorithm_hash=Hash32(bytes(32)))
    known = OnChain(specification_hash(other), ATTEMPT, shown[1].output_digest)
    with pytest.raises(Refused, match="another version of logistic-regression/1"):
        check_disclosed(REPLACE(shown[0], study=sign_study(other, PUBLISHER)), known)


@pytest.mark.parametrize("data", [b"", b"\x93\x01\x02", b"{}", bytes(1000)])
def test_other_bytes_are_no_disclosed_result(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="no disclosed result"):
        read_disclosed(data)


def proven(shown: Shown, study: StudyFile, shares: tuple[int, ...]) -> ProvenResult:
    """What a bundle about the study proves, with these shares of the owners."""
    split = dict(zip((owner.account for owner in study.owners), shares, strict=False))
    return ProvenResult(NUMBER, shown[1].specification_hash, ATTEMPT, shown[1].output_digest, split)


@pytest.mark.parametrize("shares", [(4000, 2000, 0), ()], ids=["a model with its split", "a study alone"])
def test_a_bundle_and_a_shown_result_agree(shown: Shown, valued: StudyFile, shares: tuple[int, ...]) -> None:
    assert "4000, 2000, 0 basis points" in check_shown(proven(shown, valued, shares), encode(shown[0]))


@pytest.mark.parametrize("shares", [(3999, 2001, 0), (2000, 4000, 0), (4000, 2000, 1)], ids=str)
def test_revenue_that_is_split_otherwise_is_found(shown: Shown, valued: StudyFile, shares: tuple[int, ...]) -> None:
    with pytest.raises(Forged, match="is owed"):
        check_shown(proven(shown, valued, shares), encode(shown[0]))


def test_a_result_that_the_bundle_does_not_prove_is_refused(shown: Shown, valued: StudyFile) -> None:
    known, data = proven(shown, valued, (4000, 2000, 0)), encode(shown[0])
    with pytest.raises(Forged, match="proves nothing"):
        check_shown(None, data)
    with pytest.raises(Forged, match="the bundle of study 8"):
        check_shown(replace(known, study=8), data)
    with pytest.raises(InvalidInput, match="no disclosed result"):
        check_shown(known, data[:-1])
    for other in (replace(known, attempt=0), replace(known, output_digest=Hash32(bytes(32)))):
        with pytest.raises(KoinonError):
            check_shown(other, data)
