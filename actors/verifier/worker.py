"""The verifier worker: one grading process. A plain class; placement makes it a Ray actor."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from bard_ray.records import GradeItem, Verdict
from bard_ray.verify.process.grading import GradingProcess, Setup
from bard_ray.verify.process.lanes import Counts


class VerifierWorker:
    """Grades answers in child processes that are killed at their limits; stateless."""

    def __init__(self, limit_s: float, memory_mb: int, setup: Setup | None = None) -> None:
        """Configure the process; `ping` or the first batch starts it.

        Args:
            limit_s: wall seconds for one answer.
            memory_mb: address space of a child, MiB.
            setup: called once in every grading process; see `GradingProcess`.
        """
        self._process = GradingProcess(limit_s, memory_mb, setup=setup)

    async def grade(self, items: Sequence[GradeItem]) -> tuple[list[Verdict], Counts]:
        """One verdict for each item, in order, and the counters since this worker started.

        An infrastructure failure is `Outcome.BROKEN`, never an exception.
        """
        verdicts = await self._process.grade_batch(items)
        return verdicts, self._process.counts()

    async def ping(self) -> bool:
        """Start the process; True once a warm child is ready. Returns at once during a batch.

        Raises:
            InfrastructureError: no child could be started.
        """
        await self._process.start()
        return True

    async def close(self) -> None:
        """End the grading process and its children."""
        await asyncio.to_thread(self._process.close)
