"""Changes of a rule as text: its numbers, windows, functions and conditions, found in its tree and put back.

Invariant: what is not named stays as it was written, save for spaces.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import NamedTuple

from aworker.trading.prompts.series import NotRead
from aworker.trading.rules.functions import FUNCTIONS

AVERAGES = frozenset(("sma", "ema", "wma"))
_SIGNS = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}

Change = Callable[[ast.AST], ast.expr | None]


class Comparison(NamedTuple):
    """One comparison with a constant in a rule."""

    text: str
    subject: str
    function: str
    """The function of the subject, or its price."""
    sign: str
    number: float


def comparisons(rule: str | None) -> list[Comparison]:
    """Return a rule's comparisons with constants, as they stand."""
    found: list[Comparison] = []
    for node in ast.walk(ast.parse(rule, mode="eval")) if rule else ():
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _SIGNS:
            number = constant(node.comparators[0])
            if number is not None:
                found.append(
                    Comparison(
                        ast.unparse(node),
                        ast.unparse(node.left),
                        _name(node.left),
                        _SIGNS[type(node.ops[0])],
                        number,
                    )
                )
    return found


def crossings(rule: str | None) -> list[tuple[str, str, str]]:
    """Return a rule's crossings: left side, right side, ``up`` or ``down``."""
    return [
        (ast.unparse(node.args[0]), ast.unparse(node.args[1]), "up" if _name(node) == "crosses_above" else "down")
        for node in (ast.walk(ast.parse(rule, mode="eval")) if rule else ())
        if isinstance(node, ast.Call) and _name(node) in ("crosses_above", "crosses_below") and len(node.args) == 2
    ]


def replaced(rule: str, old: str, new: str) -> str:
    """Return a rule with one of its parts, as it stands, in other words."""
    written = ast.parse(new, mode="eval").body

    def change(node: ast.AST) -> ast.expr | None:
        return written if isinstance(node, ast.expr) and ast.unparse(node) == old else None

    return transformed(rule, change)[0]


def without(rule: str, is_named: Callable[[ast.AST], bool]) -> tuple[str | None, int]:
    """Return a rule without those of its joined conditions that are named, and how many that were."""
    top = ast.parse(rule, mode="eval").body
    parts = top.values if isinstance(top, ast.BoolOp) and isinstance(top.op, ast.And) else [top]
    left = [part for part in parts if not is_named(part)]
    if len(left) == len(parts):
        return rule, 0
    kept: ast.expr | None = left[0] if len(left) == 1 else ast.BoolOp(ast.And(), left) if left else None
    return None if kept is None else ast.unparse(ast.fix_missing_locations(kept)), len(parts) - len(left)


def speaks_of(functions: frozenset[str], window: int | None = None) -> Callable[[ast.AST], bool]:
    """Return whether a part of a rule calls one of these functions, or reads one of these prices."""

    def named(node: ast.AST) -> bool:
        return any(
            (isinstance(each, ast.Call) and _name(each) in functions and window in (None, _windows(each)))
            or (isinstance(each, ast.Name) and each.id in functions and window is None)
            for each in ast.walk(node)
        )

    return named


def windows_of(rule: str | None, functions: frozenset[str], parameter: str | None = None) -> set[int]:
    """Return the windows that these functions have in a rule."""
    calls = [each for each in (ast.walk(ast.parse(rule, mode="eval")) if rule else ()) if isinstance(each, ast.Call)]
    return {_window_of(each, parameter) for each in calls if _name(each) in functions}


def with_window(rule: str, functions: frozenset[str], old: int, new: int, parameter: str | None = None) -> str:
    """Return a rule in which these functions have another window."""

    def change(node: ast.AST) -> ast.expr | None:
        if isinstance(node, ast.Call) and _name(node) in functions and _window_of(node, parameter) == old:
            return _call_with(node, parameter, new)
        return None

    return transformed(rule, change)[0]


def with_function(rule: str, old: frozenset[str], new: str, window: int | None = None) -> tuple[str, int]:
    """Return a rule with another function in the place of these, and how many that were."""

    def change(node: ast.AST) -> ast.expr | None:
        if isinstance(node, ast.Call) and _name(node) in old and window in (None, _windows(node)):
            return ast.Call(ast.Name(new), node.args, node.keywords)
        return None

    return transformed(rule, change)


def with_number(rule: str, old: float, new: float) -> tuple[str, set[str]]:
    """Return a rule with another number, and what kinds of number it was: ``level``, ``window``, ``factor``."""
    kinds: set[str] = set()
    parents = {
        child: parent for parent in ast.walk(ast.parse(rule, mode="eval")) for child in ast.iter_child_nodes(parent)
    }
    for node, parent in parents.items():
        if constant(node) == old and isinstance(node, ast.expr):
            kind = {ast.Call: "window", ast.keyword: "window", ast.Compare: "level"}.get(type(parent), "factor")
            kinds.add("level" if isinstance(parent, ast.Call) and _name(parent).startswith("crosses") else kind)

    def change(node: ast.AST) -> ast.expr | None:
        return ast.Constant(int(new) if new == int(new) else new) if constant(node) == old else None

    return transformed(rule, change)[0], kinds


def transformed(rule: str, change: Change) -> tuple[str, int]:
    """Return a rule with its nodes changed, and how many were."""
    count = 0

    class Changer(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> ast.AST:
            nonlocal count
            new = change(node)
            if new is None:
                return self.generic_visit(node)
            count += 1
            # What stands inside may be of the same kind: an average of averages.
            return self.generic_visit(new) if not isinstance(new, ast.Constant) else new

    tree = Changer().visit(ast.parse(rule, mode="eval"))
    return (ast.unparse(ast.fix_missing_locations(tree)), count) if count else (rule, 0)


def constant(node: ast.AST) -> float | None:
    """Return a constant's value, with its sign."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = constant(node.operand)
        return None if inner is None else -inner
    return float(node.value) if isinstance(node, ast.Constant) and isinstance(node.value, int | float) else None


def _name(node: ast.AST) -> str:
    if isinstance(node, ast.Call):
        return _name(node.func)
    return node.id if isinstance(node, ast.Name) else ""


def _windows(call: ast.Call) -> int | None:
    try:
        return _window_of(call, None)
    except NotRead:
        return None


def _window_place(call: ast.Call, parameter: str | None) -> int:
    for index, each in enumerate(FUNCTIONS[_name(call)].parameters):
        if each.name == parameter or (parameter is None and each.kind == "window"):
            return index
    raise NotRead(f"{_name(call)} has no period")


def _window_of(call: ast.Call, parameter: str | None) -> int:
    index = _window_place(call, parameter)
    each = FUNCTIONS[_name(call)].parameters[index]
    given = [keyword.value for keyword in call.keywords if keyword.arg == each.name]
    node = call.args[index] if index < len(call.args) else given[0] if given else None
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, int) else int(each.default or 0)


def _call_with(call: ast.Call, parameter: str | None, window: int) -> ast.Call:
    index = _window_place(call, parameter)
    name = FUNCTIONS[_name(call)].parameters[index].name
    value = ast.Constant(window)
    if index < len(call.args):
        return ast.Call(call.func, [*call.args[:index], value, *call.args[index + 1 :]], call.keywords)
    keywords = [keyword for keyword in call.keywords if keyword.arg != name]
    if index == len(call.args) and len(keywords) == len(call.keywords):
        return ast.Call(call.func, [*call.args, value], keywords)
    return ast.Call(call.func, call.args, [*keywords, ast.keyword(name, value)])
