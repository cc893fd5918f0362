"""The owner's side: rows become four share packages and a signed manifest; and how a holder checks its package.

A number is mapped affinely from its column's public range to [−1, 1], written as a word with ``fraction_bits`` and
split as x₀ + x₁ + x₂ + x₃: three components are the streams of fresh 32-byte seeds, the fourth is the rest. Position i
is given every component but xᵢ, so no one position learns anything; any two learn everything.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Final

import msgspec
import numpy as np

from koinon.crypto.commitment import SALT_BYTES, check, commit
from koinon.crypto.hash import tagged_hash
from koinon.crypto.signature import NodeKey, verify_node_signature
from koinon.kernel.codec import encode
from koinon.kernel.effects import Rng
from koinon.kernel.errors import Forged, InvalidInput, MalformedMessage
from koinon.kernel.ids import Hash32, NodeId
from koinon.privacy.rep4.shares import Shares, four
from koinon.privacy.rep4.streams import Stream
from koinon.wire.committee import POSITIONS, Column, ComponentShare, Four, ShareManifest, SharePackage

SEED_BYTES: Final = 32
EXPLICIT: Final = 3
"""The component that is sent as words; the others are streams of their seeds."""
LARGEST_MATRIX_WORDS: Final = 1 << 26
MOST_COLUMNS: Final = 10_000
FRACTION_BITS_RANGE: Final = range(8, 31)
_WORD_BYTES: Final = 8
MANIFEST_DOMAIN: Final = "koinon/rep4/share-manifest/1"
_COMPONENT_DOMAIN: Final = "koinon/rep4/component/1"
_SEALED_DOMAIN: Final = "koinon/encrypted/sums/1"
NOTHING_SHARED: Final[Four] = (bytes(32), bytes(32), bytes(32), bytes(32))
"""In place of commitments to components where no shares are dealt."""

FourPackages = tuple[SharePackage, SharePackage, SharePackage, SharePackage]


@dataclass(frozen=True, slots=True)
class Dealing:
    """What a dealing is for; every package is bound to it.

    Attributes:
        study: 32-byte id of the study.
        attempt: number of the run, from 0; shares are never used for a second one.
        dataset: 32-byte commitment to the rows, as registered by the owner.
    """

    study: bytes
    attempt: int
    dataset: bytes


def deal(
    matrix: np.ndarray,
    columns: Sequence[Column],
    fraction_bits: int,
    dealing: Dealing,
    owner: NodeKey,
    rng: Rng,
    parts: tuple[int, ...] = (),
) -> tuple[ShareManifest, FourPackages]:
    """Share a matrix of float64 (rows, columns) among four positions, with fresh seeds every time.

    Args:
        parts: what the manifest says of the rows where people were matched in pairs of owners.

    Raises:
        InvalidInput: wrong shape, a value that is not finite or lies outside its column's declared range, or unusable
            ranges. Nothing is shared; the error names the column, never the value.
    """
    words = encoded(matrix, columns, fraction_bits)
    stated = msgspec.structs.replace(_statement(len(words), columns, fraction_bits, dealing, owner), parts=parts)
    return _dealt(words, stated, owner, rng)


def deal_sums(
    sums: np.ndarray,
    rows: int,
    columns: Sequence[Column],
    fraction_bits: int,
    dealing: Dealing,
    owner: NodeKey,
    rng: Rng,
) -> tuple[ShareManifest, FourPackages]:
    """As ``deal``, of (m,) sums over rows in place of the rows.

    Args:
        sums: numbers in [−1, 1].
        rows, columns: how many rows they are over, and the rows' columns; the manifest states both.
    """
    check_columns(columns, fraction_bits)
    if sums.ndim != 1 or not 1 <= sums.size <= MOST_COLUMNS or not (np.abs(sums) <= 1.0).all():
        raise InvalidInput(f"1 to {MOST_COLUMNS} sums in [-1, 1] are shared; these are not, so nothing was")
    words = np.round(sums.reshape(1, -1) * 2.0**fraction_bits).astype(np.int64).view(np.uint64)
    stated = msgspec.structs.replace(_statement(rows, columns, fraction_bits, dealing, owner), sums=sums.size)
    return _dealt(words, stated, owner, rng)


def _statement(
    rows: int, columns: Sequence[Column], fraction_bits: int, dealing: Dealing, owner: NodeKey
) -> ShareManifest:
    """A manifest that commits to nothing yet and is not signed."""
    return ShareManifest(
        dealing.study,
        dealing.attempt,
        owner.node_id,
        dealing.dataset,
        rows,
        tuple(columns),
        fraction_bits,
        NOTHING_SHARED,
    )


def _signed(stated: ShareManifest, commitments: Four, owner: NodeKey) -> ShareManifest:
    unsigned = msgspec.structs.replace(stated, commitments=commitments)
    return msgspec.structs.replace(unsigned, signature=owner.sign(MANIFEST_DOMAIN, encode(unsigned)))


def _dealt(words: np.ndarray, stated: ShareManifest, owner: NodeKey, rng: Rng) -> tuple[ShareManifest, FourPackages]:
    dealing = Dealing(stated.study, stated.attempt, stated.dataset)
    seeds = [rng.bytes(SEED_BYTES) for _ in range(EXPLICIT)]
    rest = words.copy()
    for seed in seeds:
        rest -= Stream(seed).draw(0, words.shape)
    values = (*seeds, rest.astype("<u8").tobytes())
    salts = [rng.bytes(SALT_BYTES) for _ in POSITIONS]
    commitments = [_commitment(dealing, owner.node_id, j, values[j], salts[j]) for j in POSITIONS]
    manifest = _signed(stated, (commitments[0], commitments[1], commitments[2], commitments[3]), owner)
    shares = [ComponentShare(j, values[j], salts[j]) for j in POSITIONS]
    zeroth, first, second, third = shares
    return manifest, (
        SharePackage(0, (first, second, third)),
        SharePackage(1, (zeroth, second, third)),
        SharePackage(2, (zeroth, first, third)),
        SharePackage(3, (zeroth, first, second)),
    )


def sealed_commitments(sealed: bytes) -> Four:
    """In place of commitments to components where the same ciphertext goes to all four: its hash, four times."""
    digest = tagged_hash(_SEALED_DOMAIN, sealed)
    return digest, digest, digest, digest


def attest(
    rows: int,
    columns: Sequence[Column],
    fraction_bits: int,
    dealing: Dealing,
    owner: NodeKey,
    commitments: Four = NOTHING_SHARED,
) -> ShareManifest:
    """A signed manifest of rows of which no shares are dealt: it commits to the data set and any ciphertext."""
    return _signed(_statement(rows, columns, fraction_bits, dealing, owner), commitments, owner)


def encoded(matrix: np.ndarray, columns: Sequence[Column], fraction_bits: int) -> np.ndarray:
    """Rows as uint64 words: each column mapped from its range to [−1, 1].

    Raises:
        InvalidInput: see ``deal``.
    """
    units = in_ranges(matrix, columns, fraction_bits)
    words = np.round(units * 2.0**fraction_bits).astype(np.int64).view(np.uint64)
    return np.ascontiguousarray(words)


def in_ranges(matrix: np.ndarray, columns: Sequence[Column], fraction_bits: int) -> np.ndarray:
    """Rows as float64, each column mapped from its range to [−1, 1]. Raises InvalidInput: see ``deal``."""
    check_columns(columns, fraction_bits)
    values = np.asarray(matrix)
    if values.ndim != 2 or values.shape[1] != len(columns) or values.shape[0] < 1:
        raise InvalidInput(
            f"the rows must form a table of at least one row and {len(columns)} columns; got shape {values.shape}"
        )
    if values.size > LARGEST_MATRIX_WORDS:
        raise InvalidInput(f"{values.size} numbers are more than the {LARGEST_MATRIX_WORDS} one dealing may hold")
    if values.dtype.kind not in "fiub":
        raise InvalidInput(f"the rows must be numbers; got {values.dtype}")
    values = values.astype(np.float64)
    low = np.array([column.low for column in columns])
    high = np.array([column.high for column in columns])
    for index, column in enumerate(columns):
        numbers = values[:, index]
        if not np.isfinite(numbers).all():
            raise InvalidInput(f"column {column.name!r} holds a value that is missing or not finite; clean the rows")
        if (numbers < column.low).any() or (numbers > column.high).any():
            raise InvalidInput(
                f"column {column.name!r} holds a value outside its declared range"
                f" {column.low:g} to {column.high:g}; agree on a wider range or correct the rows"
            )
    units = (values - (low + high) / 2) / ((high - low) / 2)
    return np.asarray(np.clip(units, -1.0, 1.0))


def check_columns(columns: Sequence[Column], fraction_bits: int) -> None:
    """Refuse declared columns that cannot be used. Raises InvalidInput naming the first one."""
    if not 1 <= len(columns) <= MOST_COLUMNS:
        raise InvalidInput(f"a table has 1 to {MOST_COLUMNS} columns; {len(columns)} are declared")
    if fraction_bits not in FRACTION_BITS_RANGE:
        raise InvalidInput(
            f"fraction bits must be {FRACTION_BITS_RANGE.start} to {FRACTION_BITS_RANGE.stop - 1}; got {fraction_bits}"
        )
    times = Counter(column.name for column in columns)
    for column in columns:
        if times[column.name] > 1:
            raise InvalidInput(f"column {column.name!r} is declared twice; give every column its own name")
        if not (isfinite(column.low) and isfinite(column.high) and column.low < column.high):
            raise InvalidInput(f"column {column.name!r} needs a finite range with its low end below its high end")
        if not isfinite(column.high - column.low):
            raise InvalidInput(f"the range of column {column.name!r} is too wide for a number; choose another unit")


def check_manifest(manifest: ShareManifest) -> None:
    """Check form and signature of a manifest that came from outside.

    Raises:
        MalformedMessage: sizes, ranges or counts that no honest owner would state.
        Forged: not signed by the owner it names.
    """
    hashes = (manifest.study, manifest.owner, manifest.dataset, *manifest.commitments)
    if any(len(value) != 32 for value in hashes):
        raise MalformedMessage("a share manifest names study, owner, data set and commitments by 32 bytes each")
    if not (0 <= manifest.attempt < 1 << 32 and manifest.rows >= 1):
        raise MalformedMessage("a share manifest needs an attempt from 0 and at least one row")
    if not 0 <= manifest.sums <= MOST_COLUMNS:
        raise MalformedMessage(f"a share manifest may cover at most {MOST_COLUMNS} sums")
    if manifest.parts and (min(manifest.parts) < 0 or sum(manifest.parts) != manifest.rows):
        raise MalformedMessage("the parts of a share manifest must add up to its rows")
    rows, columns = shared_shape(manifest)
    if rows * columns > LARGEST_MATRIX_WORDS:
        raise MalformedMessage(f"a share manifest may cover at most {LARGEST_MATRIX_WORDS} numbers")
    try:
        check_columns(manifest.columns, manifest.fraction_bits)
    except InvalidInput as problem:
        raise MalformedMessage(f"a share manifest is unusable: {problem}") from None
    unsigned = msgspec.structs.replace(manifest, signature=b"")
    verify_node_signature(NodeId(manifest.owner), MANIFEST_DOMAIN, encode(unsigned), manifest.signature)


def shared_shape(manifest: ShareManifest) -> tuple[int, int]:
    """Of the matrix that was shared: the rows and their columns, or one row of sums."""
    return (1, manifest.sums) if manifest.sums else (manifest.rows, len(manifest.columns))


def manifest_hash(manifest: ShareManifest) -> Hash32:
    """What the four positions compare: BLAKE3 over the signed manifest."""
    return tagged_hash(MANIFEST_DOMAIN, encode(manifest))


def accept_package(manifest: ShareManifest, position: int, package: SharePackage | None) -> Shares:
    """Check a package against its manifest, whole or not at all, and unfold it.

    Args:
        position: ours, 0 to 3.

    Returns:
        The array of ``shared_shape`` as this position holds it.

    Raises:
        MalformedMessage: the manifest or the package is not of the required form.
        Forged: the manifest is not signed by its owner, or a component is not the one it commits to.
    """
    check_manifest(manifest)
    expected = tuple(j for j in POSITIONS if j != position)
    if package is None or (package.position, *(share.index for share in package.components)) != (position, *expected):
        raise MalformedMessage(f"the share package is not for position {position}; ask the owner to deal again")
    shape = shared_shape(manifest)
    dealing = Dealing(manifest.study, manifest.attempt, manifest.dataset)
    owner = NodeId(manifest.owner)
    for share in package.components:
        length = SEED_BYTES if share.index != EXPLICIT else shape[0] * shape[1] * _WORD_BYTES
        if len(share.value) != length or len(share.salt) != SALT_BYTES:
            raise MalformedMessage(f"component {share.index} of the share package has the wrong length")
        value = _committed(dealing, owner, share.index, share.value)
        check(manifest.commitments[share.index], _COMPONENT_DOMAIN, value, share.salt)
    parts: list[np.ndarray | None] = [None] * 4
    for share in package.components:
        parts[share.index] = (
            np.frombuffer(share.value, "<u8").astype(np.uint64).reshape(shape)
            if share.index == EXPLICIT
            else Stream(share.value).draw(0, shape)
        )
    return Shares(four(parts), shape)


def check_same_run(manifests: Sequence[ShareManifest]) -> None:
    """Refuse manifests that do not belong together. Raises Forged where study, attempt or an owner does not fit."""
    if len({(manifest.study, manifest.attempt) for manifest in manifests}) > 1:
        raise Forged("the share manifests belong to different studies or attempts")
    if len({manifest.owner for manifest in manifests}) != len(manifests):
        raise Forged("one owner dealt twice into the same run")


def _committed(dealing: Dealing, owner: NodeId, index: int, value: bytes) -> bytes:
    return encode([dealing.study, dealing.attempt, owner, dealing.dataset, index]) + value


def _commitment(dealing: Dealing, owner: NodeId, index: int, value: bytes, salt: bytes) -> bytes:
    return commit(_COMPONENT_DOMAIN, _committed(dealing, owner, index, value), salt)
