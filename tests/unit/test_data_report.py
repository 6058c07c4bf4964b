"""The data report: what it is made from, that nothing is missing, that hostile text stays text."""

import json
import re
from collections import Counter

import numpy as np
import pytest

from bard_ray.distill.acceptance import Acceptance, AcceptanceTable
from bard_ray.distill.choice import CandidateFigures, TeacherChoice
from bard_ray.distill.diagnostics import Diagnostics, LengthFigures
from bard_ray.distill.filter import Candidate
from bard_ray.distill.store import StepFacts
from bard_ray.records import NO_BUDGET, DistillRow, Message, Question, TokenBudget
from bard_ray.report.data_facts import (
    DataReport,
    Diversity,
    diversity,
    examples,
    histogram,
    lengths_by_budget,
    mean_distance,
)
from bard_ray.report.data_report import write_data_report
from tests.unit.pages import Page, tick_labels

HOSTILE = "</pre><script>alert('x')</script>\u202e$\\frac{1}{0}$ & <img src=http://x/y>"
FIGURES = ["lengths", "acceptance", "difficulty", "diversity", "choice"]
HEADINGS = [
    "Overview",
    "Steps",
    "Dropped records",
    "Counters",
    "Figures",
    "Thinking tokens",
    "Compression",
    "Choice of the teacher",
    "Teacher usage",
    "Examples",
]


def words(texts):
    return [len(text.split()) for text in texts]


def row(name, budget, think="a b c", answer_text="4", text="2 + 2?"):
    question = Question(name, (Message("user", text),), "4")
    return DistillRow(question, TokenBudget(budget) if budget else NO_BUDGET, think, answer_text)


def candidate(name, tokens):
    question = Question(name, (Message("user", name),), "4")
    return Candidate(question, "t", "a", np.array(tokens, np.int32))


def rows():
    generator = np.random.default_rng(0)
    made = []
    for budget in (500, 1000, 2000, 4000, 8000, 0):
        for i in range(40):
            length = max(1, int((budget or 9000) * generator.uniform(0.6, 1.1)))
            made.append(row(f"q{i}", budget, "w " * length))
    return made


def choice():
    diagnostics = Diagnostics(LengthFigures(64, 900.0, 30.0, 700.0, 890.0, 1100.0), 1.25, 0.8, 0.42)
    return TeacherChoice(
        "clean",
        (
            CandidateFigures(
                "clean", 500, 40, 64, 0.8, 0.03, 0.9, 0.85, 700.0, {"8": 0.8}, diagnostics
            ),
            CandidateFigures(
                "sloppy", 480, 40, 64, 0.5, 0.04, 0.6, 0.8, 650.0, {"8": 0.5}, diagnostics
            ),
            CandidateFigures(HOSTILE, 3, 0, failure=f"its 3 rows do not fill one batch {HOSTILE}"),
            CandidateFigures("$\\bad$<b>", 480, 40, 64, 0.4, 0.04, 0.6, 0.8, 650.0, {"8": 0.5}),
        ),
        "sloppy",
        0.3,
        0.04,
        beyond_noise=True,
    )


def report():
    made = rows()
    made += [
        row("evil", b, HOSTILE, HOSTILE, HOSTILE) for b in (500, 1000, 2000, 4000, 8000, 0, 700)
    ]
    steps = [
        StepFacts(
            "teach",
            "a" * 32,
            1000,
            1000,
            4000,
            seconds=1800.0,
            parts=2,
            reused=2,
            counters={"requests": 4100, "usd": 1.25},
        ),
        StepFacts(
            HOSTILE,
            "b" * 32,
            4000,
            1000,
            1000,
            {"wrong": 2400, "too_long": 600, "spare": 350},
            {"wrong": ["q1", HOSTILE], "spare": ["q2"]},
            4.0,
        ),
    ]
    return DataReport(
        name="demo",
        wall_s=83.0,
        questions=41,
        steps=steps,
        lengths=lengths_by_budget(made, words),
        acceptance=AcceptanceTable(
            {
                500: Acceptance(10, 7, Counter({"too_long": 2, HOSTILE: 1}), 14, 3400, 0.5, 350),
                1000: Acceptance(),
            }
        ),
        pass_rates=[0.0, 0.25, 0.25, 0.5, 1.0],
        diversity=Diversity((0.5, 0.6), (0.4, 0.3)),
        choice=choice(),
        teachers={"clean": {"requests": 4100, "completion_tokens": 1.5e6}, HOSTILE: {"usd": 1.25}},
        examples=examples(made, words, 2),
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_data_report(tmp_path_factory.mktemp("report") / "data.html", report())


def test_every_section_and_every_figure_is_there(written):
    page = Page(written.read_text())
    assert page.headings == HEADINGS
    assert page.figures == FIGURES
    assert page.tags.count("svg") == len(FIGURES)
    assert page.values("href") == [f"#{anchor}" for anchor in page.values("id", "section")]


def test_hostile_text_stays_text(written):
    page = Page(written.read_text())
    assert not {"script", "img", "b"} & set(page.tags)
    assert not any(name.startswith("on") for _, name, _ in page.attributes)
    assert "\u202e" not in page.html
    assert "&lt;script&gt;" in page.html
    assert "default-src 'none'" in page.html


def table(page: Page, name: str) -> list[list[str]]:
    """Cells of the rows of a table."""
    body = page.html.split(f'aria-label="{name}"')[1].split("<tbody>")[1].split("</tbody>")[0]
    rows = body.split("</tr>")[:-1]
    return [re.findall(r"<t[hd][^>]*>(?:<span[^>]*></span>)?([^<]*)</t[hd]>", row) for row in rows]


def test_rows_questions_and_wall_time_come_first(written):
    text = Page(written.read_text()).text
    assert "rows 247 206 at 6 budgets, 41 without a budget" in text
    assert "questions 41" in text
    assert "wall time 83 s" in text


def test_every_step_has_its_wall_time_and_what_it_kept(written):
    (teach, hostile) = table(Page(written.read_text()), "Steps")
    assert teach[:7] == ["teach*", "1,000", "4,000", "0", "0", "0.556", "30 min 00 s"]
    assert hostile[1:7] == ["4,000", "1,000", "350", "3,000", "1,000", "4.0 s"]


def test_spare_records_do_not_count_as_dropped(written):
    page = Page(written.read_text())
    reasons = [row[3] for row in table(page, "Dropped records")]
    assert reasons == ["wrong", "too_long"]


def test_spare_chains_stand_outside_the_acceptance_rate(written):
    first, second = table(Page(written.read_text()), "Acceptance at each budget")
    assert first[:8] == ["500", "10", "7", ".70", "1.40", "485.7", ".071", "350"]
    assert second[:8] == ["1000", "0", "0", "-", "-", "-", "-", "0"]


def test_reasons_examples_and_the_choice_are_shown(written):
    text = Page(written.read_text()).text
    for shown in ("wrong", "2,400", ".60", "q1"):
        assert shown in text
    assert "clean leads sloppy by 0.300, standard error 0.040: more than 2 standard errors" in text
    assert "its 3 rows do not fill one batch" in text


def test_lengths_of_rows_without_a_budget_stand_behind_all_budgets(written):
    svg = re.findall(r'<figure id="figure-lengths">.*?(<svg.*?</svg>)', written.read_text(), re.S)[
        0
    ]
    labels = tick_labels(svg)
    assert labels["none"] > labels["8000"] > labels["500"]
    medians = svg.split('id="lengths-medians"')[1]
    xs = [float(x) for x in re.findall(r'<use [^>]*x="([\d.]+)"', medians)]
    assert len([x for x in xs if abs(x - labels["none"]) < 1]) == 1


def test_the_figures_stand_beside_the_page_as_json(written):
    content = json.loads(written.with_suffix(".json").read_text())
    assert (content["name"], content["rows"], content["questions"]) == ("demo", 247, 41)
    assert content["wall_s"] == 83.0
    assert content["steps"][1]["records_per_s"] == 1000
    assert content["steps"][1]["dropped"] == {"wrong": 2400, "too_long": 600, "spare": 350}
    assert content["lengths"]["500"]["chains"] == 41
    assert content["pass_rates"] == [1, 0, 2, 0, 0, 1, 0, 0, 0, 1]
    assert content["diversity"] == {"chosen": 0.55, "random": 0.35, "questions": 2}
    assert TeacherChoice.from_json(content["choice"]) == choice()


def test_the_same_report_gives_the_same_page(written, tmp_path):
    again = write_data_report(tmp_path / "data.html", report())
    assert again.read_bytes() == written.read_bytes()


def test_an_empty_report_is_a_page_too(tmp_path):
    path = write_data_report(tmp_path / "data.html", DataReport("nothing"))
    page = Page(path.read_text())
    assert page.headings == ["Overview"]
    assert "rows 0" in page.text


def test_a_lead_within_the_noise_is_called_so(tmp_path):
    close = TeacherChoice("a", choice().candidates[:2], "b", 0.01, 0.02, beyond_noise=False)
    path = write_data_report(tmp_path / "data.html", DataReport("close", choice=close))
    assert "standard error 0.020: within the noise" in path.read_text()


def test_lengths_are_ordered_by_budget_with_the_unconstrained_last():
    made = [row("a", 0, "w " * 9), row("b", 1000, "w " * 5), row("c", 80, "w"), row("d", 80, "w w")]
    found = lengths_by_budget(made, words)
    assert list(found.items()) == [("80", [1, 2]), ("1000", [5]), ("none", [9])]


def test_distances_are_shares_of_the_longer_chain():
    chains = [np.array(t, np.int32) for t in ([1, 2, 3, 4], [1, 2], [9, 9, 9, 9])]
    # 2 of 4 removed; 4 of 4 changed; 2 changed and 2 put in
    assert mean_distance(chains) == pytest.approx((0.5 + 1.0 + 1.0) / 3)
    assert mean_distance(chains[:1]) == 0.0


def test_chosen_chains_are_compared_with_all_chains_of_their_question():
    pool = [candidate("p", [1, 2]), candidate("p", [1, 2]), candidate("p", [3, 4])]
    pool += [candidate("q", [1]), candidate("r", [1]), candidate("r", [2])]
    chosen = [pool[0], pool[2], pool[3], pool[4]]
    found = diversity(chosen, pool)
    assert found is not None
    assert found.chosen == (1.0,)
    assert found.random == pytest.approx((2 / 3,))
    assert diversity(chosen[2:], pool) is None


def test_examples_are_the_questions_with_most_rows_smallest_budget_first():
    made = [row("few", 8), row("many", 16, "w w"), row("many", 0), row("many", 8, "w")]
    (example,) = examples(made, words, 1)
    assert (example.question_id, example.question, example.answer) == ("many", "2 + 2?", "4")
    assert [(c.budget, c.tokens) for c in example.chains] == [("8", 1), ("16", 2), ("none", 3)]


def test_a_pass_rate_of_one_is_counted_in_the_last_part():
    assert histogram([1.0, 0.95, 0.0]) == [1, 0, 0, 0, 0, 0, 0, 0, 0, 2]
    assert histogram([]) == []
