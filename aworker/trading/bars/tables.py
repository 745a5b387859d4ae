"""A file's content as a table of named columns: text in its encoding, with what stands above and below it left out;
workbooks, parquet and JSON in the shapes in which vendors and pandas write them.

Invariant: what is left out is said in the notes; a row is never shifted against its header.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from aworker.trading.bars.columns import meaning_of, meanings_in
from aworker.trading.bars.containers import Content, refused
from aworker.trading.bars.store import BarsInvalid

_SEPARATORS = ",;\t|"
_HEAD_LINES = 40
_TAIL_LINES = 20
_SHIFTED_NAMES = re.compile(r"\('([^']*)', '([^']*)'\)")
_DATE_LIKE = re.compile(
    r"\s*\"?\d{1,4}[-/.年]\d{1,2}[-/.月]\d{1,4}|\s*\"?\d{8}\b|\s*\"?\d{10,19}\b|\s*\"?\d{1,2}[- ][A-Za-z]{3}"
)
_ENCODINGS = ("cp1252", "gb18030", "cp932", "cp949")
# A file of junk makes the parser of parquet panic now and then, which is no PolarsError.
_UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)
_LARGE_BYTES = 32 << 20
"""Text from which on it is not taken apart line by line."""
_END_BYTES = 1 << 17
_PART_BYTES = 16 << 20
_TIME_KINDS = ("timestamp", "datetime", "date", "time")
_NUMBER_KINDS = (
    "open",
    "high",
    "low",
    "close",
    "last",
    "volume",
    "adjusted",
    "quote volume",
    "tick volume",
    "up",
    "down",
)
_SYMBOL_KEYS = ("symbol", "ticker", "pair", "instrument", "code", "2. symbol")


@dataclass(slots=True)
class Table:
    """Columns ``c0``, ``c1``, .. and how the file calls them; names are empty where it has no header."""

    file: Path
    frame: pl.DataFrame
    names: list[str]
    is_text: bool
    first_line: int | None = None
    """The line of the first row; None where rows are counted."""
    separator: str | None = None
    symbol: str | None = None
    """Said beside the table."""
    zone: str | None = None
    """Said beside the table, or in a heading."""
    notes: list[str] = field(default_factory=list)

    @property
    def has_header(self) -> bool:
        """Whether the columns have names."""
        return any(self.names)


def table_of(content: Content) -> Table:
    """Return the table that a content holds. Raises BarsInvalid where there is none."""
    table = {
        "text": _from_text,
        "json": _from_json,
        "xlsx": _from_workbook,
        "parquet": _from_frame,
        "feather": _from_frame,
    }[content.kind](content)
    table.notes = [*content.notes, *table.notes]
    return _long(table)


# ---- text


def _from_text(content: Content) -> Table:
    file = content.file
    body = _large_body(content)
    text, encoding = _decoded(content) if body is None else (body.head, "UTF-8")
    if not text.strip():
        raise refused(file, "empty", "export it again")
    stripped = text.lstrip()
    if stripped[:1] in ("{", "[") and encoding != "UTF-8":
        return _from_json(Content(file, "json", text.encode()))
    lines = text.splitlines()
    if not any(each in line for line in lines[:_HEAD_LINES] for each in _SEPARATORS):
        # Columns that stand under each other with blanks between.
        lines = [re.sub(r"\s{2,}", "\t", line.strip()) for line in lines]
    notes = [] if encoding == "UTF-8" else [f"text in {encoding}"]
    separator, header, first = _layout(file, lines)
    tail, last = (lines, _end(lines, first, separator)) if body is None else (body.tail, _end(body.tail, 0, separator))
    if header is not None and header > 0:
        skipped = sum(bool(line.strip(" \t\ufeff,;")) for line in lines[:header])
        notes += [f"{skipped} line{'s' * (skipped != 1)} above the header"] if skipped else []
    below = sum(bool(line.strip(" \t,;")) for line in tail[last:])
    if below:
        notes.append(f"{below} line{'s' * (below != 1)} below the bars left out: {tail[last].strip()[:60]!r}")
    names = [] if header is None else _fields(lines[header], separator)
    tops = _tops(lines, header, first, separator)
    if tops and header is not None and first == header + 1:
        notes = [note for note in notes if "above the header" not in note]
    zone = next((found[1].upper() for line in lines[:first] if (found := re.search(r"(?i)\b(UTC|GMT)\b", line))), None)
    if body is None:
        rows = _read_rows(file, lines[first:last], separator, len(names), first)
    else:
        rows = _read_large(content, lines[first:], separator, names, first, len(tail) - last)
    width = rows.width if body is None else max(rows.width, len(names))
    if names and width == len(names) + 1:
        if _is_blank(rows.get_column(f"c{width - 1}")):
            names.append("")
        else:
            names = ["date", *names]
    names = (names + [""] * width)[:width] if names else [""] * width
    if tops:
        names = [
            f"('{top or name}', '{name if top else ''}')" if name or top else ""
            for top, name in zip(tops, names, strict=False)
        ]
    if not len(rows):
        raise BarsInvalid(f"{file} must have rows of bars, was a header that has no rows; export it again")
    return Table(file, rows, names, True, first + 1, separator, zone=zone, notes=notes)


@dataclass(frozen=True, slots=True)
class _Body:
    """The ends of a text that is too large to be taken apart line by line."""

    head: str
    tail: list[str]


def _large_body(content: Content) -> _Body | None:
    """Return the ends of a large text in UTF-8; None where it is small, or in another encoding."""
    data = content.data
    if len(data) < _LARGE_BYTES or data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\n" not in data[:_END_BYTES]:
        return None
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    try:
        for start in range(0, len(data), _PART_BYTES):
            decoder.decode(data[start : start + _PART_BYTES])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return None
    head = data[:_END_BYTES].rpartition(b"\n")[0].decode("utf-8-sig")
    tail = data[-_END_BYTES:].partition(b"\n")[2].decode()
    if any(line.startswith("#") for line in head.splitlines()[:_HEAD_LINES]):
        return None
    return _Body(head, tail.splitlines())


def _read_large(
    content: Content, lines: list[str], separator: str, names: list[str], first: int, below: int
) -> pl.DataFrame:
    """Read the rows of a large text: numbers as numbers where all are plain ones, what is not needed not at all.

    Why: as texts, and as lines before, two gigabytes of csv take fifteen of memory; so they take seven.
    """
    width = max(len(names), max(len(_fields(line, separator)) for line in lines[:200]))
    kinds = [meaning_of(name) for name in names] if len(names) == width else [None] * width
    known = [place for place, kind in enumerate(kinds) if kind is not None]
    has_all = {"open", "high", "low", "close"} <= set(kinds) and any(kinds[at] in _TIME_KINDS for at in known)
    wanted = known if has_all and not content.needs_all else list(range(width))
    for are_numbers in (True, False):
        schema: dict[str, Any] = {
            f"c{place}": pl.Float64 if are_numbers and kinds[place] in _NUMBER_KINDS else pl.String
            for place in range(width)
        }
        try:
            whole = pl.scan_csv(
                io.BytesIO(content.data),
                separator=separator,
                has_header=False,
                skip_lines=first,
                infer_schema=False,
                schema=schema,
                truncate_ragged_lines=below > 0,
                low_memory=True,
            )
            frame = whole.select(f"c{place}" for place in wanted).collect()
        except _UNREADABLE as error:
            if are_numbers:
                continue
            raise refused(content.file, _flaw(lines, separator, len(names) or width, first), "correct it") from error
        break
    frame = frame.head(len(frame) - below) if below else frame
    if all(frame.null_count().row(0)):
        frame = frame.filter(~pl.all_horizontal(pl.all().is_null()))  # blank lines
    return frame.with_columns(pl.col(pl.String).fill_null(""))


def _decoded(content: Content) -> tuple[str, str]:
    data, file = content.data, content.file
    for mark, encoding in ((b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"), (b"\xef\xbb\xbf", "UTF-8-SIG")):
        if data.startswith(mark):
            return data.decode(encoding, errors="replace"), "UTF-8" if encoding != "UTF-16" else encoding
    head = data[:4_096]
    if head.count(0) > len(head) // 4 and len(head) > 8:
        return data.decode("utf-16-le" if head[1::2].count(0) > head[::2].count(0) else "utf-16-be"), "UTF-16"
    if 0 in head:
        raise refused(file, "binary", "save it as csv in UTF-8, or as parquet")
    try:
        return data.decode("utf-8"), "UTF-8"
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
    found: list[tuple[int, str, str]] = []
    for encoding in _ENCODINGS:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        best = max(
            (len(meanings_in(_fields(row, each))) for row in text.splitlines()[:_HEAD_LINES] for each in _SEPARATORS),
            default=0,
        )
        found.append((best, encoding, text))
    best, encoding, text = max(found, key=lambda each: each[0], default=(0, "", ""))
    if best < 3:
        raise refused(file, f"text whose line {line} is not UTF-8, or binary", "save it as UTF-8")
    return text, encoding


def _layout(file: Path, lines: list[str]) -> tuple[str, int | None, int]:
    """Return the separator, the header's place and that of the first row."""
    head = lines[:_HEAD_LINES]
    if head and (said := re.fullmatch(r"\ufeff?sep=(.)\s*", head[0])):
        return said[1], *_header(head, said[1])
    best: tuple[int, str, int | None, int] | None = None
    for separator in _SEPARATORS:
        header, first = _header(head, separator)
        width = len(_fields(head[first], separator)) if first < len(head) else 0
        known = 0 if header is None else len(meanings_in(_fields(head[header], separator)))
        score = 10 * known + (width if width >= 5 else 0)
        if best is None or score > best[0]:
            best = (score, separator, header, first)
    assert best is not None
    if best[0] == 0:
        # No separator gives a table: the first line is what there is to name.
        first = next(place for place, line in enumerate(lines) if line.strip())
        return ",", first, first + 1
    return best[1], best[2], best[3]


def _header(head: list[str], separator: str) -> tuple[int | None, int]:
    """Return where the header is, if there is one, and where the rows begin."""
    for place, line in enumerate(head):
        fields = _fields(line, separator)
        known = meanings_in(fields)
        if len(known) >= 3 or (len(known) == 2 and {"date", "close"} <= set(known)):
            return place, _first_row(head, place, separator)
        if _is_row(fields):
            above = _fields(head[place - 1], separator) if place else []
            is_named = len(above) == len(fields) and all(above) and not any(map(_is_number, above))
            return (place - 1 if is_named else None), place
    first = next((place for place, line in enumerate(head) if line.strip()), 0)
    return first, first + 1


def _first_row(head: list[str], header: int, separator: str) -> int:
    """Pass over the further rows of a header, such as yfinance writes: tickers, and a row that only says Date."""
    place = header + 1
    while place < min(len(head), header + 4):
        fields = _fields(head[place], separator)
        is_more = fields[:1] in (["Ticker"], ["Date"], ["Datetime"]) or (len(fields) > 1 and not any(fields))
        is_tickers = (
            place == header + 1 and fields[0] == "" and len(fields) > 2 and not any(map(_is_number, fields[1:]))
        )
        if not (is_more or is_tickers or not head[place].strip()):
            break
        place += 1
    return place


def _tops(lines: list[str], header: int | None, first: int, separator: str) -> list[str]:
    if header is None:
        return []
    if above := _tickers_above(lines, header, separator):
        return above
    if first <= header + 1:
        return []
    below = _fields(lines[header + 1], separator)
    names = _fields(lines[header], separator)
    if len(below) < len(names) - 1 or not any(below[1:]):
        return []
    return ["", *below[1:]]


def _tickers_above(lines: list[str], header: int, separator: str) -> list[str]:
    """Return the symbols above names that repeat: yfinance grouped by ticker, a workbook with joined cells."""
    names = [meaning_of(each) for each in _fields(lines[header], separator)[1:]]
    known = [each for each in names if each is not None]
    if not header or len(known) < 2 or len(set(known)) == len(known):
        return []
    above = _fields(lines[header - 1], separator)
    if len(above) < len(names) or not any(above[1:]) or any(map(_is_number, above)):
        return []
    tops = [""]
    for each in above[1 : len(names) + 1]:
        tops.append(each or tops[-1])
    return tops


def _is_row(fields: list[str]) -> bool:
    numbers = sum(map(_is_number, fields))
    return len(fields) >= 5 and numbers >= 4 and any(_DATE_LIKE.match(each) for each in fields[:3])


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[-+]?[\d., ]*\d[\d.,]*(?:[eE][-+]?\d+)?", text.strip()) is not None


def _end(lines: list[str], first: int, separator: str) -> int:
    """Return where the rows end: remarks below them have fewer fields."""
    usual = Counter(len(_fields(line, separator)) for line in lines[first : first + 50] if line.strip())
    width = usual.most_common(1)[0][0] if usual else 1
    end = len(lines)
    for _ in range(_TAIL_LINES):
        if end <= first + 1:
            break
        line = lines[end - 1]
        has_fields = len(_fields(line, separator)) >= max(2, width - 1) and line.strip(separator + ' "\t')
        if has_fields and not line.lstrip().startswith(("#", '"Downloaded', "Downloaded", "Total", "total")):
            break
        if has_fields and _is_row(_fields(line, separator)):
            break
        end -= 1
    return end


def _fields(line: str, separator: str) -> list[str]:
    try:
        row = next(csv.reader([line.lstrip("\ufeff")], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:
        row = line.split(separator)
    return [each.strip() for each in row]


def _read_rows(file: Path, lines: list[str], separator: str, width: int, first: int) -> pl.DataFrame:
    kept = [line for line in lines if line.strip(separator + ' "\t') and not line.startswith("#")]
    if not kept:
        return pl.DataFrame()
    widest = max(width, max(len(_fields(line, separator)) for line in kept[:200]))
    try:
        frame = pl.read_csv(
            io.BytesIO("\n".join(kept).encode()),
            separator=separator,
            has_header=False,
            infer_schema=False,
            schema={f"c{place}": pl.String for place in range(widest)},
            truncate_ragged_lines=False,
        ).fill_null("")
    except _UNREADABLE as error:
        raise refused(file, _flaw(kept, separator, width or widest, first), "correct it") from error
    if width and frame.width > width + 1:
        while frame.width > width and _is_blank(frame.get_column(frame.columns[-1])):
            frame = frame.drop(frame.columns[-1])
    if width and frame.width > width and not _is_shift(frame, width):
        raise refused(file, _flaw(kept, separator, width, first), "correct it")
    return frame


def _is_blank(column: pl.Series) -> bool:
    return bool((column.str.strip_chars() == "").all())


def _is_shift(frame: pl.DataFrame, width: int) -> bool:
    """Say whether each row has one field more than the header: an index without a name, or an empty end."""
    last = frame.get_column(frame.columns[-1])
    is_index = frame.width == width + 1 and not (last.str.strip_chars() == "").any()
    return frame.width == width + 1 and (_is_blank(last) or is_index)


def _flaw(lines: list[str], separator: str, width: int, first: int) -> str:
    # What polars gave up on, in words: read again by a slower reader that knows its lines.
    try:
        rows = csv.reader(lines, delimiter=separator, strict=True)
        for row in rows:
            if len(row) > width:
                return f"a table of {width} columns whose line {first + rows.line_num} has {len(row)} fields"
    except csv.Error:
        pass
    return "cut off, or has a quotation mark that is not closed"


# ---- workbooks, parquet, feather


def _from_workbook(content: Content) -> Table:
    from python_calamine import CalamineError, CalamineWorkbook

    try:
        book = CalamineWorkbook.from_filelike(io.BytesIO(content.data))
        sheets = [(name, book.get_sheet_by_name(name).to_python()) for name in book.sheet_names]
    except (CalamineError, OSError, ValueError) as error:
        raise refused(content.file, "no workbook that can be read", "save it as csv") from error
    filled = [(name, rows) for name, rows in sheets if len(rows) > 1]
    if len(filled) > 1:
        filled = [
            (name, rows)
            for name, rows in filled
            if any(len(meanings_in(list(map(str, row)))) >= 4 for row in rows[:_HEAD_LINES])
        ]
    if len(filled) != 1:
        raise refused(
            content.file, f"a workbook with {len(filled)} sheets of bars", "save the one that is meant as csv"
        )
    (name, rows) = filled[0]
    buffer = io.StringIO()
    csv.writer(buffer, delimiter="\t", lineterminator="\n").writerows([[_cell(each) for each in row] for row in rows])
    table = _from_text(Content(content.file, "text", buffer.getvalue().encode()))
    table.notes.append(f"workbook, sheet {name!r}")
    return _with_serial_dates(table)


def _with_serial_dates(table: Table) -> Table:
    """Turn the days since 1899-12-30, as workbooks count them, into dates."""
    for place, name in enumerate(table.names):
        column = table.frame.get_column(f"c{place}")
        if (
            meaning_of(name) in ("date", "datetime", "timestamp")
            and column.str.contains(r"^[2-6]\d{4}(\.\d+)?$").mean() == 1
        ):
            moments = (column.cast(pl.Float64) * 86_400e6).round().cast(pl.Int64).cast(pl.Duration("us"))
            dates = pl.Series([datetime(1899, 12, 30)] * len(column)).cast(pl.Datetime("us")) + moments
            table.frame = table.frame.with_columns(dates.dt.strftime("%Y-%m-%d %H:%M:%S").alias(f"c{place}"))
            table.notes.append(f"{name}: days as a workbook counts them")
    return table


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return (
        value.isoformat(" ")
        if hasattr(value, "isoformat") and hasattr(value, "hour") and hasattr(value, "year")
        else str(value)
    )


def _from_frame(content: Content) -> Table:
    read = pl.read_parquet if content.kind == "parquet" else pl.read_ipc
    try:
        frame = read(io.BytesIO(content.data))
    except _UNREADABLE as error:
        raise refused(content.file, f"no {content.kind} that can be read", "write it again") from error
    return _typed(content.file, frame)


def _typed(file: Path, frame: pl.DataFrame) -> Table:
    names = list(frame.columns)
    if not len(frame):
        raise BarsInvalid(f"{file} must have rows of bars, was a header that has no rows; export it again")
    return Table(file, frame.rename({name: f"c{place}" for place, name in enumerate(names)}), names, False)


# ---- JSON


def _from_json(content: Content) -> Table:
    text = content.data.decode("utf-8-sig", errors="replace")
    try:
        found: Any = json.loads(text)
    except ValueError:
        try:
            found = [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError:
            raise refused(content.file, "JSON that is cut off or broken", "download it again") from None
    candidates = sorted(_record_lists(found, ()), key=lambda each: -len(each[1]))
    if not candidates:
        raise refused(content.file, f"JSON without bars ({_gist(found)})", "look what it says")
    best = candidates[0]
    same = [each for each in candidates if each[0][:-1] == best[0][:-1] and len(each[0]) == len(best[0])]
    if len(same) > 1 and best[0]:
        records = [{"symbol": path[-1], **record} for path, many in same for record in many]
        return _of_records(content.file, records, None)
    said = _beside(found)
    symbol = said.get("symbol")
    if symbol is None and best[0] and isinstance(best[0][-1], str) and _is_symbol(best[0][-1]):
        symbol = best[0][-1]
    table = _of_records(content.file, best[1], symbol)
    table.zone = said.get("zone")
    if said.get("more"):
        table.notes.append(f"the file says that there is more ({said['more']}); it holds one page")
    return table


def _gist(found: Any) -> str:
    """Return what an answer says in the place of bars: a message, or its keys."""
    if not isinstance(found, dict):
        return type(found).__name__
    said = next((each for _, each in _pairs(found, 0) if isinstance(each, str) and " " in each), None)
    keys = ", ".join(map(str, found))[:80]
    return keys if said is None else f"{keys}: {said[:160]!r}"


def _record_lists(node: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], list[dict[str, Any]]]]:
    """Yield each list of records, with the keys that lead to it."""
    if isinstance(node, list):
        if node and all(isinstance(each, dict) for each in node):
            if len(meanings_in(list(node[0]))) >= 4:
                yield path, node
                return
            flat = _flattened(node)
            if flat:
                yield path, flat
                return
        elif node and all(isinstance(each, list) and len(each) >= 5 for each in node):
            yield path, [{f"#{place}": value for place, value in enumerate(each)} for each in node]
            return
        for each in node[:50]:
            yield from _record_lists(each, path)
    elif isinstance(node, dict):
        records = _of_dict(node)
        if records:
            yield path, records
            return
        for key, value in node.items():
            yield from _record_lists(value, (*path, key))


def _flattened(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put prices that stand one level deeper beside the instant: OANDA's ``mid``; of bid and ask each by its name."""
    inner = [key for key, value in records[0].items() if isinstance(value, dict) and len(meanings_in(list(value))) >= 4]
    if not inner:
        return []
    return [
        {key: value for key, value in record.items() if key not in inner}
        | {
            name if len(inner) == 1 else f"{key} {name}": value
            for key in inner
            for name, value in (record.get(key) or {}).items()
        }
        for record in records
    ]


def _of_dict(node: dict[str, Any]) -> list[dict[str, Any]]:
    """Read an object as pandas and vendors write tables: split, columns, index, arrays beside each other."""
    if {"columns", "data"} <= set(node) and isinstance(node["columns"], list) and isinstance(node["data"], list):
        index = node.get("index") or [None] * len(node["data"])
        names = [each if isinstance(each, str) else str(each) for each in node["columns"]]
        return [
            {"index": at, **dict(zip(names, row, strict=False))} for at, row in zip(index, node["data"], strict=False)
        ]
    values = list(node.values())
    if len(values) >= 2 and all(isinstance(each, dict) for each in values):
        if len(meanings_in(list(node))) >= 4:
            keys = list(values[0])
            return [{"index": key, **{name: column.get(key) for name, column in node.items()}} for key in keys]
        if len(meanings_in(list(values[0]))) >= 4:
            return [{"index": key, **each} for key, each in node.items()]
    lists = {name: each for name, each in node.items() if isinstance(each, list)}
    if len(meanings_in(list(lists))) >= 4:
        length = min(map(len, lists.values()))
        return [{name: each[place] for name, each in lists.items()} for place in range(length)]
    if "timestamp" in lists and isinstance(node.get("indicators"), dict):
        (quote,) = node["indicators"].get("quote") or [{}]
        return [
            {"timestamp": at, **{name: each[place] for name, each in quote.items()}}
            for place, at in enumerate(lists["timestamp"])
        ]
    return []


def _of_records(file: Path, records: list[dict[str, Any]], symbol: str | None) -> Table:
    names = list(dict.fromkeys(name for record in records for name in record))
    columns = [[record.get(name) for record in records] for name in names]
    frame = pl.DataFrame(
        [
            pl.Series(f"c{place}", ["" if each is None else _json_cell(each) for each in column], pl.String)
            for place, column in enumerate(columns)
        ]
    )
    plain = [re.sub(r"^#\d+$", "", name) for name in names]
    return Table(file, frame, plain, True, symbol=symbol)


def _json_cell(value: Any) -> str:
    return repr(value) if isinstance(value, float) else str(value)


def _beside(node: Any) -> dict[str, str]:
    """Return what an object says of its bars: their symbol, their zone, that there is more."""
    said: dict[str, str] = {}
    for key, value in _pairs(node, 0):
        name = re.sub(r"^\d+\.\s*", "", key.strip().lower())
        if isinstance(value, str) and value:
            if key.strip().lower() in _SYMBOL_KEYS or name in _SYMBOL_KEYS:
                said.setdefault("symbol", value)
            if name.replace("_", "").replace(" ", "") in ("timezone", "exchangetimezone", "exchangetimezonename"):
                said.setdefault("zone", value)
            if name in ("next_page_token", "next_url"):
                said.setdefault("more", key)
    return said


def _pairs(node: Any, depth: int) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict) and depth < 6:
        for key, value in list(node.items())[:40]:
            yield str(key), value
            yield from _pairs(value[0] if isinstance(value, list) and value else value, depth + 1)


def _is_symbol(key: str) -> bool:
    return re.fullmatch(r"[A-Z0-9][A-Z0-9./:_^=-]{0,20}", key) is not None


# ---- many symbols beside each other


def _long(table: Table) -> Table:
    """Make rows of the columns that stand once for each symbol: ``('Close', 'BAC')``."""
    pairs = [_SHIFTED_NAMES.fullmatch(name) for name in table.names]
    if sum(each is not None for each in pairs) < 4:
        return table
    parts = [("", "") if each is None else (each[1], each[2]) for each in pairs]
    first_is_price = sum(meaning_of(a) is not None for a, _ in parts) >= sum(
        meaning_of(b) is not None for _, b in parts
    )
    cells = [(a, b) if first_is_price else (b, a) for a, b in parts]
    symbols = list(dict.fromkeys(symbol for price, symbol in cells if price and symbol))
    index = [place for place, each in enumerate(cells) if not all(each)]
    frames: list[pl.DataFrame] = []
    names: list[str] = []
    for symbol in symbols:
        places = [place for place, (price, of) in enumerate(cells) if of == symbol and price]
        names = [table.names[place] if pairs[place] is None else cells[place][0] for place in (*index, *places)]
        picked = table.frame.select(f"c{place}" for place in (*index, *places))
        picked.columns = [f"c{place}" for place in range(picked.width)]
        frames.append(picked.with_columns(pl.lit(symbol).alias(f"c{picked.width}")))
    table.frame = pl.concat(frames, how="vertical_relaxed")
    table.names = [name or "date" for name in names] + ["symbol"]
    if len(symbols) > 1:
        table.notes.append(f"{len(symbols)} symbols beside each other, made rows")
    return table
