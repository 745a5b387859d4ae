"""What a file is, by its first bytes and not by its name: text, a workbook, JSON, parquet or feather, packed or not.

Invariant: nothing is unpacked beyond MAX_BYTES, all files of an archive together, and one file at a time is held.
"""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from aworker.trading.bars.store import BarsInvalid

MAX_BYTES = 2_000_000_000
MAX_RATIO = 200
"""Text of bars shrinks to a tenth; what shrinks to less than a two-hundredth is made to harm."""
MAX_FILES = 20_000
_SMALL_BYTES = 10_000_000
_BAR_SUFFIXES = (".csv", ".parquet", ".json", ".xlsx", ".txt", ".csv.gz", ".feather")

Kind = Literal["text", "json", "parquet", "feather", "xlsx"]


@dataclass(slots=True)
class Content:
    """A file's content, unpacked; ``notes`` say what it was packed in. Whoever has made a table of it lets it go."""

    file: Path
    kind: Kind
    data: bytes
    notes: tuple[str, ...] = ()
    inner: str = ""
    """Of an archive of several files, the name of this one in it."""
    needs_all: bool = False
    """Whether columns are needed whose names nobody knows."""


def open_contents(file: Path) -> Iterator[Content]:
    """Read a file whole and unpack it: the files of an archive one after the other, of anything else the one.

    Raises BarsInvalid for what can hold no bars.
    """
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise refused(file, "not there", "check the name") from None
    except IsADirectoryError:
        raise refused(file, "a folder", "name a file in it") from None
    except OSError as error:
        raise refused(file, f"unreadable ({error.strerror or 'broken'})", "check it") from error
    whole = [data]
    notes: tuple[str, ...] = ()
    if data.startswith(b"\x1f\x8b"):
        whole, notes = [_ungzipped(file, data)], ("gzip",)
    del data
    if whole[0].startswith((b"PK\x03\x04", b"PK\x05\x06")):
        yield from _from_zip(file, whole.pop(), notes)
    else:
        yield Content(file, _kind(file, whole[0]), whole.pop(), notes)


def refused(file: Path, was: str, do: str) -> BarsInvalid:
    """Return the error for a file that is none of bars."""
    return BarsInvalid(f"{file} must be a csv or parquet file of bars, was {was}; {do}")


def _kind(file: Path, data: bytes) -> Kind:
    if data.startswith(b"PAR1"):
        return "parquet"
    if data.startswith(b"ARROW1"):
        return "feather"
    if data.startswith(b"\xd0\xcf\x11\xe0"):
        raise refused(file, "a workbook of the old kind (.xls), or one with a password", "save it as .xlsx or csv")
    head = data[:2_048].lstrip(b"\xef\xbb\xbf").lstrip()
    if head[:5].lower() == b"<html" or head[:9].lower() == b"<!doctype" or head[:5] == b"<?xml":
        raise refused(file, "a web page", "download the data itself; the page may tell what went wrong")
    for magic, what in (
        (b"\x89PNG", "a picture"),
        (b"\xff\xd8\xff", "a picture"),
        (b"%PDF", "a PDF"),
        (b"GIF8", "a picture"),
    ):
        if data.startswith(magic):
            raise refused(file, what, "download the data itself")
    if file.suffix.lower() in (".parquet", ".feather", ".xlsx") and data:
        raise refused(file, f"no {file.suffix[1:].lower()} that can be read", "write it again")
    return "json" if head[:1] in (b"{", b"[") and _looks_like_json(head) else "text"


def _looks_like_json(head: bytes) -> bool:
    rest = head[1:].lstrip()
    return rest[:1] in (b'"', b"[", b"{", b"]", b"}") or rest[:1].isdigit()


def _ungzipped(file: Path, data: bytes) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            return _bounded(file, stream, len(data))
    except (OSError, EOFError, zlib.error) as error:
        raise refused(file, "unreadable (broken gzip)", "check it, or download it again") from error


def _bounded(file: Path, stream: IO[bytes] | gzip.GzipFile, packed: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while part := stream.read(1 << 22):
        size += len(part)
        if size > MAX_BYTES or (size > _SMALL_BYTES and size > MAX_RATIO * packed):
            raise refused(file, f"packed text of more than {size:,} bytes", "unpack it and look what it is")
        parts.append(part)
    return b"".join(parts)


def _from_zip(file: Path, data: bytes, notes: tuple[str, ...]) -> Iterator[Content]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [each for each in archive.infolist() if not each.is_dir()]
            if any(each.filename == "[Content_Types].xml" for each in names):
                if not any(each.filename.startswith("xl/") for each in names):
                    raise refused(file, "a document that is no workbook", "save it as .xlsx or csv")
                if sum(each.file_size for each in names) > MAX_BYTES:
                    raise refused(file, "a workbook too large to read", "save it as csv")
                yield Content(file, "xlsx", data, notes)
                return
            held = _bar_files(file, names)
            unpacked = 0
            for each in held:
                with archive.open(each) as stream:
                    inner = _bounded(file, stream, each.compress_size)
                unpacked += len(inner)
                if unpacked > MAX_BYTES:
                    raise refused(file, f"packed text of more than {unpacked:,} bytes", "unpack it, import it in parts")
                yield _member(file, each.filename, inner, notes, is_alone=len(held) == 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
        raise refused(file, "an archive that is broken", "download it again") from error


def _bar_files(file: Path, names: list[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    held = [each for each in names if not Path(each.filename).name.startswith(".") and "__MACOSX" not in each.filename]
    data_files = [each for each in held if each.filename.lower().endswith(_BAR_SUFFIXES)]
    tables = [each for each in data_files if not each.filename.lower().endswith(".txt")]
    # A licence or a readme beside them.
    held = tables or data_files or held
    if not 1 <= len(held) <= MAX_FILES or (len(held) > 1 and not data_files):
        listed = ", ".join(each.filename for each in held[:5]) or "nothing"
        raise refused(file, f"an archive of {len(held):,} files ({listed})", "unpack it and import one by one")
    if any(each.flag_bits & 1 for each in held):
        raise refused(file, "an archive with a password", "unpack it first")
    return held


def _member(file: Path, name: str, inner: bytes, notes: tuple[str, ...], *, is_alone: bool) -> Content:
    notes = (*notes, f"zip, {name}" if is_alone else "zip of several files")
    inner_name = "" if is_alone else name
    if inner.startswith(b"\x1f\x8b"):
        return Content(file, "text", _ungzipped(file, inner), notes, inner_name)
    if inner.startswith(b"PK\x03\x04") and b"xl/" not in inner[:4_000] and b"[Content_Types]" not in inner[:4_000]:
        raise refused(file, "an archive within an archive", "unpack it first")
    kind = "xlsx" if inner.startswith(b"PK") else _kind(Path(name), inner)
    return Content(file, kind, inner, notes, inner_name)
