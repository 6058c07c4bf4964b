"""Budget fidelity: how well a thinking length L fits a budget b, in [0, 1].

One shape a class, one equation each.

All lengths are thinking tokens. A budget of 0 tokens is measured as if it were 1, so that the
deviation exists. A new shape: a frozen dataclass with `of_length`, and its line in `make_fidelity`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from bard_ray.budget.signal import Budget, NoBudget, label, token_limit
from bard_ray.config.schema import RewardConfig
from bard_ray.errors import ConfigError
from bard_ray.records import Rollout


class Fidelity(Protocol):
    """A shape f(L, b)."""

    def of_length(self, thinking_tokens: int, budget_tokens: int) -> float:
        """Fidelity in [0, 1] of a thinking span of L tokens under a budget of b tokens."""
        ...


@dataclass(frozen=True, slots=True)
class Asymmetric:
    """About b, and rather below than above.

    It is flat within the tolerance, then linear, steeper above than below.

    With d = (L - b) / b: 1 if |d| <= tolerance; over: max(0, 1 - over_slope (d - tolerance));
    under: max(0, 1 - under_slope (|d| - tolerance)). Source: ours, measured on the tiny task; a
    soft penalty above b made RL overspend, since more thinking is more accurate.
    """

    tolerance: float = 0.05
    over_slope: float = 8.0
    under_slope: float = 4.0

    def of_length(self, thinking_tokens: int, budget_tokens: int) -> float:
        """Fidelity in [0, 1]."""
        d = relative_deviation(thinking_tokens, budget_tokens)
        slope = self.over_slope if d > 0 else self.under_slope
        return max(0.0, 1.0 - slope * max(0.0, abs(d) - self.tolerance))


@dataclass(frozen=True, slots=True)
class CapLinear:
    """The budget as an upper bound: thinking less costs nothing.

    1 if L <= b (1 + tolerance), else max(0, 1 - over_slope (L / b - 1 - tolerance)).
    Source: ours; BARD (arXiv 2511.01470) reads b as an upper bound, its equation is not public.
    """

    tolerance: float = 0.1
    over_slope: float = 2.0

    def of_length(self, thinking_tokens: int, budget_tokens: int) -> float:
        """Fidelity in [0, 1]."""
        d = relative_deviation(thinking_tokens, budget_tokens)
        return max(0.0, 1.0 - self.over_slope * max(0.0, d - self.tolerance))


def relative_deviation(thinking_tokens: int, budget_tokens: int) -> float:
    """(L - b) / b; b = 0 divides by 1."""
    return (thinking_tokens - budget_tokens) / max(budget_tokens, 1)


def rollout_fidelity(rollout: Rollout, fidelity: Fidelity) -> float:
    """Fidelity of a rollout to its own budget, in [0, 1].

    A rollout that never closed its thinking scores 0, whatever its budget; without a budget a
    closed one scores 1.

    Raises:
        ValueError: the budget names no number of tokens, so no length can be compared with it.
    """
    if not rollout.closed:
        return 0.0
    if isinstance(rollout.budget, NoBudget):
        return 1.0
    return fidelity.of_length(rollout.thinking_tokens, _budget_tokens(rollout.budget))


def make_fidelity(config: RewardConfig) -> Fidelity:
    """Shape by its configuration name.

    Raises:
        ConfigError: no shape has that name.
    """
    shapes: dict[str, Fidelity] = {
        "asymmetric": Asymmetric(config.tolerance, config.over_slope, config.under_slope),
        "cap_linear": CapLinear(config.tolerance, config.over_slope),
    }
    if config.fidelity not in shapes:
        field, rule = "rl.reward.fidelity", "is no known shape"
        raise ConfigError(field, config.fidelity, rule, f"Use one of {', '.join(shapes)}.")
    return shapes[config.fidelity]


def _budget_tokens(budget: Budget) -> int:
    limit = token_limit(budget)
    if limit is None:
        msg = f"fidelity needs a budget in tokens, not {label(budget)}"
        raise ValueError(msg)
    return limit
