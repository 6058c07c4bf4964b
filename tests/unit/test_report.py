"""The report of a run: complete, self-contained, and safe with the text of models."""

import itertools
import re

import pytest

from bard_ray.errors import RunStateError
from bard_ray.metrics import read_metrics
from bard_ray.report.budget_figures import budget_figures
from bard_ray.report.html import write_report
from bard_ray.report.results import Results, write_results
from bard_ray.report.training_figures import MAX_POINTS, thinned, training_figures
from tests.unit.pages import Page, place, point, tick_labels, variant

FIGURES = ["length", "accuracy", "reward", "adherence", "lag", "loss"]
HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e\x00</pre><img src=x onerror=y>$\\frac{1}{0}$&"
RESULTS = Results(
    {"sft": 85.4, "rl": 150.0},
    {
        "sft_full_forced": variant(0.1, 0.0),
        "sft": variant(0.52, 2.0),
        "rl": variant(0.69, 1.0),
    },
    {"seed": 0, "max_lag": 1, "held_out": [13]},
)


def step_records():
    """JSON lines of a short run, in the form the writer gives them."""
    for step in range(1, 13):
        yield f'{{"stage": "sft", "step": {step}, "time_s": 1, "sft/loss": {2 / step}}}'
        yield (
            f'{{"stage": "rl", "step": {step}, "time_s": 1, "rl/reward": 0.5, "rl/accuracy": 0.6, '
            '"rl/fidelity": 0.8, "rl/rel_err": 0.1, "rl/in_band": 0.7, "rl/overrun": 0.3, '
            '"rl/lag_mean": 0.9, "rl/lag_max": 1}'
        )


@pytest.fixture
def run_dir(tmp_path):
    write_results(tmp_path / "results.json", RESULTS)
    (tmp_path / "metrics.jsonl").write_text("\n".join(step_records()) + "\n")
    (tmp_path / "config.yaml").write_text("run:\n  name: bard_tiny\n  note: <b>&\n")
    return tmp_path


def report(run_dir, title="BARD") -> Page:
    return Page(write_report(run_dir, title).read_text())


def test_the_page_holds_every_figure_and_section(run_dir):
    page = report(run_dir, "BARD tiny")
    assert page.figures == FIGURES
    assert page.tags.count("svg") == len(FIGURES)
    assert page.headings == ["Results", "By budget", "Training", "Wall time", "Configuration"]
    for expected in ("BARD tiny", "total 3 min 55 s", "bard_tiny", "13*", "done"):
        assert expected in page.text


def test_the_contents_lead_to_every_section(run_dir):
    page = report(run_dir)
    assert page.values("href", "a") == [f"#{anchor}" for anchor in page.values("id", "section")]
    assert len(page.values("href", "a")) == 5


def test_a_finished_page_does_not_reload(run_dir):
    assert "refresh" not in report(run_dir).values("http-equiv")


def test_the_page_asks_nothing_of_anyone(run_dir):
    page = report(run_dir)
    assert "://" not in page.html
    assert "@import" not in page.html
    assert not {"script", "link", "iframe", "img", "object"} & set(page.tags)
    references = page.values("src") + page.values("href") + page.values("xlink:href")
    assert all(reference.startswith("#") for reference in references)
    assert set(re.findall(r"url\((.)", page.html)) <= {"#"}
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    assert ("meta", "content", policy) in page.attributes


def test_every_figure_has_its_numbers_in_words(run_dir):
    alts = [alt for alt in report(run_dir).values("aria-label", "div") if "by " in alt]
    figure_alts = [alt for alt in alts if "step" in alt or "gives" in alt]
    assert len(figure_alts) == len(FIGURES)
    assert "BARD: 4 gives .69, 8 gives .69, 13 gives .69, 30 gives .69, none gives .97" in " ".join(
        figure_alts
    )


def test_identifiers_are_unique_and_every_reference_inside_a_figure_resolves(run_dir):
    page = report(run_dir)
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(|xlink:href=")#([\w.-]+)', page.html)) <= set(ids)


def test_figures_follow_the_page_between_light_and_dark(run_dir):
    html = report(run_dir).html
    figures = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))
    names = ("ink", "soft", "grid", "card", *(f"series-{i}" for i in range(1, 7)))
    drawn = set(re.findall(r"(?:fill|stroke): ([^;\"]+)", figures))
    assert drawn <= {"none"} | {f"var(--{name})" for name in names}
    used = set(re.findall(r"var\((--[\w-]+)\)", html))
    light, dark = re.findall(r":root \{(.*?)\}", html, flags=re.DOTALL)
    assert used <= set(re.findall(r"(--[\w-]+):", light))
    assert set(re.findall(r"(--[\w-]+):", light)) == set(re.findall(r"(--[\w-]+):", dark))


def test_foreign_text_is_text_and_nothing_else(run_dir):
    results = Results({HOSTILE: 1.0}, {HOSTILE: variant(0.5)}, {HOSTILE: HOSTILE})
    write_results(run_dir / "results.json", results)
    (run_dir / "config.yaml").write_text(HOSTILE)
    page = report(run_dir, HOSTILE)
    assert not {"script", "img"} & set(page.tags)
    assert page.text.count("<script>alert(1)</script>") >= 6
    assert not set("\x1b\x00\u202e") & set(page.html)


def test_a_long_configuration_is_cut_and_says_by_how_much(run_dir):
    (run_dir / "config.yaml").write_text("x" * 61_234)
    html = report(run_dir).html
    assert "x" * 60_000 + " … (1,234 more characters)" in html
    assert "x" * 60_001 not in html


def test_a_run_without_metrics_config_or_rl_still_has_a_report(tmp_path):
    write_results(tmp_path / "results.json", Results({}, {"sft": variant(0.5)}))
    page = report(tmp_path)
    assert page.figures == ["length", "accuracy"]
    assert page.headings == ["Results", "By budget"]


def test_a_run_that_measured_nothing_says_so(tmp_path):
    write_results(tmp_path / "results.json", Results({"sft": 0.0}))
    page = report(tmp_path)
    assert "No variant was evaluated." in page.text
    assert page.headings == ["Results", "Wall time"]


def test_a_report_without_results_is_refused(tmp_path):
    with pytest.raises(RunStateError, match=r"results\.json"):
        write_report(tmp_path, "BARD")


def headline(results: Results, tmp_path) -> list[str]:
    """The card of the accuracy: its value, and what it is compared with."""
    write_results(tmp_path / "results.json", results)
    html = report(tmp_path).html
    card = html.split('<div class="what">accuracy</div>')[1].split("</div>\n</div>")[0]
    return re.findall(r">([^<\n]+)<", card + "<")


@pytest.mark.parametrize(
    ("variants", "shown"),
    [
        ({"student": 0.2, "sft": 0.4, "rl": 0.6}, [".60", "BARD-SFT: .40"]),
        ({"student": 0.2, "rl": 0.6}, [".60", "given student: .20"]),
        ({"sft": 0.4, "sft_full_forced": 0.1}, [".40"]),
        ({"student": 0.2}, [".20"]),
        ({"sft_full_forced": 0.1}, [".10"]),
        ({"theirs": 0.3}, [".30"]),
    ],
)
def test_the_headline_compares_the_last_student_with_the_one_before(tmp_path, variants, shown):
    results = Results({}, {name: variant(accuracy) for name, accuracy in variants.items()})
    assert headline(results, tmp_path) == shown


def test_forced_lengths_are_not_shown(run_dir):
    write_results(run_dir / "results.json", Results({}, {"sft_full_forced": variant(0.5)}))
    page = report(run_dir)
    assert "budget accuracy 4 .50 8 .50 13 .50 30 .50 none .97" in page.text
    assert page.figures[:2] == ["accuracy", "reward"]


def drawn(results: Results) -> dict[str, str]:
    return {figure.key: figure.svg for figure in budget_figures(results)}


@pytest.mark.parametrize("figure", ["length", "accuracy"])
def test_the_point_without_a_budget_stands_behind_all_budgets(figure):
    svg = drawn(RESULTS)[figure]
    labels = tick_labels(svg)
    assert labels["none"] > labels["30"] > labels["13"] > labels["8"] > labels["4"]
    for name in ("rl", "sft"):
        x, _ = place(svg, f"{figure}-{name}-none")
        assert x == pytest.approx(labels["none"], abs=5)
    # No line leads there: every line ends at the largest budget.
    ends = re.findall(r"L ([\d.]+) [\d.]+ \n\" clip-path", svg)
    assert ends
    assert all(float(x) < labels["30"] + 1 for x in ends if float(x) < labels["none"] - 6)


def test_the_axis_is_broken_before_the_point_without_a_budget():
    svg = drawn(RESULTS)["length"]
    labels = tick_labels(svg)
    (outline,) = re.findall(r'<g id="length-break">.*?<path d="(.*?)"', svg, re.DOTALL)
    corners = [float(x) for x in re.findall(r"[ML] ([\d.]+) ", outline)]
    assert labels["30"] < min(corners) < max(corners) < labels["none"]


def test_the_point_without_a_budget_is_at_its_measured_height():
    high = Results({}, {"rl": variant(0.5), "sft": variant(0.5)})
    svg = drawn(high)["accuracy"]
    _, rl = place(svg, "accuracy-rl-none")
    low = Results({}, {"rl": variant(0.5), "sft": variant(0.5)})
    low.variants["rl"]["by_budget"]["none"]["accuracy"] = 0.2
    _, lower = place(drawn(low)["accuracy"], "accuracy-rl-none")
    assert lower > rl  # down is larger in an image
    assert place(drawn(low)["accuracy"], "accuracy-sft-none")[1] == rl


def test_a_variant_measured_without_a_budget_only_is_drawn():
    free = variant(0.5, budgets=())
    svg = drawn(Results({}, {"student": free}))["accuracy"]
    assert place(svg, "accuracy-student-none")[0] == pytest.approx(tick_labels(svg)["none"], abs=1)


def test_budgets_over_several_octaves_are_drawn_evenly():
    wide = variant(0.5, 10.0)
    wide["by_budget"] = {str(2**k): point(2.0**k, 0.5) for k in range(9, 14)}
    wide["by_budget"]["none"] = {**point(12_000, 0.6), "rel_err": None}
    labels = tick_labels(drawn(Results({}, {"rl": wide}))["length"])
    places = [labels[label] for label in ("512", "1024", "2048", "4096", "8192")]
    gaps = [b - a for a, b in itertools.pairwise(places)]
    assert max(gaps) - min(gaps) < 1
    assert labels["none"] > places[-1]


def test_a_variant_has_one_color_in_all_figures_and_company():
    alone = drawn(Results({}, {"rl": variant(0.5)}))
    together = drawn(RESULTS)
    for svg in (*alone.values(), *together.values()):
        key = "length" if "length-rl-none" in svg else "accuracy"
        group = svg.split(f'id="{key}-rl-none"')[1].split("</g>")[0]
        assert "fill: var(--series-1)" in group


def test_a_diverged_run_is_still_drawn(run_dir):
    records = [
        r | {"sft/loss": None} if r["stage"] == "sft" else r
        for r in read_metrics(run_dir / "metrics.jsonl")
    ]
    figures = {figure.key: figure for figure in training_figures(records)}
    assert "sft is at nan" in figures["loss"].alt


def test_the_first_step_of_a_run_is_a_visible_point():
    records = [{"stage": "rl", "step": 1, "rl/reward": 0.5}]
    (first,) = training_figures(records)
    assert "fill: var(--series-1)" in first.svg  # a line alone fills nothing
    (later,) = training_figures([*records, records[0] | {"step": 2}])
    assert "fill: var(--series-1)" not in later.svg


def test_long_runs_are_thinned_to_about_a_point_a_pixel():
    steps = list(range(1, 20_001))
    few_steps, few = thinned((steps, [float(step % 2) for step in steps]), max)
    assert len(few) == len(few_steps) <= MAX_POINTS
    assert set(few) == {1.0}
    assert few_steps[0] == pytest.approx(17.5)  # mean of the first 34
    assert thinned(([1, 2], [3.0, 4.0]), max) == ([1, 2], [3.0, 4.0])
