"""Reports: what a backtest or a sweep found as one file that a person opens in a browser.

`figures` counts, `drawing` places shapes, `page` writes HTML. Invariant: one file that asks no other host for
anything, needs no script, and shows every text it was given as text.
"""
