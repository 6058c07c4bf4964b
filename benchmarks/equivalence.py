"""Agreement of our grader and of plain math-verify with pairs of known verdict.

    python -m benchmarks.equivalence [--quick] [--json FILE]

The pairs (`tests/fixtures/equivalence.tsv`) come from the test suites of other projects; we added
near misses that these lack. Both graders get the same texts, one pair after the other:

- `ours`: `bard_ray.verify.grade.grade`, in this process, because no pair is hostile.
- `math_verify`: `parse` the gold answer in a box, `parse` the text, `verify`, as its callers do.

A false positive is an accepted wrong answer, a false negative a rejected correct answer. `ratio` is
the share of pairs that our grader agrees with over the share of math-verify. The last line
printed is one JSON object.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bard_ray.records import GradeItem, Outcome
from bard_ray.verify.grade import grade
from benchmarks.common import ROOT, Arguments, Benchmark, Option, Record

PAIRS = ROOT / "tests" / "fixtures" / "equivalence.tsv"
ARGUABLE = ROOT / "tests" / "fixtures" / "equivalence_arguable.tsv"
_OURS = "ours"


@dataclass(frozen=True, slots=True)
class Pair:
    """An answer, a gold answer, and whether they are equal; `source` is the origin of the pair."""

    kind: str
    equal: bool
    answer: str
    gold: str
    source: str

    @property
    def text(self) -> str:
        """The text of a policy: the answer, put in a box unless it has one."""
        return in_box(self.answer)


@dataclass(frozen=True, slots=True)
class Said:
    """Whether each grader accepted the answer of a pair, and the seconds it took."""

    pair: Pair
    ours: bool
    theirs: bool
    ours_s: float
    theirs_s: float


def in_box(answer: str) -> str:
    """The answer in a box, unless it already has one."""
    return answer if r"\boxed" in answer else rf"\boxed{{{answer}}}"


def rows(path: Path) -> list[list[str]]:
    """Cells of a table separated by tabs, without its comments."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.split("\t") for line in lines if line and not line.startswith("#")]


def read_pairs(path: Path = PAIRS) -> list[Pair]:
    """The pairs of the fixture.

    Raises:
        ValueError: a row has not five cells, or a verdict other than `equal` and `different`.
    """
    pairs = []
    for kind, verdict, answer, gold, source in rows(path):
        if verdict not in ("equal", "different"):
            raise ValueError(f"{path.name}: {verdict!r} is no verdict ({answer!r}, {gold!r})")
        pairs.append(Pair(kind, verdict == "equal", answer, gold, source))
    return pairs


def ours_accepts(pair: Pair) -> bool:
    """Our verdict."""
    return grade(GradeItem(pair.text, pair.gold, "math")).outcome is Outcome.CORRECT


def math_verify_accepts(pair: Pair) -> bool:
    """The verdict of math-verify with default settings; any error is a wrong answer."""
    from math_verify import parse, verify

    try:
        return bool(verify(parse(in_box(pair.gold)), parse(pair.text)))
    except Exception:  # noqa: BLE001 what its callers do
        return False


def measure(arguments: Arguments) -> list[Said]:
    """Both graders on all pairs in turn."""
    return [judge(pair) for pair in read_pairs()[:: arguments.every]]


def judge(pair: Pair) -> Said:
    """Both graders on one pair."""
    begun = time.perf_counter()
    ours = ours_accepts(pair)
    between = time.perf_counter()
    theirs = math_verify_accepts(pair)
    return Said(pair, ours, theirs, between - begun, time.perf_counter() - between)


def score(pairs: Sequence[Pair], accepted: Sequence[bool]) -> dict[str, float]:
    """Agreement, false positives and false negatives of one grader."""
    wrong = [pair.equal for pair, yes in zip(pairs, accepted, strict=True) if yes is not pair.equal]
    return {
        "agreement": round(1 - len(wrong) / len(pairs), 4),
        "false_positives": wrong.count(False),
        "false_negatives": wrong.count(True),
    }


def compared(said: Sequence[Said]) -> Record:
    """Both graders on the same pairs."""
    pairs = [one.pair for one in said]
    ours = score(pairs, [one.ours for one in said])
    theirs = score(pairs, [one.theirs for one in said])
    ratio = round(ours["agreement"] / max(theirs["agreement"], 1e-9), 4)
    return {"pairs": len(pairs), "ratio": ratio, "ours": ours, "math_verify": theirs}


def summarize(said: Sequence[Said]) -> Record:
    """All pairs, those of other projects alone, and each class."""
    kinds = dict.fromkeys(one.pair.kind for one in said)
    suites = [one for one in said if one.pair.source != _OURS]
    return {
        **compared(said),
        "ms_per_pair": {
            "ours": round(1e3 * sum(one.ours_s for one in said) / len(said), 3),
            "math_verify": round(1e3 * sum(one.theirs_s for one in said) / len(said), 3),
        },
        "suites": compared(suites),
        "classes": {k: compared([one for one in said if one.pair.kind == k]) for k in kinds},
        "ours_wrong": [
            f"{one.pair.kind}: {one.pair.answer} | {one.pair.gold}"
            for one in said
            if one.ours is not one.pair.equal
        ],
    }


def render(record: Record) -> str:
    """Pairs, false positives and false negatives of both graders, by class."""
    lines = [f"{'':<16}{'pairs':>6}{'ours +':>9}{'ours -':>8}{'theirs +':>10}{'theirs -':>10}"]
    named = {**record["classes"], "from suites": record["suites"], "all": record}
    for name, row in named.items():
        ours, theirs = row["ours"], row["math_verify"]
        lines.append(
            f"{name:<16}{row['pairs']:>6}{ours['false_positives']:>9}{ours['false_negatives']:>8}"
            f"{theirs['false_positives']:>10}{theirs['false_negatives']:>10}"
        )
    milliseconds = record["ms_per_pair"]
    lines += [
        "+ false positives, - false negatives; theirs: plain math-verify",
        f"ms per pair: ours {milliseconds['ours']:.2f}, theirs {milliseconds['math_verify']:.2f}",
    ]
    return "\n".join(lines + [f"  ours is wrong about {pair}" for pair in record["ours_wrong"]])


OPTIONS = (Option("every", 1, 6, "grade one pair of so many"),)
BENCHMARK = Benchmark("equivalence", __doc__, measure, summarize, render, OPTIONS, target=1.0)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
