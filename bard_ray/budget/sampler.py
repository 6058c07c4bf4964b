"""Which budget a training request asks for.

It follows from (seed, number) alone, so a restart asks the same.
"""

from __future__ import annotations

from bard_ray.budget.signal import NO_BUDGET, Budget, TokenBudget
from bard_ray.config.schema import BudgetConfig
from bard_ray.data.streams import Stream, rng
from bard_ray.errors import ConfigError


def train_budgets(cfg: BudgetConfig) -> list[int]:
    """The budgets taught, in tokens, ascending, each once.

    Raises:
        ConfigError: there are none, one is not positive, or one is held out.
    """
    budgets = sorted(set(cfg.train))
    if not budgets or budgets[0] < 1:
        raise ConfigError(
            "budget.train",
            cfg.train,
            "must be positive numbers of tokens",
            "For example [4, 8, 16].",
        )
    leaked = sorted(set(budgets) & set(cfg.held_out))
    if leaked:
        raise ConfigError(
            "budget.train",
            leaked,
            "are held out as well (budget.held_out)",
            "Remove them from one of the two lists.",
        )
    return budgets


def sample_budgets(
    cfg: BudgetConfig, seed: int, number: int, group_size: int
) -> tuple[Budget, ...]:
    """Budgets of the rollouts of request `number`.

    One draw a group, so that advantages compare like with like: uniform over `budget.train`, and a
    `none_share` of the groups unconstrained.

    Args:
        cfg: the budgets taught.
        seed: of the run.
        number: admission number.
        group_size: G, rollouts of the group.

    Returns:
        G times the same budget.

    Raises:
        ConfigError: `budget.train` or `budget.none_share` is out of range.
    """
    if not 0 <= cfg.none_share <= 1:
        raise ConfigError(
            "budget.none_share", cfg.none_share, "must lie in 0..1", "The default is 0.05."
        )
    generator = rng(seed, Stream.BUDGETS, number)
    if generator.random() < cfg.none_share:
        return (NO_BUDGET,) * group_size
    budgets = train_budgets(cfg)
    return (TokenBudget(budgets[int(generator.integers(len(budgets)))]),) * group_size
