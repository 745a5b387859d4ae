"""The numbers that a prompt speaks of: prices, averages, indicators, spans of time; each becomes a rule text.

Invariant: a parser that does not find its phrase leaves the cursor where it was.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from aworker.trading.prompts.words import Cursor
from aworker.trading.rules import INDICATORS, SERIES, RuleError, parse_rule
from aworker.trading.strategies.strategy import TIMEFRAMES

MAX_CALL_WORDS = 400

ARTICLES = ("the", "a", "an", "its", "it's", "their", "this", "that", "current")
_OF_TODAY = ("today's", "daily")

AVERAGES: dict[str, str] = {
    "moving average": "sma",
    "moving averages": "sma",
    "simple moving average": "sma",
    "simple moving averages": "sma",
    "ma": "sma",
    "mas": "sma",
    "dma": "sma",
    "sma": "sma",
    "smas": "sma",
    "simple ma": "sma",
    "average": "sma",
    "mean": "sma",
    "exponential moving average": "ema",
    "exponential moving averages": "ema",
    "exponential average": "ema",
    "exponential ma": "ema",
    "ema": "ema",
    "emas": "ema",
    "weighted moving average": "wma",
    "weighted moving averages": "wma",
    "weighted average": "wma",
    "wma": "wma",
    "wmas": "wma",
}

# Phrase -> rule text for a window, and the usual window.
INDICATOR_PHRASES: dict[str, tuple[str, int | None]] = {
    "rsi": ("rsi(close, {})", 14),
    "relative strength index": ("rsi(close, {})", 14),
    "atr": ("atr({})", 14),
    "average true range": ("atr({})", 14),
    "adx": ("adx({})", 14),
    "average directional index": ("adx({})", 14),
    "cci": ("cci({})", 20),
    "commodity channel index": ("cci({})", 20),
    "stochastic": ("stochastic_k({})", 14),
    "stochastic oscillator": ("stochastic_k({})", 14),
    "stochastics": ("stochastic_k({})", 14),
    "stochastic %k": ("stochastic_k({})", 14),
    "stochastic % k": ("stochastic_k({})", 14),
    "stochastic k": ("stochastic_k({})", 14),
    "stochastic % d": ("stochastic_d({})", 14),
    "stochastic d": ("stochastic_d({})", 14),
    "vwap": ("vwap({})", 20),
    "volume weighted average price": ("vwap({})", 20),
    "roc": ("roc(close, {})", 10),
    "rate of change": ("roc(close, {})", 10),
    "momentum": ("percent_change(close, {})", 20),
    "return": ("percent_change(close, {})", None),
    "returns": ("percent_change(close, {})", None),
    "performance": ("percent_change(close, {})", None),
    "price change": ("percent_change(close, {})", None),
    "percent change": ("percent_change(close, {})", None),
    "percentage change": ("percent_change(close, {})", None),
    "% change": ("percent_change(close, {})", None),
    "gain": ("percent_change(close, {})", None),
    "volatility": ("stddev(percent_change(close, 1), {})", 20),
    "standard deviation": ("stddev(close, {})", 20),
}

_PRICES: dict[str, str] = {
    "price": "close",
    "prices": "close",
    "close": "close",
    "closing price": "close",
    "stock": "close",
    "stock price": "close",
    "share price": "close",
    "stock's price": "close",
    "shares": "close",
    "open": "open",
    "opening price": "open",
    "high": "high",
    "low": "low",
    "volume": "volume",
    "trading volume": "volume",
}

_AVERAGE_VOLUME = (
    "average volume",
    "volume average",
    "volume moving average",
    "volume sma",
    "average trading volume",
)
_BANDS = {"upper": "bollinger_upper", "lower": "bollinger_lower", "middle": "bollinger_middle"}

_BAR_UNITS = ("bar", "bars", "period", "periods", "candle", "candles")
_UNITS: dict[str, str] = {
    "day": "day",
    "days": "day",
    "d": "day",
    "session": "day",
    "sessions": "day",
    "week": "week",
    "weeks": "week",
    "wk": "week",
    "w": "week",
    "month": "month",
    "months": "month",
    "mo": "month",
    "year": "year",
    "years": "year",
    "yr": "year",
    "y": "year",
    "minute": "minute",
    "minutes": "minute",
    "min": "minute",
    "mins": "minute",
    "m": "minute",
    "hour": "hour",
    "hours": "hour",
    "hr": "hour",
    "h": "hour",
}

# Trading bars of a calendar unit: a year is 252 sessions, a month 21, a week 5.
_DAILY_BARS = {"day": 1, "week": 5, "month": 21, "year": 252}
_WEEKLY_BARS = {"week": 1, "year": 52}
_UNIT_SECONDS = {"minute": 60, "hour": 3_600}


# What a number counts, by the outermost function; those that keep the kind of what they are made of.
_KINDS: dict[str, str] = {
    **dict.fromkeys(("open", "high", "low", "close", "vwap"), "price"),
    "volume": "volume",
    **dict.fromkeys(("rsi", "adx", "stochastic_k", "stochastic_d"), "bounded"),
    "cci": "cci",
    **dict.fromkeys(("roc", "percent_change"), "percent"),
    **dict.fromkeys(("macd", "macd_signal", "macd_histogram"), "macd"),
    "obv": "obv",
}
_KEEPING = ("sma", "ema", "wma", "highest", "lowest", "lag", *_BANDS.values())
_KIND = re.compile(rf"(?:[0-9.]+ \* )?(?:(?:{'|'.join(_KEEPING)})\()*([a-z_]+)")


class Refused(Exception):
    """A phrase was recognised and cannot be had; the text says why."""


@dataclass(frozen=True, slots=True)
class Series:
    """A number at each bar, as rule text."""

    text: str

    @property
    def function(self) -> str:
        """The outermost function or price; empty for a number or arithmetic."""
        match = re.match(r"[a-z_]+", self.text)
        return match.group() if match else ""

    @property
    def is_constant(self) -> bool:
        """Whether it is the same number at every bar."""
        return re.fullmatch(r"-?[0-9.]+", self.text) is not None

    @property
    def kind(self) -> str:
        """What it counts: price, volume, bounded (0 to 100), percent ...; empty for a number and where it is not known.

        Two series of different kinds are not compared: nobody means an RSI above a price.
        """
        match = _KIND.match(self.text)
        return _KINDS.get(match.group(1), "") if match else ""

    @property
    def is_price_like(self) -> bool:
        """Whether it is in the unit of the price, so that the price may be compared with it."""
        return self.kind == "price"

    @property
    def is_bounded(self) -> bool:
        """Whether it runs from 0 to 100."""
        return self.kind == "bounded"


def number_text(value: float) -> str:
    """Write a number as rules do: without exponent, whole ones without a point."""
    return str(int(value)) if value == int(value) else f"{value:.10f}".rstrip("0")


class SeriesReader:
    """Reads series and spans of time at the cursor."""

    def __init__(self, cursor: Cursor, timeframe: str) -> None:
        self.cursor = cursor
        self.timeframe = timeframe
        self.macd_arguments = ""
        """The arguments of the MACD that was spoken of last, for ``its signal line``."""
        self.averaged = "close"
        """What ``its 20 day average`` is of."""
        self.spoken = ""
        """The rules so far: an indicator without a window is the one that was spoken of."""

    def series(self) -> Series | None:
        """Take a series, with arithmetic in the rules' own signs."""
        cursor = self.cursor
        left = self._product()
        while left is not None and cursor.peek() in ("+", "-"):
            start, sign = cursor.at, cursor.peek()
            cursor.move(1)
            right = self._product() or self.plain_number()
            if right is None:
                cursor.at = start
                break
            left = Series(f"({left.text} {sign} {right.text})")
        return left

    def term(self) -> Series | None:
        """Take one series without arithmetic."""
        start = self.cursor.at
        self.cursor.skip(*ARTICLES)
        of_today = self.cursor.take(*_OF_TODAY)
        after_articles = self.cursor.at
        for read in (self._call, self._previous, self._counted, self._extreme, self._named, self._price):
            found = read()
            if found is not None:
                self.check_daily(of_today)
                return found
            self.cursor.at = after_articles
        self.cursor.at = start
        return None

    def window(self) -> int | None:
        """Take the window that follows an indicator: ``(14)``, ``14``, ``of 14 days``, ``over 14 days``."""
        cursor = self.cursor
        start = cursor.at
        if cursor.take("("):
            bars = self.bars() or self.whole_number()
            if bars is not None and cursor.take(")"):
                return bars
        else:
            spoken = cursor.take("of", "over", "for", "over the last", "over the past", "in the last") is not None
            cursor.take("period", "length", "window")
            bars = self.bars()
            if bars is not None:
                return bars
            bars = None if spoken else self.whole_number()
            if bars is not None and cursor.peek() not in ("%", "percent", "x", "times", "/"):
                return bars
        cursor.at = start
        return None

    def bars(self) -> int | None:
        """Take a span of time (``20 days``, ``52-week``, ``a month``, ``10 bars``) and return it in bars.

        Raises Refused for a span that is no whole number of bars.
        """
        cursor = self.cursor
        start = cursor.at
        is_recent = cursor.take("the last", "the past", "last", "past") is not None
        count = 1.0 if cursor.take("a", "an") else cursor.number()
        if count is None and is_recent:
            count = 1.0
        if count is not None and count == int(count) and count >= 1:
            cursor.take("trading", "consecutive", "straight")
            if cursor.take(*_BAR_UNITS):
                return int(count)
            name = cursor.peek()
            # A letter is a unit only where it touches its number: 20d, but not "20 M".
            if name in _UNITS and (len(name) > 1 or cursor.adjacent()):
                cursor.move(1)
                return self._unit_bars(int(count), _UNITS[name])
            if name == "dma":
                return int(count)
        cursor.at = start
        return None

    def check_daily(self, word: str | None) -> None:
        """Raise Refused for a word that speaks of days where a bar is none."""
        if word is not None and self.timeframe != "1d":
            raise Refused(f"{word!r} speaks of days, and all rules are on the same {self.timeframe} bars")

    def streak(self) -> int | None:
        """Take a number of bars one after another: ``three days in a row``, ``5 straight bars``.

        Raises Refused for a span that is no bar: two weeks in a row are no ten days.
        """
        cursor = self.cursor
        start = cursor.at
        bars = self.each_bar()
        if bars is None:
            return None
        if cursor.word(-2).lower in ("straight", "consecutive") or cursor.take("in a row", "straight", "consecutively"):
            return bars
        cursor.at = start
        return None

    def each_bar(self) -> int | None:
        """Take a span in which something holds on every bar. Raises Refused where its unit is longer than a bar."""
        cursor = self.cursor
        start = cursor.at
        cursor.take("the last", "the past", "last", "past")
        count = self.whole_number() or 1
        cursor.at = start
        bars = self.bars()
        if bars is not None and bars != count:
            raise Refused(f"on {self.timeframe} bars that is {bars} bars, each of them; say how many bars in a row")
        return bars

    def timeframe_here(self) -> str | None:
        """Take a bar size (``5 minute``, ``15m``, ``hourly``) and return it as ``5m``, whether it is known or not."""
        cursor = self.cursor
        start = cursor.at
        for words, timeframe in (("hourly", "1h"), ("daily", "1d"), ("weekly", "1w"), ("end of day", "1d")):
            if cursor.take(words):
                return timeframe
        count = cursor.number()
        unit = _UNITS.get(cursor.peek())
        if count is not None and unit is not None and count == int(count):
            letter = {"minute": "m", "hour": "h", "day": "d", "week": "w"}.get(unit)
            is_letter = len(cursor.peek()) == 1
            if letter is not None and (not is_letter or cursor.adjacent()):
                cursor.move(1)
                text = f"{int(count)}{letter}"
                return {"60m": "1h", "240m": "4h", "24h": "1d", "7d": "1w"}.get(text, text)
        cursor.at = start
        return None

    def _unit_bars(self, count: int, unit: str) -> int:
        bars: float
        if self.timeframe == "1d" and unit in _DAILY_BARS:
            # The 52-week high is that of a year's 252 sessions.
            bars = 252 * (count // 52) if unit == "week" and count % 52 == 0 else count * _DAILY_BARS[unit]
        elif self.timeframe == "1w" and unit in _WEEKLY_BARS:
            bars = count * _WEEKLY_BARS[unit]
        elif self.timeframe not in ("1d", "1w") and unit in _UNIT_SECONDS:
            bars = count * _UNIT_SECONDS[unit] / TIMEFRAMES[self.timeframe]
        else:
            bars = math.nan
        if bars == bars and bars == int(bars) and bars >= 1:
            return int(bars)
        raise Refused(f"{count} {unit}s are no whole number of {self.timeframe} bars; say how many bars")

    def _product(self) -> Series | None:
        cursor = self.cursor
        left = self.term()
        while left is not None and cursor.peek() in ("*", "/"):
            start, sign = cursor.at, cursor.peek()
            cursor.move(1)
            right = self.term() or self.plain_number()
            if right is None:
                cursor.at = start
                break
            left = Series(f"({left.text} {sign} {right.text})")
        return left

    def plain_number(self) -> Series | None:
        """Take a number as a series of its own."""
        value = self.cursor.number()
        return None if value is None else Series(number_text(value))

    def whole_number(self) -> int | None:
        """Take a whole number from one on."""
        start = self.cursor.at
        value = self.cursor.number()
        if value is not None and value == int(value) and value >= 1:
            return int(value)
        self.cursor.at = start
        return None

    def _call(self) -> Series | None:
        text = self.call_text()
        if text is None:
            return None
        try:
            parse_rule(text, "score")
        except RuleError:
            return None
        self.cursor.move(self._call_length())
        return Series(text)

    def call_text(self) -> str | None:
        """Return the call in the rule language that stands at the cursor, such as ``rsi(close, 14)``."""
        length = self._call_length()
        return self.cursor.source(self.cursor.at, self.cursor.at + length).lower() if length else None

    def _call_length(self) -> int:
        cursor = self.cursor
        if cursor.peek() not in INDICATORS or cursor.peek(1) != "(":
            return 0
        depth = 0
        for ahead in range(1, MAX_CALL_WORDS):
            word = cursor.peek(ahead)
            depth += (word == "(") - (word == ")")
            if depth == 0:
                return ahead + 1
            if not word:
                return 0
        return 0

    def _previous(self) -> Series | None:
        cursor = self.cursor
        word = cursor.take("yesterday's", "previous", "prior", "last bar's")
        if word is None:
            return None
        word = cursor.take("day's", "bar's", "candle's", "session's") or word
        found = self._counted()
        if found is None:
            found = self._price()
            is_of_bar = word in ("last bar's", "bar's", "candle's") or self.timeframe == "1w"
            # "The previous close" is yesterday's to those who watch minutes.
            self.check_daily(None if found is None or (is_of_bar and word != "yesterday's") else word)
        return None if found is None else Series(f"lag({found.text}, 1)")

    def _counted(self) -> Series | None:
        cursor = self.cursor
        bars = self.bars()
        if bars is None:
            bars = self.whole_number()
        if bars is None:
            return None
        cursor.take("period")
        if self._average_volume():
            return Series(f"sma(volume, {bars})")
        if cursor.take("volume ema"):
            return Series(f"ema(volume, {bars})")
        own = None if self.averaged == "close" else self.averaged
        if cursor.take("high", "highs", "highest high", "highest price", "peak"):
            return Series(f"highest({own or 'high'}, {bars})")
        if cursor.take("closing high", "highest close", "high close"):
            return Series(f"highest(close, {bars})")
        if cursor.take("low", "lows", "lowest low", "lowest price"):
            return Series(f"lowest({own or 'low'}, {bars})")
        if cursor.take("closing low", "lowest close", "low close"):
            return Series(f"lowest(close, {bars})")
        band = self._band(bars)
        if band is not None:
            return band
        name = cursor.take(*AVERAGES)
        if name is not None:
            return Series(f"{AVERAGES[name]}({self._averaged()}, {bars})")
        name = cursor.take(*INDICATOR_PHRASES)
        return None if name is None else Series(INDICATOR_PHRASES[name][0].format(bars))

    def _average_volume(self) -> bool:
        word = self.cursor.take(*_AVERAGE_VOLUME, "average daily volume")
        self.check_daily("daily" if word == "average daily volume" else None)
        return word is not None

    def _extreme(self) -> Series | None:
        cursor = self.cursor
        name = cursor.take("highest", "lowest", "high", "low")
        if name is None:
            return None
        price = cursor.take("high", "low", "close", "closing price", "price")
        if not cursor.take("of", "in", "over", "for", "within", "during"):
            return None
        cursor.take("the")
        cursor.take("last", "past", "previous", "prior")
        bars = self.bars()
        if bars is None:
            return None
        side = "high" if name.startswith("high") else "low"
        base = {"close": "close", "closing price": "close", "high": "high", "low": "low"}.get(price or "", side)
        return Series(f"{'highest' if side == 'high' else 'lowest'}({base}, {bars})")

    def _named(self) -> Series | None:
        cursor = self.cursor
        found = self._macd() or self._band(None)
        if found is not None:
            return found
        if cursor.take("obv", "on balance volume"):
            return Series("obv()")
        if self._average_volume():
            return Series(f"sma(volume, {self.window() or 20})")
        name = cursor.take(*AVERAGES)
        if name is not None:
            base = self._averaged()
            bars = self.window()
            if bars is None and base != "volume":
                raise Refused(f"{name} needs its length, such as 50 day {name}")
            return Series(f"{AVERAGES[name]}({base}, {bars or 20})")
        name = cursor.take(*INDICATOR_PHRASES)
        if name is None or (name.startswith("stochastic") and cursor.sees("rsi")):
            return None
        bars = self.window()
        return self.indicator(name) if bars is None else Series(INDICATOR_PHRASES[name][0].format(bars))

    def indicator(self, name: str) -> Series:
        """Return an indicator that has no window here: that of the rules so far, else the usual one.

        Raises Refused where there are several, or no usual one.
        """
        text, usual = INDICATOR_PHRASES[name]
        if usual is None:
            raise Refused(f"{name} needs its time, such as {name} over 20 days")
        call = text.partition(", {})")[0].partition("{})")[0]
        windows: set[int] = set()
        if text.split("(")[0] in _KINDS and text.split("(")[0] != "percent_change":
            found = re.findall(rf"{re.escape(call)}(?:, )?(?:window=)?([0-9]*)", self.spoken)
            windows = {int(window or usual) for window in found}
        if len(windows) > 1:
            raise Refused(f"which {name}: {', '.join(map(str, sorted(windows)))}? say its window")
        return Series(text.format(next(iter(windows), usual)))

    def _averaged(self) -> str:
        cursor = self.cursor
        start = cursor.at
        cursor.take("of the", "of its", "of")
        base = cursor.take("volume", "closing price", "price", "close", "open")
        if base is None:
            cursor.at = start
            return self.averaged
        return base if base in SERIES else "close"

    def _macd(self) -> Series | None:
        cursor = self.cursor
        is_macd = cursor.take("macd", "moving average convergence divergence") is not None
        if is_macd and cursor.sees("("):
            start = cursor.at
            cursor.move(1)
            windows = [self.whole_number()]
            while cursor.take(","):
                windows.append(self.whole_number())
            if len(windows) == 3 and None not in windows and cursor.take(")"):
                self.macd_arguments = "".join(f", {window}" for window in windows)
            else:
                cursor.at = start
        if is_macd and cursor.take("histogram"):
            return Series(f"macd_histogram(close{self.macd_arguments})")
        if cursor.take("signal line", "signal"):
            return Series(f"macd_signal(close{self.macd_arguments})")
        if is_macd:
            cursor.take("line")
            return Series(f"macd(close{self.macd_arguments})")
        return None

    def _band(self, bars: int | None) -> Series | None:
        cursor = self.cursor
        start = cursor.at
        side = cursor.take(*_BANDS)
        named = cursor.take("bollinger bands", "bollinger band", "bollinger", "bb") is not None
        if named and side is None:
            arguments = self._band_arguments()
            side = cursor.take(*_BANDS)
            cursor.take("band")
        else:
            named = named or cursor.take("band") is not None
            arguments = self._band_arguments()
        if not named or side is None:
            cursor.at = start
            return None
        window, deviations = arguments or (bars or 20, 2.0)
        return Series(f"{_BANDS[side]}(close, {window}, {number_text(deviations)})")

    def _band_arguments(self) -> tuple[int, float] | None:
        cursor = self.cursor
        start = cursor.at
        if cursor.take("("):
            window = self.whole_number()
            deviations = cursor.number() if cursor.take(",") else 2.0
            if window is not None and deviations is not None and cursor.take(")"):
                return window, deviations
        cursor.at = start
        return None

    def bands(self) -> tuple[Series, Series] | None:
        """Take ``the bollinger bands`` as the lower and the upper one."""
        cursor = self.cursor
        cursor.skip(*ARTICLES)
        cursor.take("upper and lower", "lower and upper")
        if not cursor.take("bollinger bands", "bollinger band", "bands", "bollingers"):
            return None
        window, deviations = self._band_arguments() or (20, 2.0)
        arguments = f"close, {window}, {number_text(deviations)}"
        return Series(f"bollinger_lower({arguments})"), Series(f"bollinger_upper({arguments})")

    def _price(self) -> Series | None:
        name = self.cursor.take(*_PRICES)
        return None if name is None else Series(_PRICES[name])
