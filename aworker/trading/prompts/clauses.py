"""What a prompt says, clause by clause: buy, sell, stop, target, hold, symbols, timeframe, rank, name.

Invariant: every word of the prompt is part of a clause, a mark between clauses, or one of the few words that lead into
a clause and say nothing of their own; else the prompt is refused with the words that were left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from aworker.errors import RequestDeclined
from aworker.trading.prompts.conditions import (
    Comparison,
    Condition,
    ConditionReader,
    comparisons_of,
    condition_of,
    join,
)
from aworker.trading.prompts.hints import hint_for
from aworker.trading.prompts.series import ARTICLES, AVERAGES, INDICATOR_PHRASES, Refused, SeriesReader
from aworker.trading.prompts.templates import TEMPLATES, Template, crossover
from aworker.trading.prompts.words import Cursor, phrases
from aworker.trading.rules import INDICATORS
from aworker.trading.strategies.strategy import MAX_NAME_CHARACTERS, TIMEFRAMES, Risk, Rules, source_text

MARKS = (",", ".", ";", "\n", "!", ":", "-", "*", "\N{BULLET}", "\N{EN DASH}", "\N{EM DASH}")

# Words that lead into a clause. None of them changes what the clause says; "not", "or", "unless" are not among them.
MAX_LEADS = 12
MAX_CLAUSES = 50

_LEADS = [
    *phrases(
        """
    and, then, and, also, with, using, use, set, add, apply, include, have, has, please, i, i'd, like, want, need,
    would, to, a, an, the, my, we, should, it, you, can, could, that, which, plus, strategy, strategy :, rules, rules
    :, this, system, will, must
    """
    )
]

# Capitals that are no symbol: words, indicators, markets, kinds of security, currencies.
_NO_SYMBOLS = (
    *("and", "or", "not", "i", "a", "bb", "ma", "dma", "nyse", "nasdaq", "amex", "otc", "etf", "etfs", "ipo", "ipos"),
    *("usd", "eur", "gbp", "usa", "us", "sp500", "eod", "eps"),
)
_SYMBOL_NAMES = frozenset(_NO_SYMBOLS) | {
    name for name in (*AVERAGES, *INDICATOR_PHRASES, *INDICATORS, "macd", "obv") if " " not in name
}
_SHOUTED_NAMES = _SYMBOL_NAMES | frozenset(
    [
        *phrases(
            """
        above, after, all, alert, at, average, band, below, between, bollinger, bars, break, breaks, breakout, buy,
        by, close, cross, crosses, daily, day, days, drop, drops, enter, exceeds, exit, fall, falls, for, from, gain,
        golden, high, hold, hour, hourly, if, in, is, it, limit, long, loss, low, max, minute, momentum, month,
        moving, on, only, open, over, percent, period, position, price, profit, rank, reversion, rises, sell, set,
        signal, stock, stocks, stop, strategy, symbols, target, take, than, the, then, timeframe, times, to, trade,
        trailing, twice, under, up, use, volume, week, weekly, when, where, with, year
        """
        )
    ]
)

_BUY = phrases(
    """
    entry, buy, buys, buying, enter, enters, go long, goes long, long, purchase, purchases, open a position, open a
    long position, open position, alert, alert me, alerts me, notify me, tell me, find, finds, screen for, scan for,
    look for, looks for
    """
)
_SELL = phrases(
    """
    sell, sells, selling, exit, exits, exiting, close position, close positions, close the position, close the trade,
    close it, close out, get out, gets out, liquidate, hold until, hold it until, hold them until
    """
)
_DIPS = ("the dip", "the dips", "dips", "a dip", "dip")
_HELD = phrases(
    """
    stocks, stock, shares, symbols, companies, tickers, a position, the position, position, positions, the trade,
    trades, it, them, a stock, the stock, securities, all stocks, all symbols, any stock, any symbol, every stock,
    every symbol, a symbol, everything
    """
)
_WHEN = phrases(
    """
    when, whenever, if, once, where, whose, with, that have, that are, having, on, after, as soon as, while, each
    time, every time, that is, that, at, :
    """
)
STOPS = ("stop loss", "stop losses", "stoploss", "stop", "sl", "max loss", "maximum loss", "hard stop", "stop out")
TRAILS = (
    "trailing stop loss",
    "trailing stop",
    "trailing stoploss",
    "trailing",
    "trail the stop",
    "trail stop",
    "trail",
)
TARGETS = phrases(
    """
    take profit, take profits, takeprofit, profit target, price target, target profit, target, tp, profit, take gains
    """
)
HOLDS = phrases(
    """
    hold, holds, holding, hold positions, hold each position, hold it, hold them, keep positions, holding period, max
    holding period, maximum holding period, max holding time, maximum holding time, max hold, time limit, time stop,
    max bars
    """
)
_AT_MOST = phrases(
    """
    for, at most, up to, no more than, no longer than, not longer than, not more than, a maximum of, maximum of, max,
    maximum, of, is, to, :, =
    """
)
_OF = ("of", "at", "to", "is", "set", "set at", "set to", ":", "=", "a", "when up", "when down", "around")
_SYMBOL_INTRO = phrases(
    """
    only trade, trade only, trades only, only trades, only on, on only, only for, only use, just trade, trade, trades,
    trading, only, just, on, for, in, symbols, symbol, tickers, ticker, universe, limited to, limit to, limit it to,
    restrict to, restricted to, restrict it to, apply to, watch, monitor
    """
)
_EVERY_SYMBOL = phrases(
    """
    all, all stocks, all symbols, all tickers, every stock, every symbol, any stock, any symbol, the whole market, the
    whole universe, the entire market, everything
    """
)
_CREATE = ("create", "make", "makes", "build", "design", "write", "develop", "generate", "give me", "set up", "show me")
_NOUNS = phrases(
    """
    strategy, trading strategy, stock strategy, strategies, system, trading system, algorithm, algo, screener, screen,
    scan, plan, alert, rule
    """
)
_NOUN_ENDS = tuple(noun.split(" ")[-1] for noun in _NOUNS)
_ADJECTIVES = ("me", "a", "an", "the", "my", "new", "simple", "basic", "trading", "stock", "long only", "long")
_RANK = phrases(
    """
    rank, ranks, ranked, ranking, sort, sorts, sorted, order, ordered, prioritize, prioritise
    """
)
_HIGHEST = ("highest", "largest", "biggest", "strongest", "most", "best", "greatest")
_LOWEST = ("lowest", "smallest", "weakest", "least", "worst")
_DOWNWARD = (
    "descending",
    "desc",
    "highest first",
    "high to low",
    "strongest first",
    "from high to low",
    "largest first",
)
_UPWARD = ("ascending", "asc", "lowest first", "low to high", "weakest first", "from low to high", "smallest first")
_NAMES = ("called", "named", "titled", "name it", "call it", "name this", "call this", "name", "the name is")
_NAME_ENDS = (
    *(",", ".", ";", "\n", ":", "that", "which", "with", "and", "or", "but", "when", "if", "where", "remove", "set"),
    *("change", "add", "require", "replace", "without", "no", "make", "then"),
)
_MAX_NAME_WORDS = 6
_BAR_ADVERBS = ("hourly", "daily", "weekly")
_BAR_NOUNS = phrases(
    """
    bars, bar, candles, candle, candlesticks, chart, charts, timeframe, time frame, timeframes, data, basis
    """
)
_HEADS = (
    *_SELL,
    *(verb for verb in _BUY if verb != "long"),
    *TRAILS,
    *(name for name in TARGETS if name != "target profit"),
    *STOPS,
    *HOLDS,
    *_RANK,
    "close when",
    "close if",
    "trade only",
    "only trade",
    "trade",
    "symbols",
    "tickers",
    "universe",
    "timeframe",
    "time frame",
    "cut losses",
    "long only",
    "name it",
    "call it",
    "called",
    "named",
    "reentry",
    "re enter",
    "use",
    "using",
    "set",
    "thanks",
    "please",
    "also sell",
    "also buy",
    "sell",
)


class PromptNotUnderstood(RequestDeclined):
    """A prompt, or a part of it, is not understood; nothing of it is used.

    ``understood`` holds the lines that were read before it, ``unknown`` the words that were not.
    """

    def __init__(self, message: str, understood: list[str], unknown: str) -> None:
        super().__init__(message, understood, unknown)
        self.message = message
        self.understood = understood
        self.unknown = unknown

    def __str__(self) -> str:
        return self.message


def not_understood(understood: list[str], unknown: str, reason: str | None = None) -> PromptNotUnderstood:
    """Return the error for words that were not understood, or were and cannot be had for a reason."""
    shown = unknown if len(unknown) <= 200 else unknown[:197] + "..."
    why = f" ({reason})" if reason else ""
    lines = "; ".join(understood) or "nothing"
    message = (
        f"prompt must be understood whole, was not at {shown!r}{why}; understood: {lines}. Say it like "
        "'buy when RSI(14) drops below 30, sell above 70, 5% stop loss, only AAPL and MSFT', or write rules: entry: ..."
    )
    return PromptNotUnderstood(message, understood, unknown)


class ClauseReader:
    """Reads a whole prompt into fields; `rules` makes them a strategy's rules."""

    def __init__(self, text: str, timeframe: str = "1d") -> None:
        self.cursor = Cursor(text)
        self.numbers = SeriesReader(self.cursor, timeframe)
        self.entry: Condition | None = None
        self.exit: Condition | None = None
        self.fields: dict[str, Any] = {}
        """Fields of Rules beside entry and exit, as far as the prompt gives them."""
        self.risk: dict[str, Any] = {}
        self.name: str | None = None
        self.template: tuple[Template, Rules] | None = None
        self.template_is_all = False
        """Whether a strategy's bare name stands for its rules: beside "buy when ..." one of the two would be lost."""
        self.is_new = False
        """Whether the prompt asks for a strategy of its own ("create a ... strategy")."""
        self.known: list[Comparison] = []
        """The comparisons to buy that "sell above 70" may refer to."""
        self.known_to_sell: list[Comparison] = []
        self.pending: ConditionReader | None = None
        """The condition that is being read."""
        self.given: dict[str, Any] = {}
        """Every field with its value, to notice one that is given twice."""
        self.allows_bare_template = True
        """Whether "golden cross" by itself asks for that strategy; an edit has to say so."""
        self.marks: tuple[str, ...] = MARKS
        self.leads: tuple[str, ...] = tuple(_LEADS)
        if self.cursor.sees("can you", "could you", "would you", "will you"):
            self.marks = (*MARKS, "?")
        self.done: list[str] = []
        """What an edit has changed so far, in the source form."""
        self.timeframe = timeframe
        """The bars of the rules where no clause names them."""
        self.found_timeframe = self._find_timeframe()
        """The bars that some words name: spans of time were counted in them."""

    def read(self) -> None:
        """Read every clause. Raises PromptNotUnderstood."""
        cursor = self.cursor
        cursor.at = cursor.furthest = 0
        # Each clause may go through the whole of a rule, so their number is what keeps the time linear.
        for number in range(MAX_CLAUSES + 1):
            while cursor.take(*self.marks):
                pass
            if cursor.ended or (cursor.take("thanks", "thank you", "please") and cursor.ended):
                found = self.found_timeframe
                if found not in (None, self.fields.get("timeframe", self.timeframe)):
                    raise self._unknown(0, f"it names {found} bars and does not say to use them")
                return
            start = cursor.at
            self.pending = None
            try:
                if number == MAX_CLAUSES:
                    raise Refused(f"a prompt may have {MAX_CLAUSES} clauses")
                done = self._clause()
            except Refused as error:
                raise self._unknown(start, str(error)) from None
            if not done:
                raise self._unknown(start)

    def understood(self) -> list[str]:
        """Return what was read so far, in the source form."""
        entry = self.entry or (condition_of(self.template[1].entry) if self.template else None)
        lines = [f"name: {self.name}"] if self.name else []
        if entry is None and self.exit is not None:
            lines.append(f"exit: {self.exit.text}")
        if entry is not None or self.fields or self.risk:
            rules = Rules(entry.text if entry else "", self.exit.text if self.exit else None, **self.fields)
            rules = msgspec.structs.replace(rules, risk=Risk(**self.risk))
            lines += [line for line in source_text(rules).splitlines() if line != "entry: "]
        return lines

    def rules(self) -> Rules:
        """Return the rules that the clauses make, unchecked. Raises PromptNotUnderstood without a way to buy."""
        if self.entry is not None and self.template_is_all:
            reason = "it names a strategy and says when to buy; leave out one of the two"
            raise not_understood(self.understood(), self.cursor.text.strip(), reason)
        if self.entry is not None:
            base = Rules(self.entry.text, self.exit.text if self.exit else None)
        elif self.template is not None:
            base = self.template[1]
            if self.exit is not None:
                base = msgspec.structs.replace(base, exit=self.exit.text)
        else:
            raise not_understood(self.understood(), self.cursor.text.strip(), "it does not say when to buy")
        return msgspec.structs.replace(base, risk=Risk(**self.risk), **self.fields)

    def is_clause(self) -> bool:
        """Whether the words at the cursor begin a clause rather than a condition."""
        cursor = self.cursor
        start, furthest = cursor.at, cursor.furthest
        try:
            cursor.skip("then", "also", "a", "an", "the", "with")
            if cursor.sees(*_HEADS):
                return True
            if cursor.sees("only", "just"):
                return not cursor.sees("only if", "only when", "just when")
            if cursor.sees(*_BAR_ADVERBS) or cursor.word().number is not None:
                at = cursor.at
                if self._named_timeframe() is not None:
                    return True
                cursor.at = at
            if cursor.take("on", "for", "in"):
                return self._symbol() is not None or cursor.sees(*_EVERY_SYMBOL) or self._is_timeframe()
            if cursor.take("after"):
                return cursor.number() is not None
            cursor.take("at")
            cursor.take("a", "an", "-")
            if cursor.percent() is not None:
                return cursor.sees(*STOPS, *TRAILS, *TARGETS, "gain", "loss")
            return False
        finally:
            cursor.at, cursor.furthest = start, furthest

    def _clause(self) -> bool:
        cursor = self.cursor
        start = cursor.at
        for _ in range(MAX_LEADS):
            at = cursor.at
            for read in self.readers():
                if read():
                    return True
                cursor.at = at
            lead = cursor.take(*self.leads)
            if lead is None:
                break
            if lead.endswith(":"):
                cursor.skip(*self.marks)
        cursor.at = start
        return False

    def readers(self) -> tuple[Callable[[], bool], ...]:
        """Return the clause readers in the order they are tried."""
        return (
            self._create,
            self._long_only,
            self._timeframe,
            self._buy,
            self._sell,
            self._when,
            self._limit,
            self._hold,
            self._rank,
            self._named,
            self._symbols,
            self._reentry,
            self._template_clause,
        )

    def _create(self) -> bool:
        cursor = self.cursor
        if not cursor.take(*_CREATE):
            return False
        before = self.template, self.known
        cursor.skip(*_ADJECTIVES)
        at = cursor.at
        if self._timeframe():
            cursor.skip(*_ADJECTIVES)
        else:
            cursor.at = at
            cursor.skip(*(("daily",) if self.numbers.timeframe == "1d" else ()))
        found = self._template()
        noun = cursor.take(*_NOUNS) is not None
        if noun and not found and cursor.take("based on", "using", "with"):
            cursor.skip("a", "an", "the")
            at = cursor.at
            found = self._template() and self._ends_clause()
            if not found:
                cursor.at = at
                self.template, self.known = before
        if not noun and not (found and self.allows_bare_template and self._ends_clause()):
            self.template, self.known = before
            return False
        if not found and self.entry is None:
            self.known, self.known_to_sell = [], []
        self._begin_new()
        return True

    def _begin_new(self) -> None:
        if not self.is_new:
            self.timeframe = "1d"
            self.numbers.timeframe = self.found_timeframe or "1d"
            self.numbers.spoken = self.template[1].entry if self.template else ""
        self.is_new = True

    def _template_clause(self) -> bool:
        cursor = self.cursor
        before = self.template, self.known
        cursor.skip("a", "an", "the", "simple", "basic")
        if self._template() and (cursor.take(*_NOUNS) or (self.allows_bare_template and self._ends_clause())):
            self.template_is_all = cursor.peek(-1) not in _NOUN_ENDS and not cursor.sees(":")
            self._begin_new()
            return True
        self.template, self.known = before
        return False

    def _ends_clause(self) -> bool:
        return self.cursor.ended or self.cursor.peek() in (*MARKS, "and", "with", "that", "which") or self.is_clause()

    def _template(self) -> bool:
        cursor = self.cursor
        start = cursor.at
        pair = self._conditions(self.known).pair()
        if pair is not None and cursor.take("crossover", "cross", "cross over", "crossovers"):
            function, fast, slow = pair
            title = f"{function.upper()} {fast}/{slow} crossover"
            self._set_template(Template(title, lambda _: crossover(function, fast, slow)), None)
            return True
        cursor.at = start
        bars = self.numbers.bars()
        name = cursor.take(*TEMPLATES)
        if name is None or (bars is not None and not TEMPLATES[name].takes_window):
            cursor.at = start
            return False
        self._set_template(TEMPLATES[name], bars)
        if self.symbol_ahead():
            self._set_symbols(self.symbol_list())
        return True

    def _set_template(self, template: Template, bars: int | None) -> None:
        if self.template is not None:
            raise Refused("two strategies are named; ask for one")
        self.template = (template, template.rules(bars))
        if self.entry is None:
            self.known = comparisons_of(self.template[1].entry)
        self.numbers.spoken = self.template[1].entry

    def _buy(self) -> bool:
        cursor = self.cursor
        extends = cursor.take("also", "or", "or also", "add", "also add") is not None
        cursor.take("only")
        if cursor.take("short", "sell short", "go short", "shorts"):
            raise Refused("only buying is possible, no short selling")
        if not cursor.take(*_BUY):
            return False
        is_dip = cursor.take(*_DIPS) is not None
        start = cursor.at
        if is_dip and not self._symbols():
            cursor.at = start
        self._held()
        extends = cursor.take("also") is not None or extends
        cursor.take("only")
        condition = self._level(self.known, is_buy=True)
        if condition is None:
            if not cursor.take(*_WHEN) and self._symbols():
                cursor.take(*_WHEN)
            condition = self.condition(self.known)
        if condition is None:
            return False
        if is_dip and not condition.falls:
            raise Refused("which dip? say it in the condition, such as price falls 5% from its 20 day high")
        self.set_entry(condition, extends)
        return True

    def _held(self) -> None:
        cursor = self.cursor
        cursor.skip(*_HELD)
        if self.symbol_ahead():
            self._set_symbols(self.symbol_list())
        cursor.skip(*_HELD)

    def set_entry(self, reader: ConditionReader, extends: bool) -> None:
        """Take a condition to buy; a second one holds beside the first."""
        if reader.found is not None:
            self.entry = reader.found if self.entry is None else join("or", [self.entry, reader.found])
            self.known = comparisons_of(self.entry.text)

    def set_exit(self, reader: ConditionReader, extends: bool) -> None:
        """Take a condition to sell; a second one holds beside the first."""
        if reader.found is not None:
            self.exit = reader.found if self.exit is None else join("or", [self.exit, reader.found])

    def _sell(self) -> bool:
        cursor = self.cursor
        extends = cursor.take("also", "or", "or also", "add", "also add") is not None
        if cursor.take("sell short", "short"):
            raise Refused("only buying is possible, no short selling")
        if cursor.sees("close when", "close if", "close once"):
            cursor.move(1)
        elif not cursor.take(*_SELL):
            return False
        self._held()
        extends = cursor.take("also") is not None or extends
        while True:
            start = cursor.at
            if not self._exit_limit() and not self._limit():
                cursor.at = start
                condition = self._level(self.known_to_sell, is_buy=False)
                if condition is None:
                    cursor.take(*_WHEN)
                    condition = self.condition(self.known_to_sell or self.known)
                if condition is None:
                    return False
                if condition.is_bare_list:
                    raise Refused("a list of commas to sell by reads two ways; join it with and, or with or")
                self.set_exit(condition, extends)
                extends = True
            start = cursor.at
            cursor.take(",")
            if not cursor.take("or"):
                cursor.at = start
                return True

    def _exit_limit(self) -> bool:
        # "after 10 days", "at a 10% profit", "when profit reaches 10%", "if it is down 5% from the entry"
        cursor = self.cursor
        start = cursor.at
        if cursor.take("after", "in"):
            cursor.take("at most", "no more than", "the")
            bars = self.numbers.bars()
            if bars is not None:
                cursor.take("at the latest", "of holding", "have passed", "regardless", "in any case", "no matter what")
                self._set_risk("max_bars", bars)
                return True
        cursor.at = start
        cursor.take("at", "with", "for", "on")
        cursor.take("a", "an")
        kind = {"profit of": "take_profit", "gain of": "take_profit", "loss of": "stop_loss"}.get(
            cursor.take("profit of", "gain of", "loss of") or ""
        )
        percent = cursor.percent()
        if kind is not None and percent is not None:
            self._set_risk(kind, percent / 100)
            return True
        if percent is not None:
            if cursor.take("profit", "gain", "gains", "profits", "target", "take profit", "profit target"):
                self._set_risk("take_profit", percent / 100)
                return True
            if cursor.take("loss", "losses", "stop", "stop loss"):
                self._set_risk("stop_loss", percent / 100)
                return True
        cursor.at = start
        if cursor.take("when", "if", "once"):
            cursor.take("the", "my")
            kind = {"profit": "take_profit", "gain": "take_profit", "loss": "stop_loss"}.get(cursor.peek())
            if kind is not None:
                cursor.move(1)
                cursor.skip("reaches", "hits", "is", "exceeds", "of", "above", "over", "more", "than", "at", "least")
                percent = cursor.percent()
                if percent is not None:
                    self._set_risk(kind, percent / 100)
                    return True
            cursor.take("it is", "it's", "position is", "trade is", "it")
            side = {"up": "take_profit", "down": "stop_loss"}.get(cursor.peek())
            if side is not None:
                cursor.move(1)
                percent = cursor.percent()
                if percent is not None and cursor.take(
                    "from entry", "from the entry", "from the entry price", "since entry"
                ):
                    self._set_risk(side, percent / 100)
                    return True
        cursor.at = start
        return False

    def _when(self) -> bool:
        # "when RSI drops below 30, buy"
        cursor = self.cursor
        if not cursor.take("when", "if", "whenever", "once"):
            return False
        condition = self.condition(self.known)
        if condition is None:
            return False
        cursor.skip(",", "then", "-", ">")
        if cursor.take(*_BUY):
            self._held()
            self.set_entry(condition, False)
        elif cursor.take(*_SELL):
            self._held()
            self.set_exit(condition, False)
        else:
            return False
        return True

    def condition(self, known: list[Comparison]) -> ConditionReader | None:
        """Take a condition; ``known`` are the comparisons that it may refer to."""
        self.pending = reader = self._conditions(known)
        reader.found = reader.condition()
        return None if reader.found is None else reader

    def _level(self, known: list[Comparison], is_buy: bool) -> ConditionReader | None:
        start = self.cursor.at
        self.pending = reader = self._conditions(known)
        reader.found = reader.level(is_buy)
        if reader.found is None:
            self.cursor.at = start
        return None if reader.found is None else reader

    def _conditions(self, known: list[Comparison]) -> ConditionReader:
        return ConditionReader(self.cursor, self.numbers, self.is_clause, known)

    def _limit(self) -> bool:
        cursor = self.cursor
        cursor.skip("a", "an", "the", "my")
        if cursor.word(1).text and cursor.sees("take") and cursor.word(1).number is not None:
            cursor.move(1)
        percent = cursor.percent()
        is_trailing_by = cursor.sees("trail")
        kind = self._limit_kind()
        if kind is None:
            return False
        if percent is None:
            if cursor.take("from"):
                before = cursor.percent()
                if before is None or not self.is_now(kind, before / 100):
                    raise Refused(f"{kind} does not stand at that")
            cursor.skip(*_OF, *(("by",) if is_trailing_by else ()))
            if kind != "take_profit":
                cursor.take("-")
            percent = cursor.percent()
        if percent is None:
            return False
        cursor.take("from entry", "from the entry", "below entry", "above entry", "from the high", "limit", "order")
        cursor.take("profit", "gain", "loss")
        self._set_risk(kind, percent / 100)
        return True

    def is_now(self, kind: str, value: float) -> bool:
        """Whether a limit has a value before this prompt: "from 5% to 3%"."""
        return False

    def _limit_kind(self) -> str | None:
        cursor = self.cursor
        if cursor.take(*TRAILS):
            return "trailing_stop"
        if cursor.take(*STOPS, "cut losses", "cut my losses", "cut the loss"):
            return "stop_loss"
        return "take_profit" if cursor.take(*TARGETS) else None

    def _set_risk(self, field: str, value: float) -> None:
        if self.risk.get(field, value) != value:
            raise Refused(f"{field} is given twice")
        self.risk[field] = value

    def _hold(self) -> bool:
        cursor = self.cursor
        named = cursor.take(*HOLDS)
        if named is None:
            return False
        cursor.skip(*_AT_MOST)
        bars = self.numbers.bars() or (self.numbers.whole_number() if named == "max bars" else None)
        if bars is None:
            return False
        cursor.take("max", "maximum", "at most", "or less", "at the most")
        start = cursor.at
        if (
            cursor.take("then sell", "and then sell", "and sell", "then exit", "and then exit")
            and not self.ends_phrase()
        ):
            cursor.at = start
        self._set_risk("max_bars", bars)
        return True

    def _rank(self) -> bool:
        cursor = self.cursor
        if not cursor.take(*_RANK):
            return False
        cursor.skip("them", "stocks", "symbols", "results", "candidates", "the", "all")
        cursor.take("by", "on", "using", ":")
        cursor.skip("the", "their")
        highest = cursor.take(*_HIGHEST) is not None
        lowest = not highest and cursor.take(*_LOWEST) is not None
        series = self.numbers.series()
        if series is None:
            return False
        cursor.take(",", "(")
        if cursor.take(*_UPWARD):
            lowest = True
        else:
            cursor.take(*_DOWNWARD)
        if cursor.peek(-1) in (",", "("):
            cursor.move(-1)
        cursor.take(")")
        self.set_field("rank", f"-{series.text}" if lowest else series.text)
        return True

    def _named(self) -> bool:
        cursor = self.cursor
        if not cursor.take(*_NAMES):
            return False
        cursor.skip(":", "to", "it", "=")
        name = self.name_text()
        return self.set_name(name)

    def set_name(self, name: str) -> bool:
        """Take the strategy's name; False when there is none. Raises Refused for a second one."""
        if self.name is not None:
            raise Refused("the name is given twice")
        self.name = name or None
        return bool(name)

    def name_text(self) -> str:
        """Take a name: what stands in quotes, else a few words up to a mark or a clause; empty when there is none."""
        cursor = self.cursor
        quote = cursor.take('"', "'", "\N{LEFT DOUBLE QUOTATION MARK}")
        closing = "\N{RIGHT DOUBLE QUOTATION MARK}" if quote == "\N{LEFT DOUBLE QUOTATION MARK}" else quote
        start = cursor.at
        while not cursor.ended and cursor.peek() not in ((closing,) if quote else _NAME_ENDS):
            if quote is None and cursor.at > start and self.is_clause():
                # "called Dips 5% stop loss": a name must not swallow a clause.
                break
            cursor.move(1)
        name = " ".join(cursor.source(start, cursor.at).split())
        if (closing is not None and not cursor.take(closing)) or len(name) > MAX_NAME_CHARACTERS:
            return ""
        if quote is None and cursor.at - start > _MAX_NAME_WORDS:
            raise Refused("a long name must stand in quotes")
        return name

    def _symbols(self) -> bool:
        cursor = self.cursor
        start = cursor.at
        intro = cursor.take(*_SYMBOL_INTRO)
        if intro is not None:
            cursor.take(":", "=", "are", "to")
            cursor.skip("the", "stocks", "symbols", "tickers", "stock", "symbol", "ticker", "shares of", "only", "on")
            if self.symbol_ahead():
                self._set_symbols(self.symbol_list())
                cursor.take("only", "stock", "stocks", "shares")
                return True
            cursor.at = start
            cursor.take(intro)
            if intro not in ("only", "just") and cursor.take(*_EVERY_SYMBOL):
                self._set_symbols(None)
                return True
            return False
        found = self.symbol_list()
        if found and cursor.take("only", ":"):
            self._set_symbols(found)
            return True
        return False

    def _set_symbols(self, symbols: tuple[str, ...] | None) -> None:
        self.set_field("symbols", symbols)

    def set_field(self, field: str, value: Any) -> None:
        """Set a field of the rules. Raises Refused when it has another value already."""
        if self.given.get(field, value) != value:
            raise Refused(f"{field} is given twice")
        self.given[field] = self.fields[field] = value

    def _symbol(self) -> str | None:
        return self.cursor.symbol(_SHOUTED_NAMES if self.cursor.shouts else _SYMBOL_NAMES)

    def symbol_ahead(self) -> bool:
        cursor = self.cursor
        start, furthest = cursor.at, cursor.furthest
        found = self._symbol() is not None
        cursor.at, cursor.furthest = start, furthest
        return found

    def symbol_list(self) -> tuple[str, ...]:
        cursor = self.cursor
        found: list[str] = []
        while True:
            symbol = self._symbol()
            if symbol is None:
                return tuple(found)
            found.append(symbol)
            start = cursor.at
            cursor.take(",", "/")
            cursor.take("and", "&", "or")
            if not self.symbol_ahead():
                cursor.at = start
                return tuple(found)

    def _reentry(self) -> bool:
        cursor = self.cursor
        if not cursor.take("reentry", "re entry", "re enter"):
            return False
        cursor.skip(":", "=", "to", "is", "on", "mode")
        found = cursor.take("cycle", "edge", "level")
        if found is not None:
            self.set_field("reentry", found)
        return found is not None

    def _long_only(self) -> bool:
        return self.cursor.take("long only", "only long", "only go long") is not None

    def _timeframe(self) -> bool:
        found = self._named_timeframe()
        if found is None:
            return False
        if found not in TIMEFRAMES:
            raise Refused(f"the timeframe must be one of {', '.join(TIMEFRAMES)}, was {found}")
        self.set_field("timeframe", found)
        self.numbers.timeframe = found
        return True

    def _named_timeframe(self) -> str | None:
        # "on 15 minute bars", "timeframe: 1h", "weekly golden cross", "make it weekly", ", weekly"
        cursor = self.cursor
        cursor.skip("on", "using", "use", "with", "a", "an", "the", "in", "over")
        if cursor.take("timeframe", "time frame", "bar size", "interval"):
            cursor.skip("of", "is", ":", "=", "to", "a", "the")
            return self.numbers.timeframe_here()
        before = cursor.peek(-1) if cursor.at > 0 else "\n"
        is_adverb = cursor.sees(*_BAR_ADVERBS)
        found = self.numbers.timeframe_here()
        if found is None or cursor.take(*_BAR_NOUNS):
            return found
        if is_adverb and cursor.sees(*TEMPLATES, "strategy", "trading strategy", "system"):
            return found
        stands_alone = before in ("on", "the") or (is_adverb and before in (*self.marks, "it", "to"))
        return found if stands_alone and found in TIMEFRAMES and self.ends_phrase() else None

    def ends_phrase(self) -> bool:
        """Whether the words before the cursor stand by themselves."""
        return self.cursor.ended or self.cursor.sees(*self.marks, "and", "with")

    def _is_timeframe(self) -> bool:
        self.cursor.move(-1)
        return self._named_timeframe() is not None

    def _find_timeframe(self) -> str | None:
        # Spans of time are counted in bars, so the bar size must be known before the clauses are read.
        for place in range(len(self.cursor.words)):
            self.cursor.at = place
            found = self._named_timeframe()
            if found is not None:
                self.numbers.timeframe = found if found in TIMEFRAMES else self.timeframe
                return found
        return None

    def _unknown(self, start: int, reason: str | None = None) -> PromptNotUnderstood:
        cursor = self.cursor
        furthest = max(start, min(cursor.furthest, len(cursor.words) - 1))
        end = furthest + 1
        while end < len(cursor.words) and cursor.words[end].lower not in (",", ".", ";", "\n"):
            end += 1
        understood = self.understood()
        if self.pending is not None and self.pending.made:
            # Half a condition is shown and never used.
            understood.append("in part: " + ", ".join(each.text for each in self.pending.made))
        first = furthest
        while first > start and cursor.words[first - 1].lower in ARTICLES:
            first -= 1
        # Words that lead nowhere by themselves, and the phrase that a reason speaks of, are shown from their start.
        is_half = reason in (None, "a condition must follow")
        # So is a phrase that was read to its end and is no clause: its last word alone says nothing.
        if first - start <= 2 or not is_half or cursor.furthest >= len(cursor.words):
            first = start
        if is_half:
            cursor.at = furthest
            symbol = None if cursor.shouts else self._symbol()
            if symbol is not None and len(symbol) > 1 and cursor.at < end:
                reason = f"a condition is of each symbol itself; say buy {symbol} when it ..."
            else:
                reason = hint_for([word.lower for word in cursor.words[first:end]]) or reason
        return not_understood(understood, cursor.source(first, end), reason)
