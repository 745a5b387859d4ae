"""Which column is what: by its name in the languages of vendors, by its place and its numbers where it has none.

Invariant: two columns of one meaning are never mixed; which of several is taken is said, and what cannot be told is
refused with the option that tells it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from aworker.trading.bars.store import PRICES, BarsInvalid

Numbers = NDArray[np.float64]

NAMES: dict[str, list[str]] = tomllib.loads(files(__package__).joinpath("columns.toml").read_text(encoding="utf-8"))
"""What a column is, and what it may be called."""

_MEANING = {name: meaning for meaning, names in NAMES.items() for name in names}
_NAME_THEM = "write their names in the first line, separated by comma, semicolon, tab or |, or say --columns "
_PLACES = "date=1,open=2,high=3,low=4,close=5,volume=6"
_DATES = (
    r"^\d{1,4}[-/.年]\d{1,2}[-/.月]\d{1,4}|^\d{8}$|^\d{8}[ T]\d{2}:?\d{2}|^\d{10}(\.\d+)?$|^\d{13}$|^\d{16}$|^\d{19}$"
    r"|^\d{1,2}[- ][A-Za-z]{3}"
)
_TIMES = ("timestamp", "datetime", "date", "time")
_PRICES = ("open", "high", "low", "close")
_LIKE_VOLUME = r"^(?!.*(?:adj|trades|value|turnover|avg|average|€|\$)).*(?:vol|stück|stueck|shares|qty|quantity|titres)"
_FOREIGN_COMMA = re.compile(
    r"(?i)er[öo]ff|schluss|schlu[ßs]|hoch|tief|datum|ouv|cl[ôo]ture|dernier|haut|jour|s[ée]ance|otwarcie|zamkni|apertura|cierre|fecha"
    r"|abertura|[úu]ltimo|ultimo|kurs|fechamento|chiusura"
)


def plain_name(name: str) -> str:
    """Return a column's name as it is looked up."""
    text = re.sub(r"_duplicated_\d+$", "", name).strip().strip("<>[]\"'*").replace("\u00a0", " ")
    text = re.sub(r"^\d+\.\s+|\*+$|\s*\((?:utc|gmt|yyyymmdd|dd/mm/yyyy|shares)\)$", "", text.lower())
    if not text.startswith(("vol", "umsatz", "turnover")):
        text = re.sub(r"\s*\([^()]{1,5}\)$", "", text)  # a currency
    return re.sub(r"[\s_]+", " ", text).strip(" *.:") or text.strip()


def meaning_of(name: str) -> str | None:
    """Return what a column of this name is, None for what is not needed."""
    plain = plain_name(name)
    camel = plain_name(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name))
    return _MEANING.get(plain) or _MEANING.get(f"{plain}.") or _MEANING.get(camel) or _of_volume(plain)


def _of_volume(plain: str) -> str | None:
    found = re.fullmatch(r"(?:volume|vol\.?) \(?([a-z0-9]{2,6})\)?", plain)
    if found is None:
        return None
    return (
        "quote volume"
        if found[1] in ("usd", "usdt", "usdc", "eur", "busd", "gbp", "jpy", "krw", "from", "to")
        else "volume"
    )


def meanings_in(names: Sequence[str]) -> list[str]:
    """Return the different meanings that a row of names holds."""
    found = {meaning_of(str(name)) for name in names}
    return sorted(each for each in found if each is not None)


def speaks_comma(names: Sequence[str]) -> bool:
    """Say whether the names are of a language that writes decimal commas."""
    return any(_FOREIGN_COMMA.search(name) for name in names)


def told_columns(file: Path, told: Mapping[str, str], names: Sequence[str]) -> dict[str, int]:
    """Return the places of the columns that somebody named. Raises BarsInvalid for those that are not there."""
    found: dict[str, int] = {}
    for meaning, name in told.items():
        if meaning not in (*_TIMES, *_PRICES, "volume", "adjusted", "symbol"):
            raise BarsInvalid(
                f"--columns must be of date, time, open, high, low, close, volume, adjusted, symbol, was {meaning!r}; "
                "write --columns date=Datum,close=3"
            )
        if name in names:
            found[meaning] = list(names).index(name)
        elif name.isdigit() and 1 <= int(name) <= len(names):
            found[meaning] = int(name) - 1
        else:
            there = ", ".join(repr(each) for each in names if each) or f"{len(names)} columns without names"
            raise BarsInvalid(f"--columns must name a column of {file}, was {name!r} for {meaning}; it has {there}")
    return found


def named_columns(
    file: Path, names: Sequence[str], told: Mapping[str, int], adjust: bool
) -> tuple[dict[str, int], list[str]]:
    """Return the place of each column that is needed, and what was chosen of several. Raises BarsInvalid."""
    found: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        meaning = meaning_of(name)
        if meaning is not None and place not in told.values():
            found.setdefault(meaning, []).append(place)
    notes: list[str] = []
    chosen = {meaning: _one(file, meaning, places, names, notes) for meaning, places in found.items()}
    _choose_close(chosen, names, notes)
    _choose_volume(chosen, names, notes)
    chosen |= told
    if not any(time in chosen for time in _TIMES) and names and not names[0]:
        chosen["date"] = 0  # an index that has no name
    if adjust:
        _choose_adjusted(chosen, names, notes)
    _check(file, chosen, names, adjust)
    _choose_time(chosen)
    return chosen, notes


def _one(file: Path, meaning: str, places: list[int], names: Sequence[str], notes: list[str]) -> int:
    if len(places) == 1:
        return places[0]
    plain = [plain_name(names[place]) for place in places]
    if meaning == "volume" and len(set(plain)) == len(plain):
        # "Stück" beside "Volumen" are the shares; "volume" beside "volume (btc)" is the first.
        shares = next(
            (place for place, name in zip(places, plain, strict=True) if "st" in name[:2] or "share" in name), None
        )
        taken = places[0] if shares is None else shares
        notes.append(
            f"volume: column {names[taken]!r}, not {', '.join(repr(names[each]) for each in places if each != taken)}"
        )
        return taken
    if meaning in ("timestamp", "datetime", "date", "last", "symbol", "quote volume", "turnover") and len(
        set(plain)
    ) == len(plain):
        return places[0]
    raise BarsInvalid(
        f"{file} must have one column of each kind, was with {names[places[0]]!r} and {names[places[1]]!r}; "
        f"remove one, or say --columns {meaning}={names[places[0]]}"
    )


def _choose_close(chosen: dict[str, int], names: Sequence[str], notes: list[str]) -> None:
    last = chosen.pop("last", None)
    if last is not None and "close" not in chosen:
        chosen["close"] = last
        notes.append(f"close: column {names[last]!r}")


def _choose_volume(chosen: dict[str, int], names: Sequence[str], notes: list[str]) -> None:
    if "volume" not in chosen:
        for other in ("quote volume", "tick volume"):
            if other in chosen:
                chosen["volume"] = chosen[other]
                notes.append(f"volume: column {names[chosen[other]]!r}")
                break
    for other in ("quote volume", "turnover"):
        chosen.pop(other, None)
    named = [place for place, name in enumerate(names) if re.search(_LIKE_VOLUME, plain_name(name))]
    if "volume" not in chosen and len(named) == 1 and not {"up", "down"} <= set(chosen):
        chosen["volume"] = named[0]
        notes.append(f"volume: column {names[named[0]]!r}")


def _choose_adjusted(chosen: dict[str, int], names: Sequence[str], notes: list[str]) -> None:
    """Take the prices that the source adjusted itself, where it has all of them and the volume."""
    own = {kind: f"adjusted {kind}" for kind in ("open", "high", "low", "volume")}
    if "adjusted" in chosen and all(name in chosen for name in own.values()):
        chosen |= {kind: chosen[name] for kind, name in own.items()}
        chosen["close"] = chosen["adjusted"]
        notes.append(f"adjusted: the source's own columns, such as {names[chosen['open']]!r}")


def _choose_time(chosen: dict[str, int]) -> None:
    time = next(each for each in _TIMES if each in chosen)
    if time == "timestamp" and "date" in chosen and "datetime" not in chosen:
        time = "timestamp"
    for other in _TIMES:
        if other != time and not (time == "date" and other == "time"):
            chosen.pop(other, None)


def _check(file: Path, chosen: Mapping[str, int], names: Sequence[str], adjust: bool) -> None:
    sets = {word for name in names for word in ("bid", "ask") if re.match(rf"(?i){word}\b|{word}[_. ]", name)}
    has_time = any(each in chosen for each in _TIMES)
    missing = [*([] if has_time else ["date"]), *(price for price in PRICES if price not in chosen)]
    if missing and sets == {"bid", "ask"}:
        first = {
            price: next((n for n in names if re.search(rf"(?i)bid.*{price[0] if len(n) < 6 else price}", n)), "?")
            for price in PRICES
        }
        raise BarsInvalid(
            f"{file} must have one set of prices, was with those of bid and of ask; say which with --columns "
            + ",".join(f"{price}={name}" for price, name in first.items())
        )
    if missing == ["close"] and "adjusted" in chosen:
        raise BarsInvalid(
            f"{file} must have the close beside open, high and low, was with an adjusted close only; "
            "take a download that has both, or adjusted prices of all four"
        )
    if missing:
        there = ", ".join(name for name in names if name)[:200]
        if len(missing) == 1 + len(PRICES):
            advice = _NAME_THEM + "date=1,open=2,..."
        else:
            advice = f"say which they are with --columns {missing[0]}=NAME" if len(names) > len(chosen) else "add them"
        raise BarsInvalid(f"{file} must have the columns {', '.join(missing)}, was {repr(there)[1:-1]}; {advice}")
    if adjust and "adjusted" not in chosen:
        raise BarsInvalid(f"{file} must have a column adj close to adjust by, was without; import without adjusting")


def placed_columns(file: Path, frame: pl.DataFrame) -> tuple[dict[str, int], list[str]]:
    """Find the columns of a table without names by what stands in them. Raises BarsInvalid where that is not clear."""
    head = frame.head(400)
    texts = [head.get_column(name).cast(pl.String).str.strip_chars() for name in frame.columns]
    values = [_values(text) for text in texts]
    found: dict[str, int] = {}
    place = 0
    while place < len(texts) and place < 4:
        kind = _kind(texts[place], values[place])
        if kind in found or kind is None:
            break
        found[kind] = place
        place += 1
    numbers = [at for at in range(place, len(texts)) if np.isfinite(values[at]).mean() > 0.9]
    if "date" not in found or len(numbers) < 4:
        shown = ", ".join(str(text[0]) for text in texts[:8])
        if "date" in found and 1 <= len(numbers) < 4:
            raise BarsInvalid(
                f"{file} must hold bars of open, high, low and close, was ticks or quotes ({shown}); "
                "join them to bars first"
            )
        raise BarsInvalid(
            f"{file} must have the columns date, open, high, low, close, was {shown!r}; {_NAME_THEM}{_PLACES}"
        )
    order = _price_order([values[at] for at in numbers[:4]])
    if order is None:
        raise BarsInvalid(
            f"{file} must have its prices as open, high, low and close, or their names in the first line, "
            f"was another order; say which is which with --columns {_PLACES}"
        )
    found |= {price: numbers[at] for price, at in order.items()}
    later = [at for at in numbers[4:] if not _lies_within(values[at], values[found["low"]], values[found["high"]])]
    if later:
        found["volume"] = later[0]
    said = ", ".join(f"{meaning} {at + 1}" for meaning, at in found.items())
    return found, [f"no header: columns by what stands in them ({said})"]


def _values(text: pl.Series) -> Numbers:
    plain = text.str.replace(",", ".", literal=True).cast(pl.Float64, strict=False)
    return plain.fill_null(float("nan")).to_numpy()


def _kind(text: pl.Series, values: Numbers) -> str | None:
    """Say whether one of the first columns is a date, a time of day or a symbol."""
    if mostly(text, _DATES, 0.9):
        return "date"
    if mostly(text, r"^\d{1,2}:\d{2}(:\d{2})?$", 0.9):
        return "time"
    if mostly(text, r"^[A-Za-z][A-Za-z0-9.^=_/:-]{0,20}$|^[A-Z]{2}[A-Z0-9]{9}\d$", 0.9):
        return "symbol"
    return None


def mostly(text: pl.Series, pattern: str, share: float = 0.5) -> bool:
    """Say whether more than a share of texts hold a pattern."""
    found = text.str.contains(pattern).fill_null(False)
    return bool(len(found)) and int(found.sum()) > share * len(found)


def _price_order(four: Sequence[Numbers]) -> dict[str, int] | None:
    opened, high, low, close = four
    inside = (low <= opened) & (opened <= high) & (low <= close) & (close <= high)
    return {price: place for place, price in enumerate(_PRICES)} if np.mean(inside) > 0.95 else None


def _lies_within(values: Numbers, low: Numbers, high: Numbers) -> bool:
    return bool(np.mean((values >= low) & (values <= high)) > 0.9)
