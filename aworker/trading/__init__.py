"""The domain, in the order of reading: `bars` of symbols, `rules` over them, `strategies` made of rules, `prompts`
that say them in English, `backtest`, `screening` and `alerts` that apply them; `handlers` are their tasks.

Invariant: a strategy is data and never executed; arithmetic knows no loop, no Redis, no log.
"""
