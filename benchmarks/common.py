"""Shared by all benchmarks: command line, record, facts of the machine.

A benchmark module defines `BENCHMARK` with three functions: `measure` runs the measurement,
`summarize` turns its result into the figures of the record, and `render` formats the record as a
table. The last two need no engine, so tests run them on small synthetic measurements.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

from actors.cluster.env import apply_driver_env

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / "build" / "benchmarks"  # not in git
BASELINES = ROOT / "benchmarks" / "baselines"
BUSY_LOAD = 0.5  # load average above which the machine counts as busy before a benchmark starts

Arguments = argparse.Namespace
Record = dict[str, Any]
Found = TypeVar("Found")
# Output options, which are not settings of the measurement.
OUTPUTS = ("json", "plot")


@dataclass(frozen=True)
class Option:
    """One option of a benchmark's command line.

    Attributes:
        name: attribute name in the arguments; `max_gpus` is `--max-gpus`.
        default: default value; `False` makes it a flag.
        quick: its value under `--quick`, unless the user gives it; None: the default.
        help: text of `--help`.
        parse: conversion from text; None: the type of the default.
        choices: allowed values; None: all.
    """

    name: str
    default: Any = None
    quick: Any = None
    help: str = ""
    parse: Callable[[str], Any] | None = None
    choices: Sequence[str] | None = None

    def add(self, parser: argparse.ArgumentParser) -> None:
        """Add it to a parser."""
        flag = _flag(self.name)
        if self.default is False:
            parser.add_argument(flag, action="store_true", help=self.help)
            return
        parser.add_argument(
            flag,
            type=self.parse or type(self.default),
            default=self.default,
            choices=self.choices,
            metavar=None if self.choices else self.name.upper(),
            help=f"{self.help or self.name} (default: {_shown(self.default)})",
        )


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _shown(value: object) -> str:
    """A value as the help text shows it."""
    if value is None or value == []:
        return "none"
    if isinstance(value, list):
        return ",".join(map(str, value))
    return value.name if isinstance(value, Path) else str(value)


@dataclass(frozen=True)
class Benchmark(Generic[Found]):
    """One benchmark.

    Attributes:
        name: name of its module and of its baseline in `benchmarks/baselines/`.
        doc: docstring of its module, printed by `--help`.
        measure: runs the measurement; the only part that starts processes.
        summarize: computes the figures of the record, including `ratio`.
        render: formats the record as a table.
        options: specific options; `--quick` and `--json` are common to all benchmarks.
        target: target of `ratio`; None if there is none.
        overrides: whether it takes `field=value` arguments for the tiny recipe.
        draw: writes a figure of the record; adds the option `--plot`.
    """

    name: str
    doc: str
    measure: Callable[[Arguments], Found]
    summarize: Callable[[Found], Record]
    render: Callable[[Record], str]
    options: Sequence[Option]
    target: float | None = None
    overrides: bool = False
    draw: Callable[[Path, Record], None] | None = None

    @property
    def summary(self) -> str:
        """First line of the module's docstring."""
        return self.doc.partition("\n")[0]

    def parser(self) -> argparse.ArgumentParser:
        """The command line: common options, then those of this benchmark."""
        parser = argparse.ArgumentParser(
            prog=f"python -m benchmarks.{self.name}",
            description=self.doc,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if self.overrides:
            text = "field of the tiny recipe's configuration"
            parser.add_argument("overrides", nargs="*", metavar="field=value", help=text)
        shown = ", ".join(f"{_flag(name)} {_shown(value)}" for name, value in self.quick.items())
        parser.add_argument("--quick", action="store_true", help=f"about a minute: {shown}")
        parser.add_argument("--json", type=Path, metavar="FILE", help="write the record to FILE")
        if self.draw is not None:
            parser.add_argument("--plot", type=Path, metavar="FILE", help="figure, PNG or SVG")
        for option in self.options:
            option.add(parser)
        return parser

    @property
    def quick(self) -> Record:
        """Values of options under `--quick`, by name."""
        return {o.name: o.quick for o in self.options if o.quick is not None}

    def parse(self, argv: Sequence[str] | None = None) -> Arguments:
        """Arguments of a command line; `--quick` changes defaults only."""
        parser = self.parser()
        arguments = parser.parse_intermixed_args(argv)
        if arguments.quick:
            parser.set_defaults(**self.quick)
            arguments = parser.parse_intermixed_args(argv)
        return arguments

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Measure, then report; returns the exit code."""
        arguments = self.parse(argv)
        apply_driver_env()
        os.environ.pop("RAY_ADDRESS", None)  # a cluster is joined only through `cluster.address`
        facts, clock = machine(), Clock()
        found = self.measure(arguments)
        self.report(found, arguments, facts | {"wall_s": round(clock.seconds, 1)})
        return 0

    def report(self, found: Found, arguments: Arguments, facts: Record) -> Record:
        """Print the table and, as the last line, the record; write the requested files."""
        record = self.record(found, arguments, facts)
        print(self.render(record))
        if self.draw is not None and arguments.plot:
            self.draw(arguments.plot, record)
        print(json.dumps(record, allow_nan=False))
        if arguments.json:
            arguments.json.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")
        return record

    def record(self, found: Found, arguments: Arguments, facts: Record) -> Record:
        """The whole record: name, machine, target, figures and settings."""
        settings = {
            name: value.name if isinstance(value, Path) else value
            for name, value in vars(arguments).items()
            if name not in OUTPUTS
        }
        figures = self.summarize(found)
        start = {"benchmark": self.name, **facts, "target": self.target}
        return start | {"ratio": figures["ratio"], **figures, "settings": settings}


def numbers(text: str) -> list[int]:
    """`64,128` as integers."""
    return [int(part) for part in text.split(",") if part]


def names(text: str) -> list[str]:
    """`a,b` as names; `none` is the empty list."""
    return [part for part in text.split(",") if part and part != "none"]


def require_steps(steps: int, warm: int) -> None:
    """Exit unless at least two timed steps remain after the skipped first ones."""
    if steps < warm + 2:
        sys.exit(f"--steps {steps}: at least {warm + 2}, since the first {warm} are skipped")


def note(text: str) -> None:
    """Print a progress line on standard error."""
    print(text, file=sys.stderr, flush=True)


def machine() -> Record:
    """Date, hardware, and current load of the machine."""
    model, load = "unknown", os.getloadavg()[0]
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": model,
        "cpus": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        "load_before": round(load, 2),
        "busy": load > BUSY_LOAD,  # other processes were running, so only ratios are meaningful
    }


def spread(values: Sequence[float], digits: int = 1) -> dict[str, float]:
    """Median, smallest and largest of repeated measurements."""
    return {
        "median": round(statistics.median(values), digits),
        "min": round(min(values), digits),
        "max": round(max(values), digits),
    }


def medians(rounds: Sequence[Mapping[str, float]], digits: int = 4) -> dict[str, float]:
    """Median over rounds of each figure of the first round."""
    return {
        name: round(statistics.median(figures[name] for figures in rounds), digits)
        for name in rounds[0]
    }


def ratio_of(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """Median over rounds of one contestant's figure over another's in the same round."""
    pairs = zip(numerators, denominators, strict=True)
    return statistics.median(a / b for a, b in pairs)


def significant(value: float, digits: int = 5) -> float:
    """A number rounded to significant digits."""
    return float(f"{value:.{digits}g}")


class Clock:
    """Wall seconds since its creation."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self._start
