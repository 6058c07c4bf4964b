"""Compressors: how a chain and a budget come to belong to each other.

`drop_steps` shortens a chain of the synthetic task to a budget. `hindsight` shortens nothing: a
natural chain is labelled with the budget it happens to fit.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from bard_ray.budget.signal import NO_BUDGET, Budget, TokenBudget
from bard_ray.data.chain import Chain, step_text
from bard_ray.errors import ConfigError

PLAIN_TOKENS = 2  # letter, value; a verbose step has the operation too


def jittered_target(budget: int, jitter: float, generator: np.random.Generator) -> int:
    """Tokens a compressor really aims at.

    b' = round(b * U(1 - jitter, 1 + jitter)), at least one step.

    An LLM that is asked for b tokens misses by some per cent; RL has that to gain. Source: ours
    (tiny task).

    Args:
        budget: b, tokens.
        jitter: half width of the relative error, in [0, 1).
        generator: consumed by one draw.

    Raises:
        ConfigError: the budget holds no step or the jitter is out of range.
    """
    if budget < PLAIN_TOKENS:
        raise ConfigError(
            "budget.train",
            budget,
            "is smaller than one step (2 tokens)",
            "Use budgets of 2 or more.",
        )
    if not 0 <= jitter < 1:
        raise ConfigError("distil.jitter", jitter, "must lie in [0, 1)", "The default is 0.15.")
    return max(PLAIN_TOKENS, round(budget * generator.uniform(1 - jitter, 1 + jitter)))


def drop_steps(chain: Chain, target: int, generator: np.random.Generator) -> str:
    """Chain of thought of exactly min(target, 3N) tokens that keeps a random part of the N steps.

    s = min(N, target // 2) steps survive: the last one and a uniformly random subset of the others,
    plain form. v = min(s, target - 2s) of them, random too, are written verbosely. A dropped
    operation has to be done in the head, so fewer tokens cost accuracy. Source: ours (tiny task).

    Args:
        chain: the question, parsed.
        target: tokens, at least 2; see `jittered_target`.
        generator: consumed by two draws of N numbers.
    """
    num_steps, values = len(chain.ops), chain.values
    num_kept = min(num_steps, target // PLAIN_TOKENS)
    num_verbose = min(num_kept, target - PLAIN_TOKENS * num_kept)
    # The last step ranks before all others, so it is always kept.
    ranks = generator.random(num_steps)
    ranks[-1] = -1.0
    kept = np.sort(np.argsort(ranks)[:num_kept]).tolist()
    verbose = set(generator.permutation(kept)[:num_verbose].tolist())
    return "".join(step_text(chain, step, values[step], verbose=step in verbose) for step in kept)


def hindsight_budget(num_tokens: int, budgets: Sequence[int]) -> Budget:
    """The smallest budget that a chain of `num_tokens` tokens fits into.

    The row is unconstrained if it fits into none.

    Source: ours, after hindsight relabelling (the outcome names the goal it reached).

    Args:
        num_tokens: length of the thinking in tokens of the student.
        budgets: tokens, ascending.
    """
    place = bisect_left(budgets, num_tokens)
    return TokenBudget(budgets[place]) if place < len(budgets) else NO_BUDGET
