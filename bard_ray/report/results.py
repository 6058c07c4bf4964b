"""`results.json`: wall time per stage and the evaluation summary of every variant.

    {"wall_s": {stage: seconds}, "config": {...}, "variants": {name: VariantSummary}}

`config` holds the settings needed to interpret the results (seed, max_lag, held-out budgets).
The file is written atomically and validated when it is read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bard_ray.errors import RunStateError
from bard_ray.evals.metrics import PointSummary, VariantSummary
from bard_ray.files import write_text
from bard_ray.report.variants import VARIANTS

RATES = ("in_band", "overrun", "accuracy")
_POINT_KEYS = PointSummary.__required_keys__
_VARIANT_KEYS = VariantSummary.__required_keys__


@dataclass(frozen=True, slots=True)
class Results:
    """Contents of `results.json`."""

    wall_s: Mapping[str, float] = field(default_factory=dict)
    variants: Mapping[str, VariantSummary] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def held_out(self) -> frozenset[str]:
        """Labels of the budgets that were never trained on."""
        return frozenset(str(budget) for budget in self.config.get("held_out", ()))

    @property
    def budgets(self) -> list[str]:
        """Labels of all budgets of all variants: numbers by size, then the others."""
        labels = {label for variant in self.variants.values() for label in variant["by_budget"]}
        return sorted(
            labels, key=lambda text: (not text.isdigit(), int(text) if text.isdigit() else 0, text)
        )


def write_results(path: str | Path, results: Results) -> None:
    """Write `results.json` atomically.

    Raises:
        ValueError: a value is not finite or not JSON; nothing is written.
    """
    content = {
        "wall_s": dict(results.wall_s),
        "config": dict(results.config),
        "variants": dict(results.variants),
    }
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_results(path: str | Path) -> Results:
    """Read and check `results.json`.

    Raises:
        RunStateError: the file is missing, is not JSON, or does not have the structure above.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path, f"cannot be read ({error})") from error
    problem = _problem(content)
    if problem:
        raise _damaged(path, problem)
    return Results(content["wall_s"], content["variants"], content.get("config", {}))


def partial_results(
    run_dir: str | Path, wall_s: Mapping[str, float], config: Mapping[str, Any]
) -> Results:
    """Results of an unfinished run: the variants evaluated so far.

    Args:
        run_dir: directory of the run.
        wall_s: wall seconds of its finished stages.
        config: settings to record, see the module docstring.
    """
    files = {path.stem: path for path in sorted((Path(run_dir) / "evals").glob("*.json"))}
    order = [name for name in VARIANTS if name in files]
    order += [name for name in files if name not in VARIANTS]
    return Results(wall_s, {name: json.loads(files[name].read_text()) for name in order}, config)


def _damaged(path: Path, problem: str) -> RunStateError:
    fix = "Delete the file and run the same command again: it is written again from evals/."
    return RunStateError(str(path), problem, fix)


def _problem(content: object) -> str:
    """The first problem with the content of a file; empty if there is none."""
    if not isinstance(content, dict):
        return "is not a JSON object"
    for key, required in (("wall_s", True), ("variants", True), ("config", False)):
        if not isinstance(content.get(key, None if required else {}), dict):
            return f"has no object {key!r}"
    if not all(_is_number(seconds) for seconds in content["wall_s"].values()):
        return "has a wall time that is not a number"
    problems = (_variant_problem(name, variant) for name, variant in content["variants"].items())
    return next((problem for problem in problems if problem), "")


def _variant_problem(name: str, variant: object) -> str:
    if not isinstance(variant, dict) or not isinstance(variant.get("by_budget"), dict):
        return f"variant {name!r} has no 'by_budget'"
    problem = _entry_problem(variant, _VARIANT_KEYS)
    points = (
        (label, _entry_problem(point, _POINT_KEYS)) for label, point in variant["by_budget"].items()
    )
    problem = problem or next((f"budget {label}: {found}" for label, found in points if found), "")
    return f"variant {name!r}: {problem}" if problem else ""


def _entry_problem(entry: object, keys: frozenset[str]) -> str:
    """The problem with a variant or point: a missing key, a non-number, a share outside [0, 1]."""
    if not isinstance(entry, dict):
        return "is not an object"
    missing = sorted(keys - set(entry))
    if missing:
        return f"lacks {', '.join(missing)}"
    numbers = {key: entry[key] for key in keys if key != "by_budget" and entry[key] is not None}
    wrong = [key for key, value in numbers.items() if not _is_number(value)]
    wrong = wrong or [key for key in RATES if key in numbers and not 0 <= numbers[key] <= 1]
    return f"{wrong[0]} = {entry[wrong[0]]!r} is no valid value" if wrong else ""


def _is_number(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value)
