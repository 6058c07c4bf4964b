"""`data.html`: how a corpus was made and what is in it; `data.json` beside it holds the figures.

The page is made as `bard_ray.report.page` says: whatever comes from data or models is escaped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from bard_ray.distill.acceptance import AcceptanceTable
from bard_ray.distill.choice import NOISE, CandidateFigures, TeacherChoice
from bard_ray.distill.contrast import contrast_share, contrast_warning
from bard_ray.distill.diagnostics import length_figures
from bard_ray.distill.store import StepFacts
from bard_ray.files import write_text
from bard_ray.progress import duration
from bard_ray.report.data_facts import (
    DataReport,
    Diversity,
    Example,
    ExampleChain,
    diversity,
    examples,
    lengths_by_budget,
)
from bard_ray.report.data_figures import make_data_figures
from bard_ray.report.page import cell, figure_section, model_text, page, table, text_of
from bard_ray.report.table import number, share

__all__ = [
    "DataReport",
    "Diversity",
    "Example",
    "ExampleChain",
    "diversity",
    "examples",
    "lengths_by_budget",
    "write_data_report",
]

_CHOICE_COLUMNS = (
    "teacher",
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
    """Write the page, and a file of the same name that ends in `.json` beside it.

    Args:
        path: of the page.
        report: what it tells.

    Returns:
        The path of the page.

    Raises:
        ValueError: a number is not finite; nothing is written.
    """
    path = Path(path)
    content = json.dumps(report.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
    sections = [
        _headline(report),
        _steps(report.steps),
        _dropped(report.steps),
        _counters(report.steps),
        figure_section(make_data_figures(report)),
        _lengths(report),
        _acceptance(report.acceptance),
        _choice(report.choice),
        _teachers(report.teachers),
        _examples(report.examples),
    ]
    body = "\n".join(section for section in sections if section)
    write_text(path.with_suffix(".json"), content + "\n")
    write_text(path, page("Data", f"Corpus of run {report.name}", body))
    return path


def _headline(report: DataReport) -> str:
    """Rows, budgets, the teacher, and the time spent by this command."""
    rows = sum(len(lengths) for lengths in report.lengths.values())
    fresh = sum(step.seconds for step in report.steps if not step.reused)
    shown = [("rows", f"{rows:,}"), ("budgets", str(len(report.budgets)))]
    if report.contrast:
        shown.append(("questions at 2+ budgets", share(contrast_share(report.contrast))))
    if report.choice is not None:
        shown.append(("teacher", report.choice.winner))
    shown.append(("made in", duration(fresh)))
    cards = "\n".join(
        f'<div class="card"><div class="what">{what}</div>'
        f'<div class="value">{text_of(value)}</div></div>'
        for what, value in shown
    )
    warning = contrast_warning(report.contrast)
    note = f"\n{_note(f'Warning: {warning}')}" if warning else ""
    return f'<section class="cards" aria-label="Headline numbers">\n{cards}\n</section>{note}'


def _steps(steps: Sequence[StepFacts]) -> str:
    """Every step: records in and out, records a second, and a bar of the time it took."""
    if not steps:
        return ""
    longest = max(step.seconds for step in steps) or 1.0
    columns = ("in", "kept", "dropped", "records/s", "time")
    head = _head("step", columns, last=("where the time goes", "key"))
    rows = "\n".join(_step_row(step, longest) for step in steps)
    note = "" if not any(s.reused for s in steps) else _note("* Made by an earlier command.")
    return f"<h2>Steps</h2>\n{table('Steps', head, rows)}\n{note}"


def _step_row(step: StepFacts, longest: float) -> str:
    name = f"{step.name}*" if step.reused else step.name
    rate = "-" if step.records_per_s is None else _plain(float(f"{step.records_per_s:.3g}"))
    dropped = sum(step.dropped.values())
    numbers = (f"{step.records:,}", f"{step.kept:,}", f"{dropped:,}", rate)
    cells = "".join(cell("td", text) for text in (*numbers, _seconds(step.seconds)))
    bar = f'<span class="bar" style="width:{100 * step.seconds / longest:.1f}%"></span>'
    return (
        f"<tr>{cell('th', name, scope='row', left=True)}{cells}"
        f'<td class="wide">{bar}</td>{cell("td", step.key[:12], left=True)}</tr>'
    )


def _dropped(steps: Sequence[StepFacts]) -> str:
    """Why records were dropped, with questions to look at."""
    rows = "\n".join(
        f"<tr>{cell('th', step.name, scope='row', left=True)}{cell('td', reason, left=True)}"
        f"{cell('td', f'{count:,}')}{cell('td', share(count / max(1, step.records)))}"
        f"{cell('td', ', '.join(step.examples.get(reason, ())), left=True)}</tr>"
        for step in steps
        for reason, count in sorted(step.dropped.items(), key=lambda item: -item[1])
    )
    if not rows:
        return ""
    head = cell("th", "step", scope="col", left=True) + cell("th", "reason", scope="col", left=True)
    head += cell("th", "records", scope="col") + cell("th", "share", scope="col")
    head += cell("th", "questions, for example", scope="col", left=True)
    return f"<h2>What was dropped</h2>\n{table('Dropped records', f'<tr>{head}</tr>', rows)}"


def _counters(steps: Sequence[StepFacts]) -> str:
    rows = "\n".join(
        f"<tr>{cell('th', step.name, scope='row', left=True)}{cell('td', name, left=True)}"
        f"{cell('td', _plain(value))}</tr>"
        for step in steps
        for name, value in step.counters.items()
    )
    return f"<h2>Counters</h2>\n{table('Counters of the steps', '', rows)}" if rows else ""


def _lengths(report: DataReport) -> str:
    """Lengths at every budget as numbers, the unconstrained rows among them."""
    figures = {b: length_figures(found) for b, found in report.lengths.items() if found}
    if not figures:
        return ""
    rows = "\n".join(
        _row(
            b,
            (f"{f.chains:,}", number(f.mean), number(f.p10, 0), number(f.p50, 0), number(f.p90, 0)),
        )
        for b, f in figures.items()
    )
    head = _head("budget", ("rows", "mean", "p10", "p50", "p90"))
    return f"<h2>Thinking tokens</h2>\n{table('Lengths at each budget', head, rows)}"


def _acceptance(found: AcceptanceTable) -> str:
    if not found.budgets:
        return ""
    rows = "\n".join(
        _row(
            str(budget),
            (
                f"{f.requested:,}",
                f"{f.accepted:,}",
                share(f.accepted / max(1, f.requested)),
                number(f.attempts / max(1, f.requested), 2),
            ),
            ", ".join(f"{reason} {count:,}" for reason, count in f.reasons.most_common()),
        )
        for budget, f in sorted(found.budgets.items())
    )
    head = _head("budget", ("requested", "accepted", "share", "texts each"), last=("why not",))
    return f"<h2>Compression</h2>\n{table('Acceptance at each budget', head, rows)}"


def _choice(choice: TeacherChoice | None) -> str:
    """Every candidate of the smoke test, the winner first to be read."""
    if choice is None:
        return ""
    rows = "\n".join(_candidate_row(c, c.name == choice.winner) for c in choice.candidates)
    first, *others = _CHOICE_COLUMNS
    note = (
        "Score: share of the student's answers that are right and within the budget."
        " Entropy, negative log-likelihood under the untrained student (both nats a token) and"
        " shift of its hidden states are diagnostics: they did not enter the choice."
    )
    shown = table("Candidate teachers", _head(first, others), rows)
    return f"<h2>Choice of the teacher</h2>\n{_note(_verdict(choice))}\n{shown}\n{_note(note)}"


def _candidate_row(candidate: CandidateFigures, won: bool) -> str:
    name = f"{candidate.name} (chosen)" if won else candidate.name
    if candidate.failure:
        width = len(_CHOICE_COLUMNS) - 1
        why = f'<td class="left" colspan="{width}">no score: {text_of(candidate.failure)}</td>'
        return f"<tr>{cell('th', name, scope='row', left=True)}{why}</tr>"
    told = candidate.diagnostics
    cells = (
        number(candidate.score, 3),
        number(candidate.stderr, 3),
        share(candidate.accuracy),
        share(candidate.within),
        number(candidate.tokens),
        f"{candidate.rows:,}",
        f"{candidate.steps:,}",
        number(told.lengths.mean if told else None),
        number(told.entropy if told else None, 3),
        number(told.nll if told else None, 3),
        number(told.shift if told else None, 2),
    )
    return _row(name, cells)


def _verdict(choice: TeacherChoice) -> str:
    """The choice in a sentence; whether to believe it in the next."""
    if not choice.runner_up or choice.lead is None:
        return f"{choice.winner} is chosen: nobody else could be compared with it."
    lead = f"{choice.winner} leads {choice.runner_up} by {number(choice.lead, 3)}"
    if choice.lead_stderr is None:
        return f"{lead}; one question says nothing of the noise."
    error = f"{lead}, standard error {number(choice.lead_stderr, 3)}"
    if choice.beyond_noise:
        return f"{error}: more than {NOISE:g} standard errors. The seed of the training is not in."
    fix = "more of distill.smoke.eval_questions and distill.smoke.questions would tell them apart"
    return f"{error}: within the noise; {fix}."


def _teachers(teachers: Mapping[str, Mapping[str, float]]) -> str:
    """What teachers were asked, in tokens and, where they say, in money."""
    if not teachers:
        return ""
    columns = list(dict.fromkeys(name for counted in teachers.values() for name in counted))
    rows = "\n".join(
        _row(name, [_plain(counted[c]) if c in counted else "-" for c in columns])
        for name, counted in teachers.items()
    )
    head = _head("teacher", [column.replace("_", " ") for column in columns])
    return f"<h2>What teachers took</h2>\n{table('Tokens and costs of teachers', head, rows)}"


def _examples(found: Sequence[Example]) -> str:
    """Questions with all their chains, folded away."""
    if not found:
        return ""
    shown = "\n".join(
        f"<details><summary>{text_of(e.question_id)}: {len(e.chains)} rows, answer"
        f" {text_of(e.answer)}</summary><pre>{model_text(e.question)}</pre>"
        f"{''.join(_example_chain(chain) for chain in e.chains)}</details>"
        for e in found
    )
    return f"<h2>Examples</h2>\n{shown}"


def _example_chain(chain: ExampleChain) -> str:
    return (
        f"<h3>budget {text_of(chain.budget)}, {chain.tokens:,} tokens</h3>"
        f"<pre>{model_text(chain.think)}</pre><pre>{model_text(chain.answer_text)}</pre>"
    )


def _head(first: str, columns: Sequence[str], last: Sequence[str] = ()) -> str:
    """A row of headings; the first and the last ones stand over text, the others over numbers."""
    cells = cell("th", first, scope="col", left=True)
    cells += "".join(cell("th", text, scope="col") for text in columns)
    cells += "".join(cell("th", text, scope="col", left=True) for text in last)
    return f"<tr>{cells}</tr>"


def _row(name: str, numbers: Sequence[str], last: str | None = None) -> str:
    cells = cell("th", name, scope="row", left=True) + "".join(cell("td", n) for n in numbers)
    return f"<tr>{cells}{'' if last is None else cell('td', last, left=True)}</tr>"


def _note(text: str) -> str:
    return f'<p class="note">{model_text(text, 1000)}</p>'


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)


def _plain(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"
