"""What a rollout worker needs of an inference engine, whichever way vLLM is run behind it.

Tokens in, tokens out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from actors.weights.flat_buffer import FlatWeights
from bard_ray.records import Ints
from bard_ray.rl.assemble import Completion

# bf16 attention on AMX processors crashes when the first prompt of a process has 1-4 tokens; 40 is
# safe for all paths.
WARMUP_TOKENS = 40


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """One completion to sample.

    Attributes:
        given: how many tokens at the end of the prompt are a given thought.
        force_at: close the thinking span after that many tokens (None: never).
    """

    id: str
    prompt_T: Ints
    temperature: float
    max_new_tokens: int
    seed: int
    force_at: int | None = None
    given: int = 0


@dataclass(frozen=True, slots=True)
class TokenOutput(Completion):
    """The completion of one request."""

    id: str

    @classmethod
    def aborted(cls, request_id: str) -> TokenOutput:
        """What is yielded for a request that was ended early."""
        none = np.zeros(0, np.int32)
        return cls(none, none.astype(np.float32), none, "abort", id=request_id)


class TokenEngine(Protocol):
    """An engine that samples continuously; requests keep running across weight updates."""

    async def start(self) -> None:
        """Bring the engine up and warm it.

        Returns when the first request would be served at full speed.
        """
        ...

    def generate(self, requests: Sequence[TokenRequest]) -> AsyncIterator[Sequence[TokenOutput]]:
        """Yield outputs as requests finish, in any order; those that are there come together.

        All requests enter the engine before its next step.
        """
        ...

    async def abort(self, ids: Collection[str]) -> None:
        """End requests; each that still ran is yielded with `finish` abort and no tokens."""
        ...

    async def update(self, weights: FlatWeights, version: int) -> float:
        """Load weights under `version`; returns the seconds during which no token was generated."""
        ...

    async def stats(self) -> dict[str, float]:
        """Counters since start: generated tokens, engine steps, busy seconds, up seconds."""
        ...

    async def close(self) -> None:
        """Stop and free the engine."""
        ...
