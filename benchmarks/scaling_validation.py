"""The simulation of the RL loop against real runs on this machine.

    python -m benchmarks.scaling_validation [--steps 40] [--rounds 2] [--json FILE] [field=value]
    python -m benchmarks.scaling_validation --calibrate      service times only

Trains a short-lived student, measures service times of the real roles in turn with runs of the real
loop in several configurations, and simulates these configurations with the measured times.
`docs/scaling.md` has the model. The last line printed is one JSON object; `ratio` is the measured
step time over the predicted one in the configuration that is predicted worst, `worst_error` is
|ratio - 1|, and `service_times` are those of the roles.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile

from benchmarks.common import Arguments, Benchmark, Option
from benchmarks.simulator.report import render_validation
from benchmarks.simulator.validate import SHAPES, Measured, calibrate, compare, validate


def measure(arguments: Arguments) -> Measured:
    """Measure service times, and real runs unless `--calibrate` is given."""
    rounds, overrides = arguments.rounds, arguments.overrides
    with tempfile.TemporaryDirectory() as directory:
        if arguments.calibrate:
            return asyncio.run(calibrate(directory, rounds, overrides))
        shapes = SHAPES[: arguments.shapes]
        return asyncio.run(validate(directory, shapes, arguments.steps, rounds, overrides))


OPTIONS = (
    Option("calibrate", False, help="service times only"),
    Option("shapes", len(SHAPES), 1, "configurations that are run"),
    Option("steps", 40, 12, "of each real run"),
    Option("rounds", 2, 1, "real runs of each configuration"),
)
BENCHMARK = Benchmark(
    name="scaling_validation",
    doc=__doc__,
    measure=measure,
    summarize=compare,
    render=render_validation,
    options=OPTIONS,
    target=1.0,
    overrides=True,
)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
