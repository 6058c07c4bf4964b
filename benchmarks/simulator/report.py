"""Tables and figures of study and validation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bard_ray.sim.plot import Curve, draw_scaling

Rows = Sequence[dict[str, Any]]
COLUMNS = (
    ("gpus", "GPUs", "d"),
    ("rollout", "rollout", "d"),
    ("learner", "learner", "d"),
    ("reference", "reference", "d"),
    ("prompts_per_step", "prompts", "d"),
    ("max_lag", "lag", "d"),
    ("lag_needed", "needed", "d"),
    ("step_s", "step s", ".0f"),
    ("samples_per_gpu_hour", "samples/GPU h", ".1f"),
    ("efficiency", "efficiency", ".2f"),
    ("of_ideal", "of ideal", ".2f"),
    ("engine_busy", "engine busy", ".2f"),
    ("learner_wait", "learner waits", ".2f"),
    ("driver_busy", "driver", ".3f"),
)


def render_study(found: dict[str, Any]) -> str:
    """All tables of the study."""
    engine, learner, reference = found["rates"]
    parts = [
        f"tokens/s of one GPU: engine {engine:,.0f}, learner {learner:,.0f}, "
        f"reference {reference:,.0f}; closed form: {found['closed_form_ratio']} rollout GPUs "
        f"per learner GPU; no GPU waiting: {found['ideal_samples_per_gpu_hour']} samples/GPU h",
        "batch grows with the cluster\n" + _table(found["growing_batch"]),
        "the same batch on every cluster\n" + _table(found["fixed_batch"]),
        "split of the GPUs\n" + _table(found["split"]),
        "what breaks it\n"
        + _table([{"case": name, **row} for name, row in found["breaks"].items()]),
    ]
    return "\n\n".join(parts)


def _table(rows: Rows) -> str:
    columns = [c for c in COLUMNS if c[0] in rows[0]]
    lines = [[title for _, title, _ in columns]]
    lines += [[format(row[key], form) for key, _, form in columns] for row in rows]
    names = [str(row.get("case", "")) for row in rows]
    return _aligned(lines, ["", *names])


def _aligned(lines: list[list[str]], ends: list[str]) -> str:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)) + f"  {end}".rstrip()
        for line, end in zip(lines, ends, strict=True)
    )


def render_validation(found: dict[str, Any]) -> str:
    """Measured and predicted figures, one line per configuration; then the service times."""
    head = ["lag", "prompts", "group", "step s", "predicted", "ratio"]
    shares = ["wait", "train", "publish", "engine busy"]
    lines = [head + shares]
    for row in found["configurations"]:
        shape, seen, said = row["configuration"], row["measured"], row["predicted"]
        line = [str(v) for v in shape.values()]
        line += [f"{seen['step_s']:.3f}", f"{said['step_s']:.3f}", f"{row['ratio']:.3f}"]
        for key in ("wait_s", "train_s", "publish_s"):
            line.append(f"{seen[key] / seen['step_s']:.2f}/{said[key] / said['step_s']:.2f}")
        line.append(f"{seen['engine_busy_share']:.2f}/{said['engine_busy_share']:.2f}")
        lines.append(line)
    times = "\n".join(
        f"{part}: " + "  ".join(f"{name} {_value(value)}" for name, value in values.items())
        for part, values in found["service_times"].items()
    )
    if not found["configurations"]:
        return times
    table = _aligned(lines, [""] * len(lines))
    return f"{times}\n\nshares of the step are measured/predicted\n{table}"


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "/".join(map(_value, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write_plot(path: Path, found: dict[str, Any]) -> None:
    """Throughput per GPU over the size of the cluster and over the split."""
    ideal = found["ideal_samples_per_gpu_hour"]
    split = {
        name: sorted(
            (row["rollout"] / row["learner"], row["samples_per_gpu_hour"] / ideal) for row in rows
        )
        for name, rows in _by_lag(found["split"]).items()
    }
    draw_scaling(
        path,
        [
            ("batch grows: 64 rollouts a GPU and step", "GPUs", _curves(found["growing_batch"])),
            ("same batch: 4,096 rollouts a step", "GPUs", _curves(found["fixed_batch"])),
            ("64 GPUs, split in other ways", "rollout GPUs per learner GPU", split),
        ],
    )


def _curves(rows: Rows) -> dict[str, Curve]:
    return {
        name: [(row["gpus"], row["of_ideal"]) for row in group]
        for name, group in _by_lag(rows).items()
    }


def _by_lag(rows: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[f"max_lag {row['max_lag']}"].append(row)
    return dict(groups)
