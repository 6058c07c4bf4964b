"""What allocations share: weighted draws of budgets, and a summary of natural lengths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bard_ray.errors import ConfigError

MAX_LENGTHS = 1001  # enough for the rank of a length to within 0.1 %


def draw_budgets(
    budgets: Sequence[int], weights: Sequence[float], count: int, generator: np.random.Generator
) -> list[int]:
    """At most `count` different budgets, ascending, drawn one after the other.

    P(next is b) = w_b / sum of w over the remaining budgets; those of weight 0 are never drawn.

    Args:
        budgets: to choose from.
        weights: one per budget, not negative.
        count: how many.
        generator: consumed by as many draws as there are budgets of positive weight.
    """
    positive = [(b, w) for b, w in zip(budgets, weights, strict=True) if w > 0]
    shares = np.array([weight for _, weight in positive], dtype=np.float64)
    # The first of independent exponential clocks of rate w rings with probability w / sum of w.
    order = np.argsort(generator.exponential(size=shares.size) / shares)
    return sorted(positive[place][0] for place in order[:count].tolist())


def summary(lengths: Sequence[int]) -> tuple[int, ...]:
    """Lengths, ascending; of many, `MAX_LENGTHS` evenly spaced ones, both ends included."""
    ordered = sorted(lengths)
    if len(ordered) > MAX_LENGTHS:
        places = np.linspace(0, len(ordered) - 1, MAX_LENGTHS).round().astype(int)
        ordered = [ordered[place] for place in places.tolist()]
    return tuple(int(length) for length in ordered)


def require_lengths(lengths: Sequence[int], allocation: str) -> None:
    """Refuse an allocation that was not fitted.

    Raises:
        ConfigError: there are no lengths.
    """
    if not lengths:
        rule = f"must not be empty: the allocation {allocation} depends on natural lengths"
        fix = "Fit the allocation to the natural chains, or give their lengths as a parameter."
        raise ConfigError("distill.allocation.params.lengths", (), rule, fix)
