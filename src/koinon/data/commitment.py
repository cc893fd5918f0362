"""A salted Merkle commitment to every row, so that an owner can later prove one row and nobody can guess any.

The root is the *dataset hash* of the study, the chain and the model's provenance. Each leaf is a commitment under its
own salt, derived from one secret of the owner: revealing a row reveals that row's salt only.
"""

import struct
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from koinon.crypto import commitment, merkle
from koinon.crypto.hash import tagged_hash
from koinon.data.schema import Schema, schema_hash
from koinon.data.table import Table
from koinon.kernel.codec import Record
from koinon.kernel.errors import Forged, InvalidInput
from koinon.kernel.ids import Hash32

ROW_DOMAIN: Final = "koinon/data/row/1"
SALT_DOMAIN: Final = "koinon/data/row-salt/1"


class RowProof(Record, frozen=True):
    """What shows one row to be row ``index`` of ``count`` under a dataset hash. It holds the row: keep it private."""

    index: int
    count: int
    row: bytes
    salt: bytes
    path: tuple[bytes, ...]


@dataclass(frozen=True, eq=False)
class DatasetCommitment:
    """The commitment as its owner holds it.

    Attributes:
        root: the dataset hash, public.
        rows: how many rows it covers, public.
        secret: 32 bytes from which every row's salt is derived; whoever has it and guesses a row can confirm the guess.
    """

    root: Hash32
    rows: int
    secret: bytes = field(repr=False)
    leaves: tuple[Hash32, ...] = field(repr=False)

    @classmethod
    def make(cls, table: Table, secret: bytes) -> "DatasetCommitment":
        """Commit to every row under 32 random secret bytes. Raises InvalidInput for another length or no rows."""
        if len(secret) != 32:
            raise InvalidInput(f"the commitment's secret must be 32 random bytes; got {len(secret)}")
        if not table.rows:
            raise InvalidInput("an empty table cannot be committed to")
        leaves = tuple(
            commitment.commit(ROW_DOMAIN, row, row_salt(secret, index)) for index, row in enumerate(encode_rows(table))
        )
        return cls(merkle.root(leaves), table.rows, secret, leaves)

    def prove(self, table: Table, index: int) -> RowProof:
        """Proof that row ``index`` of ``table`` is committed to.

        Raises:
            InvalidInput: no such row.
            Forged: the table is not the one that was committed to.
        """
        if not 0 <= index < self.rows:
            raise InvalidInput(f"there is no row {index}; the dataset has {self.rows}")
        row = encode_rows(table.take(np.array([index])))[0] if index < table.rows else b""
        salt = row_salt(self.secret, index)
        commitment.check(self.leaves[index], ROW_DOMAIN, row, salt)
        return RowProof(index, self.rows, row, bytes(salt), tuple(merkle.prove(self.leaves, index)))


def row_salt(secret: bytes, index: int) -> Hash32:
    """The salt of one row."""
    return tagged_hash(SALT_DOMAIN, secret, index.to_bytes(8, "big"))


def encode_rows(table: Table) -> list[bytes]:
    """Each row as bytes: hash of its schema, then features and target as little-endian float64 (−0 written as 0)."""
    prefix = bytes(schema_hash(table.schema))
    matrix: NDArray[np.float64] = table.matrix + 0.0
    return [prefix + row.astype("<f8").tobytes() for row in matrix]


def decode_row(row: bytes, schema: Schema) -> NDArray[np.float64]:
    """The numbers of an encoded row, the target last. Raises Forged where it belongs to another schema."""
    width = len(schema.all_names)
    if len(row) != 32 + 8 * width or row[:32] != schema_hash(schema):
        raise Forged("the row was committed under another schema than this one")
    return np.array(struct.unpack(f"<{width}d", row[32:]))


def check_row(root: Hash32, proof: RowProof) -> None:
    """Check a row's proof against a dataset hash. Raises Forged where it does not hold."""
    leaf = commitment.commit(ROW_DOMAIN, proof.row, Hash32(proof.salt))
    path = tuple(Hash32(node) for node in proof.path)
    if not 0 <= proof.index < proof.count or not merkle.verify(root, leaf, proof.index, proof.count, path):
        raise Forged(f"row {proof.index} is not part of the dataset with this hash")


def check_table(root: Hash32, table: Table, secret: bytes) -> None:
    """Check that a whole table is the one under a dataset hash. Raises Forged where it is not."""
    if DatasetCommitment.make(table, secret).root != root:
        raise Forged("these rows, in this order, are not the ones under the dataset hash")
