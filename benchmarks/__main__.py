"""List the benchmarks, or measure their baselines.

    python -m benchmarks                          one line per benchmark
    python -m benchmarks --baselines NAME ...     run NAME ..., write benchmarks/baselines/NAME.json

Measure baselines on an otherwise idle machine; the record includes its load.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.children import module_command
from benchmarks.common import BASELINES, ROOT, Benchmark


def benchmark_names() -> list[str]:
    """Names of all benchmarks: the modules of this package that define `BENCHMARK`."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return [file.stem for file in files if "\nBENCHMARK = Benchmark(" in file.read_text()]


def load_benchmark(name: str) -> Benchmark:
    """Load a benchmark by name."""
    found: Benchmark = importlib.import_module(f"benchmarks.{name}").BENCHMARK
    return found


def measure_baselines(names: Sequence[str]) -> int:
    """Run benchmarks in order; returns the exit code of the first that fails."""
    for name in names:
        command = module_command(f"benchmarks.{name}", "--json", str(BASELINES / f"{name}.json"))
        code = subprocess.run(command, cwd=ROOT, check=False).returncode
        if code:
            return code
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """List the benchmarks, or measure baselines."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    known = benchmark_names()
    parser.add_argument("--baselines", nargs="+", choices=known, metavar="NAME", default=())
    names = parser.parse_args(argv).baselines
    for name in [] if names else known:
        print(f"{name:20}{load_benchmark(name).summary}")
    return measure_baselines(names)


if __name__ == "__main__":
    sys.exit(main())
