"""The interface of a rollout worker's inference engine: token ids in, token ids out.

It hides whether vLLM runs in this process or in separate processes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from actors.weights.flat_buffer import FlatWeights
from bard_ray.records import Ints
from bard_ray.rl.assemble import Completion

# bf16 attention on AMX processors crashes when the first prompt of a process has 1-4 tokens; 40
# tokens are safe on all code paths.
WARMUP_TOKENS = 40


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """One completion to sample.

    Attributes:
        id: unique among the requests in flight.
        prompt_T: prompt ids, think prefix included.
        force_at: thinking length, in tokens, at which the engine closes the span; None: never.
        prefix_tokens: tokens of the think prefix, at the end of the prompt.
    """

    id: str
    prompt_T: Ints
    temperature: float
    max_new_tokens: int
    seed: int
    force_at: int | None = None
    prefix_tokens: int = 0


@dataclass(frozen=True, slots=True)
class TokenOutput(Completion):
    """The completion of one request."""

    id: str

    @classmethod
    def aborted(cls, request_id: str) -> TokenOutput:
        """The output of an aborted request: no tokens."""
        none = np.zeros(0, np.int32)
        return cls(none, none.astype(np.float32), none, "abort", id=request_id)


class TokenEngine(Protocol):
    """An engine that samples continuously; requests keep running across weight updates."""

    async def start(self) -> None:
        """Start the engine and warm it up; when this returns, requests run at full speed."""
        ...

    def generate(self, requests: Sequence[TokenRequest]) -> AsyncIterator[Sequence[TokenOutput]]:
        """Yield outputs in batches as requests finish, in any order.

        All requests enter the engine before its next step.
        """
        ...

    async def abort(self, ids: Collection[str]) -> None:
        """Abort requests; each one still in flight is yielded with `finish` abort and no tokens."""
        ...

    async def update(self, weights: FlatWeights, version: int) -> float:
        """Load weights under `version`; returns the seconds for which generation stalled."""
        ...

    async def stats(self) -> dict[str, float]:
        """Counters since start: generated tokens, engine steps, busy seconds, up seconds."""
        ...

    async def close(self) -> None:
        """Stop and free the engine."""
        ...
