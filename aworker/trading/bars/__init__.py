"""Bars of symbols: `store` reads and writes them (one parquet each), `foreign` reads what other tools write,
`importing` checks it and brings it in.

Invariant: a stored file is whole, in order, and in UTC.
"""

from aworker.trading.bars.store import Bars, BarStore

__all__ = ["BarStore", "Bars"]
