"""Backtests: `simulation` trades one symbol, `portfolio` joins symbols, `performance` measures, `backtest` does all
three for a strategy in chunks that processes share.

Invariant: what happened at a bar depends on that bar and earlier ones only.
"""
