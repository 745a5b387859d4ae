"""Any prompt gives rules that compile, or PromptNotUnderstood; nothing else, and no word is passed over in silence."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aworker.trading.prompts import PromptNotUnderstood, edit_from_prompt, strategy_from_prompt
from aworker.trading.strategies.strategy import (
    MAX_PROMPT_CHARACTERS,
    SOURCE_KEYS,
    Draft,
    Risk,
    Rules,
    check_draft,
    rules_from_source,
    source_text,
)

_PHRASES = [
    *(
        "buy when",
        "sell when",
        "sell above",
        "buy below",
        "and",
        "or",
        "not",
        ",",
        ".",
        "\n",
        ";",
        "(",
        ")",
        "-",
        "*",
        "/",
    ),
    *(
        "RSI",
        "RSI(14)",
        "rsi(close, 14)",
        "drops below",
        "rises above",
        "is above",
        "crosses above",
        "crosses below",
        "30",
    ),
    *("breaks above", "70", "5%", "$50", "1.5", "2 x", "twice", "20 day high", "52 week low", "20 day moving average"),
    *(
        "SMA 50",
        "ema(21)",
        "50/200 SMA crossover",
        "golden cross",
        "MACD",
        "signal line",
        "lower bollinger band",
        "volume",
    ),
    *("average volume", "its 20 day average", "price", "it", "stop loss", "5% stop loss", "trailing stop", "21", "- 5"),
    *(
        "take profit 10%",
        "hold at most 20 days",
        "only",
        "AAPL",
        "AAPL and MSFT",
        "on",
        "for",
        "rank by",
        "lowest",
        "the",
    ),
    *(
        "20 day momentum",
        "create a",
        "strategy",
        "momentum",
        "called",
        "on 15 minute bars",
        "20m",
        "up 5% over 10 days",
    ),
    *(
        "down",
        "between",
        "is rising",
        "oversold",
        "remove",
        "add",
        "change",
        "to",
        "from",
        "set the RSI period to",
        "a",
    ),
    *("instead", "use EMA instead of SMA", "rename to", "require", "also", "entry:", "exit:", "symbols:", "stop_loss:"),
    *(
        "close > open",
        "max_bars: 5",
        "change 30 to 25",
        "replace",
        "with",
        "remove the take profit",
        "no",
        "close when",
    ),
    *("after 10 days", "at a 5% loss", "the moon is full"),
    *("three days in a row", "consecutive down days", "within 2% of", "gaps up 2%", "buy the dip when", "at RSI 30"),
    *("breakouts above", "twenty one", "hundred", "the bollinger bands", "weekly", "closes below", "falls 10% from"),
    *("is twice", "only if", "exclude", "yesterday's", "daily", "hold until", "max bars"),
]

_prompts = st.lists(st.sampled_from(_PHRASES), max_size=25).map(" ".join) | st.text(max_size=200)

_CURRENT = Rules(
    "crosses_above(sma(close, 50), sma(close, window=200)) and rsi(close) < 70",
    exit="rsi(close, 14) > 70 or close < sma(close, 200)",
    rank="roc(close, 20)",
    symbols=("AAPL", "MSFT"),
    risk=Risk(stop_loss=0.05, take_profit=0.1),
)


def _checked(draft: Draft) -> None:
    assert check_draft(draft) == draft
    assert rules_from_source(source_text(draft.rules)) == draft.rules
    assert rules_from_source(source_text(draft.rules).replace("\n", " ")) == draft.rules


@settings(max_examples=400, deadline=None)
@given(_prompts)
def test_any_prompt_gives_checked_rules_or_a_refusal(prompt: str) -> None:
    try:
        draft = strategy_from_prompt(prompt)
    except PromptNotUnderstood:
        return
    _checked(draft)


@settings(max_examples=400, deadline=None)
@given(_prompts)
def test_any_edit_gives_checked_rules_or_a_refusal(prompt: str) -> None:
    try:
        draft = edit_from_prompt(prompt, _CURRENT, "Name")
    except PromptNotUnderstood:
        return
    _checked(draft)


_CLAUSES = (
    ("buy when RSI(14) drops below 30", "entry: rsi(close, 14) < 30"),
    ("buy when price crosses above the 50 day moving average", "entry: crosses_above(close, sma(close, 50))"),
    ("sell when MACD crosses below its signal line", "exit: crosses_below(macd(close), macd_signal(close))"),
    ("5% stop loss", "stop_loss: 5%"),
    ("take profit at 12%", "take_profit: 12%"),
    ("with a trailing stop of 7%", "trailing_stop: 7%"),
    ("hold for at most 20 days", "max_bars: 20"),
    ("only AAPL and MSFT", "symbols: AAPL, MSFT"),
    ("rank by 20 day momentum", "rank: percent_change(close, 20)"),
)


@settings(max_examples=100, deadline=None)
@given(st.permutations(_CLAUSES[1:]), st.sampled_from([", ", ". ", "\n", "; ", " and "]), st.integers(0, 8))
def test_clauses_mean_the_same_in_any_order(clauses: list[tuple[str, str]], separator: str, dropped: int) -> None:
    kept = [clause for index, clause in enumerate(clauses) if index != dropped or clause == _CLAUSES[1]]

    draft = strategy_from_prompt(separator.join(text for text, _ in kept))

    assert sorted(source_text(draft.rules).splitlines()) == sorted(line for _, line in kept)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_an_unknown_word_anywhere_is_never_passed_over(data: st.DataObject) -> None:
    text = (
        "buy when RSI(14) drops below 30 and volume above twice its 20 day average, sell above 70, 5% stop, only MSFT"
    )
    words = text.split(" ")
    place = data.draw(st.integers(0, len(words)))
    words.insert(place, data.draw(st.sampled_from(["frobnicate", "sideways", "moonlight", "never", "zyx"])))

    with pytest.raises(PromptNotUnderstood):
        strategy_from_prompt(" ".join(words))


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "part",
    [
        "(",
        "not ",
        "rsi(",
        "RSI < 30 and ",
        "1,",
        "a ",
        "sell if RSI > 7 or ",
        "5% ",
        "buy if RSI < 3. ",
        "RSI period 3. ",
        "RSI is oversold or ",
        "up 3 days in a row and ",
        "weekly ",
    ],
)
@pytest.mark.parametrize("start", ["", "buy when ", "only AAPL, "])
def test_the_longest_prompts_are_read_in_linear_time(start: str, part: str) -> None:
    prompt = start + part * ((MAX_PROMPT_CHARACTERS - len(start) - 5) // len(part)) + " zyx."

    # What would be quadratic takes minutes here, and the test's timeout ends it.
    with pytest.raises(PromptNotUnderstood):
        strategy_from_prompt(prompt)
    with pytest.raises(PromptNotUnderstood):
        edit_from_prompt(prompt, _CURRENT, "Name")


_fractions = st.floats(min_value=1e-6, max_value=0.999999)
_conditions = st.sampled_from(
    ["rsi(close, 14) < 30", "close > open", "not (close > open) or volume > 1e6", "rising(obv(), 3)"]
)


@settings(deadline=None)
@given(
    st.builds(
        Rules,
        entry=_conditions,
        exit=st.none() | _conditions,
        rank=st.none() | st.sampled_from(["roc(close, 20)", "-rsi(close)", "close / lag(close, 5)"]),
        symbols=st.none()
        | st.lists(
            st.from_regex(r"\A[A-Z0-9^][A-Z0-9]{0,5}([.=_-][A-Z]{1,3})?\Z")
            | st.sampled_from(["ALL", "NONE", "NAN", "TRUE", "NULL", *(key.upper() for key in SOURCE_KEYS)]),
            min_size=1,
            max_size=5,
            unique=True,
        ).map(tuple),
        timeframe=st.sampled_from(["1m", "1h", "1d", "1w"]),
        risk=st.builds(
            Risk,
            stop_loss=st.none() | _fractions,
            take_profit=st.none() | st.floats(min_value=1e-6, max_value=1_000),
            trailing_stop=st.none() | _fractions,
            max_bars=st.none() | st.integers(1, 100_000),
        ),
        reentry=st.sampled_from(["cycle", "edge", "level"]),
    )
)
def test_the_source_text_reads_back_as_the_same_rules(rules: Rules) -> None:
    text = source_text(rules)

    assert rules_from_source(text) == rules
    assert rules_from_source(text.replace("\n", " ")) == rules
    assert strategy_from_prompt(text).rules == rules
