"""Dealing rows and accepting packages: bad input first, then what must hold."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from privacy_scenes import revealed

from koinon.crypto.signature import NodeKey
from koinon.kernel.codec import decode, encode
from koinon.kernel.errors import Forged, InvalidInput, KoinonError, MalformedMessage
from koinon.privacy.rep4.adversary import SeededRng
from koinon.privacy.sharing import Dealing, accept_package, check_same_run, deal, encoded, manifest_hash
from koinon.wire.committee import POSITIONS, Column, ShareManifest, SharePackage

COLUMNS = (Column("age", 0.0, 120.0), Column("size", -2.0, 6.0))
ROWS = np.array([[0.0, -2.0], [120.0, 6.0], [60.0, 2.0], [33.0, 0.125]])
DEALING = Dealing(bytes(32), 0, bytes([7]) * 32)
OWNER = NodeKey.from_seed(bytes([1]) * 32)
BITS = 20


def dealt(seed: bytes = b"deal") -> tuple[ShareManifest, tuple[SharePackage, ...]]:
    return deal(ROWS, COLUMNS, BITS, DEALING, OWNER, SeededRng(seed))


class CountingRng(SeededRng):
    used = False

    def bytes(self, count: int, /) -> bytes:
        self.used = True
        return super().bytes(count)


BAD_ROWS = {
    "missing value": (np.array([[1.0, np.nan]]), COLUMNS, BITS, "'size'"),
    "infinite value": (np.array([[np.inf, 1.0]]), COLUMNS, BITS, "'age'"),
    "below its range": (np.array([[-0.5, 1.0]]), COLUMNS, BITS, "'age'"),
    "above its range": (np.array([[1.0, 6.001]]), COLUMNS, BITS, "'size'"),
    "a column too many": (np.zeros((2, 3)), COLUMNS, BITS, "2 columns"),
    "no rows": (np.zeros((0, 2)), COLUMNS, BITS, "at least one row"),
    "one dimension": (np.zeros(2), COLUMNS, BITS, "table"),
    "text": (np.array([["a", "b"]]), COLUMNS, BITS, "numbers"),
    "objects": (np.array([[None, 1.0]], object), COLUMNS, BITS, "numbers"),
    "empty range": (np.zeros((1, 1)), (Column("x", 1.0, 1.0),), BITS, "'x'"),
    "reversed range": (np.zeros((1, 1)), (Column("x", 2.0, 1.0),), BITS, "'x'"),
    "endless range": (np.zeros((1, 1)), (Column("x", 0.0, np.inf),), BITS, "'x'"),
    "range that is no number": (np.zeros((1, 1)), (Column("x", np.nan, 1.0),), BITS, "'x'"),
    "range wider than a number": (np.zeros((1, 1)), (Column("x", -1.7e308, 1.7e308),), BITS, "'x'"),
    "one name twice": (np.zeros((1, 2)), (Column("x", 0.0, 1.0), Column("x", 0.0, 1.0)), BITS, "twice"),
    "no columns": (np.zeros((1, 0)), (), BITS, "columns"),
    "too many fraction bits": (ROWS, COLUMNS, 31, "fraction bits"),
    "too few fraction bits": (ROWS, COLUMNS, 7, "fraction bits"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_unusable_rows_are_refused_before_anything_is_drawn(case: str) -> None:
    rows, columns, bits, named = BAD_ROWS[case]
    rng = CountingRng(b"unused")
    with pytest.raises(InvalidInput, match=named) as refusal:
        deal(rows, columns, bits, DEALING, OWNER, rng)
    assert not rng.used
    assert "6.001" not in str(refusal.value)
    assert "-0.5" not in str(refusal.value)


@given(
    st.lists(st.tuples(st.floats(0, 120), st.floats(-2, 6)), min_size=1, max_size=12),
    st.integers(8, 30),
    st.integers(0, 2**32),
)
@settings(max_examples=40, deadline=None)
def test_accepted_packages_add_up_to_the_rows(rows: list[tuple[float, float]], bits: int, seed: int) -> None:
    matrix = np.array(rows)
    manifest, packages = deal(matrix, COLUMNS, bits, DEALING, OWNER, SeededRng(seed.to_bytes(8, "big")))
    words = revealed([accept_package(manifest, i, packages[i]) for i in POSITIONS])
    units = words.view(np.int64) / 2.0**bits
    assert np.abs(units).max() <= 1
    back = units * np.array([60.0, 4.0]) + np.array([60.0, 2.0])
    assert (np.abs(back - matrix) <= np.array([60.0, 4.0]) * 2.0 ** -(bits + 1) + 1e-12).all()


def test_every_dealing_is_fresh() -> None:
    (one, first), (other, second) = dealt(b"one"), dealt(b"other")
    assert not set(one.commitments) & set(other.commitments)
    for package, again in zip(first, second, strict=True):
        values = {share.value for share in package.components} & {share.value for share in again.components}
        assert not values


def test_a_package_survives_the_wire() -> None:
    manifest, packages = dealt()
    assert decode(ShareManifest, encode(manifest)) == manifest
    for package in packages:
        assert decode(SharePackage, encode(package)) == package


def changed_package(package: SharePackage, place: int, **changes: object) -> SharePackage:
    components = list(package.components)
    components[place] = msgspec.structs.replace(components[place], **changes)
    return msgspec.structs.replace(package, components=tuple(components))


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_changed_component_is_forged(position: int, place: int) -> None:
    manifest, packages = dealt()
    share = packages[position].components[place]
    flipped = bytes([share.value[0] ^ 1]) + share.value[1:]
    for changes in ({"value": flipped}, {"salt": bytes(32)}):
        with pytest.raises(Forged):
            accept_package(manifest, position, changed_package(packages[position], place, **changes))
    for changes in ({"value": share.value + b"\0"}, {"value": b""}, {"salt": b"short"}, {"index": 9}):
        with pytest.raises(MalformedMessage):
            accept_package(manifest, position, changed_package(packages[position], place, **changes))


def test_a_package_for_another_position_is_refused() -> None:
    manifest, packages = dealt()
    with pytest.raises(MalformedMessage, match="position 1"):
        accept_package(manifest, 1, packages[2])


def test_components_may_not_be_exchanged() -> None:
    """Two seeds have one length; the commitment binds each to its index."""
    manifest, packages = dealt()
    first, second, third = packages[3].components
    swapped = (
        msgspec.structs.replace(second, index=first.index),
        msgspec.structs.replace(first, index=second.index),
        third,
    )
    with pytest.raises(Forged):
        accept_package(manifest, 3, msgspec.structs.replace(packages[3], components=swapped))


CHANGES = {
    "study": bytes([1]) * 32,
    "attempt": 1,
    "owner": NodeKey.from_seed(bytes([2]) * 32).node_id,
    "dataset": bytes(32),
    "rows": 3,
    "columns": (COLUMNS[0], Column("size", -2.0, 7.0)),
    "fraction_bits": 19,
    "signature": bytes(64),
}


@pytest.mark.parametrize("field", CHANGES)
def test_a_changed_manifest_is_forged(field: str) -> None:
    manifest, packages = dealt()
    with pytest.raises(Forged):
        accept_package(msgspec.structs.replace(manifest, **{field: CHANGES[field]}), 0, packages[0])


BAD_MANIFESTS = {
    "short study": {"study": b"x"},
    "negative attempt": {"attempt": -1},
    "no rows": {"rows": 0},
    "endless rows": {"rows": 2**62},
    "no columns": {"columns": ()},
    "bad range": {"columns": (Column("x", 1.0, 0.0), COLUMNS[1])},
    "bad fraction bits": {"fraction_bits": 60},
    "parts of other rows": {"parts": (len(ROWS), 1)},
    "negative parts": {"parts": (len(ROWS) + 1, -1)},
    "short commitment": {"commitments": (b"", bytes(32), bytes(32), bytes(32))},
}


@pytest.mark.parametrize("case", BAD_MANIFESTS)
def test_a_manifest_that_no_honest_owner_signs_is_malformed(case: str) -> None:
    manifest, packages = dealt()
    with pytest.raises(MalformedMessage):
        accept_package(msgspec.structs.replace(manifest, **BAD_MANIFESTS[case]), 0, packages[0])


@given(st.binary(max_size=200))
def test_any_bytes_in_place_of_a_package_are_refused(data: bytes) -> None:
    with pytest.raises(KoinonError):
        decode(SharePackage, data)


def test_manifests_of_different_runs_do_not_mix() -> None:
    manifest, _ = dealt()
    other = NodeKey.from_seed(bytes([3]) * 32)
    again, _ = deal(ROWS, COLUMNS, BITS, replace(DEALING, attempt=1), other, SeededRng(b"again"))
    with pytest.raises(Forged, match="attempts"):
        check_same_run([manifest, again])
    with pytest.raises(Forged, match="twice"):
        check_same_run([manifest, manifest])
    assert manifest_hash(manifest) != manifest_hash(again)


def test_what_one_position_is_given_does_not_depend_on_the_rows() -> None:
    """Position 3 gets seeds only; the explicit component of the others is masked by a stream they lack."""
    one = encoded(ROWS, COLUMNS, BITS)
    bits: list[float] = []
    for seed in range(200):
        _, packages = dealt(seed.to_bytes(4, "big"))
        explicit = np.frombuffer(packages[0].components[2].value, "<u8")
        assert not (explicit == one.ravel()).any()
        bits.append(np.unpackbits(explicit.view(np.uint8)).mean())
    # 200 · 8 words · 64 bits fair coins; five standard deviations.
    assert abs(np.mean(bits) - 0.5) < 5 * 0.5 / (200 * 8 * 64) ** 0.5
