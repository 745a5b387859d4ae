"""From a rule's text to steps, typed: a condition (true or false at a bar) or a number.

Python's parser gives the tree; every node of it must be one of a few kinds. No part of it is ever compiled or run.
"""

from __future__ import annotations

import ast
import difflib
import math
import re
from typing import Literal

from aworker.trading.rules.functions import (
    ARGUMENT_SYNONYMS,
    FUNCTIONS,
    LINES,
    MAX_WINDOW_BARS,
    SYNONYMS,
    Function,
    Parameter,
    both,
    compare,
)
from aworker.trading.rules.rule_error import RuleError
from aworker.trading.rules.scan import MAX_DEPTH, scan, too_deep
from aworker.trading.rules.steps import Steps

MAX_CONSTANT = 1e12
MAX_LOOK_BACK_BARS = 5000
MAX_COST = 400

# opem is open and smaa is sma, but log is not low and keltner_upper not bollinger_upper.
_LEAST_LIKENESS = 0.75

_NUMBER = re.compile(r"(?<![\w.])[0-9]{1,9}(?:\.[0-9]{1,15})?(?![\w.])", re.ASCII)
_ANY_NUMBER = "990000990"

Kind = Literal["condition", "score"]

_SYMBOL = re.compile(r"[A-Z0-9^][A-Z0-9.^=_-]{0,31}")
_SERIES = ("open", "high", "low", "close", "volume")
_ARITHMETIC: dict[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.Div: "divide",
}
_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}


def parse(text: str, kind: Kind, steps: Steps) -> int:
    """Add the rule's steps and return the place of its value.

    Raises RuleError for any text that is no rule of that kind.
    """
    clean = scan(text)
    indent = len(clean) - len(clean.lstrip())
    try:
        tree = ast.parse(clean[indent:], mode="eval").body
        return _Parser(text, indent, steps).top(tree, kind)
    except SyntaxError as error:
        column = min(max(error.offset or 1, 1) + indent, len(text))
        raise RuleError(text, column, f"rule must be one expression, was not readable here ({error.msg})") from None
    except (ValueError, RecursionError, MemoryError, OverflowError) as error:
        if isinstance(error, RuleError):
            raise
        raise too_deep(text, 1) from None


class Trees:
    """Trees of rules that were read, for rules that differ from one of them in their numbers alone.

    Why: of a sweep's thousand rules all look alike, and a rule's text takes longer to read than to evaluate.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[ast.expr, list[ast.Constant]]] = {}

    def parse(self, text: str, kind: Kind, steps: Steps) -> int:
        """Do what `parse` does, sooner."""
        numbers = _NUMBER.findall(text)
        alike = _NUMBER.sub(_ANY_NUMBER, text)
        found = self._known.get(alike)
        if found is None:
            place = parse(text, kind, steps)
            tree = ast.parse(" ".join(alike.split()), mode="eval").body
            constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant)]
            nodes = sorted(
                (node for node in constants if node.value == int(_ANY_NUMBER)), key=lambda node: node.col_offset
            )
            if len(nodes) == len(numbers):
                self._known[alike] = tree, nodes
            return place
        tree, nodes = found
        for node, number in zip(nodes, numbers, strict=True):
            node.value = int(number) if number.isdigit() else float(number)
        try:
            return _Parser(text, 0, steps).top(tree, kind)
        except (ValueError, OverflowError):
            # Its error must point into the text.
            return parse(text, kind, steps)


class _Parser:
    def __init__(self, text: str, indent: int, steps: Steps) -> None:
        self.text = text
        self.indent = indent
        self.steps = steps

    def top(self, tree: ast.expr, kind: Kind) -> int:
        place = self.visit(tree, 0)
        is_condition = self.steps[place].is_condition
        if kind == "condition" and not is_condition:
            raise self.error(
                tree, f"rule must be true or false, was the number {self.source(tree)}; compare it", self.compared(tree)
            )
        if kind == "score" and is_condition:
            raise self.error(tree, f"score must be a number, was the condition {self.source(tree)}", "rsi(close, 14)")
        return place

    def visit(self, node: ast.expr, depth: int) -> int:
        if depth > MAX_DEPTH:
            raise too_deep(self.text, self.column(node))
        place = self.any_node(node, depth + 1)
        look_back = self.steps[place].look_back
        if look_back > MAX_LOOK_BACK_BARS:
            raise self.error(
                node, f"look-back must be <= {MAX_LOOK_BACK_BARS} bars, was {look_back}; shorten the windows"
            )
        if self.steps.cost > MAX_COST:
            raise self.error(node, f"rule must take at most {MAX_COST} steps, takes more; leave some parts out")
        return place

    def any_node(self, node: ast.expr, depth: int) -> int:
        match node:
            case ast.BoolOp():
                return self.join(node, depth)
            case ast.UnaryOp(op=ast.Not()):
                return self.steps.add("not", self.condition(node.operand, depth, "not"), is_condition=True)
            case ast.UnaryOp(op=ast.USub()):
                return self.arithmetic(node, "subtract", self.steps.constant(0.0), self.number(node.operand, depth))
            case ast.UnaryOp(op=ast.UAdd()):
                return self.number(node.operand, depth)
            case ast.BinOp() if type(node.op) in _ARITHMETIC:
                return self.terms(node, depth)
            case ast.Compare():
                return self.compare(node, depth)
            case ast.Constant():
                return self.constant(node, node.value)
            case ast.Name():
                return self.series(node)
            case ast.Call():
                return self.call(node, node.func, node, depth)
            case ast.Attribute(value=ast.Call(func=ast.Name(id=name)) as call) if (name, node.attr) in LINES:
                return self.call(node, ast.Name(LINES[name, node.attr]), call, depth)
            case ast.Attribute():
                suggestion = node.attr if node.attr in _SERIES or node.attr in FUNCTIONS else None
                raise self.error(node, f"name must stand alone, was {self.source(node)}", suggestion)
            case _:
                raise self.error(node, f"rule must be made of prices, numbers and functions, was {self.source(node)}")

    def join(self, node: ast.BoolOp, depth: int) -> int:
        word = "and" if isinstance(node.op, ast.And) else "or"
        place = self.condition(node.values[0], depth, word)
        for value in node.values[1:]:
            place = self.steps.add(word, place, self.condition(value, depth, word), is_condition=True)
        return place

    def compare(self, node: ast.Compare, depth: int) -> int:
        left = self.number(node.left, depth)
        place: int | None = None
        for operation, operand in zip(node.ops, node.comparators, strict=True):
            if type(operation) not in _COMPARISONS:
                raise self.error(node, f"comparison must be one of < <= > >= == !=, was {self.source(node)}")
            right = self.number(operand, depth)
            link = compare(self.steps, _COMPARISONS[type(operation)], left, right)
            place = link if place is None else both(self.steps, place, link)
            left = right
        assert place is not None
        return place

    def terms(self, node: ast.BinOp, depth: int) -> int:
        # a + b + c is (a + b) + c to Python; to its writer it is flat.
        links = [node]
        while isinstance(node.left, ast.BinOp) and type(node.left.op) in _ARITHMETIC:
            node = node.left
            links.append(node)
        place = self.number(node.left, depth)
        for link in reversed(links):
            place = self.arithmetic(link, _ARITHMETIC[type(link.op)], place, self.number(link.right, depth))
        return place

    def arithmetic(self, node: ast.expr, operation: str, left: int, right: int) -> int:
        divides_by_zero = operation == "divide" and self.value(right) == 0.0
        if divides_by_zero:
            raise self.error(node, f"divisor must not be 0, was in {self.source(node)}; it would never be defined")
        first, second = self.value(left), self.value(right)
        if first is None or second is None:
            return self.steps.add(operation, left, right)
        match operation:
            case "add":
                result = first + second
            case "subtract":
                result = first - second
            case "multiply":
                result = first * second
            case _:
                result = first / second
        return self.constant(node, result)

    def constant(self, node: ast.expr, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(node, f"constant must be a number, was {self.source(node)}")
        # Compared before it becomes a float, which a long integer cannot.
        if not abs(value) <= MAX_CONSTANT:
            raise self.error(node, f"constant must lie between -1e12 and 1e12, was {self.source(node)}")
        return self.steps.constant(float(value))

    def series(self, node: ast.Name) -> int:
        if node.id in _SERIES:
            return self.steps.bars(node.id)
        if node.id in FUNCTIONS:
            function = FUNCTIONS[node.id]
            raise self.error(node, f"function must have its arguments, was {node.id}", _example(function))
        raise self.unknown(node, node.id)

    def call(self, node: ast.expr, name: ast.expr, call: ast.Call, depth: int) -> int:
        if not isinstance(name, ast.Name):
            raise self.error(node, f"function must be called by its name, was {self.source(name)}")
        if name.id == "of":
            return self.other(node, call, depth)
        function = FUNCTIONS.get(name.id)
        if function is None:
            if name.id in _SERIES:
                raise self.error(node, f"{name.id} must stand without parentheses, was {self.source(node)}", name.id)
            raise self.unknown(node, name.id)
        given = self.bind(node, function, call)
        arguments: list[float] = []
        for parameter in function.parameters:
            argument = given.get(parameter.name)
            if argument is not None:
                arguments.append(self.argument(argument, function, parameter, depth))
            elif parameter.default is not None:
                arguments.append(parameter.default)
            else:
                raise self.error(
                    node,
                    f"{function.signature} must be given {parameter.name}, was {self.source(node)}",
                    _example(function),
                )
        try:
            return function.build(self.steps, *arguments)
        except ValueError as error:
            raise self.error(node, f"{function.name}: {error}", _example(function)) from None

    def other(self, node: ast.expr, call: ast.Call, depth: int) -> int:
        example = 'of("SPY", close > sma(close, 200))'
        if len(call.args) != 2 or call.keywords:
            raise self.error(node, f"of must have a symbol and what to look at, was {self.source(node)}", example)
        named, looked_at = call.args
        if not isinstance(named, ast.Constant) or not isinstance(named.value, str):
            raise self.error(named, f"a symbol must stand in quotes, was {self.source(named)}", example)
        symbol = named.value.upper()
        if _SYMBOL.fullmatch(symbol) is None:
            raise self.error(named, f"a symbol must be 1 to 32 of A-Z 0-9 . ^ = _ -, was {self.source(named)}", example)
        if self.steps.symbol is not None:
            raise self.error(node, "of must stand for itself, was inside another one; put it outside")
        self.steps.symbol = symbol
        try:
            place = self.visit(looked_at, depth)
        finally:
            self.steps.symbol = None
        if self.steps[place].symbol is None:
            raise self.error(
                looked_at, f"what of looks at must depend on the bars of {symbol}, was {self.source(looked_at)}"
            )
        return self.steps.taken_over(place)

    def bind(self, node: ast.expr, function: Function, call: ast.Call) -> dict[str, ast.expr]:
        names = [parameter.name for parameter in function.parameters]
        if len(call.args) > len(names):
            extra = call.args[len(names)]
            takes = f"{len(names)} argument{'' if len(names) == 1 else 's'}" if names else "no arguments"
            raise self.error(
                extra, f"{function.signature} must have at most {takes}, has {len(call.args)}", _example(function)
            )
        given = dict(zip(names, call.args, strict=False))
        for word in call.keywords:
            if word.arg is None or word.arg not in names:
                raise self.error(
                    word,
                    f"argument must be one of {function.signature}, was {str(word.arg)[:40]}",
                    _nearest(str(word.arg), names, ARGUMENT_SYNONYMS),
                )
            if word.arg in given:
                raise self.error(word, f"{word.arg} must be given once to {function.signature}, was given twice")
            given[word.arg] = word.value
        return given

    def argument(self, node: ast.expr, function: Function, parameter: Parameter, depth: int) -> float:
        if parameter.kind == "window":
            return self.window(node, function, parameter)
        if parameter.kind == "condition":
            return self.condition(node, depth, function.name)
        place = self.number(node, depth)
        if parameter.kind == "number":
            value = self.value(place)
            if value is None or value <= 0:
                raise self.error(
                    node, f"{parameter.name} of {function.signature} must be a number > 0, was {self.source(node)}"
                )
            return value
        if parameter.kind == "series" and self.steps[place].is_constant:
            suggestion = _example(function)
            if isinstance(node, ast.Constant) and isinstance(node.value, int):
                suggestion = f"{function.name}(close, {self.source(node)})"
            raise self.error(
                node,
                f"{parameter.name} of {function.signature} must be a price or an indicator, was {self.source(node)}",
                suggestion,
            )
        return place

    def window(self, node: ast.expr, function: Function, parameter: Parameter) -> int:
        value = node.value if isinstance(node, ast.Constant) else None
        if type(value) is int and parameter.minimum <= value <= MAX_WINDOW_BARS:
            return value
        suggestion = None
        if isinstance(value, float) and value == math.floor(value) and value <= MAX_WINDOW_BARS:
            suggestion = f"{value:.0f}"
        elif isinstance(node, ast.Name) and node.id in _SERIES:
            suggestion = _example(function)
        advice = "; a rule cannot look ahead" if isinstance(node, ast.UnaryOp) else ""
        raise self.error(
            node,
            f"{parameter.name} of {function.signature} must be a whole number from {parameter.minimum} to "
            f"{MAX_WINDOW_BARS}, was {self.source(node)}{advice}",
            suggestion,
        )

    def number(self, node: ast.expr, depth: int) -> int:
        place = self.visit(node, depth)
        if self.steps[place].is_condition:
            raise self.error(node, f"a number must stand here, was the condition {self.source(node)}; join with `and`")
        return place

    def condition(self, node: ast.expr, depth: int, word: str) -> int:
        place = self.visit(node, depth)
        if not self.steps[place].is_condition:
            raise self.error(
                node,
                f"`{word}` must have conditions, was the number {self.source(node)}; compare it",
                self.compared(node),
            )
        return place

    def value(self, place: int) -> float | None:
        step = self.steps[place]
        return step.parameters[0] if step.is_constant else None

    def compared(self, node: ast.expr) -> str | None:
        source = self.source(node)
        return None if isinstance(node, ast.Constant) or "..." in source else f"{source} > 0"

    def unknown(self, node: ast.expr, name: str) -> RuleError:
        suggestion = _nearest(name, [*_SERIES, *FUNCTIONS], SYNONYMS)
        return self.error(node, f"name must be a price or a function, was {name[:40]}", suggestion)

    def source(self, node: ast.expr) -> str:
        start, end = self.indent + node.col_offset, self.indent + (node.end_col_offset or 0)
        source = " ".join(self.text[start:end].split())
        return source if len(source) <= 40 else source[:40] + "..."

    def column(self, node: ast.expr | ast.keyword) -> int:
        return self.indent + node.col_offset + 1

    def error(self, node: ast.expr | ast.keyword, message: str, suggestion: str | None = None) -> RuleError:
        return RuleError(self.text, self.column(node), message, suggestion)


def _nearest(name: str, known: list[str], synonyms: dict[str, tuple[str, ...]]) -> str | None:
    lower = name.lower()
    if lower in synonyms:
        return next((each for each in synonyms[lower] if each in known), None)
    near = difflib.get_close_matches(lower, known, 1, _LEAST_LIKENESS)
    return near[0] if near else None


def _example(function: Function) -> str:
    words = {"left": "close", "right": "sma(close, 20)", "low": "20", "high": "30"}
    words |= {"series": "close", "value": "close", "condition": "close > open", "market": "open"}
    arguments = [
        words[parameter.name] if parameter.default is None else f"{parameter.default:g}"
        for parameter in function.parameters
    ]
    return f"{function.name}({', '.join(arguments)})"
