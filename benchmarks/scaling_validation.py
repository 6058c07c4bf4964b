"""The simulation of the RL loop against real runs on this machine.

    python -m benchmarks.scaling_validation [--steps 40] [--rounds 2] [--json FILE] [field=value]
    python -m benchmarks.scaling_validation --calibrate      service times only

Trains a short-lived student, measures service times of the real roles in turn with runs of the real
loop in several configurations, and simulates these with what was measured. `docs/scaling.md` has
the model. The last line printed is one JSON object; `ratio` is the measured step time over the
predicted one in the configuration that is predicted worst, `worst_error` is |ratio - 1|, and
`service_times` are those of the roles.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile

from benchmarks.common import Arguments, Benchmark
from benchmarks.simulator.report import render_validation
from benchmarks.simulator.validate import Measured, calibrate, compare, validate


def measure(arguments: Arguments) -> Measured:
    """A session of its own: service times, and real runs unless only these are wanted."""
    rounds, overrides = arguments.rounds, arguments.overrides
    with tempfile.TemporaryDirectory() as directory:
        if arguments.calibrate:
            return asyncio.run(calibrate(directory, rounds, overrides))
        return asyncio.run(validate(directory, arguments.steps, rounds, overrides))


def add_options(parser: argparse.ArgumentParser) -> None:
    """What to do, and how long."""
    parser.add_argument("--calibrate", action="store_true", help="service times only")
    parser.add_argument("--steps", type=int, default=40, help="steps of each real run")
    parser.add_argument("--rounds", type=int, default=2, help="real runs of each configuration")


BENCHMARK = Benchmark(
    name="scaling_validation",
    doc=__doc__,
    measure=measure,
    summarize=compare,
    render=render_validation,
    target=1.0,
    options=add_options,
    quick={"steps": 12, "rounds": 1},
    overrides="field of the tiny recipe",
)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
