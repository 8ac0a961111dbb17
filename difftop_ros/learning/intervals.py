"""How sure a measured success rate is."""

from __future__ import annotations


def wilson_interval(good: int, count: int) -> tuple[float, float]:
    """95 % Wilson interval of the rate of `good` successes among `count` trials; 0 to 1 for no trials."""
    from scipy.stats import binomtest

    if count == 0:
        return 0.0, 1.0
    found = binomtest(good, count).proportion_ci(0.95, method="wilson")
    return float(found.low), float(found.high)
