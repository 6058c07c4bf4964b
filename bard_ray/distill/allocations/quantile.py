"""Budgets at shares of the natural length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bard_ray.distill.allocation import ALLOCATIONS
from bard_ray.plugins import require_within


@ALLOCATIONS.register("quantile")
@dataclass(frozen=True)
class QuantileAllocation:
    """The budget nearest to s * N for each share s, N the natural length; ties go down.

    Shares that fall to the same budget count once. So short chains never get budgets that they
    cannot fill. Source: ours.

    Attributes:
        shares: of N; at most `count` of them are used, evenly picked. None given: 1/count, 2/count,
            ..., 1.
    """

    shares: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for share in self.shares:
            require_within("shares", share, 0, open_low=True)

    def choose(
        self,
        natural_tokens: int,
        budgets: Sequence[int],
        count: int,
        generator: np.random.Generator,
    ) -> list[int]:
        """The same for all chains of one length."""
        shares = sorted(self.shares) or [(i + 1) / count for i in range(count)]
        picks = np.linspace(0, len(shares) - 1, min(count, len(shares))).round().astype(int)
        aims = [shares[pick] * natural_tokens for pick in picks.tolist()]
        return sorted({min(budgets, key=lambda b: (abs(b - aim), b)) for aim in aims})
