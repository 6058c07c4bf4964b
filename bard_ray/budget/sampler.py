"""Which budgets a training request asks for; a restart asks the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from bard_ray.budget.draw import SAMPLERS, SCHEDULES, BudgetSampler, BudgetSchedule, Draw
from bard_ray.config.schema import BudgetConfig, RLConfig
from bard_ray.errors import ConfigError
from bard_ray.records import NO_BUDGET, Budget, Question, TokenBudget
from bard_ray.streams import Stream, rng


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


@dataclass(frozen=True)
class BudgetSource:
    """Which budgets the rollouts of a training request ask for.

    They follow from (seed, number), the question, and, for samplers that look at it, the accuracy
    so far. The schedule goes by the nominal step, number // prompts_per_step, and stays where it is
    after the last one: it is the same whenever a number is asked for, where the steps really done
    depend on how fast roles are. Groups that are not trained on (zero variance, failed, surplus)
    use up numbers too, so with a share f of them it runs ahead of the real step by 1 / (1 - f).
    """

    taught: tuple[int, ...]
    none_share: float
    sampler: BudgetSampler
    schedule: BudgetSchedule
    seed: int
    steps: int
    prompts_per_step: int
    group_size: int

    @classmethod
    def of(cls, budget: BudgetConfig, rl: RLConfig, seed: int) -> BudgetSource:
        """As configured.

        Raises:
            ConfigError: budgets, sampler or schedule cannot be used.
        """
        if not 0 <= budget.none_share <= 1:
            rule, fix = "must lie in 0..1", "The default is 0.05."
            raise ConfigError("budget.none_share", budget.none_share, rule, fix)
        return cls(
            tuple(train_budgets(budget)),
            budget.none_share,
            SAMPLERS.build(budget.sampler.name, budget.sampler.params),
            SCHEDULES.build(budget.schedule.name, budget.schedule.params),
            seed,
            rl.steps,
            rl.prompts_per_step,
            rl.group_size,
        )

    def draw(
        self, number: int, question: Question, accuracy: Mapping[int, float] | None = None
    ) -> tuple[Budget, ...]:
        """Budgets of the rollouts of request `number`; a `none_share` of groups has none.

        Args:
            number: admission number.
            question: its question.
            accuracy: running accuracy by budget in tokens.

        Returns:
            G budgets.

        Raises:
            ConfigError: the sampler cannot deal with the budgets it was given.
            DataError: the question lacks what the sampler goes by.
        """
        generator = rng(self.seed, Stream.BUDGETS, number)
        if generator.random() < self.none_share:
            return (NO_BUDGET,) * self.group_size
        allowed = self.allowed(number // self.prompts_per_step)
        asked = Draw(self.taught, allowed, self.group_size, question, accuracy or {})
        try:
            drawn = self.sampler.budgets(asked, generator)
        except ValueError as error:
            fix = "Change the parameters, budget.train, or budget.schedule."
            raise ConfigError("budget.sampler.params", str(error), "cannot be used", fix) from error
        if len(drawn) != self.group_size or not set(drawn) <= set(allowed):
            rule = f"drew {drawn}, and not {self.group_size} of the budgets {allowed}"
            name = type(self.sampler).__name__
            raise ConfigError("budget.sampler.name", name, rule, "Mend the sampler.")
        return tuple(TokenBudget(tokens) for tokens in drawn)

    def allowed(self, step: int) -> tuple[int, ...]:
        """Budgets that may be drawn at nominal step `step`, ascending.

        Raises:
            ConfigError: the schedule names none, or one that is not taught.
        """
        step = min(step, self.steps - 1)
        allowed = tuple(sorted(set(self.schedule.allowed(self.taught, step))))
        if not allowed or not set(allowed) <= set(self.taught):
            rule = f"allows {allowed} at step {step}, and not some of the budgets {self.taught}"
            name = type(self.schedule).__name__
            raise ConfigError("budget.schedule.name", name, rule, "Mend the schedule.")
        return allowed

    def rehearse(self, question: Question) -> None:
        """Draw once for every choice of budgets that the schedule will allow during the run.

        Raises:
            ConfigError, DataError: as `draw`.
        """
        first_step: dict[tuple[int, ...], int] = {}
        for step in range(self.steps):
            first_step.setdefault(self.allowed(step), step)
        whole = replace(self, none_share=0.0)
        for step in first_step.values():
            whole.draw(step * self.prompts_per_step, question)
