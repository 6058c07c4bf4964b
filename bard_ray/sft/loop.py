"""The SFT loop: batches of rows go to the learner, metrics of each step come back."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence

from bard_ray.learn.spec import LossSpec
from bard_ray.records import StepStats, TrainSequence
from bard_ray.roles import Learner

# Steps submitted to the learner ahead of the one awaited, so that it does not wait for the driver
# between two steps.
AHEAD = 2
NLL = LossSpec(kind="nll")

OnStep = Callable[[int, dict[str, float]], Awaitable[None]]


async def train_sft(
    learner: Learner,
    sequences: Sequence[TrainSequence],
    batches: Iterable[Sequence[int]],
    lr: Callable[[int], float],
    on_step: OnStep,
) -> None:
    """Take one optimizer step for each batch of row indices.

    Submits learner steps at most `AHEAD` ahead of the one it awaits; the learner runs them in
    order.

    Args:
        learner: holds the policy; its stage has begun.
        sequences: the corpus.
        batches: row indices of each step.
        lr: learning rate by the index of the batch, from 0.
        on_step: called after every step with its number from 1 and its metrics.
    """
    pending: deque[asyncio.Task[StepStats]] = deque()
    done, last = 0, time.monotonic()

    async def finish_oldest() -> None:
        nonlocal done, last
        stats = await pending.popleft()
        done, now = done + 1, time.monotonic()
        tokens = stats.values.get("sft/tokens", 0.0)
        await on_step(done, {**stats.values, "sft/tokens_per_s": tokens / max(now - last, 1e-9)})
        last = now

    try:
        for step, rows in enumerate(batches):
            work = learner.step([sequences[i] for i in rows], NLL, lr(step))
            pending.append(asyncio.create_task(work))
            if len(pending) > AHEAD:
                await finish_oldest()
        while pending:
            await finish_oldest()
    finally:
        for task in pending:
            task.cancel()
