"""A trading strategy as data: its rules, its risk limits, its version.

Nothing here is executed; ``entry``, ``exit`` and ``rank`` are rule texts that `aworker.trading.rules` compiles.
"""

import msgspec


class Risk(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Limits that close a trade whatever the rules say; every one may be None (off)."""

    stop_loss: float | None = None
    """Fraction of the entry price lost, 0 < x < 1."""
    take_profit: float | None = None
    """Fraction of the entry price gained, x > 0."""
    trailing_stop: float | None = None
    """Fraction lost from the highest price since entry, 0 < x < 1."""
    max_bars: int | None = None
    """Bars after which the trade is closed at the next open, >= 1."""


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a backtest, a screening or an alert needs to know of a strategy."""

    entry: str
    exit: str | None = None
    rank: str | None = None
    symbols: tuple[str, ...] | None = None
    """None = every symbol in the store."""
    timeframe: str = "1d"
    risk: Risk = Risk()
    reentry: str = "cycle"
    """``cycle`` waits for an exit signal after a stop, ``edge`` for a new entry signal, ``level`` for nothing."""


class Strategy(msgspec.Struct, frozen=True):
    """One stored version of a strategy."""

    strategy_id: int
    user_id: int
    name: str
    description: str
    prompt: str
    rules: Rules
    version: int
    created_at: str
    updated_at: str
    task_id: str
    """The task that made this version, so that a redelivery finds it again."""
    is_alert_active: bool = False
