"""The strategies that have a name of their own, as rules.

Sources: 14-bar RSI with 30 and 70, and Wilder's smoothing: Wilder 1978; 20-bar breakout with a 10-bar exit: the Turtle
rules' first system; bands of 20 bars and 2 deviations: Bollinger; 12, 26, 9: Appel's MACD; 50 and 200 bars: the golden
cross.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aworker.trading.prompts.conditions import DEATH_CROSS, GOLDEN_CROSS
from aworker.trading.strategies.strategy import Rules


@dataclass(frozen=True, slots=True)
class Template:
    """A named strategy; ``rules`` takes the window in bars that the prompt names, or None for the usual one."""

    title: str
    rules: Callable[[int | None], Rules]
    takes_window: bool = False


def crossover(function: str, fast: int, slow: int) -> Rules:
    """Return the strategy that holds while the fast average lies above the slow one."""
    pair = f"{function}(close, {fast}), {function}(close, {slow})"
    return Rules(entry=f"crosses_above({pair})", exit=f"crosses_below({pair})")


def _momentum(bars: int | None) -> Rules:
    change = f"percent_change(close, {bars or 20})"
    return Rules(entry=f"{change} > 0 and close > sma(close, 50)", exit="close < sma(close, 50)", rank=change)


def _breakout(bars: int | None) -> Rules:
    window = bars or 20
    return Rules(
        entry=f"close > lag(highest(high, {window}), 1)",
        exit=f"close < lag(lowest(low, {max(1, window // 2)}), 1)",
        rank=f"percent_change(close, {window})",
    )


def _trend(bars: int | None) -> Rules:
    average = f"sma(close, {bars or 200})"
    return Rules(entry=f"close > {average} and rising({average}, 5)", exit=f"close < {average}")


def _rsi(bars: int | None) -> Rules:
    return Rules(entry=f"rsi(close, {bars or 14}) < 30", exit=f"rsi(close, {bars or 14}) > 70")


def _mean_reversion(bars: int | None) -> Rules:
    window = bars or 20
    return Rules(
        entry=f"close < bollinger_lower(close, {window}, 2) and rsi(close, 14) < 30",
        exit=f"close > sma(close, {window})",
    )


def _bollinger(bars: int | None) -> Rules:
    window = bars or 20
    return Rules(
        entry=f"close < bollinger_lower(close, {window}, 2)", exit=f"close > bollinger_middle(close, {window}, 2)"
    )


def _bollinger_breakout(bars: int | None) -> Rules:
    window = bars or 20
    return Rules(
        entry=f"close > bollinger_upper(close, {window}, 2)", exit=f"close < bollinger_middle(close, {window}, 2)"
    )


_MOMENTUM = Template("Momentum", _momentum, takes_window=True)
_TREND = Template("Trend following", _trend, takes_window=True)
_BREAKOUT = Template("Breakout", _breakout, takes_window=True)
_RSI = Template("RSI", _rsi, takes_window=True)
_REVERSION = Template("Mean reversion", _mean_reversion, takes_window=True)
_BOLLINGER = Template("Bollinger bands", _bollinger, takes_window=True)
_MACD = Template(
    "MACD crossover",
    lambda _: Rules(
        entry="crosses_above(macd(close), macd_signal(close))", exit="crosses_below(macd(close), macd_signal(close))"
    ),
)
_GOLDEN_CROSS = Template("Golden cross", lambda _: Rules(entry=GOLDEN_CROSS, exit=DEATH_CROSS))
_CROSSOVER = Template("Moving average crossover", lambda _: crossover("sma", 20, 50))
_EMA_CROSSOVER = Template("EMA crossover", lambda _: crossover("ema", 12, 26))
_HOLD = Template("Buy and hold", lambda _: Rules(entry="close > 0"))

TEMPLATES: dict[str, Template] = {
    "momentum": _MOMENTUM,
    "price momentum": _MOMENTUM,
    "trend following": _TREND,
    "trend": _TREND,
    "golden cross": _GOLDEN_CROSS,
    "golden crossover": _GOLDEN_CROSS,
    "breakout": _BREAKOUT,
    "high breakout": _BREAKOUT,
    "channel breakout": _BREAKOUT,
    "donchian breakout": _BREAKOUT,
    "donchian channel": _BREAKOUT,
    "donchian channel breakout": _BREAKOUT,
    "macd": _MACD,
    "macd cross": _MACD,
    "macd crossover": _MACD,
    "bollinger": _BOLLINGER,
    "bollinger band": _BOLLINGER,
    "bollinger bands": _BOLLINGER,
    "bollinger band mean reversion": _BOLLINGER,
    "bollinger bands mean reversion": _BOLLINGER,
    "bollinger mean reversion": _BOLLINGER,
    "bollinger breakout": Template("Bollinger breakout", _bollinger_breakout, takes_window=True),
    "bollinger band breakout": Template("Bollinger breakout", _bollinger_breakout, takes_window=True),
    "mean reversion": _REVERSION,
    "mean reverting": _REVERSION,
    "reversion to the mean": _REVERSION,
    "rsi": _RSI,
    "rsi mean reversion": _RSI,
    "rsi reversal": _RSI,
    "rsi oversold": _RSI,
    "moving average crossover": _CROSSOVER,
    "moving average cross": _CROSSOVER,
    "ma crossover": _CROSSOVER,
    "sma crossover": _CROSSOVER,
    "ema crossover": _EMA_CROSSOVER,
    "exponential moving average crossover": _EMA_CROSSOVER,
    "buy and hold": _HOLD,
}
"""What a prompt may call a strategy -> its template."""
