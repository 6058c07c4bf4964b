"""What a verifier actor hosts: one grading process. A plain class.

The placement code makes it remote.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from bard_ray.records import GradeItem, Verdict
from bard_ray.verify.process.grading import GradingProcess, Setup
from bard_ray.verify.process.lanes import Counts


class VerifierWorker:
    """Grades answers in killable child processes.

    Stateless: it can be replaced.
    """

    def __init__(self, limit_s: float, memory_mb: int, setup: Setup | None = None) -> None:
        """Start nothing yet: `ping` or the first batch does.

        Args:
            limit_s: wall seconds for one answer.
            memory_mb: address space of a child, MiB.
            setup: called once in every grading process, see `GradingProcess`.
        """
        self._process = GradingProcess(limit_s, memory_mb, setup=setup)

    async def grade(self, items: Sequence[GradeItem]) -> tuple[list[Verdict], Counts]:
        """One verdict per item, in order, and what happened since this worker started.

        Infrastructure trouble is `Outcome.BROKEN`, never an exception.
        """
        verdicts = await self._process.grade_batch(items)
        return verdicts, self._process.counts()

    async def ping(self) -> bool:
        """True once a warm child is there; answers at once while a batch runs.

        Raises:
            InfrastructureError: no child could be started.
        """
        await self._process.start()
        return True

    async def close(self) -> None:
        """End the child and everything around it."""
        await asyncio.to_thread(self._process.close)
