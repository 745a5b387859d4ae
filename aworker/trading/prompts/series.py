"""Series as rules: what each kind is in the rule language, and what "it", "its average" and spans of time are.

Invariant: a default that nobody said is among the assumptions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

from aworker.trading.prompts.lattice import Number, lexicon_table
from aworker.trading.prompts.phrases import Series, Span
from aworker.trading.strategies.strategy import TIMEFRAMES

CLOSE: Series = ("price", "close")
VOLUME: Series = ("price", "volume")
_DAYS = {"day": 1, "week": 5, "month": 21, "year": 252}
_PARTNERS = {"stochastic_d": "stochastic_k", "stochastic_k": "stochastic_d"}
_SECONDS = {"hour": 3_600, "minute": 60}


class NotRead(Exception):
    """The prompt cannot be read; ``args[0]`` says why.

    ``is_trap``: it was understood well enough to know that it must not be traded, however else it might be read.
    ``choices`` are ready prompts, one for each way to read it; ``words`` are those that it is about.
    """

    def __init__(
        self, reason: str, *, is_trap: bool = False, choices: tuple[str, ...] = (), what: str = "", words: str = ""
    ) -> None:
        super().__init__(reason)
        self.is_trap = is_trap
        self.choices = choices
        self.unsupported = what
        self.words = words


class Indicator(NamedTuple):
    """An indicator of the lexicon: its rule with ``{n}`` for its window, and what is usual for it."""

    text: str
    window: int
    family: str
    low: float | None
    high: float | None


@cache
def indicators() -> dict[str, Indicator]:
    """Read what the lexicon says of each indicator."""
    table = lexicon_table()
    return {
        name: Indicator(
            each["text"], each.get("window", 0), each.get("family", name), each.get("low"), each.get("high")
        )
        for name, each in table["indicator"].items()
    }


@dataclass
class Scope:
    """What was said so far: of what "it" is, which bars are meant, what was assumed."""

    timeframe: str | None = None
    subject: Series | None = None
    target: Any = None
    """What the subject was compared with last."""
    target_number: Any = None
    """The same, also where it was a number."""
    function: str | None = None
    last_average: Series | None = None
    """The average of closes that was named last."""
    sides: dict[str, str] = field(default_factory=dict)
    """By text of what the close was bought below or above: the sign of reaching it again."""
    compared: list[tuple[Series, str, Any]] = field(default_factory=list)
    """What was compared so far, and how."""
    last_band: tuple[float, float] | None = None
    """The window and the width of the Bollinger bands that were named last."""
    named_averages: list[Series] = field(default_factory=list)
    """All of them, each once."""
    crossing: tuple[Series, Any, str] | None = None
    crossings: int = 0
    is_named: bool = False
    """Whether this clause has said of what it speaks."""
    subjects: set[Series] = field(default_factory=set)
    """All that was compared so far."""
    pair: tuple[float, float, str] | None = None
    """The averages of a golden or death cross, where they are named apart."""
    spoken: set[str] = field(default_factory=set)
    """Symbols that a condition speaks of."""
    windows: dict[str, dict[Span, None]] = field(default_factory=dict)
    """The windows that each indicator was given."""
    assumptions: list[str] = field(default_factory=list)
    macd: tuple[Any, ...] = (12, 26, 9)
    """The windows of the MACD that was spoken of."""
    middle: Span | None = None
    """The window of the range whose middle was spoken of."""
    averages: set[float] = field(default_factory=set)
    """The windows of the averages that were spoken of."""
    spoken_of: Series | None = None
    """The series of which the condition that is being written speaks by name."""
    closes_itself: bool = False
    """Whether it was said of that series that it closes somewhere."""
    is_titled: bool = False
    """Whether a title was passed over, of which what follows may speak."""
    is_exit: bool = False
    shift: int = 0
    """Bars ago of what is being written."""
    reached: int = 0
    """The most bars ago that a condition of this clause spoke of."""

    def assume(self, text: str) -> None:
        """Note a default that nobody said."""
        if text not in self.assumptions:
            self.assumptions.append(text)

    def it(self) -> Series:
        """Return what was spoken of last. Raises NotRead where only the title may have spoken of it."""
        if self.subject is None and self.is_titled:
            raise NotRead("what 'it' is is not said")
        return self.subject or CLOSE

    def left(self, series: Series | None, right: Any = None) -> Series:
        """Return the side that is spoken of, for one that was left out. Raises NotRead where it may be several."""
        if series is not None and series != ("it",):
            return series
        is_average = is_series(right) and right[0] == "average" and right[3] is None and not right[4]
        is_other = self.subject is not None and family(self.subject) not in ("price", "any")
        if series is None and is_average and is_other and self.spoken_of is None:
            if self.subject == VOLUME and CLOSE not in self.subjects:
                raise NotRead("the average of what is not said: of the volume, or of the close")
            return CLOSE  # "price over 5, volume over 2 million, above the 20 day average"
        if not self.is_named and len(self.subjects) > 1:
            kind = family(right) if is_series(right) and right != ("it",) else "any"
            fitting = [each for each in self.subjects if kind in ("any", family(each))]
            if kind != "any" and len(fitting) == 1:
                return fitting[0]
            raise NotRead("of which is spoken is not said: " + ", ".join(sorted(map(self.text, self.subjects))))
        return self.it()

    def right(self, left: Series, right: Any) -> Any:
        """Return the side that is compared with. Raises NotRead where "it" is nothing."""
        if right is None or isinstance(right, Number):
            return right
        if right == ("it",):
            target = (
                self.target[1] if self.target and self.target[0] == "lag" and self.target[1] != left else self.target
            )
            if target is None or target == left:
                raise NotRead("what 'it' is is not said")
            return target
        if right[0] == "ago":
            return ("lag", left, right[1])
        return ("lag", left, (1.0, "day")) if right == ("before",) else right

    def bars(self, span: Span) -> int:
        """Turn a span into bars of the timeframe. Raises NotRead where it is no whole number of them."""
        count, unit = span
        timeframe = self.timeframe or "1d"
        if unit == "bar":
            return int(count)
        if unit in _SECONDS:
            bars = count * _SECONDS[unit] / TIMEFRAMES[timeframe]
            if timeframe in ("1d", "1w"):
                raise NotRead(f"{plain(count)} {unit}s are less than a bar of {timeframe}; say on which bars")
        elif timeframe not in ("1d", "1w"):
            raise NotRead(f"{unit}s are not counted in bars of {timeframe}; give a number of bars")
        else:
            bars = 252 if (count, unit) == (52, "week") else count * _DAYS[unit]
            bars = bars / 5 if timeframe == "1w" and (count, unit) != (52, "week") else bars
            bars = 52.0 if timeframe == "1w" and (count, unit) in ((52, "week"), (1, "year")) else bars
        if bars != int(bars) or bars < 1:
            raise NotRead(f"{plain(count)} {unit}s are no whole number of {timeframe} bars")
        if unit not in ("day", timeframe):
            self.assume(f"{plain(count)} {unit}{'s' * (count != 1)}: {int(bars)} bars")
        return int(bars)

    def value(self, series: Series, other: Any = None) -> str:
        """Write one side of a condition; ``other`` is the other side, for averages that do not say of what."""
        text = self.text(series, other if is_series(other) else None)
        return f"lag({text}, {self.shift})" if self.shift and not is_number(series) else text

    def text(self, series: Series, other: Series | None = None) -> str:
        """Write a series as it is on its bar."""
        return _WRITERS[series[0]](self, series, other)

    def window_of(self, name: str, window: Span | None) -> int:
        """Return an indicator's window: the one that is said, the one that was said of it before, or the usual one."""
        usual = indicators()[name].window
        if window is not None:
            self.windows.setdefault(name, {})[window] = None
        elif known := list(self.windows.get(name) or self.windows.get(_PARTNERS.get(name, "")) or ()):
            if len(known) > 1:
                raise NotRead(f"which {name} is not said: {', '.join(plain(each[0]) for each in known)}")
            return self.bars(known[0])
        elif usual:
            self.assume(f"{name.split('_')[0]}: over {usual} bars")
            return usual
        return self.bars(window) if window is not None else usual


_Writer = Callable[[Scope, Series, Series | None], str]
_WRITERS: dict[str, _Writer] = {}


def _writes(*kinds: str) -> Callable[[_Writer], _Writer]:
    def register(write: _Writer) -> _Writer:
        _WRITERS.update(dict.fromkeys(kinds, write))
        return write

    return register


@_writes("price")
def _price(scope: Scope, series: Series, other: Series | None) -> str:
    return str(series[1])


@_writes("raw")
def _raw(scope: Scope, series: Series, other: Series | None) -> str:
    return str(series[1])


@_writes("number")
def _number(scope: Scope, series: Series, other: Series | None) -> str:
    return plain(series[1])


@_writes("it")
def _it(scope: Scope, series: Series, other: Series | None) -> str:
    return scope.text(scope.it(), other)


@_writes("it_average")
def _it_average(scope: Scope, series: Series, other: Series | None) -> str:
    if scope.last_average is None:
        raise NotRead("the average of how many days is not said")
    return scope.text(scope.last_average, other)


@_writes("before", "ago")
def _before(scope: Scope, series: Series, other: Series | None) -> str:
    raise NotRead("what of yesterday is meant is not said")


@_writes("symbol")
def _symbol(scope: Scope, series: Series, other: Series | None) -> str:
    scope.spoken.add(series[1])
    return scope.text(series[2], other)


@_writes("timeframe_of")
def _timeframe_of(scope: Scope, series: Series, other: Series | None) -> str:
    if scope.timeframe != series[1]:
        raise NotRead(f"all rules are on the same bars, was {series[1]} for one of them")
    return scope.text(series[2], other)


@_writes("average")
def _average(scope: Scope, series: Series, other: Series | None) -> str:
    _, function, window, base, is_its = series
    while other is not None and other[0] in ("symbol", "timeframe_of"):
        other = other[2]
    if base is not None:
        of = scope.text(base)
    elif other == VOLUME:
        of = "volume"
    elif other is not None and other[0] in ("group", "minus", "plus", "product", "quotient") and is_its:
        of = scope.text(other)
    elif other is None or family(other) in ("price", "any"):
        of = "close"
    elif is_its or family(other) == "true range":
        of = scope.text(other)
    else:
        raise NotRead(f"the average of what is not said: of {scope.text(other)}, or of the close")
    if window is None:
        if of != "volume":
            raise NotRead("the average of how many days is not said")
        window = (20.0, "bar")
        scope.assume("average volume: of 20 bars")
    named = base if base is not None or of == "close" else ("raw", of, "")
    scope.last_average = ("average", function, window, named, False)
    if of == "close":
        scope.function = function
        if scope.last_average not in scope.named_averages:
            scope.named_averages.append(scope.last_average)
        scope.averages.add(window[0])
        if function == "sma":
            scope.assume(f"{plain(window[0])} {window[1]}: simple average of closes")
    return f"{function}({of}, {scope.bars(window)})"


@_writes("indicator")
def _indicator(scope: Scope, series: Series, other: Series | None) -> str:
    name, window = series[1], series[2]
    if name == "vwap" and (scope.timeframe or "1d") not in ("1d", "1w") and window is None:
        raise NotRead("the vwap of a session cannot be said, only one over bars: write vwap(20)", is_trap=True)
    return indicators()[name].text.replace("{n}", str(scope.window_of(name, window)))


@_writes("macd")
def _macd(scope: Scope, series: Series, other: Series | None) -> str:
    name = {"macd": "macd", "signal": "macd_signal", "histogram": "macd_histogram"}[series[1]]
    if series[2] is None:
        series = ("macd", series[1], *scope.macd)
    scope.macd = series[2:]
    windows = ", ".join(str(int(each)) for each in series[2:])
    if series[2:] == (12, 26, 9):
        scope.assume(f"macd: {windows}")
        return f"{name}(close)"
    return f"{name}(close, {windows})"


@_writes("band")
def _band(scope: Scope, series: Series, other: Series | None) -> str:
    if series[1] == "both":
        raise NotRead("which of the bollinger bands is not said")
    scope.last_band = series[2:]
    scope.assume(f"bollinger bands: {plain(series[2])} bars, {plain(series[3])} deviations")
    return f"bollinger_{series[1]}(close, {int(series[2])}, {plain(series[3])})"


@_writes("band_again")
def _band_again(scope: Scope, series: Series, other: Series | None) -> str:
    if scope.last_band is None and series[1] == "middle" and scope.middle is not None:
        return scope.text(("middle", scope.middle))
    if scope.last_band is None:
        raise NotRead(f"the {series[1]} of what is not said")
    return scope.text(("band", series[1], *scope.last_band))


@_writes("lag")
def _lag(scope: Scope, series: Series, other: Series | None) -> str:
    if series[2] == (1.0, "day") and (scope.timeframe or "1d") != "1d":
        raise NotRead(f"'yesterday' or 'previous' speaks of days, the bars are {scope.timeframe}; say so many bars ago")
    return f"lag({scope.text(series[1])}, {scope.bars(series[2])})"


@_writes("extreme")
def _extreme(scope: Scope, series: Series, other: Series | None) -> str:
    _, which, base, window, is_prior = series
    of = scope.text(base) if isinstance(base, tuple) else str(base).split(" ")[-1]
    if isinstance(base, str) and other == VOLUME:
        of = "volume"
    text = f"{'highest' if which.startswith('high') else 'lowest'}({of}, {scope.bars(window)})"
    return f"lag({text}, 1)" if is_prior else text


@_writes("middle", "middle_again")
def _middle(scope: Scope, series: Series, other: Series | None) -> str:
    window = scope.middle = series[1] if series[0] == "middle" else scope.middle
    if window is None:
        raise NotRead("the middle of what is not said")
    bars = scope.bars(window)
    return f"(highest(high, {bars}) + lowest(low, {bars})) / 2"


@_writes("extent")
def _extent(scope: Scope, series: Series, other: Series | None) -> str:
    if series[1] is None:
        return "(high - low)"
    bars = scope.bars(series[1])
    return f"(highest(high, {bars}) - lowest(low, {bars}))"


@_writes("change")
def _change(scope: Scope, series: Series, other: Series | None) -> str:
    return f"percent_change(close, {scope.bars(series[1])})"


@_writes("plus", "minus", "product", "quotient")
def _arithmetic(scope: Scope, series: Series, other: Series | None) -> str:
    if "symbol" in (series[1][0], series[2][0]):
        raise NotRead("a symbol is no number to calculate with")
    sign = {"plus": "+", "minus": "-", "product": "*", "quotient": "/"}[series[0]]
    named = scope.last_average
    text = f"{scope.text(series[1])} {sign} {scope.text(series[2])}"
    scope.last_average = named  # "that average" is none of a formula's
    return text


@_writes("group")
def _group(scope: Scope, series: Series, other: Series | None) -> str:
    return f"({scope.text(series[1])})"


@_writes("times")
def _times(scope: Scope, series: Series, other: Series | None) -> str:
    inner = scope.text(series[2], other)
    return inner if series[1] == 1 else f"{plain(series[1])} * {inner}"


@_writes("fast", "slow")
def _fast(scope: Scope, series: Series, other: Series | None) -> str:
    if scope.pair is None:
        raise NotRead("the average of how many days is not said")
    return f"{series[1]}(close, {int(scope.pair[0 if series[0] == 'fast' else 1])})"


def plain(value: float) -> str:
    """Write a number as people do."""
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else f"{value:.10g}"


def is_series(value: Any) -> bool:
    """Say whether one side of a condition is a series and not a number that was written."""
    return isinstance(value, tuple) and not isinstance(value, Number)


def is_number(series: Series) -> bool:
    """Say whether a series is a constant."""
    return bool(series[0] == "number")


def family(series: Series) -> str:
    """Return what a series is measured in; ``any`` where that is left open."""
    kind = series[0]
    if kind in ("symbol", "timeframe_of", "times"):
        return family(series[2])
    if kind in ("lag", "group"):
        return family(series[1])
    if kind in ("plus", "minus"):
        first, second = family(series[1]), family(series[2])
        if kind == "minus" and first == second == "price":
            return "true range"
        return second if first == "any" and second != "true range" else first
    if kind in ("product", "quotient"):
        return _family_of_terms(kind, series[1], series[2])
    if kind == "price":
        return "volume" if series[1] == "volume" else "price"
    if kind == "average":
        return family(series[3]) if series[3] is not None else "any"
    if kind == "raw":
        known = indicators().get(series[2])
        return known.family if known is not None else "any"
    if kind == "extreme":
        return family(series[2]) if isinstance(series[2], tuple) else "any"
    if kind in ("band", "band_again", "middle", "middle_again", "fast", "slow"):
        return "price"
    if kind == "extent":
        return "true range"
    if kind == "indicator":
        return indicators()[series[1]].family
    return "any" if kind in ("number", "it", "it_average", "before") else str(kind)


def _family_of_terms(kind: str, left: Series, right: Series) -> str:
    if is_number(right):
        return family(left)
    if is_number(left):
        return family(right) if kind == "product" else "1 over something"
    same = family(left) == family(right) != "any"
    return "ratio" if kind == "quotient" and same else "any"
