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
_IDS: Final = "ids"


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
        ids: tuple[str, ...] = ()
        if key:
            table, people, found = read_aligned(path, agreed, key)
            ids = tuple(str(int(number)) for number in found)
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
            if ids:
                write_private(unfinished / _IDS, "\n".join(ids).encode())
            write_private(unfinished / _DESCRIPTION, encode(stored))
            unfinished.rename(place)
        except OSError as problem:
            raise Unavailable(f"cannot keep the data set: {problem.strerror}; nothing was kept") from None
        return stored

    def all(self) -> tuple[StoredDataset, ...]:
        """Every data set here."""
        found = sorted(self.folder.glob(f"*/{_DESCRIPTION}"))
        return tuple(decode(StoredDataset, path.read_bytes()) for path in found if path.parent.suffix != ".new")

    def matching(self, wanted: Schema, people: bytes = b"", *, with_ids: bool = False) -> StoredDataset | None:
        """The newest data set with exactly these columns, ranges, target and people, if there is one.

        Args:
            people: root of the agreed people; empty where it does not matter who they are.
            with_ids: only one that was added with ids.
        """
        fitting = [
            one
            for one in self.all()
            if one.schema == wanted and (not people or one.people == people) and (one.people or not with_ids)
        ]
        return max(fitting, key=lambda dataset: self._place(dataset).stat().st_mtime, default=None)

    def find(self, start: bytes) -> StoredDataset:
        """The data set whose hash begins like this. Raises InvalidInput where none or more than one does."""
        found = [one for one in self.all() if one.dataset_hash.startswith(start)]
        if len(found) != 1:
            several = "more than one data set begins" if found else "there is no data set that begins"
            raise InvalidInput(f"{several} with {start.hex()[:8]}… here; see: koinon data list")
        return found[0]

    def identifiers(self, dataset_hash: Hash32) -> tuple[str, ...]:
        """The ids of the rows, in the rows' order.

        Raises:
            InvalidInput: there is no such data set here, or it was added without ids.
            Forged: the ids on disk are not those that were added.
            Unavailable: they cannot be read.
        """
        from koinon.data.people import root_of

        stored = self.find(dataset_hash)
        if not stored.people:
            raise InvalidInput("this data set was added without ids; add it again with: koinon data add --key")
        try:
            ids = tuple((self._place(stored) / _IDS).read_text("ascii").split("\n"))
        except (OSError, UnicodeDecodeError):
            raise Unavailable("the ids of the data set cannot be read; add it again with: koinon data add") from None
        if root_of(ids) != stored.people:
            raise Forged("the ids on disk are not those that were added; add the data set again: koinon data add")
        return ids

    def open(self, dataset_hash: Hash32) -> "Table":
        """The rows, checked against their commitment.

        Raises:
            InvalidInput: there is no such data set here.
            Forged: the rows on disk are not those that were committed to.
        """
        from koinon.data.commitment import check_table
        from koinon.data.table import read_stored

        stored = self.find(dataset_hash)
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


def write_private(path: Path, content: bytes) -> None:
    """A file only the operator reads, on the disk before this returns.

    Raises:
        Unavailable: the disk is full or cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as problem:
        raise Unavailable(f"cannot write {path.name}: {problem.strerror}") from None
