"""Chains of the synthetic task without some of their steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bard_ray.data.chain import LETTERS, Chain, chain_of, step_text
from bard_ray.distill.compressor import COMPRESSORS, Compressed, CompressorTools, Reason
from bard_ray.distill.filter import Candidate
from bard_ray.distill.split_points import STEP
from bard_ray.errors import ConfigError
from bard_ray.plugins import require_within

PLAIN_TOKENS = 2  # letter, value; a verbose step also has the operation


@COMPRESSORS.register("drop_steps")
@dataclass(frozen=True)
class DropSteps:
    """A random subset of the chain's steps, b' tokens long; synthetic task only.

    b' = round(b * U(1 - jitter, 1 + jitter)). Values and answer are the teacher's, correct or not;
    where it wrote a step twice, the later one counts. Reason: `bad_format`, the chain has no step.
    Source: ours (tiny task).

    Attributes:
        jitter: half width of the relative error of the length, in [0, 1). It imitates an LLM that
            misses a requested length by some per cent, which leaves RL something to improve.
    """

    SYNTHETIC_ONLY: ClassVar[bool] = True

    jitter: float = 0.15

    def __post_init__(self) -> None:
        require_within("jitter", self.jitter, 0, 0.99)

    async def compress(
        self, chain: Candidate, budgets: Sequence[int], tools: CompressorTools
    ) -> list[Compressed]:
        """One row per budget; a chain that is shorter than the budget keeps all of its steps.

        Raises:
            ConfigError: the question is not of the synthetic task, or a budget holds no step.
        """
        task = chain_of(chain.question)
        values = written_values(task, chain.think)
        if not values:
            return [Compressed(budget, reason=Reason.BAD_FORMAT) for budget in budgets]
        rows = []
        for budget in budgets:
            target = jittered_target(budget, self.jitter, tools.generator)
            think = drop_steps(task, target, tools.generator, values)
            rows.append(Compressed(budget, think, chain.answer_text))
        return rows


def jittered_target(budget: int, jitter: float, generator: np.random.Generator) -> int:
    """Tokens that the compressor aims at for a budget.

    b' = round(b * U(1 - jitter, 1 + jitter)), at least one step. Source: ours (tiny task).

    Args:
        budget: b, tokens.
        jitter: half width of the relative error, in [0, 1).
        generator: consumed by one draw.

    Raises:
        ConfigError: the budget holds no step.
    """
    if budget < PLAIN_TOKENS:
        rule, fix = "is smaller than one step (2 tokens)", "Use budgets of 2 or more."
        raise ConfigError("budget.train", budget, rule, fix)
    return max(PLAIN_TOKENS, round(budget * generator.uniform(1 - jitter, 1 + jitter)))


def drop_steps(
    chain: Chain,
    target: int,
    generator: np.random.Generator,
    values: Mapping[int, int] | None = None,
) -> str:
    """Chain of thought of exactly min(target, 3N) tokens with a random subset of N steps.

    s = min(N, target // 2) steps are kept: the last one and a uniformly random subset of the
    others, in plain form. v = min(s, target - 2s) of them, random too, are written verbosely. The
    student must compute a dropped operation without writing it, so fewer tokens cost accuracy.
    Source: ours (tiny task).

    Args:
        chain: the question, parsed.
        target: tokens, at least 2; see `jittered_target`.
        generator: consumed by two draws of N numbers.
        values: the steps to choose from, as index and value; None: all of them, correct.
    """
    values = dict(enumerate(chain.values)) if values is None else values
    steps = sorted(values)
    num_kept = min(len(steps), target // PLAIN_TOKENS)
    num_verbose = min(num_kept, target - PLAIN_TOKENS * num_kept)
    # The last step ranks before all others, so it is always kept.
    ranks = generator.random(len(steps))
    ranks[-1] = -1.0
    kept = np.sort(np.argsort(ranks)[:num_kept]).tolist()
    verbose = set(generator.permutation(kept)[:num_verbose].tolist())
    return "".join(
        step_text(chain, steps[place], values[steps[place]], verbose=place in verbose)
        for place in kept
    )


def written_values(chain: Chain, think: str) -> dict[int, int]:
    """The steps of the task that a chain of thought has: index and written value."""
    written = {LETTERS.index(letter): int(value) for letter, _, value in STEP.findall(think)}
    return {step: value for step, value in written.items() if step < len(chain.ops)}
