"""DED's two claims on the tiny task: teacher selection and curation of a small corpus.

    python -m benchmarks.ded [--seeds 0,1,2] [--quick] [--json FILE] [field=value ...]

For every seed, it makes whole supervised runs of the tiny recipe (`rl.enabled=false`) from one base
student:

- teachers: the smoke test chooses between a clean, a sloppy and a verbose teacher; then a student
  is trained on the whole corpus of each, to check the choice,
- corpora: from a pool, the questions that the base student fails, each with its most distant chains
  (`curated`), compared with as many rows of random questions (`random`) and with five times as many
  (`random_5x`), all of one teacher that writes chains of different kinds. These train for one
  epoch, so `random_5x` takes five times the steps; `curated_long` trains five epochs on the curated
  rows.

Accuracy and adherence are means over the budgets of the evaluation; `score` is accuracy times the
share in the band. Runs are stored under `build/`: the same command resumes an interrupted run,
`--fresh` starts over. The last line printed is one JSON object; `ratio` is the score of `curated`
over that of `random`, mean over the seeds, `ratio_5x` that of `curated_long` over that of
`random_5x` with the same number of steps, and `chose_best` the share of seeds in which the smoke
test chose the teacher of the best student.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bard_ray.distill.choice import TeacherChoice
from bard_ray.report.results import read_results
from benchmarks.children import run_recipe
from benchmarks.common import CACHE, Arguments, Benchmark, Option, Record, note, numbers
from recipes.bard_tiny import config as recipe

FIGURES = ("accuracy", "in_band", "rel_err", "overrun")
MORE = 5
TEACHERS = recipe().distill.teachers
# Chains of one question differ: some skip or shorten steps, some are wrong.
VARIED = {"varied": {"backend": "exact", "slip": 0.03, "skip": 0.1, "plain": 0.3, "recheck": 0.1}}
RANDOM_STEPS: list[Any] = ["teach", "grade", "correct"]
CURATED_STEPS: list[Any] = [
    {"teach": {"chains": 8}},
    "grade",
    "correct",
    "think_tags",
    {"length": {"max_tokens": 64}},
    "near_duplicates",
    {"decontaminate": {"ngram": 64}},
    {"sample_student": {"samples": 4, "max_new_tokens": 60, "temperature": 1.0}},
    {"pass_rate": {"max_rate": 0.75}},
    {"diverse": {"keep": 2}},
]


@dataclass(frozen=True)
class Sizes:
    """Numbers of questions.

    Attributes:
        questions: in a teacher's whole corpus.
        smoke: per candidate in the smoke test; 250 cannot distinguish teachers (LOG.md).
        pool: in the pool from which the curated corpus is selected.
    """

    questions: int = 3000
    smoke: int = 1200
    pool: int = 4000


@dataclass(frozen=True)
class StudentOutcome:
    """One run: the figures of its student, its training rows, its teacher."""

    figures: Mapping[str, float]
    rows: int
    teacher: str

    @property
    def score(self) -> float:
        """Accuracy times the share in the band."""
        return self.figures["accuracy"] * self.figures["in_band"]


def json_override(field: str, value: object) -> str:
    """An override whose value is a list or a mapping."""
    return f"{field}={json.dumps(value)}"


class Lab:
    """The runs of one seed, which share a base student and stored outputs of the data pipeline."""

    def __init__(self, root: Path, seed: int, sizes: Sizes, extra: Sequence[str]) -> None:
        self._root, self._seed, self._sizes = root / f"seed{seed}", seed, sizes
        self._extra = list(extra)

    def path(self, name: str) -> Path:
        """Directory of a run."""
        return self._root / name

    def run(self, name: str, overrides: Sequence[str]) -> StudentOutcome:
        """Execute or resume a run."""
        first = self.path("smoke")
        shared = [f"student.path={first / 'checkpoints' / 'base'}", "base.enabled=false"]
        where = [f"run.dir={self._root}", f"run.name={name}", f"run.seed={self._seed}"]
        off = ["rl.enabled=false", "sft_full.enabled=false"]
        base = [] if name == "smoke" else shared
        run_recipe(*where, *off, *self._extra, *base, *overrides)
        outcome = read_outcome(self.path(name))
        note(f"seed {self._seed}  {name}: {outcome.rows:,} rows, score {outcome.score:.3f}")
        return outcome

    def teachers(self) -> tuple[TeacherChoice, dict[str, StudentOutcome]]:
        """The smoke test's choice, and the student of every teacher's whole corpus."""
        sizes = self._sizes
        common = [
            json_override("distill.teachers", TEACHERS),
            f"distill.questions={sizes.questions}",
        ]
        chosen = self.run("smoke", [*common, f"distill.smoke.questions={sizes.smoke}"])
        choice = read_choice(self.path("smoke"))
        found = {choice.winner: chosen}
        for name in TEACHERS:
            if name not in found:
                found[name] = self.run(f"teacher_{name}", [*common, f"distill.teacher={name}"])
        return choice, found

    def corpora(self) -> dict[str, StudentOutcome]:
        """Students of the curated corpus, of as many random rows, and of five times as many."""
        config = recipe()
        common = [json_override("distill.teachers", VARIED)]
        steps = json_override("distill.steps", CURATED_STEPS)
        curated = self.run("curated", [*common, steps, f"distill.questions={self._sizes.pool}"])
        budgeted = curated.rows * (1 - config.budget.none_share)
        kept = correct_share(self.path("curated"))
        same = max(1, round(budgeted / config.distill.budgets_per_question / kept))
        pool = f"distill.questions={self._sizes.pool}"
        longer = self.run("curated_long", [*common, steps, pool, f"sft.epochs={MORE}"])
        found = {"curated": curated, "curated_long": longer}
        for name, times in (("random", 1), (f"random_{MORE}x", MORE)):
            steps = json_override("distill.steps", RANDOM_STEPS)
            found[name] = self.run(name, [*common, steps, f"distill.questions={times * same}"])
        return found


def read_outcome(run: Path) -> StudentOutcome:
    """Figures of the supervised student, from the files of a finished run."""
    variant = read_results(run / "results.json").variants["sft"]
    facts = json.loads((run / "state.json").read_text())["stages"]["distill"]["facts"]
    figures = {name: float(variant[name] or 0.0) for name in FIGURES}  # type: ignore[literal-required]
    return StudentOutcome(figures, int(facts["rows_sft"]), str(facts.get("teacher", "")))


def correct_share(run: Path) -> float:
    """Share of the teacher's chains that are correct; the others are dropped everywhere."""
    steps = json.loads((run / "data" / "report.json").read_text())["steps"]
    (correct,) = (step for step in steps if step["name"] == "correct")
    return float(correct["kept"] / max(1, correct["records"]))


def read_choice(run: Path) -> TeacherChoice:
    """The smoke test's choice, from the data report of a finished run."""
    content = json.loads((run / "data" / "report.json").read_text())["choice"]
    if content is None:
        sys.exit(f"{run}: its data report has no choice between teachers")
    return TeacherChoice.from_json(content)


def over_seeds(outcomes: Sequence[StudentOutcome]) -> dict[str, dict[str, float]]:
    """Mean, minimum and maximum of every figure over the seeds."""
    rows = [{**o.figures, "score": o.score, "rows": float(o.rows)} for o in outcomes]
    return {
        name: {
            "mean": round(statistics.mean(row[name] for row in rows), 4),
            "min": round(min(row[name] for row in rows), 4),
            "max": round(max(row[name] for row in rows), 4),
        }
        for name in rows[0]
    }


@dataclass(frozen=True)
class SeedRuns:
    """The runs of one seed: the smoke test's choice, and outcomes by teacher and by corpus."""

    choice: TeacherChoice
    teachers: Mapping[str, StudentOutcome]
    corpora: Mapping[str, StudentOutcome]


def measure(arguments: Arguments) -> list[SeedRuns]:
    """Execute all runs of every seed."""
    root = CACHE / ("ded-quick" if arguments.quick else "ded")
    extra = [f"base.rows={arguments.base_rows}", f"data.eval_questions={arguments.eval_questions}"]
    extra += [*arguments.overrides, *(["run.fresh=true"] if arguments.fresh else [])]
    sizes = Sizes(arguments.questions, arguments.smoke, arguments.pool)
    found = []
    for seed in arguments.seeds:
        lab = Lab(root, seed, sizes, extra)
        found.append(SeedRuns(*lab.teachers(), lab.corpora()))
    return found


def summarize(seeds: Sequence[SeedRuns]) -> Record:
    """Ratios and tables over the seeds."""
    more = f"random_{MORE}x"

    def ratios(name: str, other: str) -> list[float]:
        return [s.corpora[name].score / max(1e-9, s.corpora[other].score) for s in seeds]

    best = [max(s.teachers, key=lambda name: s.teachers[name].score) for s in seeds]
    chosen = [s.choice.winner for s in seeds]
    curated = ratios("curated", "random")
    return {
        "ratio": round(statistics.mean(curated), 4),
        "ratio_min": round(min(curated), 4),
        "ratio_max": round(max(curated), 4),
        "ratio_5x": round(statistics.mean(ratios("curated_long", more)), 4),
        "chose_best": round(statistics.mean(c == b for c, b in zip(chosen, best, strict=True)), 4),
        "chosen": chosen,
        "best": best,
        "smoke": [s.choice.to_json() for s in seeds],
        "variants": {
            **{name: over_seeds([s.teachers[name] for s in seeds]) for name in seeds[0].teachers},
            **{name: over_seeds([s.corpora[name] for s in seeds]) for name in seeds[0].corpora},
        },
    }


def render(record: Record) -> str:
    """One line per variant: mean and, in brackets, minimum and maximum over the seeds."""
    columns = ["rows", *FIGURES, "score"]
    lines = [f"{'':16}" + "".join(f"{column:>22}" for column in columns)]
    for name, figures in record["variants"].items():
        cells = (figures[column] for column in columns)
        shown = (f"{c['mean']:.3g} ({c['min']:.3g} to {c['max']:.3g})" for c in cells)
        lines.append(f"{name:16}" + "".join(f"{text:>22}" for text in shown))
    lines.append(f"chosen by the smoke test {record['chosen']}, best {record['best']}")
    return "\n".join(lines)


OPTIONS = (
    Option("seeds", [0, 1, 2], [0], parse=numbers),
    Option("questions", Sizes.questions, 100, "questions of a teacher's whole corpus"),
    Option("smoke", Sizes.smoke, 60, "questions of a candidate in the smoke test"),
    Option("pool", Sizes.pool, 200, "questions that the curated corpus is chosen from"),
    Option("base_rows", 8000, 1000, "rows of the base student's corpus"),
    Option("eval_questions", 256, 16, "questions of the evaluation"),
    Option("fresh", False, help="start over"),
)
BENCHMARK = Benchmark(
    "ded", __doc__, measure, summarize, render, OPTIONS, target=1.0, overrides=True
)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
