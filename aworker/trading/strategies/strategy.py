"""A trading strategy as data: its rules, its risk limits, its version, and the source text that people read.

Nothing here is executed; ``entry``, ``exit`` and ``rank`` are rule texts that `aworker.trading.rules` compiles.
Invariant: rules that passed `check_rules` compile, and ``rules_from_source(source_text(rules)) == rules``.
"""

from __future__ import annotations

import difflib
import re
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from aworker.errors import RequestDeclined
from aworker.trading.rules import SERIES, RuleError, compile_program, parse_rule
from aworker.trading.rules.functions import OF_THE_DAY
from aworker.trading.strategies import parts
from aworker.trading.strategies.parts import Part

MAX_NAME_CHARACTERS = 120
MAX_DESCRIPTION_CHARACTERS = 2_000
MAX_PROMPT_CHARACTERS = 10_000
MAX_SYMBOLS = 5_000
MAX_BARS_HELD = 100_000
MAX_TAKE_PROFIT = 1_000
MAX_CAPITAL = 1e12

TIMEFRAMES: dict[str, int] = {
    "1m": 60,
    "5m": 300,
    "15m": 900,
    "30m": 1_800,
    "1h": 3_600,
    "4h": 14_400,
    "1d": 86_400,
    "1w": 604_800,
}
"""The bar sizes that are known, and their length in seconds."""

SIDES = ("long", "short")
REENTRIES = ("cycle", "edge", "level")

_TIME = re.compile(r"(?:[01]\d|2[0-3]):[0-5]\d")
_SYMBOL = re.compile(r"[A-Z0-9^][A-Z0-9.^=_-]{0,31}")

_Fraction = Annotated[float, msgspec.Meta(gt=0, lt=1)]
_Positive = Annotated[float, msgspec.Meta(gt=0, le=MAX_TAKE_PROFIT)]
_Distance = Annotated[str, msgspec.Meta(description="a distance in price, in the rule language: 2 * atr(14)")]
_Price = Annotated[str, msgspec.Meta(description="a price, in the rule language: lowest(low, 10)")]
_OF_RISK = re.compile(r"(\d{1,4}(?:\.\d{1,4})?) ?[rR]")


class StrategyInvalid(RequestDeclined, ValueError):
    """A strategy breaks a rule; the message names the path, the rule and the value.

    Where a rule of it is wrong, a note (``__notes__``) shows the rule with a caret under the place.
    """


class Risk(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Limits that close a trade whatever the rules say; every one may be None (off)."""

    stop_loss: _Fraction | _Distance | None = None
    """Fraction of the entry price lost, 0 < x < 1, or a rule for the distance under it, taken at the signal."""
    take_profit: _Positive | _Distance | None = None
    """Fraction of the entry price gained, 0 < x <= MAX_TAKE_PROFIT, a rule for the distance above it, taken at the
    signal, or a multiple of what the stop risks: ``2R``."""
    trailing_stop: _Fraction | _Distance | None = None
    """Fraction lost from the highest price since entry, 0 < x < 1, or a rule for the distance under it, which is taken
    at every bar; the stop never falls."""
    break_even: _Positive | _Distance | None = None
    """Gain after which the stop stands at the entry price: as ``take_profit``."""
    stop_price: _Price | None = None
    """A rule for the price of the stop, as it stood at the close before."""
    target_price: _Price | None = None
    """A rule for the price of the target, as it stood at the close before."""
    max_bars: Annotated[int, msgspec.Meta(ge=1, le=MAX_BARS_HELD)] | None = None
    """Bars after which the trade is closed at the next open, >= 1."""
    scale_out: Annotated[tuple[Part, ...], msgspec.Meta(max_length=parts.MOST_PARTS)] = ()
    """Parts that are sold before the rest."""


LIMITS = ("stop_loss", "take_profit", "trailing_stop", "break_even", "stop_price", "target_price")
"""The fields of `Risk` that are distances or prices."""


def multiple_of_risk(limit: str) -> float | None:
    """Return 2.0 for ``2R``, None for any other text."""
    match = _OF_RISK.fullmatch(limit)
    return None if match is None else float(match[1])


def limit_rules(risk: Risk) -> dict[str, str]:
    """Return the limits that are rules, field -> text, for `compile_program`; parts by `parts.name_of`."""
    texts = {name: getattr(risk, name) for name in LIMITS}
    texts |= {parts.name_of(place): each.at for place, each in enumerate(risk.scale_out)}
    return {name: text for name, text in texts.items() if isinstance(text, str) and multiple_of_risk(text) is None}


class Account(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One account for all symbols; without one each symbol has its own part of the capital."""

    capital: float = 100_000.0
    """What it begins with, in the currency of the prices; above 0."""
    max_positions: int | None = None
    """Most positions at a time, 1 to MAX_SYMBOLS; None = as many as there are symbols."""
    size: float | str | None = None
    """Fraction of the account that a position takes, 0 < x <= 1; as text money ("5000"), or a part of the account that
    the stop risks ("1% risk"). None = an equal part of the money there is for each free place."""
    whole_shares: bool = False


_RISK_OF_SIZE = re.compile(r"(?:(\d+(?:\.\d+)?) ?% ?risk|risk ?(\d+(?:\.\d+)?) ?%)", re.IGNORECASE)


def risk_of_size(size: str) -> float | None:
    """Return 0.01 for ``1% risk``, None for any other text."""
    match = _RISK_OF_SIZE.fullmatch(size)
    return None if match is None else float(Decimal(match[1] or match[2]) / 100)


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a backtest, a screening or an alert needs to know of a strategy."""

    entry: Annotated[str, msgspec.Meta(description="condition to buy, in the rule language")]
    exit: Annotated[str, msgspec.Meta(description="condition to sell")] | None = None
    rank: Annotated[str, msgspec.Meta(description="number to rank symbols by, highest first")] | None = None
    symbols: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=MAX_SYMBOLS)] | None = None
    """None = every symbol in the store."""
    timeframe: Annotated[str, msgspec.Meta(extra_json_schema={"enum": list(TIMEFRAMES)})] = "1d"
    risk: Risk = Risk()
    reentry: Annotated[str, msgspec.Meta(extra_json_schema={"enum": list(REENTRIES)})] = "cycle"
    """After a limit of `Risk`, ``cycle`` waits for an exit signal, ``edge`` for an entry signal, ``level`` for none."""
    side: Annotated[str, msgspec.Meta(extra_json_schema={"enum": list(SIDES)})] = "long"
    """``short``: entry sells short and exit buys back."""
    short: Annotated[str, msgspec.Meta(description="condition to sell short, beside entry")] | None = None
    cover: Annotated[str, msgspec.Meta(description="condition to buy back what short sold")] | None = None
    account: Account | None = None
    timezone: Annotated[str, msgspec.Meta(description="time zone of days and times, for bars below a day")] = "UTC"
    flat_at: Annotated[str, msgspec.Meta(description="HH:MM from which on nothing is held")] | None = None
    """For bars below a day: the time from which on nothing is held or bought until the next day."""


class Draft(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A strategy before it is stored: what a prompt or a language model gives."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME_CHARACTERS)]
    description: Annotated[str, msgspec.Meta(max_length=MAX_DESCRIPTION_CHARACTERS)]
    rules: Rules


class Strategy(msgspec.Struct, frozen=True):
    """One stored version of a strategy."""

    strategy_id: int
    user_id: int
    name: str
    description: str
    prompt: str
    rules: Rules
    version: int
    created_at: str
    updated_at: str
    task_id: str
    """The task that made this version, so that a redelivery finds it again."""
    is_alert_active: bool = False
    reading: dict[str, Any] = {}
    """How its prompt was read: ``engine`` (parser or model), ``assumptions``, and what a model cost."""


def draft_schema() -> dict[str, Any]:
    """Return the JSON schema of a draft, with the bounds of every field."""
    return msgspec.json.schema(Draft)


def draft_from_json(text: str | bytes) -> Draft:
    """Read a draft from JSON and check all of it.

    Raises StrategyInvalid, whatever the text is.
    """
    try:
        draft = msgspec.json.decode(text, type=Draft)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise StrategyInvalid(f"strategy must be JSON of its schema, was not; {error}") from None
    return check_draft(draft)


def check_draft(draft: Draft) -> Draft:
    """Return the draft as it is stored: trimmed, its rules checked. Raises StrategyInvalid."""
    name = " ".join(draft.name.split())
    if not name or len(name) > MAX_NAME_CHARACTERS or not name.isprintable():
        raise _invalid("name", f"1 to {MAX_NAME_CHARACTERS} printable characters", draft.name, "use a short title")
    if len(draft.description) > MAX_DESCRIPTION_CHARACTERS:
        raise _invalid("description", f"at most {MAX_DESCRIPTION_CHARACTERS:,} characters", draft.description, "cut it")
    return Draft(name, draft.description.strip(), check_rules(draft.rules))


def check_rules(rules: Rules) -> Rules:
    """Return the rules in their stored form: one line each, symbols in capitals and without repeats.

    Raises StrategyInvalid with the path, the rule and the value of the first thing that is wrong.
    """
    checked = msgspec.structs.replace(
        rules,
        entry=_rule_text("rules.entry", rules.entry, "condition"),
        exit=None if rules.exit is None else _rule_text("rules.exit", rules.exit, "condition"),
        rank=None if rules.rank is None else _rule_text("rules.rank", rules.rank, "score"),
        symbols=None if rules.symbols is None else check_symbols(rules.symbols, "rules.symbols"),
        risk=_checked_risk(rules.risk),
        short=None if rules.short is None else _rule_text("rules.short", rules.short, "condition"),
        cover=None if rules.cover is None else _rule_text("rules.cover", rules.cover, "condition"),
    )
    _check_sides(checked)
    _check_account(checked)
    try:
        levels, conditions = limit_rules(checked.risk), condition_rules(checked)
        program = compile_program(checked.entry, checked.exit, checked.rank, levels, conditions=conditions)
    except RuleError as error:
        raise StrategyInvalid(f"rules must be a program within its limits, was not; {error.message}") from None
    if rules.timeframe not in TIMEFRAMES:
        raise _invalid("rules.timeframe", f"one of {', '.join(TIMEFRAMES)}", rules.timeframe, "1d is daily bars")
    if rules.reentry not in REENTRIES:
        raise _invalid("rules.reentry", f"one of {', '.join(REENTRIES)}", rules.reentry, "cycle is the default")
    _check_times(rules, {step.operation for step in program.steps})
    return checked


def condition_rules(rules: Rules) -> dict[str, str]:
    """Return the rules of a short side and of parts that are sold, field -> text, for `compile_program`."""
    texts = {"short": rules.short, "cover": rules.cover}
    texts |= {parts.name_of(place): each.when for place, each in enumerate(rules.risk.scale_out)}
    return {name: text for name, text in texts.items() if text is not None}


def _check_sides(rules: Rules) -> None:
    if rules.side not in SIDES:
        raise _invalid("rules.side", f"one of {', '.join(SIDES)}", rules.side, "long is the default")
    if rules.side == "short" and rules.short is not None:
        raise _invalid("rules.short", "left out with side short", rules.short, "entry sells short there")
    if rules.cover is not None and rules.short is None:
        raise _invalid("rules.cover", "given with short", rules.cover, "with side short the exit covers")
    if rules.short is not None:
        for field in ("stop_price", "target_price"):
            if getattr(rules.risk, field) is not None:
                hint = "a price cannot be one for both sides; use a distance"
                raise _invalid(f"rules.risk.{field}", "left out with short", getattr(rules.risk, field), hint)
        for place, each in enumerate(rules.risk.scale_out):
            if each.when is not None:
                hint = "a condition cannot be one for both sides; use at and a distance"
                raise _invalid(f"rules.risk.scale_out[{place}].when", "left out with short", each.when, hint)


def _check_account(rules: Rules) -> None:
    account = rules.account
    if account is None:
        return
    if not 0 < account.capital <= MAX_CAPITAL:
        raise _invalid("rules.account.capital", f"above 0 and at most {MAX_CAPITAL:g}", account.capital, "10000 is one")
    if account.max_positions is not None and not 1 <= account.max_positions <= MAX_SYMBOLS:
        hint = "leave it out for as many as there are symbols"
        raise _invalid("rules.account.max_positions", f"1 to {MAX_SYMBOLS:,}", account.max_positions, hint)
    size = account.size
    if isinstance(size, str):
        risk = risk_of_size(size)
        if risk is None and not (_is_number(size) and float(size) > 0):
            raise _invalid("rules.account.size", "a fraction, money or a risk", size, 'write 0.1, "5000" or "1% risk"')
        if risk is not None and not 0 < risk <= 1:
            raise _invalid("rules.account.size", "a risk above 0% and at most 100%", size, "1% risk is usual")
        limits = rules.risk
        if risk is not None and (limits.stop_loss, limits.trailing_stop, limits.stop_price) == (None, None, None):
            raise _invalid("rules.account.size", "with a stop", size, "give a stop_loss too")
    elif size is not None and not 0 < size <= 1:
        raise _invalid("rules.account.size", "a fraction, 0 < x <= 1", size, "0.1 is 10%; there is no leverage")


def _check_times(rules: Rules, operations: set[str]) -> None:
    is_daily = TIMEFRAMES[rules.timeframe] >= TIMEFRAMES["1d"]
    if rules.timezone != "UTC":
        if is_daily:
            raise _invalid("rules.timezone", f"left out with {rules.timeframe} bars", rules.timezone, "they are dates")
        try:
            ZoneInfo(rules.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise _invalid(
                "rules.timezone", "a time zone such as America/New_York", rules.timezone, "UTC is the default"
            ) from None
    if rules.flat_at is not None:
        if is_daily:
            raise _invalid("rules.flat_at", f"left out with {rules.timeframe} bars", rules.flat_at, "use max_bars")
        if _TIME.fullmatch(rules.flat_at) is None:
            raise _invalid("rules.flat_at", "a time of day, HH:MM", rules.flat_at, "write 15:55")
    of_the_day = sorted(operations & OF_THE_DAY)
    if is_daily and of_the_day:
        raise StrategyInvalid(
            f"rules must be without the time of day with {rules.timeframe} bars, was with {of_the_day[0]}; "
            "give a timeframe below a day"
        )


def _checked_risk(risk: Risk) -> Risk:
    rules: dict[str, Any] = {
        name: _rule_text(f"rules.risk.{name}", text, "score")
        for name, text in limit_rules(risk).items()
        if name in LIMITS
    }
    for field, text in rules.items():
        if _is_number(text) and not float(text) > 0:
            raise _invalid(f"rules.risk.{field}", "above 0", text, "$2 is two of the currency")
    for field in ("take_profit", "break_even", "stop_loss", "trailing_stop"):
        value = getattr(risk, field)
        if isinstance(value, str):
            if multiple_of_risk(value) is None:
                continue
            if field in ("stop_loss", "trailing_stop"):
                raise _invalid(f"rules.risk.{field}", "a fraction or a distance", value, "R is what it risks itself")
            rules[field] = _checked_multiple(risk, f"rules.risk.{field}", value)
        elif field in ("stop_loss", "trailing_stop"):
            if value is not None and not 0 < value < 1:
                raise _invalid(f"rules.risk.{field}", "a fraction, 0 < x < 1", value, "0.05 is 5%")
        elif value is not None and not 0 < value <= MAX_TAKE_PROFIT:
            rule = f"a fraction, 0 < x <= {MAX_TAKE_PROFIT:,}"
            raise _invalid(f"rules.risk.{field}", rule, value, "0.1 is 10%")
    if risk.max_bars is not None and not 1 <= risk.max_bars <= MAX_BARS_HELD:
        raise _invalid(
            "rules.risk.max_bars", f"1 to {MAX_BARS_HELD:,} bars", risk.max_bars, "leave it out for no limit"
        )
    scale_out = tuple(_checked_part(risk, place, each) for place, each in enumerate(risk.scale_out))
    if len(scale_out) > parts.MOST_PARTS or parts.total(scale_out) > 2.0 - parts.ALL:
        sold = f"{len(scale_out)} of {parts.total(scale_out):.6g} in all"
        rule = f"at most {parts.MOST_PARTS} parts of 100% in all"
        raise _invalid("rules.risk.scale_out", rule, sold, "parts are of the position as it was bought")
    return msgspec.structs.replace(risk, **rules, scale_out=scale_out)


def _checked_multiple(risk: Risk, path: str, value: str) -> str:
    if (risk.stop_loss, risk.trailing_stop, risk.stop_price) == (None, None, None):
        raise _invalid(path, "a multiple of a stop's risk", value, "give a stop_loss too")
    multiple = multiple_of_risk(value)
    if not multiple:
        raise _invalid(path, "a multiple above 0", value, "1R is what the stop risks")
    return f"{multiple:.10g}R"


def _checked_part(risk: Risk, place: int, part: Part) -> Part:
    path = f"rules.risk.scale_out[{place}]"
    if not 0 < part.part <= 1:
        raise _invalid(f"{path}.part", "a fraction, 0 < x <= 1", part.part, "0.5 sells half")
    if (part.at is None) == (part.when is None):
        raise _invalid(path, "with one of at and when", part.at, "write 50% at 1R or 50% when rsi(close, 14) > 70")
    if part.when is not None:
        return msgspec.structs.replace(part, when=_rule_text(f"{path}.when", part.when, "condition"))
    at: float | str
    if not isinstance(part.at, str):
        at = part.at or 0.0
        if not 0 < at <= MAX_TAKE_PROFIT:
            raise _invalid(f"{path}.at", f"a fraction, 0 < x <= {MAX_TAKE_PROFIT:,}", at, "0.1 is a gain of 10%")
    elif multiple_of_risk(part.at) is not None:
        at = _checked_multiple(risk, f"{path}.at", part.at)
    else:
        at = _rule_text(f"{path}.at", part.at, "score")
        if _is_number(at) and not float(at) > 0:
            raise _invalid(f"{path}.at", "above 0", at, "$2 is two of the currency")
    return msgspec.structs.replace(part, at=at)


def check_symbols(symbols: tuple[str, ...] | list[str], path: str) -> tuple[str, ...]:
    """Return symbols trimmed, in capitals, each once, in their order.

    Raises StrategyInvalid for an empty list, for more than MAX_SYMBOLS, and for what is no symbol.
    """
    if not 1 <= len(symbols) <= MAX_SYMBOLS:
        rule = f"1 to {MAX_SYMBOLS:,} symbols"
        raise StrategyInvalid(f"{path} must be {rule}, was {len(symbols):,}; null stands for every symbol")
    unique: dict[str, None] = {}
    for index, symbol in enumerate(symbols):
        upper = symbol.strip().upper()
        if _SYMBOL.fullmatch(upper) is None or ".." in upper:
            raise _invalid(
                f"{path}[{index}]",
                "a symbol such as AAPL or BRK.B",
                symbol,
                "letters, digits and . - ^ = _, commas between",
            )
        unique[upper] = None
    return tuple(unique)


def percent_text(fraction: float) -> str:
    """Write a fraction as the shortest percentage that reads back as the same number: 0.05 -> ``5%``."""
    percent = Decimal(repr(fraction)) * 100
    return f"{percent.normalize():f}%"


def source_text(rules: Rules) -> str:
    """Write rules as the lines that people read and prompts take: ``entry: ...``, ``stop_loss: 5%`` and so on.

    What has its default is left out; `rules_from_source` reads the same rules back.
    """
    lines = [("entry", rules.entry), ("exit", rules.exit), ("rank", rules.rank)]
    for field in LIMITS:
        value = getattr(rules.risk, field)
        lines.append((field, None if value is None else _limit_text(value)))
    lines.append(("scale_out", ", ".join(_part_text(each) for each in rules.risk.scale_out) or None))
    lines.append(("max_bars", None if rules.risk.max_bars is None else str(rules.risk.max_bars)))
    lines.append(("symbols", None if rules.symbols is None else ", ".join(rules.symbols)))
    lines.append(("timeframe", None if rules.timeframe == "1d" else rules.timeframe))
    lines.append(("reentry", None if rules.reentry == "cycle" else rules.reentry))
    lines.append(("side", None if rules.side == "long" else rules.side))
    lines += [("short", rules.short), ("cover", rules.cover)]
    lines += _account_lines(rules.account)
    lines.append(("timezone", None if rules.timezone == "UTC" else rules.timezone))
    lines.append(("flat_at", rules.flat_at))
    return "\n".join(f"{key}: {value}" for key, value in lines if value is not None)


SOURCE_KEYS = (
    "name",
    "entry",
    "exit",
    "rank",
    "stop_loss",
    "take_profit",
    "trailing_stop",
    "break_even",
    "stop_price",
    "target_price",
    "scale_out",
    "max_bars",
    "symbols",
    "timeframe",
    "reentry",
    "side",
    "short",
    "cover",
    "capital",
    "max_positions",
    "size",
    "whole_shares",
    "timezone",
    "flat_at",
)

_KNOWN_KEY = rf"(?<!\S)(?:{'|'.join(SOURCE_KEYS)}):"
# No rule holds a colon, so a word with its colon can only begin the next field, one that is unknown too.
_KEY = re.compile(rf"({_KNOWN_KEY}|(?<!\S)[A-Za-z_][\w-]*:(?=[\s\d.]|$))", re.IGNORECASE)
# A name alone on its line is free text: "name: Dips: #2".
_NAME_LINE = re.compile(rf"\s*name:((?:(?!{_KNOWN_KEY}).)*)", re.IGNORECASE)
_FIELD_INSIDE = re.compile(_KNOWN_KEY, re.IGNORECASE)

_KEY_SYNONYMS = {
    name: key
    for key, names in {
        "name": "title",
        "entry": "buy enter long",
        "exit": "sell",
        "short": "sell_short short_entry",
        "cover": "buy_to_cover short_exit",
        "side": "direction",
        "rank": "rank_by score sort",
        "stop_loss": "loss sl stop",
        "take_profit": "profit target tp",
        "trailing_stop": "trail trailing trailing_stop_loss",
        "break_even": "breakeven move_to_break_even",
        "scale_out": "scale partial partials partial_exit partial_exits take_partial sell_part targets",
        "max_bars": "hold holding_period max_hold max_holding",
        "symbols": "symbol ticker tickers universe watchlist",
        "timeframe": "bar_size bars interval",
        "timezone": "tz time_zone zone",
        "flat_at": "flat close_at flat_by",
    }.items()
    for name in names.split()
}


class FieldUnknown(StrategyInvalid):
    """A text in the source form has a field that no strategy has."""


def is_source(text: str) -> bool:
    """Whether a text begins with a key of the source form, comments apart."""
    lines = (line.strip() for line in text.splitlines())
    first = next((line for line in lines if line and not line.startswith("#")), "")
    return _FIELD_INSIDE.match(first) is not None


def source_fields(text: str) -> dict[str, str]:
    """Split a text in the source form, on one line or several, into its fields as written, without comments.

    Raises StrategyInvalid for a text before the first key, a key given twice, an empty value and a field inside a
    comment beside a value; and, where it is otherwise sound, FieldUnknown.
    """
    (_, before), *written = _written_fields(text)
    if before.strip():
        raise _invalid("source", f"fields of the form key: value ({', '.join(SOURCE_KEYS)})", before.strip(), "drop it")
    fields: dict[str, str] = {}
    for key, text_of_key in written:
        value = text_of_key.strip().rstrip(",;").rstrip()
        if key in fields:
            raise _invalid(f"source.{key}", "given once", value, "remove one of the two")
        if not value:
            hint = "write one or leave the key out"
            if key == "name":
                hint += "; a name with a colon stands on a line of its own"
            raise _invalid(f"source.{key}", "followed by its value", value, hint)
        fields[key] = value
    unknown = next((key for key in fields if key not in SOURCE_KEYS), None)
    if unknown is not None:
        near = _KEY_SYNONYMS.get(unknown) or next(iter(difflib.get_close_matches(unknown, SOURCE_KEYS, 1, 0.75)), None)
        hint = "leave it out" if near is None else f"did you mean {near}?"
        raise FieldUnknown(f"source must have the fields {', '.join(SOURCE_KEYS)} only, was {unknown[:40]!r}; {hint}")
    return fields


def _written_fields(text: str) -> list[tuple[str, str]]:
    written = [("", "")]
    for line in text.splitlines():
        name = _NAME_LINE.fullmatch(line)
        if name is not None:
            written.append(("name", name[1]))
            continue
        line, _, comment = line.partition("#")
        # A text whose lines were joined to one would lose what stands behind its first comment.
        if line.strip() and _FIELD_INSIDE.search(comment):
            hint = "put it on a line of its own"
            raise _invalid("source: a comment beside a value", "without a field", f"#{comment}", hint)
        first, *rest = _KEY.split(line)
        if rest and _FIELD_INSIDE.match(rest[0]) is None and re.fullmatch(r"\s*[A-Za-z][\w\s-]*", first):
            # "stop loss: 5%"
            first, rest[0] = "", first + rest[0]
        written[-1] = (written[-1][0], f"{written[-1][1]}\n{first}")
        for key, value in zip(rest[::2], rest[1::2], strict=True):
            written.append(("_".join(re.split(r"[\s-]+", key[:-1].strip().lower())), value))
    return written


def rules_from_source(text: str) -> Rules:
    """Read the source form back into checked rules; ``name`` is left to the caller. Raises StrategyInvalid."""
    fields = source_fields(text)
    if "entry" not in fields:
        raise _invalid("source.entry", "given", None, "write entry: and the condition to buy")
    return apply_fields(Rules(entry=fields["entry"]), fields)


def apply_fields(rules: Rules, fields: dict[str, str]) -> Rules:
    """Return rules with the source form's fields put in their place, checked; ``none`` takes one away.

    Raises StrategyInvalid.
    """
    given = {key: None if value.lower() == "none" else value for key, value in fields.items()}
    changes: dict[str, Any] = {key: given[key] for key in ("exit", "rank", "short", "cover") if key in given}
    changes |= {
        key: (given[key] or default).lower()
        for key, default in (("timeframe", "1d"), ("reentry", "cycle"), ("side", "long"))
        if key in given
    }
    if "entry" in fields:
        changes["entry"] = fields["entry"]
    if "timezone" in given:
        changes["timezone"] = given["timezone"] or "UTC"
    if "flat_at" in given:
        changes["flat_at"] = given["flat_at"]
    if "symbols" in fields:
        changes["symbols"] = symbols_from_text(fields["symbols"], "source.symbols")
    account = _account_given(rules.account, given)
    if account is not rules.account:
        changes["account"] = account
    risk: dict[str, Any] = {
        key: None if given[key] is None else _limit(f"source.{key}", key, fields[key]) for key in LIMITS if key in given
    }
    if "scale_out" in given:
        risk["scale_out"] = () if given["scale_out"] is None else _parts(fields["scale_out"])
    if "max_bars" in given:
        text = given["max_bars"]
        if text is not None and not (text.isascii() and text.isdigit() and len(text) <= 9):
            raise _invalid("source.max_bars", "a whole number of bars", text, "write max_bars: 20")
        risk["max_bars"] = None if text is None else int(text)
    return check_rules(msgspec.structs.replace(rules, risk=msgspec.structs.replace(rules.risk, **risk), **changes))


def symbols_from_text(text: str, path: str) -> tuple[str, ...] | None:
    """Read symbols with commas between them; None = every symbol, which is written ``all``.

    In capitals ALL and NONE are tickers. Raises StrategyInvalid.
    """
    word = text.strip()
    if word in ("all", "All"):
        return None
    if word in ("none", "None"):
        raise _invalid(path, "symbols, or all for every one of the store", word, "the ticker is NONE")
    # Without commas "AAPL and MSFT" would be three symbols.
    return check_symbols(word.split(","), path)


def describe(rules: Rules) -> str:
    """Say in a sentence what rules do, in their own terms."""
    opens, closes = ("Sells short", "buys back") if rules.side == "short" else ("Buys", "sells")
    clauses = [f"{opens} when {rules.entry}"]
    if rules.exit is not None:
        clauses.append(f"{closes} when {rules.exit}")
    if rules.short is not None:
        clauses.append(f"sells short when {rules.short}")
    if rules.cover is not None:
        clauses.append(f"buys back when {rules.cover}")
    risk = rules.risk
    said = {
        "stop_loss": "stops out at a loss of {}",
        "take_profit": "takes a profit of {}",
        "trailing_stop": "stops out {} under the highest price since entry",
        "break_even": "stops out at the entry price once {} is gained",
        "stop_price": "stops out at {}",
        "target_price": "takes the profit at {}",
    }
    limits = {field: getattr(risk, field) for field in LIMITS}
    clauses += [said[field].format(_limit_text(value)) for field, value in limits.items() if value is not None]
    if risk.scale_out:
        clauses.append(
            f"sells {', '.join(_part_text(each) for each in risk.scale_out)} of the position before the rest"
        )
    if risk.max_bars is not None:
        clauses.append(f"holds at most {risk.max_bars} bars")
    if rules.account is not None:
        most = rules.account.max_positions
        places = "as many positions as symbols" if most is None else f"at most {most} positions"
        clauses.append(f"shares {rules.account.capital:,.10g} among {places} of {_size_text(rules.account.size)}")
    if rules.flat_at is not None:
        clauses.append(f"holds nothing from {rules.flat_at} {rules.timezone} on")
    if rules.rank is not None:
        clauses.append(f"ranks by {rules.rank}")
    universe = "every symbol" if rules.symbols is None else ", ".join(rules.symbols)
    text = "; ".join(clauses) + f". Trades {universe} on {rules.timeframe} bars."
    return text if len(text) <= MAX_DESCRIPTION_CHARACTERS else text[: MAX_DESCRIPTION_CHARACTERS - 3] + "..."


def _rule_text(path: str, text: str, kind: Any) -> str:
    if "#" in text:
        raise _invalid(path, "a rule without comments", text, "remove the # and what follows it")
    line = " ".join(text.split())
    try:
        parse_rule(line, kind)
    except RuleError as error:
        hint = f"column {error.column}: {error.message}"
        if error.suggestion is not None:
            hint += f"; did you mean {error.suggestion}?"
        what = "a condition" if kind == "condition" else "a number"
        invalid = _invalid(path, f"{what} in the rule language", line, hint)
        invalid.add_note(error.pointer)
        raise invalid from None
    return line


def _account_lines(account: Account | None) -> list[tuple[str, str | None]]:
    if account is None:
        return []
    most = account.max_positions
    return [
        ("capital", f"{Decimal(repr(account.capital)).normalize():f}"),
        ("max_positions", None if most is None else str(most)),
        ("size", None if account.size is None else _size_text(account.size)),
        ("whole_shares", "yes" if account.whole_shares else None),
    ]


def _size_text(size: float | str | None) -> str:
    if isinstance(size, str):
        return f"${size}" if _is_number(size) else size
    return "equal parts" if size is None else percent_text(size)


def _account_given(account: Account | None, given: dict[str, str | None]) -> Account | None:
    """Return the account with the source form's fields put in their place; a field of it makes one."""
    names = [name for name in ("capital", "max_positions", "size", "whole_shares") if name in given]
    if not names:
        return account
    if all(given[name] is None for name in names) and (account is None or "capital" in names):
        return None
    changes: dict[str, Any] = {}
    for name in names:
        text = given[name]
        if text is None:
            changes[name] = msgspec.structs.asdict(Account())[name]
        elif name == "capital":
            money = _MONEY.fullmatch(text)
            digits = (money[1] or money[2]) if money is not None else text.replace(",", "").replace("_", "")
            changes[name] = _fraction("source.capital", digits.removesuffix("%"))
        elif name == "max_positions":
            if not (text.isascii() and text.isdigit() and len(text) <= 9):
                raise _invalid("source.max_positions", "a whole number", text, "write max_positions: 10")
            changes[name] = int(text)
        elif name == "whole_shares":
            if text.lower() not in ("yes", "no", "true", "false"):
                raise _invalid("source.whole_shares", "yes or no", text, "no is the default")
            changes[name] = text.lower() in ("yes", "true")
        else:
            changes[name] = _size(text)
    return msgspec.structs.replace(account or Account(), **changes)


def _size(text: str) -> float | str | None:
    money, risk = _MONEY.fullmatch(text), _RISK_OF_SIZE.fullmatch(text)
    if money is not None:
        return money[1] or money[2]
    if risk is not None:
        return f"{risk[1] or risk[2]}% risk"
    if text.lower() in ("equal", "equal parts", "equal weight"):
        return None
    try:
        return _fraction("source.size", text)
    except StrategyInvalid:
        rule = "equal, a percentage of the equity, money or a risk"
        raise _invalid("source.size", rule, text, "write 10%, $5000 or 1% risk") from None


_MONEY = re.compile(r"[$€£¥] ?(\d+(?:\.\d+)?)|(\d+(?:\.\d+)?) ?[$€£¥]")
_LIKE_A_RULE = re.compile(rf"[a-z_]\(|\b(?:{'|'.join(SERIES)})\b")
_IN_ATRS = re.compile(r"(\d+(?:\.\d+)?) ?[x*×]? ?ATRs?(?:\((\d+)\))?", re.IGNORECASE)


def _limit_text(value: float | str) -> str:
    if isinstance(value, str):
        return f"${value}" if _is_number(value) else value
    return percent_text(value)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(?:\.\d+)?", text) is not None


def _limit(path: str, field: str, text: str) -> float | str:
    """Read a limit of the source form: a rule, and where it is a distance also ``5%``, ``$2``, ``2 ATR``, ``2R``."""
    money, in_atrs = _MONEY.fullmatch(text), _IN_ATRS.fullmatch(text)
    if money is not None:
        return money[1] or money[2]
    if field in ("stop_price", "target_price"):
        return text
    if in_atrs is not None:
        return f"{in_atrs[1]} * atr({in_atrs[2] or 14})"
    if multiple_of_risk(text) is not None or _LIKE_A_RULE.search(text) is not None:
        return text
    return _fraction(path, text)


def _part_text(part: Part) -> str:
    told = f"when {part.when}" if part.at is None else f"at {_limit_text(part.at)}"
    return f"{percent_text(part.part)} {told}"


def _parts(text: str) -> tuple[Part, ...]:
    path, hint = "source.scale_out", "write 50% at 1R, 25% at 10%, or 50% when rsi(close, 14) > 70"
    made = []
    for amount, word, told in parts.split(text) or [("", "", "")]:
        part = parts.amount(amount) if amount else None
        if part is None:
            raise _invalid(path, "parts of the position, each at a gain or when a condition holds", text, hint)
        made.append(Part(part, when=told) if word == "when" else Part(part, _limit(path, "take_profit", told)))
    return tuple(made)


def _fraction(path: str, text: str) -> float:
    digits = text.removesuffix("%").rstrip()
    try:
        number = Decimal(digits) if len(digits) <= 40 else None
    except InvalidOperation:
        number = None
    if number is None or not number.is_finite() or abs(number.adjusted()) > 30:
        raise _invalid(
            path, "a percentage or a fraction", text, "write 5%, 0.05, $2, 2 ATR or a rule such as 2 * atr(14)"
        )
    return float(number / 100 if text.endswith("%") else number)


def _invalid(path: str, rule: str, value: object, hint: str) -> StrategyInvalid:
    shown = repr(value)
    if len(shown) > 200:
        shown = shown[:197] + "..."
    return StrategyInvalid(f"{path} must be {rule}, was {shown}; {hint}")
