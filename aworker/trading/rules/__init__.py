"""The rule language: what a strategy's entry, exit and rank may say.

A rule is one expression over the bars of one symbol, as
`crosses_above(sma(close, 20), sma(close, 50)) and rsi(close) < 70`. It is data: parsed with Python's `ast` against a
whitelist of node kinds and never executed. Any text gives a rule or a RuleError.

  scan        text -> is every character and word allowed, and what is missing where
  parser      text -> steps, typed (condition or number)
  functions   the functions a rule may call, and the steps each one is made of
  steps       the flat program: every distinct step once, with its look-back
  evaluate    steps -> numpy arrays, by the operations of `windows`, `smoothed` and `conditions`; these four alone
              import numpy and TA-Lib, so import evaluate by name

Invariant: importing this package imports neither numpy nor TA-Lib; the worker's parent process parses rules.
"""

from aworker.trading.rules.functions import FUNCTIONS
from aworker.trading.rules.program import Program, Rule, compile_program, parse_rule
from aworker.trading.rules.rule_error import RuleError

INDICATORS: dict[str, str] = {name: f"{function.signature}: {function.about}" for name, function in FUNCTIONS.items()}
"""Every function of the language: its name -> ``signature: what it is``."""

SERIES: tuple[str, ...] = ("open", "high", "low", "close", "volume")
"""The names that stand for the bars' own values."""

__all__ = ["INDICATORS", "SERIES", "Program", "Rule", "RuleError", "compile_program", "parse_rule"]
