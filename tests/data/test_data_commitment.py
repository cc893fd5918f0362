"""The dataset hash: it binds every row, its order and its schema, and shows one row at a time."""

import msgspec
import numpy as np
import pytest

from koinon.data.commitment import DatasetCommitment, check_row, check_table, decode_row
from koinon.data.schema import Schema
from koinon.data.table import Table
from koinon.kernel.errors import Forged, InvalidInput
from koinon.wire.committee import Column

SCHEMA = Schema((Column("age", 0.0, 120.0), Column("size", -50.0, 50.0)), "sick")
SECRET = bytes(range(32))


@pytest.fixture
def table() -> Table:
    rng = np.random.default_rng(1)
    return Table(SCHEMA, rng.uniform(0, 50, (13, 2)), (np.arange(13) % 2).astype(np.float64))


def test_every_row_is_proven_and_comes_back(table: Table) -> None:
    commitment = DatasetCommitment.make(table, SECRET)
    for index in range(table.rows):
        proof = commitment.prove(table, index)
        check_row(commitment.root, proof)
        assert decode_row(proof.row, SCHEMA).tolist() == table.matrix[index].tolist()


def test_any_change_of_rows_order_schema_or_secret_changes_the_hash(table: Table) -> None:
    root = DatasetCommitment.make(table, SECRET).root
    changed = table.features.copy()
    changed[5, 1] = np.nextafter(changed[5, 1], 100)
    other_schema = Schema((SCHEMA.columns[0], Column("size", -50.0, 51.0)), "sick")
    others = [
        Table(SCHEMA, changed, table.target),
        Table(SCHEMA, table.features, 1 - table.target),
        table.take(np.arange(13)[::-1]),
        table.take(np.arange(12)),
        Table(other_schema, table.features, table.target),
    ]
    roots = {DatasetCommitment.make(other, SECRET).root for other in others}
    roots.add(DatasetCommitment.make(table, bytes(32)).root)
    assert len(roots) == 6
    assert root not in roots
    check_table(root, table, SECRET)
    with pytest.raises(Forged):
        check_table(root, others[0], SECRET)


def test_a_proof_that_was_changed_anywhere_is_forged(table: Table) -> None:
    commitment = DatasetCommitment.make(table, SECRET)
    proof = commitment.prove(table, 4)
    replace = msgspec.structs.replace
    for forged in (
        replace(proof, index=5),
        replace(proof, index=-1),
        replace(proof, count=12),
        replace(proof, row=proof.row[:-1] + b"\x01"),
        replace(proof, salt=bytes(32)),
        replace(proof, path=proof.path[:-1]),
        replace(proof, path=(bytes(32), *proof.path[1:])),
    ):
        with pytest.raises(Forged):
            check_row(commitment.root, forged)


def test_what_cannot_be_committed_to_or_proven_is_refused(table: Table) -> None:
    commitment = DatasetCommitment.make(table, SECRET)
    with pytest.raises(InvalidInput, match="32 random bytes"):
        DatasetCommitment.make(table, b"short")
    with pytest.raises(InvalidInput, match="empty table"):
        DatasetCommitment.make(table.take(np.arange(0)), SECRET)
    with pytest.raises(InvalidInput, match="no row 13"):
        commitment.prove(table, 13)
    with pytest.raises(Forged):
        commitment.prove(table.take(np.arange(13)[::-1]), 0)
    with pytest.raises(Forged, match="another schema"):
        decode_row(commitment.prove(table, 0).row, Schema(SCHEMA.columns, "ill"))


def test_the_secret_is_never_shown(table: Table) -> None:
    shown = repr(DatasetCommitment.make(table, SECRET))
    assert SECRET.hex() not in shown
    assert repr(SECRET) not in shown
