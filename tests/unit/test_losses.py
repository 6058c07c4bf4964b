"""Losses against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bard_ray.learn.losses import (
    TokenBatch,
    clipped_surrogate,
    grpo_loss,
    k3_kl,
    loss_of,
    nll,
    ratio,
)
from bard_ray.roles import LossSpec


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


def batch() -> TokenBatch:
    """Ratios 2, 0.5, 1 with advantages 1, -1, 2; reference log-probs log 1/2 away at the last
    token.
    """
    behaviour = vector(-1.0, -1.0, -3.0)
    logprobs = (behaviour + vector(math.log(2.0), math.log(0.5), 0.0)).requires_grad_()
    reference = logprobs.detach() + vector(0.0, 0.0, math.log(0.5))
    return TokenBatch(logprobs, vector(0.1, 0.2, 0.3), vector(1.0, -1.0, 2.0), behaviour, reference)


def test_nll() -> None:
    torch.testing.assert_close(nll(vector(-1.5, 0.0)), vector(1.5, 0.0))


def test_ratio_and_its_limit() -> None:
    found = ratio(vector(-1.0, 0.0, -100.0), vector(-1.0 - math.log(3.0), -50.0, 0.0))
    torch.testing.assert_close(found, vector(3.0, math.exp(20.0), math.exp(-20.0)))


def test_clipped_surrogate() -> None:
    ratios = vector(2.0, 2.0, 0.5, 0.5, 1.1)
    advantages = vector(1.0, -1.0, 1.0, -1.0, 3.0)
    # clipped from above; pessimistic; pessimistic; clipped from below; inside
    torch.testing.assert_close(
        clipped_surrogate(ratios, advantages, 0.2, 0.28), vector(-1.28, 2.0, -0.5, 0.8, -3.3)
    )


@pytest.mark.parametrize(
    ("advantage", "value", "moves"), [(1.0, 2.0, False), (-1.0, 2.0, True), (-1.0, 0.5, False)]
)
def test_clipped_tokens_have_no_gradient(advantage: float, value: float, moves: bool) -> None:
    logprobs = torch.tensor([math.log(value)], requires_grad=True)
    clipped_surrogate(ratio(logprobs, vector(0.0)), vector(advantage), 0.2, 0.28).sum().backward()
    assert logprobs.grad is not None
    assert bool(logprobs.grad.abs().item() > 0) is moves


def test_k3_kl() -> None:
    found = k3_kl(vector(-1.0, -1.0), vector(-1.0, -1.0 - math.log(2.0)))
    torch.testing.assert_close(found, vector(0.0, 0.5 + math.log(2.0) - 1.0))


def test_k3_gradient_pulls_towards_the_reference() -> None:
    # d/dlp [exp(q - p) - (q - p) - 1] = 1 - exp(q - p)
    logprobs = vector(-1.0, -1.0).requires_grad_()
    k3_kl(logprobs, vector(-1.0 + math.log(2.0), -1.0 - math.log(2.0))).sum().backward()
    torch.testing.assert_close(logprobs.grad, vector(-1.0, 0.5))


def test_grpo_is_a_sum_with_its_statistics() -> None:
    spec = LossSpec("grpo", clip_low=0.2, clip_high=0.28, kl_coef=0.5)
    loss, sums = grpo_loss(batch(), spec)
    kl = 0.5 + math.log(2.0) - 1.0
    torch.testing.assert_close(loss.item(), -1.28 + 0.8 - 2.0 + 0.5 * kl)
    assert {k: round(v.item(), 5) for k, v in sums.items()} == {
        "loss": round(loss.item(), 5),
        "ratio_mean": 3.5,
        "ratio_max": 2.0,
        "clip_low": 1.0,
        "clip_high": 1.0,
        "entropy": 0.6,
        "kl": round(kl, 5),
    }


def test_without_kl_weight_the_reference_does_not_matter() -> None:
    tokens = batch()
    other = TokenBatch(
        tokens.logprobs_N,
        tokens.entropy_N,
        tokens.advantages_N,
        tokens.behaviour_N,
        tokens.reference_N * float("nan"),
    )
    spec = LossSpec("grpo")
    assert grpo_loss(tokens, spec)[0].item() == grpo_loss(other, spec)[0].item()


def test_no_tokens_make_a_zero_loss_that_still_has_a_gradient_path() -> None:
    empty = vector()
    for spec in (LossSpec("nll"), LossSpec("grpo", kl_coef=0.1)):
        logprobs = empty.clone().requires_grad_()
        loss, sums = loss_of(TokenBatch(logprobs, empty, empty, empty, empty), spec)
        assert loss.item() == 0.0
        assert loss.requires_grad
        assert all(value.item() == 0.0 for value in sums.values())


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        ratio(vector(1.0, 2.0), vector(1.0))
    with pytest.raises(ValueError, match="shapes differ"):
        clipped_surrogate(vector(1.0), vector(1.0, 2.0), 0.2, 0.2)
    with pytest.raises(ValueError, match="shapes differ"):
        k3_kl(vector(1.0, 2.0), vector(1.0))
