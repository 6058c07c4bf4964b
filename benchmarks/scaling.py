"""Scaling of the RL loop from 8 to 1,024 GPUs: a discrete-event simulation with an 8B student.

    python -m benchmarks.scaling [--max-gpus 1024] [--json FILE] [--plot FILE]

The model and its assumptions are those of `docs/scaling.md`; `scaling_validation` checks it against
real runs. The last line printed is one JSON object; `ratio` is the samples/s per GPU of the largest
cluster over that of the smallest, batch growing with the cluster, `max_lag` 4.
"""

from __future__ import annotations

import sys

from benchmarks.common import Arguments, Benchmark, Option
from benchmarks.simulator.report import render_study, write_plot
from benchmarks.simulator.sweep import Study, run_study, summarize


def measure(arguments: Arguments) -> Study:
    """Simulate every cluster."""
    return run_study(arguments.max_gpus)


OPTIONS = (Option("max_gpus", 1024, 32),)
BENCHMARK = Benchmark(
    "scaling", __doc__, measure, summarize, render_study, OPTIONS, draw=write_plot
)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
