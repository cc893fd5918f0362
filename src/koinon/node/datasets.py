"""A data owner's rows at home: checked once when they are added, committed to, and never sent anywhere."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from koinon.data.schema import Schema
from koinon.kernel.codec import Record, decode, encode
from koinon.kernel.effects import Rng
from koinon.kernel.errors import Forged, InvalidInput, Unavailable
from koinon.kernel.ids import Hash32

if TYPE_CHECKING:
    from koinon.data.table import Table

_DESCRIPTION: Final = "description"
_ROWS: Final = "rows.csv"


class StoredDataset(Record, frozen=True):
    """What the owner keeps beside the rows. ``secret`` makes the salts of the commitment."""

    dataset_hash: bytes
    rows: int
    schema: Schema
    secret: bytes
    people: bytes = b""
    """Root of the agreed people, whose order the rows have; empty where the file has no ids."""

    def __repr__(self) -> str:
        return f"StoredDataset({self.dataset_hash.hex()[:8]}…, {self.rows} rows)"


@dataclass(frozen=True)
class Datasets:
    """The data sets in one folder, each in a folder of its own, readable by the operator only."""

    folder: Path

    def add(self, path: Path, schema: Schema | None, target: str, rng: Rng, key: str = "") -> StoredDataset:
        """Read a file whole, commit to its rows, keep a copy.

        Args:
            schema: columns and public ranges that were agreed on; None to take the file's own, with a margin.
            key: column of ids, by which owners of different columns of the same people put them in one order.

        Raises:
            InvalidInput: the file breaks a rule; nothing is kept.
            Unavailable: the disk is full or cannot be written; nothing is kept.
        """
        from koinon.data.commitment import DatasetCommitment
        from koinon.data.table import infer_schema, read_aligned, read_table, write_csv

        agreed, people = schema or infer_schema(path, target, key), b""
        if key:
            table, people = read_aligned(path, agreed, key)
        else:
            table = read_table(path, agreed)
        for known in self.all():
            if (known.schema, known.people) == (table.schema, people) and self._same_rows(known, table):
                return known
        commitment = DatasetCommitment.make(table, rng.bytes(32))
        stored = StoredDataset(commitment.root, table.rows, table.schema, commitment.secret, people)
        place = self.folder / commitment.root.hex()
        unfinished = place.with_suffix(".new")
        try:
            unfinished.mkdir(mode=0o700, parents=True)
            write_csv(table, unfinished / _ROWS)
            descriptor = os.open(unfinished / _DESCRIPTION, os.O_WRONLY | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(encode(stored))
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(place)
        except OSError as problem:
            raise Unavailable(f"cannot keep the data set: {problem.strerror}; nothing was kept") from None
        return stored

    def all(self) -> tuple[StoredDataset, ...]:
        """Every data set here."""
        found = sorted(self.folder.glob(f"*/{_DESCRIPTION}"))
        return tuple(decode(StoredDataset, path.read_bytes()) for path in found if path.parent.suffix != ".new")

    def matching(self, wanted: Schema, people: bytes = b"") -> StoredDataset | None:
        """The newest data set with exactly these columns, ranges, target and people, if there is one.

        Args:
            people: root of the agreed people; empty where it does not matter who they are.
        """
        fitting = [one for one in self.all() if one.schema == wanted and (not people or one.people == people)]
        return max(fitting, key=lambda dataset: self._place(dataset).stat().st_mtime, default=None)

    def open(self, dataset_hash: Hash32) -> "Table":
        """The rows, checked against their commitment.

        Raises:
            InvalidInput: there is no such data set here.
            Forged: the rows on disk are not those that were committed to.
        """
        from koinon.data.commitment import check_table
        from koinon.data.table import read_stored

        stored = next((one for one in self.all() if one.dataset_hash == dataset_hash), None)
        if stored is None:
            raise InvalidInput(f"there is no data set {dataset_hash.hex()[:8]}… here")
        table = read_stored(self._place(stored) / _ROWS, stored.schema)
        check_table(dataset_hash, table, stored.secret)
        return table

    def _same_rows(self, known: StoredDataset, table: "Table") -> bool:
        from koinon.data.commitment import check_table

        try:
            check_table(Hash32(known.dataset_hash), table, known.secret)
        except Forged:
            return False
        return True

    def _place(self, dataset: StoredDataset) -> Path:
        return self.folder / dataset.dataset_hash.hex()
