"""A causal language model that answers with token log-probs; learner and reference both use it."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from bard_ray.errors import DataError
from bard_ray.learn.logprobs import LogprobHead, loss_positions
from bard_ray.learn.pack import MicroBatch
from bard_ray.model_files import custom_code_refused
from bard_ray.records import Floats

Precision = Literal["float32", "bf16_autocast", "bfloat16"]

# Transformations of the logits that some families apply after the output embedding;
# LogprobHead knows none of them.
_LOGIT_TRANSFORMS = ("final_logit_softcapping", "logits_scaling", "logit_scale")


def weight_dtype(precision: Precision) -> torch.dtype:
    """Type of the weights.

    Under `bf16_autocast` they stay float32 and only the matrix products run in bfloat16.
    """
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


class Policy(nn.Module):
    """A transformers model whose forward pass gives log-probs of the trained tokens."""

    def __init__(self, model: Any, precision: Precision) -> None:
        """Take over `model`: its `lm_head` becomes a `LogprobHead` with the same parameters.

        Raises:
            DataError: the model does more to its logits than one linear map.
        """
        super().__init__()
        check_head(model)
        model.set_output_embeddings(LogprobHead(model.get_output_embeddings()))
        self.model = model
        self.autocast = precision == "bf16_autocast"

    def forward(self, batch: MicroBatch, temperature: float) -> tuple[Tensor, Tensor]:
        """Log-probs and entropies of the trained tokens, row by row; float32 [N] each."""
        device = self.model.device
        predictors_N, targets_N = loss_positions(batch, device)
        # Autocast belongs in here: DeepSpeed switches off what is set around its engine.
        with torch.autocast(device.type, torch.bfloat16, enabled=self.autocast):
            hidden_NH = self._hidden(batch).flatten(0, 1).index_select(0, predictors_N)
            return self.model.get_output_embeddings()(hidden_NH, targets_N, temperature)

    def states(self, batch: MicroBatch) -> Tensor:
        """Last hidden states, after the final norm; [R, T, H] in the type they are computed in."""
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.autocast):
            return self._hidden(batch)

    def _hidden(self, batch: MicroBatch) -> Tensor:
        device = self.model.device
        output = self.model.base_model(
            input_ids=torch.from_numpy(batch.tokens_RT).to(device),
            position_ids=torch.from_numpy(batch.positions_RT).to(device),
            attention_mask=None,  # sequence borders come from the positions
            use_cache=False,
        )
        hidden_RTH: Tensor = output.last_hidden_state
        return hidden_RTH

    def named_weights(self) -> list[tuple[str, nn.Parameter]]:
        """Parameters under the names of the model directory.

        A tied output embedding is listed once.
        """
        return list(self.model.named_parameters())


def check_head(model: Any) -> None:
    """Refuse models whose log-probs would silently be wrong.

    Raises:
        DataError: the output embedding is not linear, or the configuration transforms the logits.
    """
    fix = "Use a model whose logits are linear in the hidden states (Qwen, Llama, Mistral, ...)."
    if not isinstance(model.get_output_embeddings(), nn.Linear):
        raise DataError(type(model).__name__, "its output embedding is not a linear layer", fix)
    set_ones = [
        name
        for name in _LOGIT_TRANSFORMS
        if getattr(model.config, name, None) not in (None, 1, 1.0)
    ]
    if set_ones:
        raise DataError(
            type(model).__name__, f"it transforms its logits ({', '.join(set_ones)})", fix
        )


def load_policy(
    path: str, attention: str, precision: Precision, trust_remote_code: bool = False
) -> Policy:
    """A policy from a Hugging Face model directory, on the CPU, in evaluation mode.

    Raises:
        ConfigError: it needs code of its own, which is not trusted.
        DataError: see `check_head`.
    """
    from transformers import AutoModelForCausalLM

    with custom_code_refused(path):
        model = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=weight_dtype(precision),
            attn_implementation=attention,
            trust_remote_code=trust_remote_code,
        )
    return Policy(model, precision)


@torch.no_grad()
def token_logprobs(policy: Policy, batch: MicroBatch, temperature: float) -> Floats:
    """Log-probs aligned with the tokens [R, T]; 0 outside the mask."""
    logprobs_N, _ = policy(batch, temperature)
    logprobs_RT = np.zeros(batch.mask_RT.shape, np.float32)
    logprobs_RT[batch.mask_RT] = logprobs_N.cpu().numpy()
    return logprobs_RT


@torch.no_grad()
def mean_states(policy: Policy, batch: MicroBatch) -> dict[int, Floats]:
    """Mean over the tokens of each sequence of its last hidden states; float32 [H] by number."""
    hidden_RTH = policy.states(batch).float()
    return {
        span.sequence: hidden_RTH[span.row, span.start : span.start + span.length]
        .mean(dim=0)
        .cpu()
        .numpy()
        for span in batch.spans
    }
