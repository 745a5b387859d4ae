"""The language: what is a rule, and where a text that is none goes wrong."""

import pickle
import subprocess
import sys

import pytest

from aworker.trading.rules import INDICATORS, SERIES, RuleError, compile_program, parse_rule


@pytest.mark.parametrize(
    "text",
    [
        "rsi(close, 14) < 30",
        "30 < rsi(close) < 70",
        "crosses_above(sma(close, 20), sma(close, 50)) and rsi(close, 14) < 70",
        "not (close > open or volume == 0)",
        "between(rsi(close), 30, 70)",
        "close > 1.5e3 and -change(close) >= .5",
        "rsi(close, window=14) < 30",
        "rsi(window=14, series=close) < 30",
        "macd(close).signal > macd(close).line",
        "bollinger(close, 20, 2.5).upper < close",
        "\n  close > open\tand\r\n  close > 1\n",
        "rising(close, 3) and falling(sma(volume, 5))",
        "1 < 2",
        "+close > abs(open - close)",
    ],
)
def test_a_condition_is_accepted(text: str) -> None:
    rule = parse_rule(text, "condition")

    assert rule.text == text
    assert rule.kind == "condition"


@pytest.mark.parametrize("text", ["rsi(close)", "-roc(close, 20)", "5", "(close - sma(close, 20)) / stddev(close, 20)"])
def test_a_score_is_accepted(text: str) -> None:
    assert parse_rule(text, "score").kind == "score"


@pytest.mark.parametrize(
    ("text", "column", "suggestion"),
    [
        ("rsii(close, 14) < 30", 1, "rsi"),
        ("close > opem", 9, "open"),
        ("RSI(close) < 30", 1, "rsi"),
        ("max(high, 20) < close", 1, "highest"),
        ("close = 5", 7, "=="),
        ("rsi(close) = 5", 12, "=="),
        ("(close = 5)", 8, "=="),
        ("close === 5", 7, "=="),
        ("close =< 5", 7, "<="),
        ("close ≥ 5", 7, ">="),
        ("close > open & close > 5", 14, "and"),
        ("close > open && close > 5", 14, "and"),
        ("close > open | close > 5", 14, "or"),
        ("close > open AND close > 5", 14, "and"),
        ("Not close > open", 1, "not"),
        ("!(close > open)", 1, "not"),
        ("close > 5%", 9, "0.05"),
        ("volume > 20k", 10, "20000"),
        ("volume > 1_000", 10, "1000"),
        ("close × 2 > open", 7, "*"),
        ("close above 20", 7, ">"),
        ("close is 20", 7, "=="),
        ("rsi(14) < 30", 5, "rsi(close, 14)"),
        ("rsi(close, 14.0) < 30", 12, "14"),
        ("atr(close, 14) > 1", 12, "atr(14)"),
        ("atr(close) > 1", 5, "atr(14)"),
        ("rsi < 30", 1, "rsi(close, 14)"),
        ("close() > 5", 1, "close"),
        ("bars.close > 5", 1, "close"),
        ("rsi(close, windw=3) > 5", 12, "window"),
        ("bollinger(close) > 3", 1, "bollinger_upper"),
        ("macd(close, 26, 12) > 3", 1, "macd(close, 12, 26, 9)"),
        ("macd(close, 12, 12) > 3", 1, "macd(close, 12, 26, 9)"),
        ("  \n close > opem", 13, "open"),
        ("rsi(close", 4, ")"),
        ("rsi(close)", 1, "rsi(close) > 0"),
        ("close > 1 and volume", 15, "volume > 0"),
        ("5(close) > 2", 2, "*"),
        ("macd_sig(close) > 0", 1, "macd_signal"),
        ("smaa(close) > 0", 1, "sma"),
        ("mom(close) > 0", 1, "momentum"),
        ("hhv(high, 20) > 1", 1, "highest"),
        ("close < llv(low, 20)", 9, "lowest"),
        ("o > 1", 1, "open"),
        ("c > 1", 1, "close"),
        ("cross_above(close, open)", 1, "crosses_above"),
        ("log(close) > 1", 1, None),
        ("keltner(close) > 1", 1, "keltner_upper"),
        ("barssince(close > 1) > 1", 1, "since"),
        ("trix(close, 20) > 1", 1, None),
        ("sma(close, period=20) > 1", 12, "window"),
        ("sma(close, length=20) > 1", 12, "window"),
        ("sma(close, n=20) > 1", 12, "window"),
        ("sma(close, timeperiod=20) > 1", 12, "window"),
        ("sma(close, span=20) > 1", 12, "window"),
        ("lag(close, n=2) > 1", 12, "bars"),
        ("obv(n=2) > 1", 5, None),
        ("bollinger_upper(close, std=2) > 1", 24, "deviations"),
        ("close between 1 and 2", 7, "between(close, 1, 2)"),
        ("open > 1 and rsi(close, 14) between 30 and 70", 29, "between(rsi(close, 14), 30, 70)"),
        ("close + 1 between 1 and 2", 11, "between(value, low, high)"),
        ("close between 1 and 2 + 3", 7, "between(value, low, high)"),
        ("close cross_above sma(close, 20)", 7, "crosses_above(close, sma(close, 20))"),
        ("close crosses above 20 and open > 1", 7, "crosses_above(close, 20)"),
        ("close crossed below sma(sma(close, 2), 3)", 7, "crosses_below(left, right)"),
        (f"close crosses above sma({'close' * 300})", 7, "crosses_above(left, right)"),
        ("close crosses 20", 7, None),
        ("close is above 20", 7, ">"),
        ("close is not 20", 7, "!="),
        ("close is not above 20", 7, None),
        ("close is between 1 and 2", 7, "between(close, 1, 2)"),
        ("close is rising", 7, None),
    ],
)
def test_an_error_points_at_its_column_and_suggests(text: str, column: int, suggestion: str | None) -> None:
    with pytest.raises(RuleError) as raised:
        parse_rule(text, "condition")

    assert (raised.value.column, raised.value.suggestion) == (column, suggestion)


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("", 1, "must not be blank"),
        (" \n\t ", 1, "must not be blank"),
        ("close >", 8, "before the end"),
        ("close > > 5", 9, "before '>'"),
        ("close > (", 10, "before the end"),
        ("close > ()", 10, r"before '\)'"),
        ("close) > 5", 6, r"must have its '\('"),
        ("sma(close,, 3) > 5", 11, "before ','"),
        ("(close, open)", 7, "arguments of a function"),
        ("close close", 7, "an operator must stand"),
        ("close[1] > 5", 6, r"lag\(close, 1\)"),
        ("'close' > 5", 1, "without quotes"),
        ("close > 5 # note", 11, "no comment"),
        ("close ** 2 > 5", 7, r"one of \+ - \* /"),
        ("lambda: 0", 1, "was 'lambda'"),
        ("True", 1, "was 'True'"),
        ("close if close else open", 7, "was 'if'"),
        ("close > 0x10", 9, "digits and a point"),
        ("close > 1j", 9, "digits and a point"),
        ("close > 1e999", 9, "between -1e12 and 1e12"),
        ("close > " + "9" * 1900, 9, "between -1e12 and 1e12"),
        ("close > 1e12 * 10", 9, "between -1e12 and 1e12"),
        ("close / 0 > 1", 1, "divisor must not be 0"),
        ("close > 1 / (2 - 2)", 9, "divisor must not be 0"),
        ("close + (close > 1) > 2", 10, "a number must stand here"),
        ("(close > 1) == (open > 1)", 2, "a number must stand here"),
        ("-(close > 1)", 3, "a number must stand here"),
        ("sma(close > 1, 3) > 1", 5, "a number must stand here"),
        ("not close", 5, "`not` must have conditions"),
        ("rsi(close, 0) > 5", 12, "whole number from 2 to 1000, was 0"),
        ("rsi(close, 1001) > 5", 12, "whole number from 2 to 1000, was 1001"),
        ("sma(close, 2.5) > 5", 12, "whole number from 1 to 1000, was 2.5"),
        ("lag(close, -1) > close", 12, "was -1; a rule cannot look ahead"),
        ("sma(close, close) > 5", 12, "whole number"),
        ("sma(close, window) > 5", 12, "whole number"),
        ("sma(2 + 3) > 1", 5, "must be a price or an indicator, was 2 [+] 3"),
        ("sma(abs(-3), 5) > 1", 5, "must be a price or an indicator"),
        ("bollinger_upper(close, 20, -2) > 1", 28, "must be a number > 0, was -2"),
        ("bollinger_upper(close, 20, close) > 1", 28, "must be a number > 0, was close"),
        ("crosses_above(close)", 1, "must be given right"),
        ("sma() > 1", 1, "must be given series"),
        ("rsi(close, 14, 3) > 1", 16, "at most 2 arguments, has 3"),
        ("obv(close) > 1", 5, "no arguments, has 1"),
        ("rsi(close, series=close) > 1", 12, "given once"),
        ("rsi(close, window=3, window=4) > 1", 22, "given once"),
        ("rsi(series=close, 3) > 1", 20, "not readable"),
        ("macd(close).colour > 1", 1, "must stand alone"),
        ("close.__class__ > 1", 1, "must stand alone"),
        ("__import__(close) > 1", 1, "price or a function"),
        ("(sma)(close) > 1", 6, "an operator must stand"),
        ("ｃlose > 5", 1, "names, numbers, operators"),
        ("close > 5\x00", 10, "names, numbers, operators"),
        ("close > \ud800", 9, "names, numbers, operators"),
        ("clöse > 5", 3, "names, numbers, operators"),
        ("'日本' > 5", 1, "without quotes"),
        ("007 < close", 1, "not readable"),
    ],
)
def test_a_text_that_is_no_rule_is_refused_where_it_goes_wrong(text: str, column: int, message: str) -> None:
    with pytest.raises(RuleError, match=message) as raised:
        parse_rule(text, "condition")

    assert raised.value.column == column


def test_a_score_must_be_a_number() -> None:
    with pytest.raises(RuleError, match="score must be a number, was the condition close > 5"):
        parse_rule("close > 5", "score")


@pytest.mark.parametrize(
    "text",
    [
        "(" * 900 + "close" + ")" * 900,
        "close > " + "-" * 1900 + "1",
        "not " * 490 + "close > 1",
        "+".join(["close"] * 250) + " > 1",
        "abs(close+" * 60 + "close" + ")" * 60 + " > 1",
        "abs(" * 240 + "close" + ")" * 240 + " > 1",
        "close > 1" + " and close > 1" * 140,
        "x" * 2001,
        "-(" * 400 + "1" + ")" * 400,
    ],
)
def test_a_rule_that_is_too_much_is_refused(text: str) -> None:
    with pytest.raises(RuleError, match=r"nested at most|at most 500 words|at most 2000 characters|at most 400 steps"):
        parse_rule(text, "condition")


@pytest.mark.parametrize(
    ("text", "column"),
    [("(" * 60 + "close > 1" + ")" * 60, 51), ("not " * 60 + "close > 1", 201)],
)
def test_a_rule_is_nested_fifty_deep_at_most(text: str, column: int) -> None:
    with pytest.raises(RuleError, match="nested at most 50 deep") as raised:
        parse_rule(text, "condition")

    assert raised.value.column == column


def test_a_long_rule_within_the_limits_is_accepted() -> None:
    parse_rule(" and ".join(f"close > sma(close, {window})" for window in range(2, 45)), "condition")
    parse_rule(" + ".join(["close"] * 45), "score")


@pytest.mark.parametrize("operator", ["+", "-", "*", "/"])
def test_a_flat_sum_or_product_is_not_nested(operator: str) -> None:
    parse_rule(operator.join(["close"] * 201) + " > 1", "condition")


def test_an_error_in_a_long_sum_points_at_its_term() -> None:
    with pytest.raises(RuleError, match="was opem") as raised:
        parse_rule("close+" * 100 + "opem" + "+close" * 100, "score")

    assert raised.value.column == 601


def test_look_back_of_nested_windows_adds_up_to_a_limit() -> None:
    text = "sma(" * 6 + "close" + ", 1000)" * 6 + " > 1"

    with pytest.raises(RuleError, match="look-back must be <= 5000 bars, was 5994"):
        parse_rule(text, "condition")


def test_windows_that_take_long_are_refused_together() -> None:
    text = " + ".join(f"cci({window})" for window in range(990, 1001))

    with pytest.raises(RuleError, match="at most 400 steps"):
        parse_rule(text, "score")


def test_distinct_steps_of_all_three_rules_count_together() -> None:
    text = " + ".join(f"sma(close, {window})" for window in range(1, 46))
    other = " + ".join(f"ema(open, {window})" for window in range(1, 46))
    third = " + ".join(f"wma(high, {window})" for window in range(1, 46))

    program = compile_program(f"{text} > 1", f"{other} > 1", third)

    assert len(program.steps) < 300
    assert compile_program(f"{text} > 1", f"{text} > 1", text).steps == compile_program(f"{text} > 1").steps


def test_nesting_that_shares_its_operand_does_not_grow_with_its_tree() -> None:
    text = "close"
    for _ in range(12):
        text = f"macd_histogram({text}, 2, 3, 2)"

    program = compile_program("close > 1", rank=text)

    assert len(program.steps) < 80


@pytest.mark.parametrize(
    ("text", "look_back"),
    [
        ("close > 1", 0),
        ("sma(close, 20) > 1", 19),
        ("sma(close, 1) > 1", 0),
        ("rsi(close, 14) > 1", 14),
        ("atr(14) > 1", 14),
        ("adx(14) > 1", 27),
        ("macd(close, 12, 26, 9) > 1", 25),
        ("macd_signal(close, 12, 26, 9) > 1", 33),
        ("stochastic_d(14, 3, 3) > 1", 17),
        ("bollinger_upper(close, 20) > 1", 19),
        ("lag(close, 5) > 1", 5),
        ("crosses_above(sma(close, 20), sma(close, 50))", 50),
        ("sma(rsi(close, 14), 5) > 1", 18),
        ("rising(close, 3)", 3),
        ("obv() > 1", 0),
        ("close > 1 or sma(close, 200) > 1", 199),
    ],
)
def test_look_back_is_known_before_any_bar(text: str, look_back: int) -> None:
    assert parse_rule(text, "condition").look_back == look_back


def test_program_looks_back_as_far_as_its_longest_rule() -> None:
    program = compile_program("rsi(close, 14) < 30", "rsi(close, 14) > 70", "close / sma(close, 200)")

    assert program.look_back == 199
    assert program.entry.look_back == 14
    assert program.exit is not None
    assert program.rank is not None
    assert program.tail_bars == 14 + 30 * 14 + 1


@pytest.mark.parametrize(
    ("text", "tail_bars"),
    [
        ("close > 1", 1),
        ("sma(close, 20) > 1", 20),
        ("ema(close, 20) > 1", 20 + 400),
        ("crosses_above(close, sma(close, 20))", 21),
        ("obv() > 1", None),
        ("sma(obv(), 5) > close", None),
    ],
)
def test_tail_is_what_the_last_bar_depends_on(text: str, tail_bars: int | None) -> None:
    assert compile_program(text).tail_bars == tail_bars


def test_what_rules_have_in_common_is_there_once() -> None:
    program = compile_program("rsi(close, 14) < 30", "rsi(close, 14) > 70", "-rsi(close, 14)")

    assert [step.operation for step in program.steps].count("rsi") == 1


def test_bollinger_bands_share_their_average_and_deviation() -> None:
    program = compile_program("close < bollinger_lower(close)", "close > bollinger_upper(close)")

    operations = [step.operation for step in program.steps]
    assert (operations.count("sma"), operations.count("stddev")) == (1, 1)


def test_an_error_shows_the_rule_with_a_caret() -> None:
    with pytest.raises(RuleError) as raised:
        parse_rule("close > 5 and rsii(close, 14) < 30", "condition")

    assert str(raised.value) == (
        "column 15: name must be a price or a function, was rsii\n"
        "  close > 5 and rsii(close, 14) < 30\n"
        "                ^\n"
        "did you mean `rsi`?"
    )


def test_an_error_in_a_long_rule_shows_the_part_around_it() -> None:
    with pytest.raises(RuleError) as raised:
        parse_rule("close > 1 and " * 30 + "foo" + " and close > 1" * 30, "condition")

    _, excerpt, caret = str(raised.value).splitlines()
    assert len(excerpt) < 120
    assert excerpt[caret.index("^") :].startswith("foo")


def test_an_error_survives_a_pickle() -> None:
    with pytest.raises(RuleError) as raised:
        parse_rule("rsii(close) < 1", "condition")

    copy = pickle.loads(pickle.dumps(raised.value))

    assert (copy.text, copy.column, copy.suggestion) == ("rsii(close) < 1", 1, "rsi")


def test_the_catalogue_names_every_function_with_its_signature() -> None:
    assert INDICATORS["rsi"].startswith("rsi(series, window=14): ")
    assert INDICATORS["bollinger_upper"].startswith("bollinger_upper(series, window=20, deviations=2): ")
    asked = (
        "sma ema wma rsi macd macd_signal macd_histogram bollinger_upper bollinger_middle bollinger_lower atr adx "
        "stochastic stochastic_k stochastic_d cci roc momentum obv vwap stddev highest lowest change percent_change "
        "lag crosses_above crosses_below between rising falling"
    )
    assert set(asked.split()) <= set(INDICATORS)
    assert SERIES == ("open", "high", "low", "close", "volume")


def test_parsing_imports_no_numpy() -> None:
    code = (
        "import sys; from aworker.trading.rules import compile_program; compile_program('rsi(close) < 30');"
        "print(sorted({'numpy', 'talib', 'polars'} & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
