"""What a strategy may be, and how it is written."""

from __future__ import annotations

import msgspec
import pytest

from aworker.errors import RequestDeclined
from aworker.trading.strategies.strategy import (
    SOURCE_KEYS,
    Draft,
    FieldUnknown,
    Risk,
    Rules,
    StrategyInvalid,
    apply_fields,
    check_draft,
    check_rules,
    describe,
    draft_from_json,
    draft_schema,
    is_source,
    percent_text,
    rules_from_source,
    source_fields,
    source_text,
)

FULL = Rules(
    "rsi(close, 14) < 30",
    exit="rsi(close, 14) > 70",
    rank="roc(close, 20)",
    symbols=("AAPL", "BRK.B"),
    timeframe="1h",
    risk=Risk(stop_loss=0.05, take_profit=0.1, trailing_stop=0.035, max_bars=20),
    reentry="edge",
)


def test_rules_are_kept_on_one_line_with_symbols_in_capitals() -> None:
    checked = check_rules(Rules("close >\n  open", symbols=("aapl", " msft ", "AAPL")))

    assert checked == Rules("close > open", symbols=("AAPL", "MSFT"))


@pytest.mark.parametrize(
    "rules, message",
    [
        (
            Rules("rsi(clos) < 30"),
            r"rules.entry must be a condition .* was 'rsi\(clos\) < 30'; column 5: .* did you mean close",
        ),
        (Rules("close"), "rules.entry must be a condition"),
        (Rules("close > open", exit="close +"), "rules.exit must be"),
        (Rules("close > open", rank="close > open"), "rules.rank must be a number"),
        (Rules("close > open # exit: close < open"), "rules.entry must be a rule without comments"),
        (Rules("close > open", symbols=()), "rules.symbols must be 1 to 5,000 symbols, was 0"),
        (Rules("close > open", symbols=("AAPL", "A B")), r"rules.symbols\[1\] must be a symbol .* was 'A B'"),
        (Rules("close > open", symbols=("../etc",)), r"rules.symbols\[0\]"),
        (Rules("close > open", timeframe="7m"), "rules.timeframe must be one of 1m, .* was '7m'"),
        (Rules("close > open", reentry="never"), "rules.reentry must be one of cycle, edge, level, was 'never'"),
        (
            Rules("close > open", risk=Risk(stop_loss=1.0)),
            "rules.risk.stop_loss must be a fraction, 0 < x < 1, was 1.0",
        ),
        (Rules("close > open", risk=Risk(trailing_stop=float("nan"))), "rules.risk.trailing_stop must be .* was nan"),
        (Rules("close > open", risk=Risk(take_profit=0.0)), "rules.risk.take_profit must be .* was 0.0"),
        (Rules("close > open", risk=Risk(stop_loss="-2")), "rules.risk.stop_loss must be above 0, was '-2'"),
        (Rules("close > open", risk=Risk(stop_loss="2R")), "rules.risk.stop_loss must be a fraction or a distance"),
        (Rules("close > open", risk=Risk(take_profit="2R")), "rules.risk.take_profit must be a multiple of a stop's"),
        (Rules("close > open", risk=Risk(break_even=0.0)), "rules.risk.break_even must be a fraction"),
        (Rules("close > open", risk=Risk(stop_price="close > 1")), "rules.risk.stop_price must be a number in the"),
        (
            Rules("close > open", risk=Risk(stop_loss="2 * atrr(14)")),
            "rules.risk.stop_loss must be .* did you mean atr",
        ),
        (Rules("close > open", side="both"), "rules.side must be one of long, short, was 'both'"),
        (Rules("close > open", side="short", short="close < 1"), "rules.short must be left out with side short"),
        (Rules("close > open", cover="close < 1"), "rules.cover must be given with short, was 'close < 1'"),
        (Rules("close > open", short="close"), "rules.short must be a condition"),
        (
            Rules("close > open", short="close < 1", risk=Risk(stop_price="low")),
            "rules.risk.stop_price must be left out with short, was 'low'; a price cannot be one for both sides",
        ),
        (Rules("close > open", risk=Risk(max_bars=0)), "rules.risk.max_bars must be 1 to 100,000 bars, was 0"),
    ],
)
def test_what_is_wrong_is_named_with_path_rule_and_value(rules: Rules, message: str) -> None:
    with pytest.raises(StrategyInvalid, match=message):
        check_rules(rules)


def test_a_wrong_rule_has_a_note_that_points_at_it() -> None:
    with pytest.raises(StrategyInvalid) as raised:
        check_rules(Rules("close > 1", exit="close <  smaa(close, 5)"))

    assert raised.value.__notes__ == ["  close < smaa(close, 5)\n          ^"]


@pytest.mark.parametrize("name", ["", "  ", "x" * 121, "bell\a"])
def test_a_name_is_short_and_printable(name: str) -> None:
    with pytest.raises(StrategyInvalid, match="name must be 1 to 120 printable characters"):
        check_draft(Draft(name, "", FULL))


def test_an_invalid_strategy_is_a_declined_request() -> None:
    assert issubclass(StrategyInvalid, RequestDeclined)


def test_the_source_text_says_all_of_a_strategy() -> None:
    text = source_text(FULL)

    assert text.splitlines() == [
        "entry: rsi(close, 14) < 30",
        "exit: rsi(close, 14) > 70",
        "rank: roc(close, 20)",
        "stop_loss: 5%",
        "take_profit: 10%",
        "trailing_stop: 3.5%",
        "max_bars: 20",
        "symbols: AAPL, BRK.B",
        "timeframe: 1h",
        "reentry: edge",
    ]
    assert rules_from_source(text) == rules_from_source(text.replace("\n", " ")) == FULL


@pytest.mark.parametrize(
    "written, field, value",
    [
        ("stop_loss: $2", "stop_loss", "2"),
        ("stop_loss: 1.50 €", "stop_loss", "1.50"),
        ("stop_loss: 2 ATR", "stop_loss", "2 * atr(14)"),
        ("stop_loss: 2.5x ATR(20)", "stop_loss", "2.5 * atr(20)"),
        ("stop_loss: 2 * atr(14)", "stop_loss", "2 * atr(14)"),
        ("stop_loss: high - low", "stop_loss", "high - low"),
        ("trailing_stop: 3 atrs(22)", "trailing_stop", "3 * atr(22)"),
        ("stop_loss: 5% take_profit: 2R", "take_profit", "2R"),
        ("stop_price: lowest(low, 10) break_even: 1.0 r", "break_even", "1R"),
        ("break_even: 5%", "break_even", 0.05),
        ("stop_price: $95", "stop_price", "95"),
        ("target_price: bollinger_upper(close, 20, 2)", "target_price", "bollinger_upper(close, 20, 2)"),
    ],
)
def test_a_limit_may_be_money_atrs_or_a_rule(written: str, field: str, value: object) -> None:
    rules = rules_from_source(f"entry: close > open {written}")

    assert getattr(rules.risk, field) == value
    assert rules_from_source(source_text(rules)) == rules
    assert check_rules(rules) == rules


def test_a_short_side_is_written_as_it_is_read() -> None:
    rules = rules_from_source("entry: close > 2 short: close < 1 cover: close > 1.5 stop_loss: 2 ATR")
    other = rules_from_source("entry: close < 1 exit: close > 2 side: Short stop_price: highest(high, 10)")

    assert (rules.side, rules.short, rules.cover) == ("long", "close < 1", "close > 1.5")
    assert rules_from_source(source_text(rules)) == rules
    assert other.side == "short"
    assert rules_from_source(source_text(other)) == other
    assert describe(other).startswith("Sells short when close < 1; buys back when close > 2; stops out at highest")


@pytest.mark.parametrize("ticker", ["ALL", "NONE", "NAN", "TRUE", "NULL", "ENTRY"])
def test_a_ticker_in_capitals_is_no_word(ticker: str) -> None:
    rules = Rules("close > open", symbols=(ticker,))

    assert rules_from_source(source_text(rules)) == rules


@pytest.mark.parametrize("word", ["all", "All", " all "])
def test_all_symbols_are_written_in_lower_case(word: str) -> None:
    assert rules_from_source(f"entry: close > open symbols: {word}").symbols is None


def test_comments_and_blank_lines_are_left_out() -> None:
    text = """
    # Dips, first try
    name: Dips: #2

    entry: rsi(close, 14) < 30  # oversold
      and close > open
    # exit: rsi(close, 14) > 70
    stop_loss: 5% # note: wide
    symbols: AAPL, # Apple
      MSFT
    # the end"""

    assert source_fields(text) == {
        "name": "Dips: #2",
        "entry": "rsi(close, 14) < 30  \n      and close > open",
        "stop_loss": "5%",
        "symbols": "AAPL, \n      MSFT",
    }
    assert rules_from_source(text).entry == "rsi(close, 14) < 30 and close > open"
    assert is_source(text)


@pytest.mark.parametrize(
    "written, suggestion",
    [
        ("stoploss: 5%", "did you mean stop_loss?"),
        ("stop: 5%", "did you mean stop_loss?"),
        ("TakeProfit:5%", "did you mean take_profit?"),
        ("maxbar: 5", "did you mean max_bars?"),
        ("universe: AAPL", "did you mean symbols?"),
        ("leverage: 3", "leave it out"),
    ],
)
@pytest.mark.parametrize("separator", ["\n", " ", "\n\n# why\n", "\nexit: close < open "])
def test_a_field_that_no_strategy_has_is_told(written: str, suggestion: str, separator: str) -> None:
    with pytest.raises(FieldUnknown, match=r"source must have the fields name, entry, .* only, was ") as raised:
        rules_from_source(f"entry: close > open{separator}{written}")

    assert str(raised.value).endswith(suggestion)


def test_a_field_may_be_written_as_words() -> None:
    rules = rules_from_source("entry: close > open\nstop loss: 5%\nTake-Profit: 9%")

    assert rules.risk == Risk(stop_loss=0.05, take_profit=0.09)


def test_none_takes_any_optional_field_away() -> None:
    fields = dict.fromkeys((*SOURCE_KEYS,), "none") | {"symbols": "all", "entry": "close > open"}

    assert apply_fields(FULL, fields) == Rules("close > open")
    assert apply_fields(FULL, {"stop_loss": "None"}).risk == msgspec.structs.replace(FULL.risk, stop_loss=None)


def test_fields_change_only_what_they_name() -> None:
    changed = apply_fields(FULL, {"stop_loss": "0.03", "symbols": "all"})

    assert changed == msgspec.structs.replace(
        FULL, symbols=None, risk=msgspec.structs.replace(FULL.risk, stop_loss=0.03)
    )


@pytest.mark.parametrize(
    "text, message",
    [
        ("exit: close > open", "source.entry must be given"),
        ("buy entry: close > open", "source must be fields"),
        ("entry: close > open entry: close < open", "source.entry must be given once"),
        ("entry: exit: close > open", "source.entry must be followed by its value"),
        ("", "source.entry must be given"),
        ("\n# nothing yet\n", "source.entry must be given"),
        ("entry: close > open # stop_loss: 5%", "source: a comment beside a value must be without a field"),
        ("entry: close > open symbols: none", "source.symbols must be symbols, or all for every one"),
        ("name: Dips: x entry: close > open", "a name with a colon stands on a line of its own"),
        ("entry: close > open stop_loss: a lot", "source.stop_loss must be a percentage or a fraction, was 'a lot'"),
        ("entry: close > open stop_loss: 1e999999999%", "source.stop_loss must be a percentage"),
        ("entry: close > open stop_loss: nan", "source.stop_loss must be a percentage"),
        ("entry: close > open max_bars: 2.5", "source.max_bars must be a whole number"),
    ],
)
def test_a_source_that_is_none_is_refused(text: str, message: str) -> None:
    with pytest.raises(StrategyInvalid, match=message):
        rules_from_source(text)


@pytest.mark.parametrize(
    "fraction, text", [(0.05, "5%"), (0.07, "7%"), (0.035, "3.5%"), (1e-6, "0.0001%"), (10.0, "1000%")]
)
def test_a_percentage_is_as_short_as_it_can_be(fraction: float, text: str) -> None:
    assert percent_text(fraction) == text


def test_a_draft_is_read_from_json_and_back() -> None:
    draft = Draft("Name", "Says", FULL)

    assert draft_from_json(msgspec.json.encode(draft)) == draft


@pytest.mark.parametrize(
    "text, message",
    [
        (b"\xff", "must be JSON"),
        ("[" * 100_000, "must be JSON"),
        ("{}", "missing required field"),
        ('{"name": "x", "description": "", "rules": {"entry": "close > open", "leverage": 3}}', "leverage"),
        ('{"name": "x", "description": "", "rules": {"entry": "close > open", "risk": {"stop_loss": 5}}}', "stop_loss"),
        ('{"name": "x", "description": "", "rules": {"entry": "import os"}}', "rules.entry must be a condition"),
    ],
    ids=["bytes", "deep", "empty", "field", "risk", "code"],
)
def test_json_that_is_no_draft_is_refused(text: str | bytes, message: str) -> None:
    with pytest.raises(StrategyInvalid, match=message):
        draft_from_json(text)


def test_the_schema_carries_the_bounds() -> None:
    schema = draft_schema()

    stop_loss = schema["$defs"]["Risk"]["properties"]["stop_loss"]["anyOf"][0]
    assert stop_loss == {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}
    assert "1d" in schema["$defs"]["Rules"]["properties"]["timeframe"]["enum"]
    assert schema["$defs"]["Rules"]["additionalProperties"] is False


def test_a_description_names_what_a_strategy_does() -> None:
    text = describe(FULL)

    for part in ("Buys when rsi(close, 14) < 30", "sells when", "loss of 5%", "at most 20 bars", "AAPL, BRK.B on 1h"):
        assert part in text
