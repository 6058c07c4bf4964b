"""Service times from measurements: least squares on relative errors, with costs >= 0."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

TRIM = 3.0  # rows with an error this many median absolute deviations above the median are outliers


def fit_costs(rows: Sequence[Sequence[float]], seconds: Sequence[float]) -> list[float]:
    """Costs c >= 0 that minimize the relative errors of `seconds ~ rows @ c`.

    A first fit identifies outliers, and a second one leaves them out. A column whose cost would be
    negative gets cost 0.

    Args:
        rows: amount of work of each kind in each measurement; one column for each kind.
        seconds: duration of each measurement.

    Returns:
        One cost for each column, seconds per unit. Source: ours.
    """
    x, y = np.asarray(rows, float), np.asarray(seconds, float)
    costs = _solve(x, y)
    off = np.abs(x @ costs / y - 1)
    spread = float(np.median(np.abs(off - np.median(off))))
    kept = off <= np.median(off) + TRIM * max(spread, 1e-3)
    return [float(c) for c in _solve(x[kept], y[kept])]


def _solve(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    scaled, ones = x / y[:, None], np.ones(len(y))
    used = list(range(x.shape[1]))
    while used:
        found, *_ = np.linalg.lstsq(scaled[:, used], ones, rcond=None)
        if (found >= 0).all():
            costs = np.zeros(x.shape[1])
            costs[used] = found
            return costs
        used.pop(int(np.argmin(found * scaled[:, used].mean(axis=0))))
    return np.zeros(x.shape[1])
