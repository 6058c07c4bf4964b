"""Budget fidelity f(L, b) in [0, 1]: how well a thinking length L meets a budget b.

Lengths are thinking tokens as charged by `bard_ray.rewards.parts`. Relative deviations from a
budget of 0 tokens divide by 1. The shapes are in `bard_ray.rewards.shapes`, one per file.
"""

from __future__ import annotations

import math
from typing import Protocol

from bard_ray.config.schema import FidelityConfig
from bard_ray.plugins import Registry
from bard_ray.records import Budget, EffortBudget, NoBudget, token_limit


class Fidelity(Protocol):
    """A fidelity shape f(L, b), a plug-in of `rl.reward.fidelity`."""

    def of_length(self, tokens: float, budget_tokens: float) -> float:
        """Fidelity in [0, 1] of L thinking tokens under a finite budget of b tokens."""
        ...


SHAPES: Registry[Fidelity] = Registry(
    "rl.reward.fidelity", "bard_ray.rewards.shapes", method="of_length"
)


def make_fidelity(config: FidelityConfig) -> Fidelity:
    """Build the shape of a configuration.

    Raises:
        ConfigError: there is no such shape, or its parameters are invalid.
    """
    return SHAPES.build(config.name, config.params)


def relative_deviation(tokens: float, budget_tokens: float) -> float:
    """Relative deviation d = (L - b) / max(b, 1)."""
    return (tokens - budget_tokens) / max(budget_tokens, 1)


def budget_in_tokens(budget: Budget, mean_tokens: float) -> float:
    """Thinking tokens b that a budget allows.

    This is the number of a token budget, infinity without a budget, and r x the mean length of the
    group for an effort r. It is NaN for a mode or a tag, which have no number of tokens.

    Args:
        budget: the budget in the prompt.
        mean_tokens: mean thinking length of the rollout's group, tokens.

    Source: effort from e1, arXiv 2510.27042; taking the mean over the group is ours.
    """
    if isinstance(budget, NoBudget):
        return math.inf
    if isinstance(budget, EffortBudget):
        return budget.fraction * mean_tokens
    limit = token_limit(budget)
    return math.nan if limit is None else float(limit)


def fidelity_to(shape: Fidelity, tokens: float, budget_tokens: float) -> float:
    """f(L, b): 1 without a budget (b infinite), NaN where the budget has no tokens (b NaN)."""
    if math.isnan(budget_tokens):
        return math.nan
    return 1.0 if math.isinf(budget_tokens) else shape.of_length(tokens, budget_tokens)
