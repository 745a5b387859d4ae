"""Any text gives a rule or a RuleError; any rule looks at the past only, and at enough of it."""

from __future__ import annotations

import string
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from aworker.trading.rules import Program, RuleError, compile_program, parse_rule
from aworker.trading.rules.evaluate import evaluate
from aworker.trading.rules.functions import FUNCTIONS, Function, Parameter
from aworker.trading.rules.parser import Kind

CONDITIONS = {"crosses_above", "crosses_below", "between", "rising", "falling"}
SERIES = st.sampled_from(["open", "high", "low", "close", "volume"])
CONSTANTS = st.sampled_from(["0", "1", "2", "30", "100", "0.5", "1e3", "-7"])
WORDS = st.sampled_from(
    [
        *FUNCTIONS,
        *["open", "high", "low", "close", "volume", "and", "or", "not", "(", ")", "(", ")", ",", " ", "14", "20"],
        *["+", "-", "*", "/", "<", "<=", ">", ">=", "==", "!=", "=", ".", "**", "%", "[", "]", "{", "}", "'", '"'],
        *["lambda", ":", "if", "else", "for", "in", "is", "True", "None", "await", "yield", "import", "__class__"],
        *[
            "1e999",
            "0x1",
            "1j",
            "1_0",
            "#",
            "\\",
            "\n",
            "\t",
            "\0",
            "é",
            "ｃlose",
            "\ud800",
            "😀",
            ":=",
            ";",
            "@",
            "...",
            "f'",
        ],
    ]
)


def _arguments(draw: st.DrawFn, parameter: Parameter, numbers: st.SearchStrategy[str]) -> str:
    match parameter.kind:
        case "window":
            return str(draw(st.integers(parameter.minimum, 6)))
        case "number":
            return draw(st.sampled_from(["1", "2.5"]))
        case "condition":
            return f"{draw(SERIES)} {draw(st.sampled_from(['<', '>=']))} {draw(numbers)}"
        case "series":
            return f"{draw(SERIES)} + {draw(numbers)}" if draw(st.booleans()) else draw(SERIES)
        case _:
            return draw(numbers)


@st.composite
def calls(draw: st.DrawFn, numbers: st.SearchStrategy[str], conditions: bool) -> str:
    function = draw(st.sampled_from([each for each in FUNCTIONS.values() if (each.name in CONDITIONS) == conditions]))
    return draw(call_of(function, numbers))


@st.composite
def call_of(draw: st.DrawFn, function: Function, numbers: st.SearchStrategy[str] = SERIES) -> str:
    if function.name.startswith("macd"):
        return f"{function.name}({draw(SERIES)}, 2, {draw(st.integers(3, 6))}, {draw(st.integers(1, 4))})"
    if function.name == "sar":
        return f"sar({draw(st.sampled_from(['0.02', '0.1']))}, 0.2)"
    arguments = [_arguments(draw, parameter, numbers) for parameter in function.parameters]
    return f"{function.name}({', '.join(arguments)})"


def deeper_number(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    operators = st.sampled_from(["+", "-", "*", "/"])
    return st.one_of(
        calls(inner, conditions=False),
        st.tuples(inner, operators, inner).map(lambda parts: f"({' '.join(parts)})"),
        inner.map(lambda number: f"-{number}"),
    )


NUMBERS = st.recursive(st.one_of(SERIES, CONSTANTS), deeper_number, max_leaves=5)
COMPARISONS = st.tuples(NUMBERS, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), NUMBERS).map(" ".join)


def deeper_condition(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda parts: f"({' '.join(parts)})"),
        inner.map(lambda condition: f"not ({condition})"),
    )


RULES = st.recursive(st.one_of(COMPARISONS, calls(NUMBERS, conditions=True)), deeper_condition, max_leaves=4)


@st.composite
def mutated_rules(draw: st.DrawFn) -> str:
    text = draw(st.one_of(RULES, NUMBERS))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(len(text), start + 5)))
        text = text[:start] + draw(st.one_of(WORDS, st.just(""), st.characters())) + text[end:]
    return text


HOSTILE = st.one_of(
    st.text(),
    st.text(alphabet=string.printable, max_size=200),
    st.lists(WORDS, max_size=60).map("".join),
    st.lists(WORDS, max_size=60).map(" ".join),
    st.tuples(WORDS, st.integers(1, 2100)).map(lambda part: (part[0] * part[1])[:2100]),
    st.tuples(WORDS, WORDS, st.integers(1, 700)).map(lambda part: ((part[0] + part[1]) * part[2])[:2000] + "1"),
    mutated_rules(),
)


@st.composite
def markets(draw: st.DrawFn) -> SimpleNamespace:
    count = draw(st.integers(0, 60))
    chance = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    close = np.round(20.0 * np.exp(np.cumsum(chance.normal(0.0, 0.03, count))), draw(st.sampled_from([0, 2, 12])))
    opened = np.round(close * np.exp(chance.normal(0.0, 0.02, count)), 2)
    bars = SimpleNamespace(
        timestamp=1_577_836_800 + draw(st.sampled_from([86_400, 3_600, 900])) * np.arange(count),
        open=opened,
        high=np.maximum(opened, close) + 0.01,
        low=np.minimum(opened, close) - 0.01,
        close=close,
        volume=chance.integers(0, 3, count).astype(np.float64) * 100.0,
    )
    for _ in range(draw(st.integers(0, 2))):
        at, length = draw(st.integers(0, 59)), draw(st.integers(1, 12))
        name = draw(SERIES)
        value = draw(st.sampled_from([np.nan, np.inf, -np.inf, 0.0, 1e300, 20.0]))
        getattr(bars, name)[at : at + length] = value
    return bars


def refusal(text: str, kind: Kind) -> RuleError | None:
    try:
        parse_rule(text, kind)
    except RuleError as error:
        return error
    return None


def compiled(text: str, rank: str | None = None) -> Program | None:
    try:
        return compile_program(text, None, rank)
    except RuleError as error:
        # Random arithmetic may divide by a constant that is nothing, or grow too large.
        if not any(word in error.message for word in ("divisor", "price or an indicator", "constant must", "at most")):
            raise
        return None


@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=HOSTILE)
def test_any_text_is_a_rule_or_a_rule_error(text: str) -> None:
    for kind in get_args(Kind):
        error = refusal(text, kind)
        if error is not None:
            assert 1 <= error.column <= len(text) + 1
            assert error.text == text
            assert "\n" not in error.message
            assert len(str(error).encode()) < 1000


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=RULES, rank=NUMBERS)
def test_grammatical_text_is_a_rule(text: str, rank: str) -> None:
    program = compiled(text, rank)

    if program is not None:
        again = compile_program(text, text, rank)
        assert again.steps == program.steps
        assert program.tail_bars is None or program.tail_bars > program.look_back


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=RULES, rank=NUMBERS, bars=markets(), cut=st.integers(0, 60))
def test_a_rule_sees_no_later_bar(text: str, rank: str, bars: SimpleNamespace, cut: int) -> None:
    program = compiled(text, rank)
    if program is None:
        return
    first = SimpleNamespace(**{name: series[:cut] for name, series in vars(bars).items()})

    whole, part = evaluate(program, bars), evaluate(program, first)

    np.testing.assert_array_equal(part.entry, whole.entry[:cut])
    np.testing.assert_array_equal(part.rank, whole.rank[:cut])
    assert not np.isinf(whole.rank).any()


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in CONDITIONS])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(draw=st.data(), bars=markets(), cut=st.integers(0, 60))
def test_no_series_sees_a_later_bar(name: str, draw: st.DataObject, bars: SimpleNamespace, cut: int) -> None:
    program = compile_program("close > 0", rank=draw.draw(call_of(FUNCTIONS[name])))
    first = SimpleNamespace(**{each: series[:cut] for each, series in vars(bars).items()})

    np.testing.assert_array_equal(evaluate(program, first).rank, evaluate(program, bars).rank[:cut])


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=RULES, rank=NUMBERS, bars=markets())
def test_the_look_back_never_signals(text: str, rank: str, bars: SimpleNamespace) -> None:
    program = compiled(text, rank)
    if program is None:
        return
    assert program.rank is not None

    signals = evaluate(program, bars)

    assert not signals.entry[: program.entry.look_back].any()
    assert np.isnan(signals.rank[: program.rank.look_back]).all()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=RULES, bars=markets())
def test_a_condition_and_its_opposite_never_both_hold(text: str, bars: SimpleNamespace) -> None:
    program = compiled(text)
    if program is None:
        return
    against = evaluate(compile_program(f"not ({text})"), bars).entry

    signals = evaluate(program, bars).entry

    assert not (signals & against).any()


@settings(max_examples=60, deadline=None)
@given(bars=markets(), exponent=st.integers(-20, 20))
def test_doubling_prices_leaves_scale_free_rules_unchanged(bars: SimpleNamespace, exponent: int) -> None:
    program = compile_program(
        "rsi(close, 5) < 60 and close > ema(close, 3) or crosses_above(close, bollinger_upper(close, 4))",
        "close < lowest(low, 5) + atr(3) or close < vwap(4) or adx(3) > 20 or stochastic_k(5, 2) < 50",
        "percent_change(close, 2) + cci(4) + macd(close, 2, 5) / close",
    )
    # Beyond this a sum of price times volume overflows on one side only, and infinite is undefined.
    assume(all(np.nanmax(np.abs(each), initial=0.0) < 1e200 for each in vars(bars).values()))
    factor = 2.0**exponent
    dearer = SimpleNamespace(
        **{name: each * (1.0 if name in ("timestamp", "volume") else factor) for name, each in vars(bars).items()}
    )

    signals, others = evaluate(program, bars), evaluate(program, dearer)

    np.testing.assert_array_equal(others.entry, signals.entry)
    np.testing.assert_array_equal(others.exit, signals.exit)
    np.testing.assert_array_equal(others.rank, signals.rank)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(texts=st.tuples(RULES, RULES, NUMBERS), bars=markets())
def test_one_program_says_what_three_would(texts: tuple[str, str, str], bars: SimpleNamespace) -> None:
    try:
        program = compile_program(*texts)
    except RuleError:
        return

    signals = evaluate(program, bars)

    np.testing.assert_array_equal(signals.entry, evaluate(compile_program(texts[0]), bars).entry)
    np.testing.assert_array_equal(signals.exit, evaluate(compile_program(texts[1]), bars).entry)
    np.testing.assert_array_equal(signals.rank, evaluate(compile_program("1 < 2", rank=texts[2]), bars).rank)
