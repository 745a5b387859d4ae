"""Bars of symbols: `store` reads and writes them (one parquet each), `importing` checks foreign ones and stores them.

What other tools write is read in stages, each of which says what it took for what: `containers` (what a file is packed
in), `tables` (its rows and columns), `columns` (which is what; names in columns.toml), `values` (numbers, instants),
`foreign` (all of it).

Invariant: a stored file is whole, in order, and in UTC; what no guess may decide is refused with the option that tells.
"""

from aworker.trading.bars.store import Bars, BarStore

__all__ = ["BarStore", "Bars"]
