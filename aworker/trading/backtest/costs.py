"""What trading costs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Costs:
    """Fractions a side, ``borrow`` a year; ``per_share`` and ``per_order`` in the currency of the prices."""

    commission: float = 0.0
    slippage: float = 0.0
    borrow: float = 0.0
    per_share: float = 0.0
    per_order: float = 0.0
    """Of an account only: without one there is no sum of money that an order is a part of."""

    def of_a_share(self, paid: float) -> float:
        """Return what a share takes of the capital that is bought, or sold short, at a price."""
        return paid * (1.0 + self.commission) + self.per_share
