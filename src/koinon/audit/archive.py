"""The bundle's container: a ZIP file of stored entries with exactly one form.

Any ZIP program opens it, but we read it strictly: nothing compressed, no dates, no attributes, no comments, names in
order, every byte accounted for. What was read is written again and must give the same file, so there is no place in it
where a byte could change unnoticed, and nothing can unfold to more than the file's own length.
"""

import re
import struct
import zlib
from collections.abc import Mapping
from typing import Final

from koinon.kernel.errors import Forged, InvalidInput

LONGEST_ARCHIVE: Final = 512 * 1024 * 1024
MOST_ENTRIES: Final = 20_000
MANIFEST: Final = "manifest"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}(/[a-z0-9][a-z0-9-]{0,63}){0,3}\Z")
_LOCAL: Final = struct.Struct("<4sHHHHHIIIHH")
_CENTRAL: Final = struct.Struct("<4sHHHHHHIIIHHHHHII")
_END: Final = struct.Struct("<4sHHHHIIH")
_VERSION: Final = 20
_FIRST_OF_JANUARY_1980: Final = 0x0021


def write_archive(entries: Mapping[str, bytes]) -> bytes:
    """The one archive of these entries: the manifest first, the others by name.

    Raises:
        InvalidInput: a name is not lower-case words joined by '-' and '/', or there is too much.
    """
    if len(entries) > MOST_ENTRIES or sum(map(len, entries.values())) > LONGEST_ARCHIVE:
        raise InvalidInput(f"a bundle holds at most {MOST_ENTRIES} entries and {LONGEST_ARCHIVE} bytes")
    parts: list[bytes] = []
    directory: list[bytes] = []
    offset = 0
    for name in sorted(entries, key=lambda name: (name != MANIFEST, name)):
        _check_name(name)
        data, encoded = entries[name], name.encode()
        check = zlib.crc32(data)
        common = (_VERSION, 0, 0, 0, _FIRST_OF_JANUARY_1980, check, len(data), len(data), len(encoded))
        parts += [_LOCAL.pack(b"PK\x03\x04", *common, 0), encoded, data]
        directory += [_CENTRAL.pack(b"PK\x01\x02", _VERSION, *common, 0, 0, 0, 0, 0, offset), encoded]
        offset += _LOCAL.size + len(encoded) + len(data)
    listing = b"".join(directory)
    end = _END.pack(b"PK\x05\x06", 0, 0, len(entries), len(entries), len(listing), offset, 0)
    return b"".join((*parts, listing, end))


def read_archive(archive: bytes) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """Entries of an archive, and the names of those whose own checksum does not match.

    Raises:
        InvalidInput: too long, or not an archive of this form; says after which entry.
        Forged: every entry can be read, but the container around them was changed.
    """
    if len(archive) > LONGEST_ARCHIVE:
        raise InvalidInput(f"the bundle has {len(archive)} bytes; at most {LONGEST_ARCHIVE} are allowed")
    entries: dict[str, bytes] = {}
    damaged: list[str] = []
    offset, last = 0, "the beginning"
    while archive[offset : offset + 4] == b"PK\x03\x04":
        if len(archive) - offset < _LOCAL.size or len(entries) >= MOST_ENTRIES:
            raise InvalidInput(f"the bundle's container is damaged after {last}")
        _, *_, check, _, size, name_length, _ = _LOCAL.unpack_from(archive, offset)
        begin = offset + _LOCAL.size + name_length
        try:
            name = archive[offset + _LOCAL.size : begin].decode("ascii")
            _check_name(name)
        except (UnicodeDecodeError, InvalidInput):
            raise InvalidInput(f"the bundle's container is damaged after {last}: an entry has no proper name") from None
        if name in entries:
            raise InvalidInput(f"the bundle has two entries called {name}")
        if begin + size > len(archive):
            raise InvalidInput(f"the bundle ends inside the entry {name}")
        entries[name] = archive[begin : begin + size]
        if zlib.crc32(entries[name]) != check:
            damaged.append(name)
        offset, last = begin + size, f"the entry {name}"
    if not entries:
        raise InvalidInput("the file is no evidence bundle")
    if not damaged and write_archive(entries) != archive:
        raise Forged(f"the bundle's container was changed, in a header or behind {last}")
    return entries, tuple(damaged)


def _check_name(name: str) -> None:
    if not _NAME.match(name):
        raise InvalidInput(f"{name[:80]!r} is no proper name of a bundle entry")
