"""The reference worker: log-probs and hidden states of sequences under a frozen policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bard_ray.config.schema import LearnerConfig, ReferenceConfig
from bard_ray.errors import InvariantError
from bard_ray.learn.pack import PackSpec, pack, unpack
from bard_ray.records import Floats, Ints, TrainSequence

if TYPE_CHECKING:
    from bard_ray.learn.policy import Policy


class ReferenceWorker:
    """Computes log-probs with the learner's own packing and log-prob code, without gradients."""

    def __init__(
        self, config: ReferenceConfig, learner: LearnerConfig, trust_remote_code: bool = False
    ) -> None:
        """Take packing, attention and threads from the learner, so that log-probs agree.

        `trust_remote_code`: run Python code that a model directory contains.
        """
        self._config, self._learner, self._trust = config, learner, trust_remote_code
        self._spec = PackSpec.of(learner.pack_len, learner.micro_tokens, learner.attention)
        self._policy: Policy | None = None

    def load(self, path: str) -> None:
        """Load the frozen policy from a Hugging Face model directory.

        Raises:
            ConfigError: the model needs code of its own, which is not trusted.
        """
        import torch

        from bard_ray.learn.policy import load_policy

        torch.set_num_threads(max(1, self._learner.threads))  # 0: the plan has not settled it
        learner, config = self._learner, self._config
        policy = load_policy(path, learner.attention, config.precision, self._trust)
        self._policy = policy.to("cuda" if config.gpus else "cpu")

    def logprobs(self, sequences: Sequence[Ints], temperature: float) -> list[Floats]:
        """One array [T] of log-probs for each sequence of T tokens.

        Index 0 is 0, since nothing predicts the first token.

        Raises:
            InvariantError: no policy is loaded.
        """
        from bard_ray.learn.policy import token_logprobs

        policy = self._loaded()
        batches = pack([_scored(tokens_T) for tokens_T in sequences], self._spec)
        values = [token_logprobs(policy, batch, temperature) for batch in batches]
        return unpack(batches, values, len(sequences))

    def states(self, sequences: Sequence[Ints]) -> list[Floats]:
        """Mean over the tokens of the last hidden states, one array [H] for each sequence.

        Raises:
            InvariantError: no policy is loaded.
        """
        from bard_ray.learn.policy import mean_states

        policy = self._loaded()
        found: dict[int, Floats] = {}
        for batch in pack([_scored(tokens_T) for tokens_T in sequences], self._spec):
            found |= mean_states(policy, batch)
        return [found[i] for i in range(len(sequences))]

    def _loaded(self) -> Policy:
        if self._policy is None:
            raise InvariantError("the reference worker was called before a policy was loaded")
        return self._policy


def _scored(tokens_T: Ints) -> TrainSequence:
    """A sequence whose mask holds every token but the first."""
    return TrainSequence(tokens_T, np.arange(tokens_T.size) > 0)
