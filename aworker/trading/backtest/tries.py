"""What the best of many tries is worth.

Bailey and Lopez de Prado, The Deflated Sharpe Ratio (Journal of Portfolio Management 40, 2014): the more combinations
are tried, the higher the best Sharpe ratio is by chance alone. Ratios here are a bar, not a year.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_EULER = 0.5772156649015329
_NORMAL = NormalDist()


def best_by_chance(variance: float, tries: int) -> float:
    """Return the Sharpe ratio that the best of so many worthless tries has, of which ``variance`` is between them."""
    if tries < 2 or not variance > 0:
        return 0.0
    one, other = (_NORMAL.inv_cdf(1.0 - part / tries) for part in (1.0, 1.0 / math.e))
    return math.sqrt(variance) * ((1.0 - _EULER) * one + _EULER * other)


def chance_of_skill(sharpe: float, threshold: float, bars: int, skewness: float, kurtosis: float) -> float:
    """Return the probability that the true Sharpe ratio is above ``threshold``; NaN where it is undefined.

    ``kurtosis`` is 3 for a normal distribution. With the `best_by_chance` of all tries this is the deflated Sharpe
    ratio.
    """
    spread = 1.0 - skewness * sharpe + (kurtosis - 1.0) / 4.0 * sharpe * sharpe
    if bars < 2 or not spread > 0 or not math.isfinite(sharpe):
        return math.nan
    return _NORMAL.cdf((sharpe - threshold) * math.sqrt(bars - 1) / math.sqrt(spread))


def shape_of(returns: Floats) -> tuple[float, float]:
    """Return skewness and kurtosis (3 = normal); NaN where returns do not vary."""
    moved = returns - returns.mean()
    square = float(np.mean(moved**2))
    if not square > 0:
        return math.nan, math.nan
    return float(np.mean(moved**3)) / square**1.5, float(np.mean(moved**4)) / square**2
