"""A prompt as a change of a strategy that exists: "set the RSI period to 21", "add GOOG", "sell above 80 instead".

Rules are changed as trees, not as text. Invariant: an edit changes exactly what it names; where it could mean two
places of the strategy, or none, it is refused.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import msgspec

from aworker.trading.prompts.clauses import (
    HOLDS,
    MARKS,
    STOPS,
    TARGETS,
    TRAILS,
    ClauseReader,
)
from aworker.trading.prompts.conditions import (
    Comparison,
    Condition,
    ConditionReader,
    comparisons_of,
    condition_of,
    join,
)
from aworker.trading.prompts.series import AVERAGES, INDICATOR_PHRASES, Refused, Series, number_text
from aworker.trading.prompts.words import phrases
from aworker.trading.rules.functions import FUNCTIONS
from aworker.trading.strategies.strategy import Risk, Rules, source_text

_LIMITS = ("trailing_stop", "stop_loss", "take_profit", "max_bars")
_AVERAGE_FUNCTIONS = frozenset(("sma", "ema", "wma"))

_CHANGES = [
    *phrases(
        """
    change, update, modify, adjust, raise, lower, tighten, widen, loosen, increase, decrease, reduce, move, make,
    switch, now, just, keep, everything, else, but, edit, run
    """
    )
]
_WINDOW_VERBS = ("change", "set", "update", "make", "adjust", "use", "increase", "decrease", "switch to")
_NO_LONGER = ("exclude", "stop trading", "don't trade", "do not trade", "no longer trade")
_REMOVE = phrases(
    """
    remove, drop, delete, disable, cancel, clear, without, no, get rid of, turn off, take out
    """
)
_PERIOD = phrases(
    """
    period, periods, window, length, lookback, look back, look back period, lookback period, setting
    """
)
_THRESHOLD = ("threshold", "level", "limit", "trigger", "value", "threshold level")
_CONDITION_NOUNS = ("condition", "filter", "rule", "requirement", "check")
_TO = ("to", "be", "at", "of", "=", ":", "is")
_SWAP = ("replace", "change", "switch", "swap", "switch from", "change from", "use")
_REQUIRE = phrases(
    """
    require, require that, requires, only buy if, only buy when, buy only if, buy only when, only enter if, only enter
    when, add a filter that, add the filter that, add a filter :
    """
)
_REQUIRE_EXIT = ("only sell if", "only sell when", "sell only if", "sell only when", "only exit if", "only exit when")
_RENAME = phrases(
    """
    rename, rename it, rename the strategy, rename this, rename strategy, change the name, change its name, set the
    name
    """
)


def replace_in(rule: str, old: str, new: str) -> tuple[str, int]:
    """Replace each part of a rule that equals ``old`` as a tree; return the rule and how many there were."""
    wanted = ast.dump(ast.parse(old, mode="eval").body)
    return _transformed(rule, lambda node: ast.parse(new, mode="eval").body if ast.dump(node) == wanted else None)


class EditReader(ClauseReader):
    """Reads a prompt as changes of ``current``."""

    def __init__(self, text: str, current: Rules) -> None:
        self.current = current
        super().__init__(text, current.timeframe)
        self.known = comparisons_of(current.entry)
        self.known_to_sell = comparisons_of(current.exit) if current.exit is not None else []
        self.numbers.spoken = source_text(current)
        self.allows_bare_template = False
        self.marks = (*MARKS, "instead", "too", "as well", "now", "again", "keep everything else", "leave the rest")
        self.leads = (*self.leads, *_CHANGES)

    def read(self) -> None:
        """Read every clause. Raises PromptNotUnderstood."""
        self.cursor.at = 0
        if self.cursor.sees("and", "or") and not self.cursor.sees("and also", "or also", "or sell", "or buy"):
            raise self._unknown(0, "is that beside what the strategy has, or in its place? say also, or instead")
        super().read()

    def _clause(self) -> bool:
        before = dict(self.risk)
        done = super()._clause()
        if done and self.cursor.sees("instead") and not self.is_new:
            for field, value in self.risk.items():
                if value not in (None, before.get(field)) and getattr(self.current.risk, field) is None:
                    raise Refused(f"instead of what? the strategy has no {field}; say what to remove")
        return done

    def edited(self) -> Rules:
        """Return the rules with the changes, unchecked."""
        risk = {**msgspec.structs.asdict(self.current.risk), **self.risk}
        return msgspec.structs.replace(self.current, risk=Risk(**risk))

    def is_now(self, kind: str, value: float) -> bool:
        """Whether a limit of the current strategy has a value."""
        return bool(getattr(self.current.risk, kind) == value)

    def set_field(self, field: str, value: Any) -> None:
        """Set a field of the rules, at once: later clauses may change it further."""
        super().set_field(field, value)
        if not self.is_new:
            self._put(field, value)

    def understood(self) -> list[str]:
        """Return what was read so far, in the source form."""
        return super().understood() if self.is_new else [f"{each}" for each in self.done]

    def readers(self) -> tuple[Callable[[], bool], ...]:
        """Return the clause readers in the order they are tried: edits before descriptions."""
        return (
            self._create,
            self._rename,
            self._remove,
            self._add_symbols,
            self._window,
            self._threshold,
            self._swap,
            self._require,
            self._replace,
            *super().readers(),
        )

    def set_entry(self, reader: ConditionReader, extends: bool) -> None:
        """Put a new condition to buy in the place of the one it speaks of; a second one holds beside the first."""
        extends = extends or self.entry is not None
        super().set_entry(reader, extends)
        if not self.is_new:
            self._set_rule("entry", reader, extends)
            if not reader.is_elliptic:
                self.known_to_sell = []

    def set_exit(self, reader: ConditionReader, extends: bool) -> None:
        """Put a new condition to sell in the place of the one it speaks of; a second one holds beside the first."""
        extends = extends or self.exit is not None
        super().set_exit(reader, extends)
        if not self.is_new:
            self._set_rule("exit", reader, extends)

    def _set_rule(self, field: str, reader: ConditionReader, extends: bool) -> None:
        made = reader.found
        before: str | None = getattr(self.current, field)
        if made is None:
            return
        if before is not None and extends:
            self._put(field, join("or", [condition_of(before), made]).text)
        elif before is not None and reader.is_elliptic and len(reader.made) == 1:
            self._put(field, self._with_comparison(before, reader.made[0], made))
        else:
            self._put(field, made.text)

    def _with_comparison(self, rule: str, new: Comparison, made: Condition) -> str:
        # "buy below 25": of several comparisons only the one of that number and direction is meant.
        there = comparisons_of(rule)
        alike = [each for each in there if each.subject == new.subject and each.rises == new.rises]
        if len(there) <= 1:
            return made.text
        if len(alike) != 1:
            raise Refused("it is not clear which condition is meant; write the whole of it")
        return replace_in(rule, alike[0].text, new.text)[0]

    def _put(self, field: str, value: Any) -> None:
        self.current = msgspec.structs.replace(self.current, **{field: value})
        shown = value if isinstance(value, str) else ", ".join(value) if value else "none"
        self.done.append(f"{field}: {shown}")

    def _rename(self) -> bool:
        cursor = self.cursor
        if not cursor.take(*_RENAME):
            return False
        cursor.take("to", "as", ":")
        return self.set_name(self.name_text())

    def _remove(self) -> bool:
        cursor = self.cursor
        if cursor.take(*_NO_LONGER):
            return self.symbol_ahead() and self._remove_one()
        if not cursor.take(*_REMOVE) or not self._remove_one():
            return False
        while True:
            start, current, risk, done = cursor.at, self.current, dict(self.risk), len(self.done)
            cursor.take(",")
            cursor.take("and", "or")
            removed = cursor.at > start and self._remove_one()
            if not removed or cursor.word().number is not None or cursor.sees(*_TO):
                # "remove the target, stop loss 3%": the second is not to be removed.
                cursor.at, self.current, self.risk = start, current, risk
                del self.done[done:]
                return True

    def _remove_one(self) -> bool:
        cursor = self.cursor
        cursor.skip("the", "a", "an", "any", "my", "its", "all")
        for names, field in (
            (TRAILS, "trailing_stop"),
            (STOPS, "stop_loss"),
            (TARGETS, "take_profit"),
            (HOLDS, "max_bars"),
        ):
            if cursor.take(*names):
                cursor.take("limit", "order", "rule")
                if getattr(self.current.risk, field) is None:
                    raise Refused(f"the strategy has no {field}")
                self.risk[field] = None
                self.done.append(f"{field}: none")
                return True
        for named, field in (
            (("exit rule", "exit condition", "exit", "sell rule", "sell condition", "sell signal", "exits"), "exit"),
            (("ranking", "rank", "rank rule"), "rank"),
            (("symbols", "symbol filter", "symbol list", "symbols filter", "symbol restriction"), "symbols"),
        ):
            if cursor.take(*named):
                if getattr(self.current, field) is None:
                    raise Refused(f"the strategy has no {field}")
                self._put(field, None)
                return True
        if self.symbol_ahead():
            gone = self.symbol_list()
            here = self.current.symbols or ()
            missing = [symbol for symbol in gone if symbol not in here]
            left = tuple(symbol for symbol in here if symbol not in gone)
            if missing or not left:
                raise Refused(f"the strategy's symbols are {', '.join(here) or 'all there are'}")
            self._put("symbols", left)
            return True
        functions = self._functions()
        if functions is None:
            return False
        cursor.take(*_CONDITION_NOUNS)
        self._remove_conditions(functions)
        return True

    def _remove_conditions(self, functions: frozenset[str]) -> None:
        found = 0
        for field in ("entry", "exit"):
            rule: str | None = getattr(self.current, field)
            if rule is None:
                continue
            top = ast.parse(rule, mode="eval").body
            parts = top.values if isinstance(top, ast.BoolOp) and isinstance(top.op, ast.And) else [top]
            left = [part for part in parts if not functions & _names(part)]
            if len(left) == len(parts):
                continue
            found += 1
            if field == "entry" and not left:
                raise Refused("that is the only condition to buy; say what takes its place")
            kept = join("and", [condition_of(ast.unparse(part)) for part in left]).text if left else None
            self._put(field, kept)
        if not found:
            raise Refused("the strategy has no such condition")

    def _add_symbols(self) -> bool:
        cursor = self.cursor
        if not cursor.take("add", "also trade", "also add", "include", "also include", "trade also", "and also"):
            return False
        cursor.take("the symbols", "symbols", "symbol", "the symbol", "ticker")
        if not self.symbol_ahead():
            return False
        added = self.symbol_list()
        cursor.take("to the symbols", "to symbols", "to the list", "to the universe", "to the watchlist", "to it")
        if self.current.symbols is None:
            raise Refused("the strategy trades every symbol already")
        self._put("symbols", tuple(dict.fromkeys((*self.current.symbols, *added))))
        return True

    def _functions(self) -> frozenset[str] | None:
        """Take the name of an indicator and return the functions that it stands for."""
        cursor = self.cursor
        name = cursor.take(*AVERAGES)
        if name is not None:
            any_average = ("average" in name and not name.startswith(("simple", "expo", "weighted"))) or name in (
                "ma",
                "mas",
            )
            return _AVERAGE_FUNCTIONS if any_average else frozenset((AVERAGES[name],))
        name = cursor.take(*INDICATOR_PHRASES)
        if name is not None:
            text = INDICATOR_PHRASES[name][0]
            return frozenset(
                ("percent_change", "roc", "momentum") if "percent_change" in text else (text.split("(")[0],)
            )
        if cursor.take("macd"):
            return frozenset(("macd", "macd_signal", "macd_histogram"))
        if cursor.take("bollinger bands", "bollinger band", "bollinger"):
            return frozenset(("bollinger_upper", "bollinger_lower", "bollinger_middle"))
        if cursor.take("volume"):
            return frozenset(("volume",))
        if cursor.take("breakout", "high", "channel"):
            return frozenset(("highest",))
        return None

    def _window(self) -> bool:
        # "set the RSI period to 21", "use a 21 day RSI", "change the slow moving average to 100"
        cursor = self.cursor
        has_verb = cursor.take(*_WINDOW_VERBS) is not None
        cursor.skip("a", "an", "the", "my")
        counted = self.numbers.bars()
        which = cursor.take("fast", "short", "faster", "shorter", "slow", "long", "slower", "longer")
        functions = self._functions()
        if functions is None:
            return False
        if counted is not None:
            if not has_verb or not self.ends_phrase() or cursor.sees("instead of"):
                return False
            self._set_windows(functions, counted, None, which)
            return True
        if "macd" in functions and which is None:
            which = cursor.take("fast", "slow", "signal")
        named = cursor.take(*_PERIOD) is not None
        before = (self.numbers.bars() or self.numbers.whole_number()) if cursor.take("from") else None
        is_said = cursor.take(*_TO) is not None
        unit = self.numbers.bars()
        window = unit or self.numbers.whole_number()
        if window is None and not is_said and cursor.sees("(", "of", "over", "for"):
            window = unit = self.numbers.window()
        if window is None or not (has_verb or named):
            return False
        if not (named or which or unit or before):
            if not has_verb or "volume" in functions or cursor.sees("to", "instead of"):
                return False
            self._check_is_period(functions, window)
        cursor.take(*_PERIOD, "bars", "days")
        self._set_windows(functions, window, before, which)
        return True

    def _check_is_period(self, functions: frozenset[str], number: int) -> None:
        # "Change RSI to 21" can only be its period; of 25 or 80 it may be a level to buy or sell at. Levels are round.
        levels = [
            float(each.value.text)
            for rule in (self.current.entry, self.current.exit)
            if rule is not None
            for each in comparisons_of(rule)
            if each.subject.function in functions and each.value.is_constant
        ]
        if levels and (number % 5 == 0 or number > 25 or any(level % 5 for level in levels)):
            raise Refused(
                f"its period or its level? say period {number}, or buy below {number}, or sell above {number}"
            )

    def _set_windows(self, functions: frozenset[str], window: int, before: int | None, which: str | None) -> None:
        rules = [rule for rule in (self.current.entry, self.current.exit, self.current.rank) if rule is not None]
        parameter = None
        if "macd" in functions:
            if which is None:
                raise Refused("MACD has three periods; say fast, slow or signal")
            parameter = which
        calls = [node for rule in rules for node in ast.walk(ast.parse(rule, mode="eval")) if _calls(node, functions)]
        windows = {_window_of(node, parameter) for node in calls if isinstance(node, ast.Call)}
        if which in ("fast", "short", "faster", "shorter") and parameter is None and windows:
            before = min(windows)
        elif which is not None and parameter is None and windows:
            before = max(windows)
        if before is not None:
            windows &= {before}
        if not windows:
            raise Refused(f"the strategy has no {' or '.join(sorted(functions))} to change")
        if len(windows) > 1:
            raise Refused(f"which one: {', '.join(map(str, sorted(windows)))}? say from which to which")
        (old,) = windows

        def change(node: ast.AST) -> ast.expr | None:
            if isinstance(node, ast.Call) and _calls(node, functions) and _window_of(node, parameter) == old:
                return _with_window(node, parameter, window)
            return None

        self._transform(change)

    def _transform(self, change: Callable[[ast.AST], ast.expr | None]) -> int:
        total = 0
        for field in ("entry", "exit", "rank"):
            rule: str | None = getattr(self.current, field)
            if rule is not None:
                text, count = _transformed(rule, change)
                total += count
                if count:
                    self._put(field, text)
        self.known = comparisons_of(self.current.entry)
        return total

    def _threshold(self) -> bool:
        # "change the oversold level to 25", "set the RSI threshold to 20"
        cursor = self.cursor
        cursor.skip("change", "set", "update", "make", "adjust", "raise", "lower", "the", "a", "my")
        side = cursor.take("buy", "entry", "oversold", "sell", "exit", "overbought")
        functions = self._functions()
        is_level = cursor.take(*_THRESHOLD) is not None or side in ("oversold", "overbought")
        if not is_level or (side is None and functions is None):
            return False
        before = self.numbers.plain_number() if cursor.take("from") else None
        cursor.take(*_TO)
        value = self.numbers.plain_number()
        if value is None:
            return False
        fields = {"buy": ["entry"], "entry": ["entry"], "oversold": ["entry"], None: ["entry", "exit"]}.get(
            side, ["exit"]
        )
        found: list[tuple[str, Comparison]] = []
        for field in fields:
            rule: str | None = getattr(self.current, field)
            for each in comparisons_of(rule) if rule is not None else []:
                fits = functions is None or each.subject.function in functions
                if each.value.is_constant and fits and before in (None, each.value):
                    found.append((field, each))
        if len(found) != 1:
            which = ", ".join(each.text for _, each in found) or "none"
            raise Refused(f"the conditions with such a number are: {which}; say which, as in buy below 25")
        field, old = found[0]
        new = Comparison(old.subject, old.operator, value)
        self._put(field, replace_in(getattr(self.current, field), old.text, new.text)[0])
        return True

    def _swap(self) -> bool:
        # "use EMA instead of SMA", "replace the 50 day SMA with the 100 day SMA", "change 30 to 25"
        cursor = self.cursor
        verb = cursor.take(*_SWAP)
        if verb is None:
            return False
        if self.symbol_ahead():
            return self._swap_symbol()
        first = self._operand()
        if first is None:
            return False
        if verb == "use":
            if cursor.take("instead of", "in place of", "rather than"):
                second = self._operand()
                return second is not None and self._swapped(second, first)
            family = AVERAGES.get(first) if isinstance(first, str) else None
            return family is not None and self._swapped_family(_AVERAGE_FUNCTIONS - {family}, family)
        if not cursor.take("with", "by", "to", "for", "into"):
            return False
        second = self._operand()
        return second is not None and self._swapped(first, second)

    def _swap_symbol(self) -> bool:
        old = self._symbol()
        new = self._symbol() if self.cursor.take("with", "by", "to", "for") else None
        here = self.current.symbols or ()
        if old is None or new is None:
            return False
        if old not in here:
            raise Refused(f"the strategy's symbols are {', '.join(here) or 'all there are'}")
        self._put("symbols", tuple(dict.fromkeys(new if symbol == old else symbol for symbol in here)))
        return True

    def _operand(self) -> str | Series | None:
        # The name of a kind of average, or a series or number.
        cursor = self.cursor
        cursor.skip("the", "a", "an", "all", "simple" if cursor.sees("simple ones") else "the")
        start = cursor.at
        name = cursor.take(*AVERAGES)
        if name is not None and not cursor.word().number and not cursor.sees("("):
            return name
        cursor.at = start
        series = self.numbers.term()
        if series is not None:
            return series
        bars = self.numbers.bars()
        return Series(number_text(bars)) if bars is not None else self.numbers.plain_number()

    def _swapped(self, old: str | Series, new: str | Series) -> bool:
        if isinstance(old, str) and isinstance(new, str):
            return self._swapped_family(frozenset((AVERAGES[old],)), AVERAGES[new])
        if isinstance(old, str) or isinstance(new, str):
            return False
        if new.is_constant and not old.is_constant:
            functions = frozenset((old.function,)) & FUNCTIONS.keys()
            whole = float(new.text)
            node = ast.parse(old.text, mode="eval").body
            if not functions or whole != int(whole) or not isinstance(node, ast.Call):
                return False
            self._check_is_period(functions, int(whole))
            text = ast.unparse(_with_window(node, None, int(whole)))
        else:
            if old.function != new.function and not (old.is_price_like and new.is_price_like):
                raise Refused(f"what {old.text} is compared with is not for {new.text}; say the whole condition")
            text = new.text
        wanted = ast.dump(ast.parse(old.text, mode="eval").body)
        count = self._transform(lambda node: ast.parse(text, mode="eval").body if ast.dump(node) == wanted else None)
        if old.is_constant and count > 1:
            raise Refused(f"{old.text} stands at {count} places; say which")
        if not count:
            raise Refused(f"the strategy has no {old.text}")
        return True

    def _swapped_family(self, old: frozenset[str], new: str) -> bool:
        def change(node: ast.AST) -> ast.expr | None:
            if isinstance(node, ast.Call) and _calls(node, old):
                return ast.Call(ast.Name(new, ast.Load()), node.args, node.keywords)
            return None

        if not self._transform(change):
            raise Refused(f"the strategy has no {' or '.join(sorted(old))} to replace")
        return True

    def _replace(self) -> bool:
        # "change the exit to RSI above 80"
        cursor = self.cursor
        cursor.skip("change", "set", "update", "make", "replace", "the", "my")
        field = {"entry": "entry", "buy": "entry", "exit": "exit", "sell": "exit"}.get(cursor.peek())
        if field is None:
            return False
        cursor.move(1)
        cursor.take(*_CONDITION_NOUNS, "signal")
        if not cursor.take("to", "with", "by", ":", "="):
            return False
        reader = self.condition(self.known if field == "entry" else self.known_to_sell or self.known)
        if reader is None:
            return False
        (self.set_entry if field == "entry" else self.set_exit)(reader, False)
        return True

    def _require(self) -> bool:
        cursor = self.cursor
        cursor.take("also", "additionally", "and")
        field = "entry" if cursor.take(*_REQUIRE) else "exit" if cursor.take(*_REQUIRE_EXIT) else None
        if field is None:
            return False
        reader = self.condition(self.known)
        if reader is None or reader.found is None:
            return False
        before: str | None = getattr(self.current, field)
        for each in comparisons_of(before) if before is not None else []:
            alike = any((made.subject, made.rises) == (each.subject, each.rises) for made in reader.made)
            if alike and each.value.is_constant:
                verb = "buy" if field == "entry" else "sell"
                raise Refused(f"{each.text} is there already; to change it say {verb} when ... instead")
        parts = [condition_of(before), reader.found] if before is not None else [reader.found]
        self._put(field, join("and", parts).text)
        return True


def _transformed(rule: str, change: Callable[[ast.AST], ast.expr | None]) -> tuple[str, int]:
    count = 0

    class Changer(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> ast.AST:
            nonlocal count
            new = change(node)
            if new is None:
                return self.generic_visit(node)
            count += 1
            # What stands inside may be of the same kind: an average of averages.
            return self.generic_visit(new)

    tree = Changer().visit(ast.parse(rule, mode="eval"))
    return (ast.unparse(ast.fix_missing_locations(tree)), count) if count else (rule, 0)


def _calls(node: ast.AST, functions: frozenset[str]) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in functions


def _names(node: ast.AST) -> frozenset[str]:
    return frozenset(each.id for each in ast.walk(node) if isinstance(each, ast.Name))


def _window_parameter(call: ast.Call, parameter: str | None) -> int:
    parameters = FUNCTIONS[ast.unparse(call.func)].parameters
    for index, each in enumerate(parameters):
        if each.name == parameter or (parameter is None and each.kind == "window"):
            return index
    raise Refused(f"{ast.unparse(call.func)} has no period")


def _window_of(call: ast.Call, parameter: str | None) -> int:
    index = _window_parameter(call, parameter)
    each = FUNCTIONS[ast.unparse(call.func)].parameters[index]
    given = [keyword.value for keyword in call.keywords if keyword.arg == each.name]
    node = call.args[index] if index < len(call.args) else given[0] if given else None
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, int) else int(each.default or 0)


def _with_window(call: ast.Call, parameter: str | None, window: int) -> ast.Call:
    index = _window_parameter(call, parameter)
    name = FUNCTIONS[ast.unparse(call.func)].parameters[index].name
    value = ast.Constant(window)
    if index < len(call.args):
        return ast.Call(call.func, [*call.args[:index], value, *call.args[index + 1 :]], call.keywords)
    keywords = [keyword for keyword in call.keywords if keyword.arg != name]
    if index == len(call.args) and len(keywords) == len(call.keywords):
        return ast.Call(call.func, [*call.args, value], keywords)
    return ast.Call(call.func, call.args, [*keywords, ast.keyword(name, value)])
