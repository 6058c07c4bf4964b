"""Losses and off-policy corrections against hand-computed numbers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bard_ray.errors import ConfigError
from bard_ray.learn.correction import CORRECTIONS, Surrogate, TokenBatch
from bard_ray.learn.losses import grpo_loss, loss_of, nll
from bard_ray.learn.ratios import clip_acts, clipped_surrogate, k3_kl, ratio, sequence_ratio
from bard_ray.learn.spec import LossSpec
from bard_ray.learn.stats import accumulate, effective_share, learner_metrics, policy_sums

CLIPS = (0.2, 0.28)
NAMES = ["decoupled", "masked", "none", "sequence", "truncated"]


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


def numbers(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


def batch(
    ratios: Tensor, advantages: Tensor, sequence_N: Tensor | None = None, moved: float = 1.0
) -> TokenBatch:
    """Tokens with these q / b, and p / q = `moved` everywhere."""
    behavior = -1.0 - torch.arange(len(ratios)) / 4
    proximal = behavior + ratios.log()
    logprobs = (proximal + math.log(moved)).requires_grad_()
    where = torch.zeros(len(ratios), dtype=torch.int64) if sequence_N is None else sequence_N
    return TokenBatch(
        logprobs_N=logprobs,
        proximal_N=proximal,
        behavior_N=behavior,
        reference_N=logprobs.detach() + math.log(0.5),
        entropy_N=torch.full((len(ratios),), 0.2),
        advantages_N=advantages,
        sequence_N=where,
        bin_N=where,
    )


def corrected(name: str, tokens: TokenBatch, **params: float) -> tuple[Surrogate, Tensor]:
    """The surrogate, and its gradient with respect to the log-probs."""
    found = CORRECTIONS.build(name, params)(tokens, *CLIPS)
    (gradient,) = torch.autograd.grad(found.loss_N.sum(), tokens.logprobs_N)
    return found, gradient


def test_nll() -> None:
    torch.testing.assert_close(nll(vector(-1.5, 0.0)), vector(1.5, 0.0))


def test_ratio_and_its_limit() -> None:
    found = ratio(vector(-1.0, 0.0, -100.0), vector(-1.0 - math.log(3.0), -50.0, 0.0))
    torch.testing.assert_close(found, vector(3.0, math.exp(20.0), math.exp(-20.0)))


def test_sequence_ratio_is_a_geometric_mean() -> None:
    # ratios 4 and 1 of sequence 1: sqrt(4); 8, 1 and 1 of sequence 0: 2; sequence 2 on its own
    logprobs = vector(8.0, 4.0, 1.0, 1.0, 1.0, 0.5).log()
    found = sequence_ratio(logprobs, torch.zeros(6), numbers(0, 1, 0, 1, 0, 2))
    torch.testing.assert_close(found, vector(2.0, 2.0, 2.0, 2.0, 2.0, 0.5))


def test_clipped_surrogate() -> None:
    ratios = vector(2.0, 2.0, 0.5, 0.5, 1.1)
    advantages = vector(1.0, -1.0, 1.0, -1.0, 3.0)
    # clipped from above; pessimistic; pessimistic; clipped from below; inside
    found = clipped_surrogate(ratios, advantages, *CLIPS)
    torch.testing.assert_close(found, vector(-1.28, 2.0, -0.5, 0.8, -3.3))
    assert clip_acts(ratios, advantages, *CLIPS).tolist() == [True, False, False, True, False]


def test_k3_kl() -> None:
    found = k3_kl(vector(-1.0, -1.0), vector(-1.0, -1.0 - math.log(2.0)))
    torch.testing.assert_close(found, vector(0.0, 0.5 + math.log(2.0) - 1.0))


def test_k3_gradient_pulls_towards_the_reference() -> None:
    # d/dlp [exp(q - p) - (q - p) - 1] = 1 - exp(q - p)
    logprobs = vector(-1.0, -1.0).requires_grad_()
    k3_kl(logprobs, vector(-1.0 + math.log(2.0), -1.0 - math.log(2.0))).sum().backward()
    torch.testing.assert_close(logprobs.grad, vector(-1.0, 0.5))


# Ratios q / b of a batch whose policy is still q, and its advantages.
STALE = vector(0.25, 0.9, 1.1, 4.0, 0.25, 4.0), vector(1.0, 1.0, 1.0, 1.0, -2.0, -2.0)


@pytest.mark.parametrize(
    ("name", "params", "weights", "cut"),
    [
        ("none", {}, [0.25, 0.9, 1.1, 0, 0, 4], [0, 0, 0, 0, 0, 0]),
        ("truncated", {}, [0.25, 0.9, 1.1, 2, 0.25, 2], [0, 0, 0, 1, 0, 1]),
        ("truncated", {"cap": 1.0}, [0.25, 0.9, 1, 1, 0.25, 1], [0, 0, 1, 1, 0, 1]),
        ("masked", {}, [0, 0.9, 1.1, 4, 0, 4], [1, 0, 0, 0, 1, 0]),
        ("masked", {"low": 0.95, "high": 2}, [0, 0, 1.1, 0, 0, 0], [1, 1, 0, 1, 1, 1]),
        ("decoupled", {}, [0.25, 0.9, 1.1, 4, 0.25, 4], [0, 0, 0, 0, 0, 0]),
    ],
)
def test_weights_of_stale_tokens(name, params, weights, cut) -> None:
    ratios, advantages = STALE
    found, gradient = corrected(name, batch(ratios, advantages), **params)
    torch.testing.assert_close(found.weight_N, vector(*weights))
    torch.testing.assert_close(gradient, -vector(*weights) * advantages)
    assert found.cut_N.tolist() == [bool(c) for c in cut]
    assert found.clipped_N.tolist() == [name == "none" and i in (3, 4) for i in range(6)]


def test_the_sequence_ratio_applies_to_each_of_its_tokens() -> None:
    # Geometric means 0.5, 1.0 and 2.0; the last is clipped for advantages above 0 only.
    ratios = vector(0.25, 1.0, 4.0, 0.25, 1.0, 4.0)
    where = numbers(0, 0, 1, 1, 2, 2)
    found, gradient = corrected("sequence", batch(ratios, torch.ones(6), where))
    torch.testing.assert_close(found.weight_N, vector(0.5, 0.5, 1.0, 1.0, 0.0, 0.0))
    torch.testing.assert_close(gradient, -found.weight_N)
    torch.testing.assert_close(found.loss_N, -vector(0.5, 0.5, 1.0, 1.0, 1.28, 1.28))
    found, gradient = corrected("sequence", batch(ratios, -torch.ones(6), where))
    torch.testing.assert_close(gradient, vector(0.0, 0.0, 1.0, 1.0, 2.0, 2.0))


@pytest.mark.parametrize(
    ("name", "losses"),
    [
        # p / q is 1.5, clipped to 1.28 for the positive advantage; the weight is not clipped.
        ("truncated", [-1.28 * 2.0, 2 * 1.5 * 0.5]),
        ("masked", [-1.28 * 4.0, 2 * 1.5 * 0.5]),
        ("decoupled", [-1.28 * 4.0, 2 * 1.5 * 0.5]),
        # One ratio to the behavior policy: 6 and 0.75.
        ("none", [-1.28, 2 * 0.8]),
    ],
)
def test_a_policy_that_moved_within_the_step(name: str, losses: list[float]) -> None:
    tokens = batch(vector(4.0, 0.5), vector(1.0, -2.0), moved=1.5)
    found, gradient = corrected(name, tokens)
    torch.testing.assert_close(found.loss_N, vector(*losses))
    assert gradient[0] == 0.0
    assert found.clipped_N.tolist() == [True, name == "none"]


def test_on_policy_every_correction_is_the_plain_policy_gradient() -> None:
    advantages = vector(1.0, -0.5, 2.0)
    for name in NAMES:
        found, gradient = corrected(name, batch(torch.ones(3), advantages))
        torch.testing.assert_close(gradient, -advantages, atol=1e-5, rtol=1e-5)
        assert not (found.cut_N | found.clipped_N).any(), name


def test_without_a_cap_truncated_is_decoupled() -> None:
    ratios, advantages = STALE
    wide = {"truncated": {"cap": 1e9}, "masked": {"low": 0.0, "high": 1e9}, "decoupled": {}}
    gradients = [
        corrected(name, batch(ratios, advantages), **params)[1] for name, params in wide.items()
    ]
    assert gradients[0].tolist() == gradients[1].tolist() == gradients[2].tolist()


def test_all_corrections_are_found_and_truncated_is_the_default() -> None:
    assert CORRECTIONS.names() == NAMES
    assert LossSpec("grpo").correction == CORRECTIONS.build("truncated", {"cap": 2.0})


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("truncate", {}, "Did you mean truncated"),
        ("truncated", {"cap": 0.0}, "cap must be above 0"),
        ("masked", {"low": 1.5}, "low must be in 0..1"),
        ("truncated", {"limit": 3.0}, "is not a parameter of truncated"),
    ],
)
def test_wrong_corrections_are_refused(name: str, params: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        CORRECTIONS.build(name, params)


def test_grpo_is_a_sum_with_its_statistics() -> None:
    tokens = batch(vector(4.0, 0.5, 1.0), vector(1.0, -1.0, 2.0), numbers(0, 2, 2))
    loss, sums = grpo_loss(tokens, LossSpec("grpo", *CLIPS, kl_coef=0.5))
    kl = 3 * (0.5 + math.log(2.0) - 1.0)
    behind = [3.0 - math.log(4.0), -0.5 + math.log(2.0)]
    expected = {
        "loss": -2.0 + 0.5 - 2.0 + 0.5 * kl,
        "kl": kl,
        "entropy": 0.6,
        "ratio": 5.5,
        "ratio_max": 4.0,
        "clip_low": 0.0,
        "clip_high": 0.0,
        "weight_cut": 1.0,
        "weight": 3.5,
        "weight_sq": 5.25,
        "behavior_kl": sum(behind),
        "bin_tokens": [1.0, 0.0, 2.0, 0.0],
        "bin_ratio": [4.0, 0.0, 1.5, 0.0],
        "bin_cut": [1.0, 0.0, 0.0, 0.0],
        "bin_kl": [behind[0], 0.0, behind[1], 0.0],
    }
    assert sums.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            sums[name].float(), torch.tensor(value), atol=1e-5, rtol=1e-5, msg=name
        )
    assert loss.item() == pytest.approx(expected["loss"])


def test_metrics_do_not_depend_on_how_the_step_was_split() -> None:
    spec = LossSpec("grpo", *CLIPS)
    whole = batch(*STALE, numbers(0, 0, 1, 1, 3, 3))
    names = TokenBatch.__dataclass_fields__
    parts = [
        TokenBatch(**{n: getattr(whole, n)[piece] for n in names})
        for piece in (slice(0, 2), slice(2, 6))
    ]
    results = []
    for pieces in ([whole], parts):
        sums: dict[str, Tensor] = {}
        for piece in pieces:
            accumulate(sums, grpo_loss(piece, spec)[1])
        totals = {name: value.reshape(-1).tolist() for name, value in sums.items()}
        results.append(learner_metrics(totals | {"trained": [6.0]}, spec, 0.5, 1e-3))
    assert results[0] == pytest.approx(results[1])
    assert results[0]["rl/ratio_max"] == 4.0
    # weights 0.25, 0.9, 1.1, 2, 0.25, 2
    assert results[0]["rl/ess"] == pytest.approx(6.5**2 / (6 * 10.145))
    assert results[0]["bins/cut_middle"] == 0.5
    assert results[0]["bins/tokens_none"] == pytest.approx(1 / 3)
    assert "bins/tokens_long" not in results[0]


def test_effective_share() -> None:
    assert effective_share(6.0, 12.0, 3.0) == 1.0  # three weights of 2
    assert effective_share(2.0, 4.0, 4.0) == 0.25  # one of four counts
    assert effective_share(0.0, 0.0, 4.0) == 0.0


def test_behavior_kl_is_the_kl_of_the_sampling_policy() -> None:
    # KL(b || p) of b = (0.5, 0.5) and p = (0.8, 0.2), from exactly half of each token.
    behavior, policy = vector(0.5, 0.5).log(), vector(0.8, 0.2).log()
    tokens = replace(batch(torch.ones(2), torch.ones(2)), logprobs_N=policy, behavior_N=behavior)
    none = torch.zeros(2, dtype=torch.bool)
    sums = policy_sums(tokens, Surrogate(policy, policy, none, none))
    exact = 0.5 * math.log(0.5 / 0.8) + 0.5 * math.log(0.5 / 0.2)
    assert sums["behavior_kl"].item() / 2 == pytest.approx(exact)


def test_without_kl_weight_the_reference_is_not_used() -> None:
    tokens = batch(*STALE)
    other = replace(tokens, reference_N=tokens.reference_N * float("nan"))
    spec = LossSpec("grpo")
    assert grpo_loss(tokens, spec)[0].item() == grpo_loss(other, spec)[0].item()


@pytest.mark.parametrize("name", NAMES)
def test_no_tokens_make_a_zero_loss_that_still_has_a_gradient_path(name: str) -> None:
    empty = batch(vector(), vector())
    correction = CORRECTIONS.build(name, {})
    for spec in (LossSpec("nll"), LossSpec("grpo", kl_coef=0.1, correction=correction)):
        loss, sums = loss_of(empty, spec)
        assert loss.item() == 0.0
        assert loss.requires_grad
        assert not any(value.any() for value in sums.values())


def test_shapes_are_checked() -> None:
    one, two = vector(1.0), vector(1.0, 2.0)
    for call in (
        lambda: ratio(two, one),
        lambda: clipped_surrogate(one, two, 0.2, 0.2),
        lambda: clip_acts(one, two, 0.2, 0.2),
        lambda: k3_kl(two, one),
        lambda: sequence_ratio(two, two, one),
    ):
        with pytest.raises(ValueError, match="shapes differ"):
            call()
