"""What a training stage asks of the learner: its optimizer and its loss."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from bard_ray.learn.correction import Correction
from bard_ray.learn.corrections.truncated import Truncated


@dataclass(frozen=True, slots=True)
class OptimSpec:
    """Optimizer of one training stage (AdamW). The learning rate comes with each step."""

    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0
    grad_clip: float = 1.0


@dataclass(frozen=True, slots=True)
class LossSpec:
    """Which loss, and its constants.

    Attributes:
        kind: `nll` (SFT) or `grpo`.
        clip_low, clip_high: the ratio is clipped to [1 - clip_low, 1 + clip_high].
        kl_coef: weight of the k3 estimate of KL(policy || reference); 0 switches the term off.
        temperature: sampling temperature the logits are divided by.
        correction: what a token counts that an older policy or another engine sampled (GRPO).
    """

    kind: Literal["nll", "grpo"]
    clip_low: float = 0.2
    clip_high: float = 0.28
    kl_coef: float = 0.0
    temperature: float = 1.0
    correction: Correction = field(default_factory=Truncated)
