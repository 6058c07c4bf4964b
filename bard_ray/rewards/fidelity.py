"""Budget fidelity: how well a thinking length L fits a budget b, in [0, 1].

All lengths are thinking tokens as `bard_ray.rewards.parts` charges them. A budget of 0 tokens
divides by 1, so that the deviation exists. The shapes are files of `bard_ray.rewards.shapes`.
"""

from __future__ import annotations

import math
from typing import Protocol

from bard_ray.config.schema import FidelityConfig
from bard_ray.plugins import Registry
from bard_ray.records import Budget, EffortBudget, NoBudget, token_limit


class Fidelity(Protocol):
    """A shape f(L, b)."""

    def of_length(self, tokens: float, budget_tokens: float) -> float:
        """Fidelity in [0, 1] of L thinking tokens under a finite budget of b tokens."""
        ...


SHAPES: Registry[Fidelity] = Registry(
    "rl.reward.fidelity", "bard_ray.rewards.shapes", method="of_length"
)


def make_fidelity(config: FidelityConfig) -> Fidelity:
    """Shape by its configuration.

    Raises:
        ConfigError: no such shape, or parameters that do not fit it.
    """
    return SHAPES.build(config.name, config.params)


def relative_deviation(tokens: float, budget_tokens: float) -> float:
    """D = (L - b) / b; b = 0 divides by 1."""
    return (tokens - budget_tokens) / max(budget_tokens, 1)


def budget_in_tokens(budget: Budget, mean_tokens: float) -> float:
    """Thinking tokens b that a budget allows.

    A token budget is its number, no budget is infinite, and an effort r allows r x the mean length
    of the group. NaN for a mode or a tag: it names no number, so no length can be compared with it.

    Args:
        budget: what the prompt asked for.
        mean_tokens: mean thinking length of the rollout's group, tokens.

    Source: effort after e1, arXiv 2510.27042; that the mean is the group's is ours.
    """
    if isinstance(budget, NoBudget):
        return math.inf
    if isinstance(budget, EffortBudget):
        return budget.fraction * mean_tokens
    limit = token_limit(budget)
    return math.nan if limit is None else float(limit)


def fidelity_to(shape: Fidelity, tokens: float, budget_tokens: float) -> float:
    """f(L, b): 1 without a budget (b infinite), NaN where the budget names no tokens (b NaN)."""
    if math.isnan(budget_tokens):
        return math.nan
    return 1.0 if math.isinf(budget_tokens) else shape.of_length(tokens, budget_tokens)
