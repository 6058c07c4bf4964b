"""Statistics of a learner step: sums over the tokens of a micro-batch, and metrics of their totals.

Sums are added over micro-batches and ranks, names that end in `_max` are maxima, and the totals are
divided once by the tokens of all ranks. Axes: N trained tokens, K budget bins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from bard_ray.learn.correction import Surrogate, TokenBatch
from bard_ray.learn.ratios import k3_kl, ratio
from bard_ray.metrics import BINS

if TYPE_CHECKING:
    from torch import Tensor

    from bard_ray.learn.spec import LossSpec

Sums = dict[str, "Tensor"]
Totals = Mapping[str, list[float]]

# Metric to the sum it is computed from; the mean is over the trained tokens.
_MEANS = {
    "nll": {"sft/loss": "loss"},
    "grpo": {
        "rl/loss": "loss",
        "rl/entropy": "entropy",
        "rl/ratio_mean": "ratio",
        "rl/clip_low": "clip_low",
        "rl/clip_high": "clip_high",
        "rl/weight_cut": "weight_cut",
        "rl/weight_mean": "weight",
        "rl/behavior_kl": "behavior_kl",
    },
}
_BIN_MEANS = {"ratio_mean": "bin_ratio", "cut": "bin_cut", "behavior_kl": "bin_kl"}


def policy_sums(batch: TokenBatch, surrogate: Surrogate) -> Sums:
    """Sums over one micro-batch for the metrics: scalars, and vectors of length K (`bin_*`).

    The KL is estimated on the tokens that the behavior policy sampled, so it is
    KL(behavior || policy).
    """
    logprobs_N, advantages_N = batch.logprobs_N.detach(), batch.advantages_N
    ratio_N, kl_N = ratio(logprobs_N, batch.behavior_N), k3_kl(batch.behavior_N, logprobs_N)
    clipped_N, weight_N = surrogate.clipped_N, surrogate.weight_N

    def binned(values_N: Tensor) -> Tensor:
        return logprobs_N.new_zeros(len(BINS)).index_add(0, batch.bin_N, values_N)

    return {
        "entropy": batch.entropy_N.sum(),
        "ratio": ratio_N.sum(),
        "ratio_max": ratio_N.max() if len(ratio_N) else ratio_N.sum(),
        "clip_low": (clipped_N & (advantages_N < 0)).sum(),
        "clip_high": (clipped_N & (advantages_N > 0)).sum(),
        "weight_cut": surrogate.cut_N.sum(),
        "weight": weight_N.sum(),
        "weight_sq": weight_N.square().sum(),
        "behavior_kl": kl_N.sum(),
        "bin_tokens": binned(logprobs_N.new_ones(len(logprobs_N))),
        "bin_ratio": binned(ratio_N),
        "bin_cut": binned((clipped_N | surrogate.cut_N).to(logprobs_N.dtype)),
        "bin_kl": binned(kl_N),
        **{f"correction/{name}": v.detach().sum() for name, v in surrogate.metrics.items()},
    }


def accumulate(sums: Sums, more: Sums) -> None:
    """Add the sums of another micro-batch in place."""
    for name, value in more.items():
        if name not in sums:
            sums[name] = value
        else:
            sums[name] = sums[name].maximum(value) if name.endswith("_max") else sums[name] + value


def learner_metrics(
    totals: Totals, loss: LossSpec, grad_norm: float, lr: float
) -> dict[str, float]:
    """Metrics of `bard_ray.metrics.TABLE` from the totals over all ranks, one list for each sum."""
    kind = "sft" if loss.kind == "nll" else "rl"
    (trained,) = totals["trained"]
    values = {name: totals[key][0] / trained for name, key in _MEANS[loss.kind].items()}
    values |= {f"{kind}/grad_norm": grad_norm, f"{kind}/lr": lr}
    if loss.kind == "nll":
        return values | {"sft/tokens": totals["tokens"][0]}
    values["rl/ratio_max"] = totals["ratio_max"][0]
    values["rl/ess"] = effective_share(totals["weight"][0], totals["weight_sq"][0], trained)
    if loss.kl_coef:
        values["rl/kl"] = totals["kl"][0] / trained
    values |= {n: t[0] / trained for n, t in totals.items() if n.startswith("correction/")}
    return values | _bin_metrics(totals, trained)


def effective_share(weight_sum: float, weight_sq_sum: float, count: float) -> float:
    """Effective sample size divided by the number of samples; 0 where every weight is 0.

    Math:
        (sum_i w_i)^2 / (N sum_i w_i^2)

    Args:
        weight_sum: sum of the weights.
        weight_sq_sum: sum of their squares.
        count: N.

    Returns:
        A share in [0, 1]; 1 where all weights are equal.

    Source: Kong 1992, "A note on importance sampling using standardized weights".
    """
    return weight_sum**2 / (count * weight_sq_sum) if weight_sq_sum else 0.0


def _bin_metrics(totals: Totals, trained: float) -> dict[str, float]:
    """Means over the tokens of each bin; bins without tokens are left out."""
    values: dict[str, float] = {}
    for k, (name, tokens) in enumerate(zip(BINS, totals["bin_tokens"], strict=True)):
        if tokens:
            means = {f"bins/{m}_{name}": totals[s][k] / tokens for m, s in _BIN_MEANS.items()}
            values |= {f"bins/tokens_{name}": tokens / trained, **means}
    return values
