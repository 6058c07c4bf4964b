"""Facts of the data report on a corpus and its construction, computed from records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from bard_ray.distill.acceptance import AcceptanceTable
from bard_ray.distill.choice import TeacherChoice
from bard_ray.distill.diagnostics import length_figures
from bard_ray.distill.distance import levenshtein_matrix
from bard_ray.distill.filter import Candidate
from bard_ray.distill.store import StepFacts
from bard_ray.records import DistillRow, Ints, budget_label, token_limit

TokenCounter = Callable[[Sequence[str]], list[int]]
PASS_RATE_BINS = 10
DIVERSITY_QUESTIONS = 100  # the cost is quadratic in the chains of a question


@dataclass(frozen=True, slots=True)
class Diversity:
    """Mean pairwise distance between the chains of a question, in [0, 1].

    Attributes:
        chosen: distances of the selected chains, one per question.
        random: expected distances of as many random chains of the same questions.
    """

    chosen: tuple[float, ...]
    random: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ExampleChain:
    """One row of a question; `budget` is a label, `tokens` the length of its thinking."""

    budget: str
    tokens: int
    think: str
    answer_text: str


@dataclass(frozen=True, slots=True)
class Example:
    """A question with all its rows, smallest budget first."""

    question_id: str
    question: str
    answer: str
    chains: tuple[ExampleChain, ...]


@dataclass(frozen=True, slots=True)
class DataReport:
    """Contents of the report on a corpus; empty entries are omitted.

    A row is a row of the corpus that the stage `sft` trains on: `data/sft.jsonl`.

    Attributes:
        name: name of the run.
        wall_s: seconds spent on building the corpus, including the teacher selection.
        questions: number of distinct questions of the rows.
        steps: facts of the steps, in order.
        lengths: thinking tokens of the rows, by label of the budget; see `lengths_by_budget`.
        contrast: number of questions at exactly n budgets, by n; see `questions_by_budgets`.
        acceptance: results of the compressor.
        pass_rates: pass rates of the questions that the student was sampled on, each in [0, 1].
        diversity: see `diversity`.
        choice: result of the smoke test.
        teachers: counters of each teacher (`Teacher.counters`), by name.
        examples: see `examples`.
    """

    name: str
    wall_s: float | None = None
    questions: int = 0
    steps: Sequence[StepFacts] = ()
    lengths: Mapping[str, Sequence[int]] = field(default_factory=dict)
    contrast: Mapping[int, int] = field(default_factory=dict)
    acceptance: AcceptanceTable = field(default_factory=AcceptanceTable)
    pass_rates: Sequence[float] = ()
    diversity: Diversity | None = None
    choice: TeacherChoice | None = None
    teachers: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    examples: Sequence[Example] = ()

    @property
    def rows(self) -> int:
        """Rows of the corpus."""
        return sum(len(lengths) for lengths in self.lengths.values())

    @property
    def budgets(self) -> list[int]:
        """Token budgets of the rows, ascending."""
        return sorted(int(text) for text in self.lengths if text.isdigit())

    def to_json(self) -> dict[str, Any]:
        """Convert to plain JSON values.

        Lengths and pass rates are summarized: a corpus may have millions of rows.
        """
        diversity = self.diversity
        return {
            "name": self.name,
            "wall_s": self.wall_s,
            "rows": self.rows,
            "questions": self.questions,
            "steps": [asdict(s) | {"records_per_s": s.records_per_s} for s in self.steps],
            "lengths": {b: asdict(length_figures(n)) for b, n in self.lengths.items() if n},
            "questions_by_budgets": {str(n): count for n, count in self.contrast.items()},
            "acceptance": self.acceptance.to_json(),
            "pass_rates": histogram(self.pass_rates),
            "diversity": None if diversity is None else _diversity_json(diversity),
            "choice": None if self.choice is None else self.choice.to_json(),
            "teachers": {name: dict(counted) for name, counted in self.teachers.items()},
            "examples": [asdict(example) for example in self.examples],
        }


def histogram(shares: Sequence[float]) -> list[int]:
    """Counts in `PASS_RATE_BINS` equal bins of [0, 1]; 1 belongs to the last bin."""
    return np.histogram(shares, bins=PASS_RATE_BINS, range=(0, 1))[0].tolist() if shares else []


def lengths_by_budget(
    rows: Sequence[DistillRow], count_tokens: TokenCounter
) -> dict[str, list[int]]:
    """Thinking tokens of all rows by label of the budget: token budgets ascending, then others."""
    found: dict[str, list[int]] = defaultdict(list)
    for row, tokens in zip(rows, count_tokens([row.think for row in rows]), strict=True):
        found[budget_label(row.budget)].append(tokens)
    return dict(sorted(found.items(), key=lambda item: _order(item[0])))


def diversity(chosen: Sequence[Candidate], pool: Sequence[Candidate]) -> Diversity | None:
    """Distances between the chosen chains of a question, compared with random chains.

    Mean over all pairs i < j of d(i, j) / max(T_i, T_j), d the Levenshtein distance of token ids.
    For random chains, the mean over all pairs of the pool is the expectation for any sample size,
    so nothing is sampled.

    Args:
        chosen: chains that were selected.
        pool: chains they were selected from, of the same questions.

    Returns:
        Distances of the first `DIVERSITY_QUESTIONS` questions with at least two chosen chains;
        None without any.

    Source: ours; the distance is DED's.
    """
    kept, all_chains = _by_question(chosen), _by_question(pool)
    names = [name for name, chains in kept.items() if len(chains) > 1 and name in all_chains]
    names = names[:DIVERSITY_QUESTIONS]
    if not names:
        return None
    return Diversity(
        tuple(mean_distance(kept[name]) for name in names),
        tuple(mean_distance(all_chains[name]) for name in names),
    )


def mean_distance(chains: Sequence[Ints]) -> float:
    """Mean pairwise distance as a share of the longer chain; 0 without a pair."""
    if len(chains) < 2:
        return 0.0
    sizes = [tokens_T.size for tokens_T in chains]
    shares = levenshtein_matrix(chains) / np.maximum(np.maximum.outer(sizes, sizes), 1)
    return float(np.mean(shares[np.triu_indices(len(chains), k=1)]))


def examples(rows: Sequence[DistillRow], count_tokens: TokenCounter, count: int) -> list[Example]:
    """The first `count` questions among those with the most rows."""
    groups: dict[str, list[DistillRow]] = defaultdict(list)
    for row in rows:
        groups[row.question.id].append(row)
    shown = sorted(groups.values(), key=len, reverse=True)[:count]
    return [_example(group, count_tokens) for group in shown]


def _example(group: Sequence[DistillRow], count_tokens: TokenCounter) -> Example:
    ordered = sorted(group, key=lambda row: token_limit(row.budget) or float("inf"))
    lengths = count_tokens([row.think for row in ordered])
    question = ordered[0].question
    return Example(
        question.id,
        "\n\n".join(message.content for message in question.messages),
        question.answer,
        tuple(
            ExampleChain(budget_label(row.budget), tokens, row.think, row.answer_text)
            for row, tokens in zip(ordered, lengths, strict=True)
        ),
    )


def _by_question(records: Iterable[Candidate]) -> dict[str, list[Ints]]:
    found: dict[str, list[Ints]] = defaultdict(list)
    for record in records:
        found[record.question.id].append(record.tokens_T)
    return found


def _diversity_json(found: Diversity) -> dict[str, float]:
    means = {"chosen": float(np.mean(found.chosen)), "random": float(np.mean(found.random))}
    return means | {"questions": len(found.chosen)}


def _order(text: str) -> tuple[bool, int, str]:
    return (not text.isdigit(), int(text) if text.isdigit() else 0, text)
