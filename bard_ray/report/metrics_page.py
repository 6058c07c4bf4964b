"""docs/metrics.md, generated from `bard_ray.metrics`: `python -m bard_ray.report.metrics_page`."""

from __future__ import annotations

import sys

from bard_ray.metrics import BIN_WORDS, BINNED, TABLE, Metric

PAGE = """# Metrics

One record a step and stage, in `metrics.jsonl` and as TensorBoard scalars. A name that is not
listed here cannot be written, except for those that a plug-in declares itself: a reward or a
correction with a class attribute `METRICS` writes `reward/<name>` or `correction/<name>`
([plugins.md](plugins.md)). This page is made from `bard_ray/metrics.py`. Lag is in optimizer steps
everywhere.

{table}

## By budget

Long answers are the ones that asynchrony treats worst: they span more weight versions. So these are
split by the budget of the rollout, as `bins/<name>_<bin>`:

{bins}

{binned}
"""


def render() -> str:
    """The page as Markdown."""
    plain = {name: m for name, m in TABLE.items() if not name.startswith("bins/")}
    bins = "\n".join(f"- `{name}`: {words}" for name, words in BIN_WORDS.items())
    return PAGE.format(table=_table(plain), bins=bins, binned=_table(BINNED))


def _table(metrics: dict[str, Metric]) -> str:
    rows = [
        f"| `{name}` | {m.unit} | {m.reduction} | {_plain(m.meaning)} |"
        for name, m in metrics.items()
    ]
    return "\n".join(["| name | unit | reduction | meaning |", "|---|---|---|---|", *rows])


def _plain(meaning: str) -> str:
    return meaning.replace(", {bin}", "").replace("|", r"\|")


if __name__ == "__main__":
    sys.stdout.write(render())
