"""Packed log-probs equal those of each sequence alone, whatever attention, chunks and packing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from actors.reference.worker import ReferenceWorker
from bard_ray.config.schema import LearnerConfig, ReferenceConfig
from bard_ray.errors import DataError, InvariantError
from bard_ray.learn.logprobs import LogprobHead, target_logprobs
from bard_ray.learn.pack import MicroBatch, PackSpec, pack, unpack
from bard_ray.learn.policy import Policy, check_head, token_logprobs
from bard_ray.records import TrainSequence

VOCAB = 61
LENGTHS = [17, 5, 30, 1, 9, 2, 30, 12, 21]


def qwen(attention: str, **changes: object) -> nn.Module:
    from transformers import AutoModelForCausalLM, Qwen3Config

    settings = {
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "initializer_range": 0.2,
        "tie_word_embeddings": True,
    }
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(
        Qwen3Config(**settings | changes), attn_implementation=attention
    ).eval()


def sequences() -> list[TrainSequence]:
    rng = np.random.default_rng(0)
    return [
        TrainSequence(rng.integers(0, VOCAB, n).astype(np.int32), np.arange(n) >= 1 + n // 4)
        for n in LENGTHS
    ]


def plain_logprobs(model: nn.Module, sequence: TrainSequence, temperature: float) -> Tensor:
    """Log-probs of one sequence from its full logits; 0 outside the mask."""
    tokens = torch.from_numpy(sequence.tokens_T).long()
    logprobs = (model(tokens[None]).logits[0] / temperature).log_softmax(-1)
    found = torch.zeros(len(tokens))
    found[1:] = logprobs[:-1].gather(1, tokens[1:, None])[:, 0]
    return found * torch.from_numpy(sequence.mask_T)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(
    "spec", [PackSpec(32, 1), PackSpec(32, 3), PackSpec(64, 8), PackSpec(256, 1)]
)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_packed_equals_each_sequence_alone(
    attention: str, spec: PackSpec, temperature: float
) -> None:
    model, given = qwen(attention), sequences()
    with torch.no_grad():
        expected = [plain_logprobs(model, sequence, temperature).numpy() for sequence in given]
    policy = Policy(model, "float32")
    batches = pack(given, spec)
    values = [token_logprobs(policy, batch, temperature) for batch in batches]
    for want, found in zip(expected, unpack(batches, values, len(given)), strict=True):
        np.testing.assert_allclose(found, want, atol=1e-5)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_packed_gradients_equal_those_of_each_sequence_alone(attention: str) -> None:
    model, given = qwen(attention), sequences()
    torch.stack([plain_logprobs(model, sequence, 1.0).sum() for sequence in given]).sum().backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    policy = Policy(model, "float32")
    for batch in pack(given, PackSpec(64, 2)):
        policy(batch, 1.0)[0].sum().backward()
    for name, parameter in policy.named_weights():
        torch.testing.assert_close(parameter.grad, expected[name], atol=1e-4, rtol=1e-4)


def test_padding_does_not_change_the_log_probs() -> None:
    policy = Policy(qwen("eager"), "float32")
    long, short = sequences()[2], sequences()[4]
    (alone,) = pack([short], PackSpec(32, 1))
    (padded,) = pack([long, short], PackSpec(32, 2))
    assert padded.tokens_RT.shape == (2, 30)
    poisoned = padded.tokens_RT.copy()
    poisoned[1, 9:] = 7  # other padding
    other = MicroBatch(
        poisoned,
        *(getattr(padded, name) for name in MicroBatch.__dataclass_fields__ if name != "tokens_RT"),
    )
    want = token_logprobs(policy, alone, 1.0)[0]
    np.testing.assert_allclose(token_logprobs(policy, padded, 1.0)[1, :9], want, atol=1e-5)
    np.testing.assert_array_equal(
        token_logprobs(policy, other, 1.0)[1, :9], token_logprobs(policy, padded, 1.0)[1, :9]
    )


def test_an_empty_micro_batch_runs_and_gives_zero_gradients() -> None:
    policy = Policy(qwen("eager"), "float32")
    (batch,) = pack([], PackSpec(32, 2), 1)
    logprobs, entropy = policy(batch, 1.0)
    assert logprobs.shape == entropy.shape == (0,)
    logprobs.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in policy.parameters())


@pytest.mark.parametrize("rows", [1, 7, 8, 20])
def test_chunks_change_neither_values_nor_gradients(rows: int) -> None:
    torch.manual_seed(1)
    linear = nn.Linear(12, VOCAB)
    targets = torch.randint(0, VOCAB, (20,))
    results = []
    for head in (LogprobHead(linear), LogprobHead(linear, max_logits=rows * VOCAB)):
        hidden = torch.linspace(-1, 1, 240).reshape(20, 12).requires_grad_()
        linear.zero_grad()
        logprobs, entropy = head(hidden, targets, 0.8)
        (logprobs * torch.arange(20)).sum().backward()
        results.append(
            (
                logprobs.detach(),
                entropy,
                hidden.grad,
                linear.weight.grad.clone(),
                linear.bias.grad.clone(),
            )
        )
    for whole, chunked in zip(*results, strict=True):
        torch.testing.assert_close(chunked, whole)


def test_chunks_keep_no_logits_for_the_backward_pass() -> None:
    linear = nn.Linear(4, VOCAB)
    saved: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        saved.append(tensor.numel())
        return tensor

    hidden = torch.randn(20, 4, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        LogprobHead(linear, max_logits=5 * VOCAB)(hidden, torch.zeros(20, dtype=torch.int64), 1.0)
    assert max(saved, default=0) < 5 * VOCAB


def largest_tensor(work: Callable[[], None]) -> int:
    """Elements of the largest tensor that any operation returns."""

    class Note(TorchDispatchMode):
        largest = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple | list) else [out]:
                if isinstance(tensor, Tensor):
                    self.largest = max(self.largest, tensor.numel())
            return out

    with Note() as note:
        work()
    return note.largest


@pytest.mark.parametrize("autocast", [False, True])
def test_no_pass_holds_all_logits(autocast: bool) -> None:
    tokens, vocab, width = 64, 4096, 8
    linear = nn.Linear(width, vocab, bias=False)
    hidden = torch.randn(tokens, width, requires_grad=True)

    def both_passes(head: LogprobHead) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            logprobs, _ = head(hidden, torch.zeros(tokens, dtype=torch.int64), 0.7)
        logprobs.sum().backward()

    assert largest_tensor(lambda: both_passes(LogprobHead(linear))) == tokens * vocab
    chunked = LogprobHead(linear, max_logits=8 * vocab)
    assert largest_tensor(lambda: both_passes(chunked)) == 8 * vocab


def test_chunks_under_autocast_agree_with_one_chunk() -> None:
    torch.manual_seed(2)
    linear = nn.Linear(32, VOCAB)
    targets = torch.randint(0, VOCAB, (40,))
    results = []
    for head in (LogprobHead(linear), LogprobHead(linear, max_logits=7 * VOCAB)):
        hidden = torch.linspace(-1, 1, 1280).reshape(40, 32).requires_grad_()
        linear.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            logprobs, entropy = head(hidden, targets, 0.8)
        assert logprobs.dtype == entropy.dtype == torch.float32
        logprobs.sum().backward()
        results.append((logprobs.detach(), entropy, hidden.grad, linear.weight.grad.clone()))
    for whole, chunked in zip(*results, strict=True):
        torch.testing.assert_close(chunked, whole, atol=0.02, rtol=0.02)


def test_target_logprobs_golden() -> None:
    # Logits (0, log 3) at temperature 1: probabilities 1/4 and 3/4.
    hidden, weight = torch.tensor([[1.0]]), torch.tensor([[0.0], [float(np.log(3.0))]])
    logprobs, entropy = target_logprobs(hidden, weight, None, torch.tensor([1]), 1.0)
    assert logprobs.item() == pytest.approx(np.log(0.75))
    assert entropy.item() == pytest.approx(-0.25 * np.log(0.25) - 0.75 * np.log(0.75))
    assert not entropy.requires_grad


def test_a_tied_head_stays_tied_and_keeps_its_name() -> None:
    policy = Policy(qwen("eager"), "float32")
    names = [name for name, _ in policy.named_weights()]
    assert "model.embed_tokens.weight" in names
    assert "lm_head.weight" not in names
    assert policy.model.get_output_embeddings().weight is policy.model.get_input_embeddings().weight
    untied = Policy(qwen("eager", tie_word_embeddings=False), "float32")
    assert "lm_head.weight" in [name for name, _ in untied.named_weights()]


def test_models_that_transform_their_logits_are_refused() -> None:
    model = qwen("eager")
    model.config.final_logit_softcapping = 30.0
    with pytest.raises(DataError, match="transforms its logits"):
        check_head(model)


def test_the_reference_worker_scores_every_token_but_the_first(tmp_path: Path) -> None:
    model = qwen("eager")
    model.save_pretrained(tmp_path)
    worker = ReferenceWorker(
        ReferenceConfig(precision="float32"),
        LearnerConfig(attention="sdpa", pack_len=32, micro_tokens=64),
    )
    with pytest.raises(InvariantError, match="before a policy was loaded"):
        worker.logprobs([np.ones(3, np.int32)], 1.0)
    worker.load(str(tmp_path))
    given = [replace(s, mask_T=np.arange(s.tokens_T.size) >= 1) for s in sequences()]
    found = worker.logprobs([s.tokens_T for s in given], 0.9)
    with torch.no_grad():
        expected = [plain_logprobs(model, s, 0.9).numpy() for s in given]
    for want, values in zip(expected, found, strict=True):
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, want, atol=1e-5)
    assert worker.logprobs([], 1.0) == []


def test_the_reference_worker_gives_the_mean_state_of_each_sequence_alone(
    tmp_path: Path,
) -> None:
    model = qwen("eager")
    model.save_pretrained(tmp_path)
    worker = ReferenceWorker(
        ReferenceConfig(precision="float32"),
        LearnerConfig(attention="sdpa", pack_len=32, micro_tokens=64),
    )
    with pytest.raises(InvariantError, match="before a policy was loaded"):
        worker.states([np.ones(3, np.int32)])
    worker.load(str(tmp_path))
    texts = [s.tokens_T for s in sequences()]
    found = worker.states(texts)
    with torch.no_grad():
        for tokens_T, state_H in zip(texts, found, strict=True):
            ids = torch.from_numpy(tokens_T).long()[None]
            want = model.base_model(input_ids=ids).last_hidden_state[0].mean(dim=0).numpy()
            assert state_H.dtype == np.float32
            np.testing.assert_allclose(state_H, want, atol=1e-5)
    assert worker.states([]) == []
