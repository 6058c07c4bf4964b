"""Which budgets a training request asks for; a restart asks for the same ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from bard_ray.budget.draw import SAMPLERS, SCHEDULES, BudgetSampler, BudgetSchedule, Draw
from bard_ray.config.schema import BudgetConfig, RLConfig
from bard_ray.errors import ConfigError
from bard_ray.records import NO_BUDGET, Budget, Question, TokenBudget
from bard_ray.streams import Stream, rng


def list_problems(cfg: BudgetConfig) -> Iterator[ConfigError]:
    """What is wrong with the lists of budgets; how large a budget may be is judged elsewhere."""
    if not cfg.train:
        rule, fix = "names no budget to teach", "For example budget.train=[8,16,24]."
        yield ConfigError("budget.train", cfg.train, rule, fix)
    shared = sorted(set(cfg.train) & set(cfg.held_out))
    if shared:
        rule = f"shares {shared} with budget.train, so they are not held out"
        fix = "Take them out of one of the two lists."
        yield ConfigError("budget.held_out", cfg.held_out, rule, fix)


def train_budgets(cfg: BudgetConfig) -> list[int]:
    """The budgets taught, in tokens, ascending, each once.

    Raises:
        ConfigError: there are none, or one is held out.
    """
    for problem in list_problems(cfg):
        raise problem
    return sorted(set(cfg.train))


@dataclass(frozen=True)
class BudgetSource:
    """Which budgets the rollouts of a training request ask for.

    They follow from the seed, the admission number, the question, and, for samplers that use it,
    the accuracy so far. The schedule uses the nominal step, number // prompts_per_step, and
    stays at its last value after the last step: a number gives the same budgets whenever it is
    asked for, while the step that is really done then depends on the speed of the roles. Groups
    that are not trained on (zero variance, failed, surplus) use up numbers too: with a share f of
    them the nominal step runs ahead of the real one by a factor of 1 / (1 - f).
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
            ConfigError: the sampler cannot use the budgets it was given.
            DataError: the question lacks a field that the sampler needs.
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
            raise ConfigError("budget.sampler.name", name, rule, "Fix the sampler.")
        return tuple(TokenBudget(tokens) for tokens in drawn)

    def allowed(self, step: int) -> tuple[int, ...]:
        """Budgets that may be drawn at nominal step `step`, ascending.

        Raises:
            ConfigError: the schedule allows none, or one that is not taught.
        """
        step = min(step, self.steps - 1)
        allowed = tuple(sorted(set(self.schedule.allowed(self.taught, step))))
        if not allowed or not set(allowed) <= set(self.taught):
            rule = f"allows {allowed} at step {step}, and not some of the budgets {self.taught}"
            name = type(self.schedule).__name__
            raise ConfigError("budget.schedule.name", name, rule, "Fix the schedule.")
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
