"""Optimizer and loss settings of a training stage, passed to the learner."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from bard_ray.learn.correction import Correction
from bard_ray.learn.corrections.truncated import Truncated


@dataclass(frozen=True, slots=True)
class OptimSpec:
    """AdamW settings of one training stage. The learning rate is an argument of each step."""

    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0
    grad_clip: float = 1.0


@dataclass(frozen=True, slots=True)
class LossSpec:
    """The loss and its constants.

    Attributes:
        kind: `nll` (SFT) or `grpo`.
        clip_low, clip_high: the ratio is clipped to [1 - clip_low, 1 + clip_high].
        kl_coef: weight of the k3 estimate of KL(policy || reference); 0 disables the term.
        temperature: sampling temperature, by which the logits are divided.
        correction: off-policy correction (GRPO).
    """

    kind: Literal["nll", "grpo"]
    clip_low: float = 0.2
    clip_high: float = 0.28
    kl_coef: float = 0.0
    temperature: float = 1.0
    correction: Correction = field(default_factory=Truncated)
