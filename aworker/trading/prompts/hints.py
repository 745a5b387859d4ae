"""What a refusal adds where a prompt asks for what no strategy here can do, or says it in a way that can be helped.

A hint only explains: no prompt is refused because of it.
"""

from __future__ import annotations

_HINTS: dict[str, tuple[str, ...]] = {
    "only buying is possible, no short selling": ("short", "shorts", "shorting", "cover"),
    "options are not possible, only the symbol itself": ("call", "calls", "put", "puts", "option", "options"),
    "leverage is not possible": ("leverage", "leveraged", "margin"),
    "a ratio of reward to risk is not possible; say both, such as 5% stop loss, 10% take profit": ("reward", "rr"),
    "say it with 'and not'": ("unless", "except"),
    "say only what is to be done": ("never", "don't", "ignore"),
    "what is not named is not there; leave it out": ("without", "no"),
    "how much is bought is no part of a strategy": (
        *("capital", "portfolio", "account", "invest", "shares", "allocate", "size", "positions", "dollars", "risk"),
    ),
    "a position is sold whole": ("half", "partial", "partially", "quarter"),
    "the time of day is not known, only bars": ("am", "pm", "o'clock", "noon", "premarket"),
    "the calendar is not known, only bars": (
        *("monday", "mondays", "tuesday", "tuesdays", "wednesday", "wednesdays", "thursday", "thursdays", "friday"),
        *("fridays", "january", "february", "march", "april", "june", "july", "august", "september", "october"),
        *("november", "december", "monthly"),
    ),
    "only the prices and the volume of each symbol are known": (
        *("earnings", "pe", "eps", "revenue", "dividend", "dividends", "market", "cap", "news", "vix", "sector", "p"),
        *("tech", "sentiment", "nyse", "nasdaq", "etf", "etfs", "industry", "bullish", "bearish"),
    ),
    "only a longest holding time is possible, such as hold at most 10 days": ("hold", "minimum"),
    "a stop or a target is a percentage of the entry price, such as 5%": ("stop", "target", "profit", "loss"),
    "say it in percent, or as a level": ("points", "point"),
    "say how near, such as within 2% of it": ("near", "around", "about", "slightly", "well"),
    "say from which side, such as crosses above": ("crosses", "hits", "reaches"),
    "all rules are on the same bars; name them by themselves, such as on weekly bars": ("weekly", "hourly", "daily"),
    "a condition is of one bar; what was before it cannot be said": ("then", "until", "yesterday", "was", "ago"),
    "say which fall, such as price falls 5% from its 20 day high": ("dip", "dips", "pullback", "pullbacks"),
    "say of which time, such as its 52 week high": ("breakout", "breakouts", "high", "highs", "low", "lows"),
    "only English is read": ("kaufe", "kaufen", "wenn", "acheter", "quand", "comprar", "cuando", "compra"),
}


def hint_for(words: list[str]) -> str | None:
    """Return what helps to say these words otherwise, or why they cannot be had; None for words that are not known."""
    return next((hint for hint, known in _HINTS.items() if not set(known).isdisjoint(words)), None)
