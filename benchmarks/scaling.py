"""How the RL loop scales: a discrete-event simulation, checked against real runs on this machine.

    python benchmarks/scaling.py                8 to 1,024 GPUs, 8B student: table, JSON, plot
    python benchmarks/scaling.py --validate     measure the roles here, run the real loop, compare
    python benchmarks/scaling.py --calibrate    measure the roles only and print the service times

The model and its assumptions are those of `docs/scaling.md`. The last line printed is one JSON
object. Of the validation, `ratio` is the measured step time over the predicted one in the
configuration that is worst predicted, and `worst_error` is |ratio - 1|. Of the study, `ratio` is
the samples/s per GPU at 1,024 GPUs over that at 8, batch growing with the cluster, `max_lag` 4.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.simulator.report import render_study, render_validation, write_plot
from benchmarks.simulator.sweep import run_study
from benchmarks.simulator.validate import calibrate, validate


def machine() -> dict[str, Any]:
    """Date and hardware; `load` is the machine's load average before anything was measured."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }


def main() -> int:
    """Study, validate or calibrate, as asked."""
    args = _arguments()
    record: dict[str, Any] = {"benchmark": "scaling", **machine()}
    started = time.monotonic()
    if args.validate or args.calibrate:
        with tempfile.TemporaryDirectory() as directory:
            work = (
                validate(directory, args.steps, args.rounds, args.overrides)
                if args.validate
                else calibrate(directory, args.rounds, args.overrides)
            )
            found = asyncio.run(work)
        record |= {"overrides": args.overrides, **found}
        if args.validate:
            print(render_validation(found))
    else:
        found = run_study(args.max_gpus)
        record |= found
        print(render_study(found))
        if args.plot:
            write_plot(args.plot, found)
    record["wall_s"] = round(time.monotonic() - started, 1)
    if args.json:
        _merge(args.json, "validation" if args.validate else "study", record)
    print(json.dumps(record))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", metavar="field=value", help="of the tiny recipe")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--validate", action="store_true", help="compare with real runs, minutes")
    what.add_argument("--calibrate", action="store_true", help="print the service times")
    parser.add_argument("--steps", type=int, default=40, help="steps of each real run")
    parser.add_argument("--rounds", type=int, default=2, help="real runs of each configuration")
    parser.add_argument("--max-gpus", type=int, default=1024)
    parser.add_argument("--json", type=Path, help="file to keep the record in, beside the other's")
    parser.add_argument("--plot", type=Path, help="picture of the study, .svg or .png")
    return parser.parse_intermixed_args()


def _merge(path: Path, key: str, record: dict[str, Any]) -> None:
    """Study and validation live in one file; each replaces only its own part."""
    kept = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(kept | {key: record}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
