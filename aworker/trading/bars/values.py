"""Texts of a column turned into numbers and instants, decided over the whole column and never value by value.

Invariant: what can be read in two ways is refused with the option that tells it; NaN where one value cannot be read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from aworker.trading.bars.columns import mostly
from aworker.trading.bars.store import MAX_EPOCH_S, BarsInvalid

Numbers = NDArray[np.float64]

MIN_EPOCH_S = -5_364_662_400
_POINT_NUMBER = r"^[+-]?(\d{1,3}(,\d{2,3})*,\d{3}|\d+)(\.\d*)?([eE][+-]?\d+)?$"
_COMMA_NUMBER = r"^[+-]?(\d{1,3}(\.\d{3})+|\d+)(,\d*)?([eE][+-]?\d+)?$"
_MONEY = r"[$€£¥₩₹\s\u00a0\u202f\u2009']|(?i:usd|eur|gbp)"
_UNITS = {"k": 1e3, "tsd": 1e3, "m": 1e6, "mio": 1e6, "mln": 1e6, "b": 1e9, "mrd": 1e9, "bn": 1e9, "t": 1e12}
_UNIT = r"(?i)(k|tsd|m|mio|mln|b|mrd|bn|t)\.?$"
_TIME = r"(\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?:\s*[AaPp]\.?[Mm]\.?)?)"
_ZONE = (
    r"(Z|z|(?:GMT|UTC)[+-]\d{2}:?\d{2}|UTC|utc|GMT|[+-]\d{2}:?\d{2}(?::\d{2})?|[A-Z][A-Za-z]+/[A-Za-z_/]+|[A-Z]{3,4})"
)
_SPLIT = rf"^(.*?\S)(?:[T,\s]\s*{_TIME}\s*{_ZONE}?)?$"
_MONTHS = {
    "jan": "january januar janvier janv jan. sty enero ene",
    "feb": "february februar février févr fév feb. lut febrero",
    "mar": "march märz maerz mär mrz mars mar. marzo",
    "apr": "april avril avr apr. kwi abril abr",
    "may": "mai may. maj mayo",
    "jun": "june juni juin jun. cze junio",
    "jul": "july juli juillet juil jul. lip julio",
    "aug": "august août aout aug. sie agosto ago",
    "sep": "september septembre sept sep. wrz septiembre",
    "oct": "october oktober octobre okt oct. paź octubre",
    "nov": "november novembre nov. lis noviembre",
    "dec": "december dezember décembre dez déc dec. gru diciembre dic",
}
# fmt: off
_NAMED_ZONES = {
    "EST": "America/New_York", "EDT": "America/New_York", "ET": "America/New_York", "CST": "America/Chicago",
    "CDT": "America/Chicago", "CET": "Europe/Berlin", "CEST": "Europe/Berlin", "BST": "Europe/London",
    "JST": "Asia/Tokyo", "PST": "America/Los_Angeles", "PDT": "America/Los_Angeles", "HKT": "Asia/Hong_Kong",
    "IST": "Asia/Kolkata",
}
# fmt: on
_CLEAR = ("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%Y年%m月%d日")
_LONG = 200_000
_CLEAR_MOMENTS = tuple(
    f"%Y-%m-%d{between}%H:%M{seconds}{end}"
    for between in " T"
    for seconds in (":%S", ":%S%.f", "")
    for end in ("", "Z")
)
_NAMED = ("%d %b %Y", "%d %b %y", "%b %d %Y", "%b %d %y", "%a %b %d %Y", "%a %d %b %Y", "%Y %b %d")
_ORDERS = {"dmy": "%d/%m/", "mdy": "%m/%d/"}


@dataclass(slots=True)
class Told:
    """What somebody said of a file because it cannot be told from it."""

    tz: str | None = None
    date_format: str | None = None
    """``dmy``, ``mdy``, ``ymd`` or a pattern such as ``%d.%m.%Y``."""
    decimal: str | None = None
    volume_unit: float = 1.0
    price_unit: float = 1.0
    columns: dict[str, str] = field(default_factory=dict)
    stamps: str = "open"
    """``end`` where the source stamps the end of a bar."""


def checked(told: Told) -> Told:
    """Return what was said if it can be. Raises BarsInvalid."""
    if told.tz is not None:
        zone_of(told.tz)
    if told.decimal not in (None, ",", "."):
        raise BarsInvalid(f"--decimal must be , or . , was {told.decimal!r}")
    if told.date_format is not None and "%" not in told.date_format and told.date_format not in ("dmy", "mdy", "ymd"):
        raise BarsInvalid(
            f"--date-format must be dmy, mdy, ymd or a pattern such as %d.%m.%Y, was {told.date_format!r}"
        )
    for name, unit in (("--volume-unit", told.volume_unit), ("--price-unit", told.price_unit)):
        if not 0 < unit < 1e12:
            raise BarsInvalid(f"{name} must be a number above 0, was {unit:g}")
    if told.stamps not in ("open", "end"):
        raise BarsInvalid(f"--stamps must be open or end, was {told.stamps!r}")
    return told


def zone_of(name: str) -> str:
    """Return the name of a time zone as the data base has it. Raises BarsInvalid where there is none."""
    offset = re.fullmatch(r"(?:UTC|GMT)?([+-])(\d{1,2})(?::?00)?", name.strip())
    text = _NAMED_ZONES.get(name.strip(), name.strip())
    if offset is not None:
        # The data base counts its Etc zones to the west.
        text = f"Etc/GMT{'-' if offset[1] == '+' else '+'}{int(offset[2])}" if int(offset[2]) else "UTC"
    try:
        pl.Series([0]).cast(pl.Datetime("us")).dt.replace_time_zone(text)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        raise BarsInvalid(f"--tz must be a time zone such as America/New_York, UTC or UTC+3, was {name!r}") from None
    return text


# ---- numbers


def spelling_of(columns: Iterable[pl.Series], separator: str | None, told: str | None, speaks_comma: bool) -> str:
    """Say how a table writes numbers: ``.`` or ``,`` before decimals, ``?`` where a comma reads two ways.

    Known from the numbers that can be read in one way only: 1,010.50 and 1.010,50 can, 1,010 cannot.
    """
    if told is not None:
        return told
    texts = [_clean(column) for column in columns if is_text(column)]
    if not any(text.str.contains(",", literal=True).any() for text in texts):
        return "." if not _has_thousand_points(texts) else (":" if not speaks_comma else ",")
    has_points = any((text.str.contains(_POINT_NUMBER) & ~text.str.contains(_COMMA_NUMBER)).any() for text in texts)
    has_commas = any((text.str.contains(_COMMA_NUMBER) & ~text.str.contains(_POINT_NUMBER)).any() for text in texts)
    if has_points and not has_commas:
        return "."
    if has_commas and not has_points:
        return ","
    if not has_points and not has_commas and speaks_comma:
        return ","
    return "?"


def _has_thousand_points(texts: list[pl.Series]) -> bool:
    return any(text.str.contains(r"^\d{1,3}(\.\d{3}){2,}$").any() for text in texts)


def numbers(column: pl.Series, spelling: str, *, has_units: bool = False) -> Numbers:
    """Read a column of numbers; NaN where one cannot be read. ``has_units`` takes K, M and B as a volume has them."""
    if not is_text(column):
        return _floats(column.cast(pl.Float64, strict=False))
    plain = column.cast(pl.String)
    found = _floats(plain.cast(pl.Float64, strict=False)) if spelling in (".", "?") else np.full(len(plain), np.nan)
    left = np.flatnonzero(~np.isfinite(found))
    if not len(left):
        return found
    text = _clean(plain.gather(left))
    factor = np.ones(len(left))
    if has_units and text.str.contains(_UNIT).any():
        units = text.str.extract(_UNIT, 1).str.to_lowercase()
        factor = np.array([_UNITS.get(unit, 1.0) if unit else 1.0 for unit in units.to_list()])
        text = text.str.replace(_UNIT, "")
    if spelling == ".":
        fits = text.str.contains(_POINT_NUMBER).fill_null(False)
        text = text.str.replace_all(",", "", literal=True).set(~fits, None)
    elif spelling in (",", ":"):
        fits = text.str.contains(_COMMA_NUMBER).fill_null(False)
        text = text.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True).set(~fits, None)
    found[left] = _floats(text.cast(pl.Float64, strict=False)) * factor
    return found


def is_text(column: pl.Series) -> bool:
    """Say whether a column holds texts."""
    return isinstance(column.dtype, (pl.String, pl.Categorical, pl.Enum))


def _clean(column: pl.Series) -> pl.Series:
    text = column.cast(pl.String).str.strip_chars()
    return text.str.replace_all(_MONEY, "") if text.str.contains(_MONEY).any() else text


def _floats(column: pl.Series) -> Numbers:
    found: Numbers = column.fill_null(float("nan")).to_numpy().copy()
    return found


# ---- instants


@dataclass(slots=True)
class Instants:
    """Epoch seconds, NaN where one cannot be read, and how they were read."""

    seconds: Numbers
    notes: list[str]
    advice: str = "write dates as 2024-01-31"


def instants(
    file: Path, column: pl.Series, time: pl.Series | None, *, is_daily: bool, told: Told, zone: str | None
) -> Instants:
    """Read a column of dates or instants, with the times of day beside it.

    Raises BarsInvalid for what no guess decides. Of daily bars the date counts as it is written, whatever the hour; of
    others naive times need a zone.
    """
    if isinstance(column.dtype, pl.Date):
        column = column.cast(pl.Datetime("us"))
    if isinstance(column.dtype, pl.Datetime) and time is None:
        return _typed(file, column, is_daily, told, zone)
    if column.dtype.is_numeric() and time is None:
        return _counted(column.cast(pl.Float64, strict=False), is_daily)
    if time is None and is_text(column) and len(column) >= _LONG:
        moments = _clear_moments(column)
        if moments is not None:
            return _typed(file, moments, is_daily, told, zone)
    text = column.cast(pl.String).str.strip_chars()
    if isinstance(column.dtype, pl.Datetime):
        text = column.dt.strftime("%Y-%m-%d")
    if time is None and _is_count(text):
        return _counted(text.cast(pl.Float64, strict=False), is_daily)
    return _written(file, text, time, is_daily, told, zone)


def _clear_moments(column: pl.Series) -> pl.Series | None:
    """Read a long column in one of the forms that have no other reading, in a tenth of the memory; None = none fits."""
    for form in _CLEAR_MOMENTS:
        if column.head(100).str.to_datetime(form, strict=False, time_unit="us").null_count():
            continue
        moments = column.str.to_datetime(form, strict=False, time_unit="us")
        if not moments.null_count():
            return moments.dt.replace_time_zone("UTC") if form.endswith("Z") else moments
    return None


def _is_count(text: pl.Series) -> bool:
    return mostly(text, r"^[-+]?\d{9,19}(\.\d+)?$|^\d(\.\d+)?[eE]\+?\d+$")


def _counted(number: pl.Series, is_daily: bool) -> Instants:
    """Read epochs; the size tells the unit, since milliseconds pass the seconds of the year 5138 in 1973.

    Seconds of August 1970 are days without their dashes, such as 20240131; those of the first day are no instants but
    row numbers, years or the days of a spreadsheet.
    """
    count = _floats(number)
    size = np.abs(count)
    unit = np.select([size >= 1e17, size >= 1e14, size >= 1e11], [1e9, 1e6, 1e3], 1.0)
    seconds = count / unit
    seconds[size < 86_400] = np.nan
    is_day = (count >= 19_000_101) & (count <= 21_001_231)
    if is_day.any():
        days = pl.Series(count[is_day].astype(np.int64)).cast(pl.String)
        seconds[is_day] = _moments(days.str.to_date("%Y%m%d", strict=False).cast(pl.Datetime("us")))
    names = {1.0: "seconds", 1e3: "milliseconds", 1e6: "microseconds", 1e9: "nanoseconds"}
    used = float(np.median(unit)) if len(unit) else 1.0
    notes = [] if is_day.all() else [f"time: epoch in {names.get(used, 'seconds')}"]
    return _as_days(_bounded(seconds), notes) if is_daily else Instants(_bounded(seconds), notes)


def _typed(file: Path, column: pl.Series, is_daily: bool, told: Told, zone: str | None) -> Instants:
    own = column.dtype.time_zone if isinstance(column.dtype, pl.Datetime) else None
    if is_daily:
        seconds = _moments(column.dt.replace_time_zone(None))
        return _as_days(_bounded(seconds), []) if own in ("UTC", "Etc/UTC") else Instants(_bounded(seconds), [])
    if own is not None:
        return Instants(_bounded(_moments(column)), [f"time zone: {own}"])
    return _in_zone(file, column, told, zone, [])


def _written(
    file: Path, text: pl.Series, time: pl.Series | None, is_daily: bool, told: Told, zone: str | None
) -> Instants:
    compact = r"^(\d{8})[ T]?(\d{2}):?(\d{2}):?(\d{2})?$"
    if time is None and mostly(text, compact):
        hours = text.str.replace(compact, "${2}:${3}:${4}").str.strip_chars_end(":")
        days, zones = text.str.slice(0, 8), pl.Series([None], dtype=pl.String).new_from_index(0, len(text))
    else:
        days, hours, zones = (text.str.extract(_SPLIT, place) for place in (1, 2, 3))
    if time is not None:
        hours = _clock_text(time)
        zones = zones.zip_with(zones.is_not_null(), time.cast(pl.String).str.extract(rf"{_ZONE}$", 1))
    dates, notes, advice = _dates(file, days.str.strip_chars(" ,T"), told)
    if is_daily:
        # The hour is kept: rows of a day that are several are no days.
        clock = _seconds_of_day(hours)
        seconds = _bounded(_moments(dates.cast(pl.Datetime("us"))) + np.where(np.isfinite(clock), clock, 0.0))
        is_utc = hours.is_not_null() & zones.is_in(["Z", "z", "UTC", "+00:00", "+0000"])
        return _as_days(seconds, notes) if is_utc.all() else Instants(seconds, notes, advice)
    clock = _seconds_of_day(hours)
    clock[~np.isfinite(clock) & hours.is_null().to_numpy() & (time is None)] = 0.0
    naive = _bounded(_moments(dates.cast(pl.Datetime("us"))) + clock)
    said = zones.drop_nulls().unique().to_list()
    if not said:
        found = _in_zone(file, _datetimes(naive), told, zone, notes)
        found.advice = advice
        return found
    return Instants(_offset(naive, zones, said), [*notes, f"time zone: {', '.join(sorted(said)[:3])}"], advice)


def _offset(naive: Numbers, zones: pl.Series, said: list[str]) -> Numbers:
    seconds = np.full(len(naive), np.nan)
    for name in said:
        rows = np.flatnonzero((zones == name).fill_null(False).to_numpy())
        shift = re.fullmatch(r"(?:GMT|UTC)?([+-])(\d{2}):?(\d{2}).*", name)
        if shift is not None:
            offset = (int(shift[2]) * 3600 + int(shift[3]) * 60) * (1 if shift[1] == "+" else -1)
            seconds[rows] = naive[rows] - offset
        elif name.upper() in ("Z", "UTC", "GMT"):
            seconds[rows] = naive[rows]
        else:
            seconds[rows] = _localised(_datetimes(naive[rows]), zone_of(name))
    return seconds


def _in_zone(file: Path, column: pl.Series, told: Told, zone: str | None, notes: list[str]) -> Instants:
    name = told.tz or zone
    if name is None:
        raise BarsInvalid(
            f"{file} must say of which time zone its times are, was without; "
            "say it with --tz, such as --tz America/New_York or --tz UTC"
        )
    known = zone_of(name)
    return Instants(
        _bounded(_localised(column, known)), [*notes, f"time zone: {name}{'' if told.tz else ', as the file says'}"]
    )


def _localised(column: pl.Series, zone: str) -> Numbers:
    return _moments(column.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null"))


def _as_days(seconds: Numbers, notes: list[str]) -> Instants:
    """Date daily bars that are stamped in UTC: a session that begins the evening before belongs to the next day."""
    days = np.floor(seconds / 86_400)
    known = days[np.isfinite(days)]
    weekday = (known + 3) % 7  # 0 = Monday
    hours = (seconds[np.isfinite(seconds)] % 86_400) / 3_600
    sundays, fridays = int(np.count_nonzero(weekday == 6)), int(np.count_nonzero(weekday == 4))
    if len(known) >= 5 and sundays > 0 and fridays == 0 and np.all(hours >= 12):
        return Instants(
            seconds + 86_400,
            [
                *notes,
                "dates: the day after the stamp, for the sessions begin on the evening before (Sunday to Thursday)",
            ],
        )
    return Instants(seconds, notes)


def _dates(file: Path, text: pl.Series, told: Told) -> tuple[pl.Series, list[str], str]:
    """Read dates by the one form that fits the whole column. Raises BarsInvalid where two do and differ."""
    advice = "write dates as 2024-01-31"
    if told.date_format is not None and "%" in told.date_format:
        return text.str.to_date(told.date_format, strict=False), [f"dates: {told.date_format}"], advice
    plain = text
    if mostly(text, r"^\d{4}"):
        forms: tuple[str, ...] = _CLEAR
    elif mostly(text, r"\p{L}"):
        plain = _with_month_names(text)
        # Without a year of four digits 24 would be read as one.
        is_short = not mostly(plain, r"\b\d{4}\b")
        forms = tuple(form for form in _NAMED if form.replace("%y", "") != form or not is_short)
    else:
        plain = text.str.replace_all(r"[.\-]", "/").str.replace_all(" ", "")
        return _slashed(file, plain, told, has_points=mostly(text, r"^\d{1,2}\.\d{1,2}\.\d{4}$", 0.9))
    best = max(
        (plain.str.to_date(form, strict=False) for form in forms), key=lambda each: len(each) - each.null_count()
    )
    return best, [], advice


def _with_month_names(text: pl.Series) -> pl.Series:
    plain = text.str.to_lowercase().str.replace_all(r"[-,./ ]+", " ").str.strip_chars()
    known = {name.rstrip("."): short for short, names in _MONTHS.items() for name in names.split()}
    words = set(plain.str.extract_all(r"\p{L}+").explode().drop_nulls().unique().to_list())
    for word in sorted(words & set(known), key=len, reverse=True):
        plain = plain.str.replace(rf"\b{word}\b", known[word])
    return plain


def _slashed(file: Path, text: pl.Series, told: Told, *, has_points: bool = False) -> tuple[pl.Series, list[str], str]:
    advice = "write dates as 2024-01-31, for whether the day or the month comes first cannot be told"
    year = "%Y" if text.str.contains(r"/\d{4}$").any() else "%y"
    read = {order: text.str.to_date(form + year, strict=False) for order, form in _ORDERS.items()}
    if told.date_format in read:
        return read[told.date_format], [f"dates: {told.date_format}, as told"], advice
    missing = {order: dates.null_count() for order, dates in read.items()}
    if missing["dmy"] != missing["mdy"]:
        order = min(missing, key=lambda each: missing[each])
        return (
            read[order],
            [f"dates: {'day' if order == 'dmy' else 'month'} first, for the other way some are none"],
            advice,
        )
    if (read["dmy"] == read["mdy"]).all() or missing["dmy"] == len(text):
        return read["dmy"], [], advice if missing["dmy"] == len(text) else "write dates as 2024-01-31"
    regular = [order for order, dates in read.items() if _is_regular(dates)]
    if len(regular) == 1 and len(text) >= 8:
        order = regular[0]
        return (
            read[order],
            [f"dates: {'day' if order == 'dmy' else 'month'} first, for so they follow each other"],
            advice,
        )
    if has_points:
        # 02.01.2024: who writes points, from Lisbon to Vladivostok, writes the day first.
        return read["dmy"], ["dates: day first, as dates with points are written; else say --date-format mdy"], advice
    raise BarsInvalid(
        f"dates of {file} must say whether the day or the month comes first, was {text[0]!r} and the like; "
        "say it with --date-format dmy or --date-format mdy"
    )


def _is_regular(dates: pl.Series) -> bool:
    days = dates.cast(pl.Int32).drop_nulls().to_numpy()
    steps = np.diff(days)
    is_sorted = bool(np.all(steps >= 0) or np.all(steps <= 0))
    return is_sorted and bool(np.all(np.abs(steps) <= 6)) and not np.any((days + 3) % 7 >= 5)


def _clock_text(time: pl.Series) -> pl.Series:
    if isinstance(time.dtype, pl.Time):
        return time.cast(pl.String)
    hours = time.cast(pl.String).str.strip_chars()
    digits = hours.filter(hours.str.contains(r"^\d+$").fill_null(False)).str.len_chars().unique().to_list()
    if digits in ([4], [6]):
        # 0930 or 093000; where both are found, or 93000, the zeros that are missing cannot be told.
        hours = hours.str.replace(r"^(\d\d)(\d\d)(\d\d)$", "${1}:${2}:${3}").str.replace(r"^(\d\d)(\d\d)$", "${1}:${2}")
    return hours.str.extract(_TIME, 1)


def _seconds_of_day(hours: pl.Series) -> Numbers:
    parts = [hours.str.extract(r"^(\d{1,2}):(\d{2})(?::(\d{2}(?:[.,]\d+)?))?", place) for place in (1, 2, 3)]
    hour, minute = (_floats(each.cast(pl.Float64, strict=False)) for each in parts[:2])
    second = _floats(parts[2].fill_null("0").str.replace(",", ".", literal=True).cast(pl.Float64, strict=False))
    half = hours.str.extract(r"([AaPp])\.?[Mm]", 1).str.to_lowercase()
    if half.drop_nulls().len():
        is_pm, is_am = ((half == each).fill_null(False).to_numpy() for each in ("p", "a"))
        hour = np.where(is_pm & (hour < 12), hour + 12, np.where(is_am & (hour == 12), 0, hour))
    bad = (hour > 24) | (minute > 59) | (second >= 61)
    return np.where(bad, np.nan, hour * 3600 + minute * 60 + second)


def _datetimes(seconds: Numbers) -> pl.Series:
    known = np.where(np.isfinite(seconds), seconds, 0.0)
    moments = pl.Series((known * 1e6).round().astype(np.int64)).cast(pl.Datetime("us"))
    return moments.set(pl.Series(~np.isfinite(seconds)), None)


def _moments(moments: pl.Series) -> Numbers:
    return _floats(moments.dt.epoch("us").cast(pl.Float64)) / 1e6


def _bounded(seconds: Numbers) -> Numbers:
    return np.where((seconds >= MIN_EPOCH_S) & (seconds < MAX_EPOCH_S), seconds, np.nan)
