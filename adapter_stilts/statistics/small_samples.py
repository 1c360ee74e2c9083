"""Small-sample inference: t intervals, Holm's correction, and the smallest effect that a design could have seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import nctdtr, stdtr, stdtrit

ALPHA = 0.05
POWER = 0.8


def t_interval(estimate: float, standard_error: float, df: float, alpha: float = ALPHA) -> tuple[float, float]:
    """The 1 - alpha interval of an estimate whose standard error has `df` degrees of freedom."""
    half = float(stdtrit(df, 1 - alpha / 2)) * standard_error
    return estimate - half, estimate + half


def t_p_value(estimate: float, standard_error: float, df: float) -> float:
    """Two-sided p of no effect."""
    return 2 * float(stdtr(df, -abs(estimate) / standard_error))


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """The p-values of a family, adjusted so that the chance of any false alarm stays below alpha (Holm 1979): the k-th
    smallest of m times m - k + 1, at most 1, and no smaller than the one before it."""
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)))
    return tuple(adjusted.tolist())


def smallest_difference(standard_error: float, df: float, alpha: float = ALPHA, power: float = POWER) -> float:
    """The true effect, in the unit of the standard error, that a two-sided t test at `alpha` finds with this power.

    The test statistic of an effect d follows the noncentral t distribution with noncentrality d / standard error.
    """
    return standard_error * _noncentrality(df, alpha, power)


def t_power(noncentrality: float, df: float, alpha: float = ALPHA) -> float:
    """The chance that a two-sided t test sees an effect of so many standard errors."""
    critical = float(stdtrit(df, 1 - alpha / 2))
    # SciPy's far tail is NaN where it vanishes; beyond 5 it is below the normal's 3e-7.
    other_side = float(nctdtr(df, noncentrality, -critical)) if noncentrality < 5 else 0.0
    return float(1 - nctdtr(df, noncentrality, critical)) + other_side


def _noncentrality(df: float, alpha: float, power: float) -> float:
    from scipy.optimize import brentq  # a third of a second, which comparisons without it need not wait

    top = 4.0
    while t_power(top, df, alpha) < power:
        top *= 2
    return float(brentq(lambda noncentrality: t_power(noncentrality, df, alpha) - power, 0.0, top, xtol=1e-10))
