"""The inputs of a reward: accuracy, charged thinking tokens, budget and fidelity of a group.

| what happened | what a reward sees |
|---|---|
| right answer, well formed | accuracy 1, fidelity f(L, b) |
| wrong answer, well formed | accuracy 0, fidelity f(L, b) |
| no answer found; time or memory limit of grading | as a wrong answer |
| truncated at the length limit | malformed: accuracy 0, fidelity 0, whatever the verdict |
| thinking never closed | malformed |
| an opening or closing think tag in the answer part | malformed |
| thinking closed at once, or empty | ordinary: L = 0, so the shape decides |
| thinking of blanks or unusual tokens | ordinary: every token counts |
| answer part longer than `answer_limit` tokens | the tokens beyond it are charged as thinking |
| no budget | fidelity 1 if well formed |
| effort r as budget | b = r x mean charged tokens of the group |
| mode or tag as budget | fidelity NaN; a reward that uses it is refused |
| verdict broken, or rollout aborted | no reward: the group is failed, see `has_broken` |

Why thinking that leaks into the answer is charged and does not zero the reward: the budget is in
tokens, so a token of thinking costs the same in either part and moving it gains nothing. A cliff at
the limit would punish a right answer for a single token, and a model that still writes long answers
would get the same reward for all its rollouts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bard_ray.errors import InvariantError
from bard_ray.records import Bools, Group, Outcome, Rollout, Verdict
from bard_ray.rewards.fidelity import Fidelity, budget_in_tokens, fidelity_to

Doubles = NDArray[np.float64]

# Thinking of at most so many tokens counts as skipped: many models write a blank line between the
# tags.
SKIPPED_TOKENS = 2


@dataclass(frozen=True, slots=True)
class GroupParts:
    """A graded group as a reward sees it. Arrays are [G], in the order of `group.rollouts`.

    Attributes:
        group: question, rollouts with their segments, verdicts.
        accuracy_G: 1 for a right and well-formed answer, else 0.
        fidelity_G: f(L, b) in [0, 1]; 0 where malformed; NaN where the budget has no tokens.
        tokens_G: charged thinking tokens L, leaked ones included.
        budget_tokens_G: allowed thinking tokens b: infinite without a budget, NaN for modes and
            tags.
        malformed_G: truncated, never closed, or with a think tag in the answer part.
        leaking_G: True where the answer part is longer than the limit.
    """

    group: Group
    accuracy_G: Doubles
    fidelity_G: Doubles
    tokens_G: Doubles
    budget_tokens_G: Doubles
    malformed_G: Bools
    leaking_G: Bools


def group_parts(group: Group, fidelity: Fidelity, answer_limit: int) -> GroupParts:
    """Compute the parts of a graded group.

    Args:
        group: rollouts and their verdicts.
        fidelity: the shape.
        answer_limit: tokens of the answer part that are not charged.

    Raises:
        InvariantError: rollouts and verdicts differ in number, or one of them is broken.
    """
    _require_graded(group)
    malformed_G = np.array([is_malformed(r) for r in group.rollouts])
    right_G = np.array([accuracy(v) for v in group.verdicts])
    tokens_G = np.array([charged_tokens(r, answer_limit) for r in group.rollouts], np.float64)
    mean = float(tokens_G.mean())
    budget_tokens_G = np.array([budget_in_tokens(r.budget, mean) for r in group.rollouts])
    fits_G = [fidelity_to(fidelity, *row) for row in zip(tokens_G, budget_tokens_G, strict=True)]
    return GroupParts(
        group,
        accuracy_G=np.where(malformed_G, 0.0, right_G),
        fidelity_G=np.where(malformed_G & ~np.isnan(fits_G), 0.0, np.array(fits_G)),
        tokens_G=tokens_G,
        budget_tokens_G=budget_tokens_G,
        malformed_G=malformed_G,
        leaking_G=np.array([is_leaking(r, answer_limit) for r in group.rollouts]),
    )


def accuracy(verdict: Verdict) -> float:
    """1 for a correct answer, else 0."""
    return 1.0 if verdict.outcome is Outcome.CORRECT else 0.0


def is_malformed(rollout: Rollout) -> bool:
    """True where a rollout was truncated, never closed its thinking, or has an extra think tag."""
    return rollout.finish == "length" or not rollout.closed or rollout.extra_tags > 0


def is_skipped(rollout: Rollout) -> bool:
    """True where a rollout closed its thinking after at most `SKIPPED_TOKENS` tokens."""
    return rollout.closed and rollout.thinking_tokens <= SKIPPED_TOKENS


def is_leaking(rollout: Rollout, answer_limit: int) -> bool:
    """True where the answer part is longer than the limit, so that it is taken to hold thinking."""
    return rollout.answer_tokens > answer_limit


def charged_tokens(rollout: Rollout, answer_limit: int) -> int:
    """L = thinking tokens + max(0, answer tokens - answer_limit)."""
    return rollout.thinking_tokens + max(0, rollout.answer_tokens - answer_limit)


def has_broken(group: Group) -> bool:
    """True where a group has a broken verdict or an aborted rollout.

    These are infrastructure failures: such a group must be failed, not rewarded.
    """
    return any(v.outcome is Outcome.BROKEN for v in group.verdicts) or any(
        r.finish == "abort" for r in group.rollouts
    )


def _require_graded(group: Group) -> None:
    if len(group.rollouts) != len(group.verdicts):
        counts = f"{len(group.rollouts)} rollouts and {len(group.verdicts)} verdicts"
        msg = f"group {group.number} has {counts}"
        raise InvariantError(msg)
    if has_broken(group):
        what = "holds a broken verdict or an aborted rollout and must be failed, not rewarded"
        msg = f"group {group.number} {what}"
        raise InvariantError(msg)
