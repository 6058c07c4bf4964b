"""`data/report.html`: construction and contents of a corpus, with the same facts as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from bard_ray.distill.acceptance import Acceptance, AcceptanceTable
from bard_ray.distill.choice import NOISE, CandidateFigures, TeacherChoice
from bard_ray.distill.compressor import Reason
from bard_ray.distill.contrast import contrast_share, contrast_warning
from bard_ray.distill.diagnostics import length_figures
from bard_ray.distill.store import StepFacts
from bard_ray.files import write_text
from bard_ray.progress import duration
from bard_ray.report.data_facts import DataReport, Example
from bard_ray.report.data_figures import make_data_figures
from bard_ray.report.page import (
    Bar,
    Block,
    Card,
    Cards,
    Details,
    Figures,
    Note,
    Section,
    Table,
    columns_of,
    render_page,
)
from bard_ray.report.text import number, share, short_number

_CHOICE_COLUMNS = (
    "score",
    "std. error",
    "right",
    "in budget",
    "tokens",
    "rows",
    "steps",
    "chain length",
    "entropy",
    "nll",
    "shift",
)


def write_data_report(path: str | Path, report: DataReport) -> Path:
    """Write the page, and a `.json` file of the same name beside it.

    Args:
        path: path of the page.
        report: contents of the page.

    Returns:
        The path of the page.

    Raises:
        ValueError: a number is not finite; nothing is written.
    """
    path = Path(path)
    content = json.dumps(report.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
    page = render_page("Data", f"Corpus of run {report.name}", _sections(report))
    write_text(path.with_suffix(".json"), content + "\n")
    write_text(path, page)
    return path


def _sections(report: DataReport) -> list[Section]:
    figures = make_data_figures(report)
    return [
        Section("overview", "Overview", _overview(report)),
        Section("steps", "Steps", _steps(report.steps)),
        Section("dropped", "Dropped records", _dropped(report.steps)),
        Section("counters", "Counters", _counters(report.steps)),
        Section("figures", "Figures", [Figures(figures)] if figures else []),
        Section("lengths", "Thinking tokens", _lengths(report)),
        Section("compression", "Compression", _acceptance(report.acceptance)),
        Section("choice", "Choice of the teacher", _choice(report.choice)),
        Section("teachers", "Teacher usage", _teachers(report.teachers)),
        Section("examples", "Examples", [_example(example) for example in report.examples]),
    ]


def _overview(report: DataReport) -> list[Block]:
    """Rows, questions, teacher and time; a warning if the corpus lacks contrast."""
    without = report.rows - sum(len(report.lengths[str(b)]) for b in report.budgets)
    at_budgets = f"{report.rows - without:,} at {len(report.budgets)} budgets"
    cards = [
        Card("rows", f"{report.rows:,}", f"{at_budgets}, {without:,} without a budget"),
        Card("questions", f"{report.questions:,}"),
    ]
    if report.contrast:
        cards.append(Card("questions at 2+ budgets", share(contrast_share(report.contrast))))
    if report.choice is not None:
        cards.append(Card("teacher", report.choice.winner))
    if report.wall_s is not None:
        cards.append(Card("wall time", duration(report.wall_s)))
    warning = contrast_warning(report.contrast)
    warnings = [Note(f"Warning: {warning}")] if warning else []
    note = Note("Rows are those of data/sft.jsonl, which the stage sft trains on.")
    return [Cards(cards), *warnings, note]


def _steps(steps: Sequence[StepFacts]) -> list[Block]:
    """Every step: records in and out, its wall time, and a bar of it."""
    if not steps:
        return []
    longest = max(step.seconds for step in steps) or 1.0
    numbers = ("in", "kept", "spare", "dropped", "records/s", "wall time")
    columns = columns_of("step", *numbers, texts=("where the time goes", "key"))
    note = "Steps overlap, so their wall times do not add up to the total."
    if any(step.reused for step in steps):
        note += " * Built by an earlier command, fully or partly; the time is that of the original."
    rows = [_step_row(step, longest) for step in steps]
    return [Table("Steps", columns, rows), Note(note)]


def _step_row(step: StepFacts, longest: float) -> list[str | Bar]:
    rate = step.records_per_s
    return [
        f"{step.name}*" if step.reused else step.name,
        f"{step.records:,}",
        f"{step.kept:,}",
        f"{step.dropped.get(Reason.SPARE, 0):,}",
        f"{sum(_rejected(step).values()):,}",
        "-" if rate is None else short_number(float(f"{rate:.3g}")),
        _seconds(step.seconds),
        Bar(step.seconds / longest),
        step.key[:12],
    ]


def _seconds(seconds: float) -> str:
    """A time with at least two significant digits."""
    if seconds < 1:
        return f"{seconds:.2f} s"
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)


def _rejected(step: StepFacts) -> dict[str, int]:
    """Records that a step dropped, by reason, except for spare ones, which were valid."""
    return {reason: count for reason, count in step.dropped.items() if reason != Reason.SPARE}


def _dropped(steps: Sequence[StepFacts]) -> list[Block]:
    """Reasons for dropped records, with example questions."""
    rows = [
        [
            step.name,
            f"{count:,}",
            share(count / max(1, step.records)),
            reason,
            ", ".join(step.examples.get(reason, ())),
        ]
        for step in steps
        for reason, count in sorted(_rejected(step).items(), key=lambda item: -item[1])
    ]
    columns = columns_of("step", "records", "share", texts=("reason", "questions, for example"))
    return [Table("Dropped records", columns, rows)] if rows else []


def _counters(steps: Sequence[StepFacts]) -> list[Block]:
    rows = [
        [step.name, short_number(value), name]
        for step in steps
        for name, value in step.counters.items()
    ]
    columns = columns_of("step", "value", texts=("counter",))
    return [Table("Counters of the steps", columns, rows)] if rows else []


def _lengths(report: DataReport) -> list[Block]:
    """Lengths at every budget as numbers, including rows without a budget."""
    rows = []
    for label, lengths in report.lengths.items():
        if lengths:
            f = length_figures(lengths)
            percentiles = (number(p, 0) for p in (f.p10, f.p50, f.p90))
            rows.append([label, f"{f.chains:,}", number(f.mean), *percentiles])
    columns = columns_of("budget", "rows", "mean", "p10", "p50", "p90")
    return [Table("Lengths at each budget", columns, rows)] if rows else []


def _acceptance(found: AcceptanceTable) -> list[Block]:
    """Attempts at every budget, accepted ones, and reasons for the others."""
    if not found.budgets:
        return []
    numbers = ("requested", "accepted", "share", "texts each", "mean length", "|L-b|/b", "spare")
    table = Table(
        "Acceptance at each budget",
        columns_of("budget", *numbers, texts=("why not",)),
        [_acceptance_row(str(budget), row) for budget, row in sorted(found.budgets.items())],
    )
    note = (
        "L: thinking tokens of the accepted chains, b: budget. Spare: valid chains of questions"
        " that already had enough; they do not count toward the share."
    )
    return [table, Note(note)]


def _acceptance_row(budget: str, row: Acceptance) -> list[str]:
    figures = row.to_json()
    return [
        budget,
        f"{row.requested:,}",
        f"{row.accepted:,}",
        share(figures["share"]),
        number(figures["mean_attempts"], 2),
        number(figures["mean_tokens"]),
        share(figures["mean_error"], 3),
        f"{row.spare:,}",
        ", ".join(f"{reason} {count:,}" for reason, count in row.reasons.most_common()),
    ]


def _choice(choice: TeacherChoice | None) -> list[Block]:
    """Every candidate of the smoke test."""
    if choice is None:
        return []
    rows = [_candidate_row(c, c.name == choice.winner) for c in choice.candidates]
    note = (
        "Score: share of the student's answers that are correct and within the budget."
        " Entropy, negative log-likelihood under the untrained student (both in nats per token) and"
        " shift of its hidden states are diagnostics that did not affect the choice."
    )
    table = Table("Candidate teachers", columns_of("teacher", *_CHOICE_COLUMNS), rows)
    return [Note(_verdict(choice)), table, Note(note)]


def _candidate_row(candidate: CandidateFigures, won: bool) -> list[str]:
    name = f"{candidate.name} (chosen)" if won else candidate.name
    if candidate.failure:
        return [name, f"no score: {candidate.failure}"]
    diagnostics = candidate.diagnostics
    return [
        name,
        number(candidate.score, 3),
        number(candidate.stderr, 3),
        share(candidate.accuracy),
        share(candidate.within),
        number(candidate.tokens),
        f"{candidate.rows:,}",
        f"{candidate.steps:,}",
        number(diagnostics.lengths.mean if diagnostics else None),
        number(diagnostics.entropy if diagnostics else None, 3),
        number(diagnostics.nll if diagnostics else None, 3),
        number(diagnostics.shift if diagnostics else None, 2),
    ]


def _verdict(choice: TeacherChoice) -> str:
    """The choice and its statistical confidence, in words."""
    if not choice.runner_up or choice.lead is None:
        return f"{choice.winner} is chosen: no other teacher could be compared with it."
    lead = f"{choice.winner} leads {choice.runner_up} by {number(choice.lead, 3)}"
    if choice.lead_stderr is None:
        return f"{lead}; a single question does not show the noise."
    error = f"{lead}, standard error {number(choice.lead_stderr, 3)}"
    if choice.beyond_noise:
        return (
            f"{error}: more than {NOISE:g} standard errors. Variation with the training's seed is"
            " not included."
        )
    fix = "more of distill.smoke.eval_questions and distill.smoke.questions would separate them"
    return f"{error}: within the noise; {fix}."


def _teachers(teachers: Mapping[str, Mapping[str, float]]) -> list[Block]:
    """Requests to teachers in tokens and, if they report it, in money."""
    if not teachers:
        return []
    names = list(dict.fromkeys(name for counted in teachers.values() for name in counted))
    rows = [
        [teacher, *(short_number(counted[n]) if n in counted else "-" for n in names)]
        for teacher, counted in teachers.items()
    ]
    columns = columns_of("teacher", *(name.replace("_", " ") for name in names))
    return [Table("Tokens and costs of teachers", columns, rows)]


def _example(example: Example) -> Details:
    """A question with all its chains, collapsed."""
    texts = [("", example.question)]
    for chain in example.chains:
        texts.append((f"budget {chain.budget}, {chain.tokens:,} tokens", chain.think))
        texts.append(("", chain.answer_text))
    summary = f"{example.question_id}: {len(example.chains)} rows, answer {example.answer}"
    return Details(summary, texts)
