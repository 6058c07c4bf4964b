"""The range of every numeric field of the configuration, as one table."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, cast

from bard_ray.config.load import fields
from bard_ray.config.schema import Config
from bard_ray.data.chain import LETTERS
from bard_ray.errors import ConfigError

Problems = Iterator[ConfigError]

# Ray refuses to start with a smaller object store.
MIN_OBJECT_STORE_MB = 80
MIN_VERIFIER_MB = 256  # a Python process that holds sympy


@dataclass(frozen=True, slots=True)
class Bound:
    """A field's range.

    `low` and `high` are allowed values, or the first forbidden ones if `open_low`, `open_high`.
    """

    field: str
    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def judge(self, config: Config) -> Problems:
        """Yield a problem if the field's value is outside the range or not finite."""
        value = get(config, self.field)
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        if not (above and below and math.isfinite(value)):
            yield ConfigError(
                self.field, value, f"must be {self._words()}", f"Set {self.field} to such a number."
            )

    def _words(self) -> str:
        low = f"{'above' if self.open_low else 'at least'} {self.low:g}"
        high = f"{'below' if self.open_high else 'at most'} {self.high:g}"
        return f"{low} and finite" if self.high == math.inf else f"{low} and {high}"


def get(config: Config, field: str) -> float:
    """Value of a numeric field by its dotted name."""
    node: Any = config
    return cast(float, reduce(getattr, field.split("."), node))


def with_defaults(config: Config, names: Sequence[str]) -> Config:
    """A copy in which these fields, by their dotted names, have the schema's defaults."""
    copied = copy.deepcopy(config)
    for name in names:
        section, _, last = name.rpartition(".")
        setattr(reduce(getattr, section.split("."), copied), last, get(Config(), name))
    return copied


def _at_least(low: float, *names: str) -> list[Bound]:
    return [Bound(name, low) for name in names]


def _above_zero(*names: str) -> list[Bound]:
    return [Bound(name, 0, open_low=True) for name in names]


def _share(*names: str) -> list[Bound]:
    return [Bound(name, 0, 1) for name in names]


def _optimizer(section: str) -> list[Bound]:
    return [
        *_above_zero(f"{section}.lr", f"{section}.grad_clip"),
        *_share(f"{section}.min_lr_ratio"),
        *_at_least(0, f"{section}.warmup_steps", f"{section}.weight_decay"),
        *[Bound(f"{section}.{beta}", 0, 1, open_high=True) for beta in ("beta1", "beta2")],
    ]


_STAGES = ("base", "sft_full", "sft")

BOUNDS: tuple[Bound, ...] = (
    *_at_least(0, "run.seed"),
    *_at_least(1, *(f"student.tiny.{size}" for size in ("layers", "hidden", "heads", "mlp"))),
    *_above_zero("student.tiny.init_std"),
    *_at_least(0, "student.params"),
    *_at_least(1, "student.max_len", "data.eval_questions"),
    *_at_least(1, "data.chain.min_ops", "data.chain.base_min_ops"),
    Bound("data.chain.max_ops", 1, len(LETTERS)),  # each operation has a letter of its own
    Bound("budget.none_share", 0, 1, open_high=True),
    *_at_least(1, "distill.questions", "distill.budgets_per_question"),
    *_at_least(1, "distill.smoke.questions", "distill.smoke.eval_questions"),
    *_at_least(0, "distill.smoke.lr", "distill.smoke.batch_rows", "distill.workers"),
    Bound("distill.smoke.epochs", 0, open_low=True),
    *(bound for stage in (*_STAGES, "rl") for bound in _optimizer(stage)),
    *_above_zero(*(f"{stage}.epochs" for stage in _STAGES)),
    *_at_least(0, *(f"{stage}.rows" for stage in _STAGES)),
    *_at_least(1, *(f"{stage}.batch_rows" for stage in _STAGES)),
    *_at_least(1, "rl.steps", "rl.prompts_per_step", "rl.max_new_tokens"),
    *_at_least(2, "rl.group_size"),
    *_at_least(0, "rl.max_lag", "rl.oversample", "rl.kl_coef", "rl.checkpoint_every"),
    Bound("rl.clip_low", 0, 1, open_low=True, open_high=True),
    *_above_zero("rl.clip_high", "rl.temperature"),
    *_at_least(1, "rl.reward.answer_limit"),
    *_at_least(1, "evaluate.samples", "evaluate.max_new_tokens"),
    *_at_least(0, "evaluate.temperature"),
    *_at_least(
        1,
        "rollout.workers",
        "rollout.tensor_parallel",
        "rollout.max_num_seqs",
        "rollout.kv_cache_mb",
    ),
    *_at_least(1, "rollout.block_size", "learner.ranks"),
    *_at_least(1, "verifier.max_pending"),
    *_at_least(0, "learner.threads", "learner.sft_threads", "verifier.workers"),
    *_at_least(1, "learner.pack_len", "learner.micro_tokens"),
    Bound("learner.zero_stage", 0, 3),
    Bound("rollout.gpu_memory_utilization", 0, 1, open_low=True),
    *_at_least(0, *(f"{role}.cpus" for role in ("rollout", "learner", "reference", "verifier"))),
    *_at_least(0, *(f"{role}.gpus" for role in ("rollout", "learner", "reference"))),
    *_above_zero(
        "rollout.call_timeout_s",
        "learner.call_timeout_s",
        "reference.call_timeout_s",
        "verifier.limit_s",
    ),
    *_at_least(MIN_VERIFIER_MB, "verifier.memory_mb"),
    *_at_least(0, "cluster.cpus"),
    *_at_least(MIN_OBJECT_STORE_MB, "cluster.object_store_mb"),
    *_above_zero("cluster.start_timeout_s", "cluster.gpu_memory_gb"),
)

# A misspelled name in the table fails at import, not in a user's run.
_UNKNOWN = {bound.field for bound in BOUNDS} - fields().keys()
if _UNKNOWN:
    raise KeyError(sorted(_UNKNOWN))
