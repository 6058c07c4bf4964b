"""The HTML report and the model card: complete, self-contained, and safe with what a model
wrote.
"""

import itertools
import re
from html.parser import HTMLParser
from typing import Any

import pytest
import yaml

from bard_ray.config.schema import Config
from bard_ray.errors import RunStateError
from bard_ray.metrics import read_metrics
from bard_ray.report.example import Example
from bard_ray.report.figures import make_figures
from bard_ray.report.html import Sample, write_report
from bard_ray.report.model_card import config_hash, render_model_card, write_model_card
from bard_ray.report.page import MODEL_TEXT_CAP
from bard_ray.report.results import Results, write_results

VOID = {"meta", "br", "img", "link", "hr", "input"}
FIGURES = ["length", "accuracy", "reward", "adherence", "lag", "loss"]


def variant(accuracy, spread) -> Any:
    points = {}
    for budget in (4, 8, 13, 30):
        points[str(budget)] = {
            "mean_length": budget + spread / 2,
            "rel_err": 0.1,
            "in_band": 0.7,
            "overrun": 0.3,
            "accuracy": accuracy,
            "p10": budget - spread,
            "p50": float(budget),
            "p90": budget + spread,
            "n": 256,
            "stderr": 0.03,
            "acc2_per_token": 0.01,
            "broken": 0,
        }
    points["none"] = {**points["30"], "rel_err": None, "in_band": None, "overrun": None}
    tops = {
        "rel_err": 0.103,
        "in_band": 0.7,
        "overrun": 0.3,
        "accuracy": accuracy,
        "broken": 0,
        "failed": 0,
    }
    return {**tops, "by_budget": points}


RESULTS = Results(
    {"sft": 85.4, "rl": 150.0},
    {
        "sft_full": variant(0.99, 3.0),
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


class Page(HTMLParser):
    """Collects tags, attributes, identifiers and text, and checks that every element is closed."""

    def __init__(self, text):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.ids: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *attribute) for attribute in attrs]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_is_well_formed_and_holds_every_figure_and_section(run_dir):
    page = Page(write_report(run_dir, "BARD tiny").read_text())
    assert [
        name.removeprefix("figure-") for name in page.ids if name.startswith("figure-")
    ] == FIGURES
    assert page.tags.count("svg") == len(FIGURES)
    text = " ".join(page.text)
    for expected in (
        "BARD tiny",
        "Results",
        "By budget",
        "Wall time: 3 min 55 s",
        "Configuration",
        "bard_tiny",
    ):
        assert expected in text
    assert "13*" in text


def test_the_page_asks_nothing_of_anyone(run_dir):
    html = write_report(
        run_dir, "BARD", [Sample("rl", "8", "q", "see https link", "wrong")]
    ).read_text()
    page = Page(html)
    assert "://" not in html
    assert "@import" not in html
    assert not {"script", "link", "iframe", "img", "object"} & set(page.tags)
    references = [
        value for _, name, value in page.attributes if name in {"src", "href", "xlink:href"}
    ]
    assert all(value.startswith("#") for value in references)
    assert set(re.findall(r"url\((.)", html)) <= {"#"}
    assert ("meta", "content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes


def test_every_figure_has_its_numbers_in_words(run_dir):
    page = Page(write_report(run_dir, "BARD").read_text())
    alts = [
        value
        for tag, name, value in page.attributes
        if (tag, name) == ("div", "aria-label") and "by " in value
    ]
    figure_alts = [alt for alt in alts if "step" in alt or "gives" in alt]
    assert len(figure_alts) == len(FIGURES)
    assert "BARD: 4 gives .69, 8 gives .69" in " ".join(figure_alts)


def test_identifiers_are_unique_and_every_reference_inside_a_figure_resolves(run_dir):
    html = write_report(run_dir, "BARD").read_text()
    ids = Page(html).ids
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(|xlink:href=")#([\w.-]+)', html)) <= set(ids)


def test_figures_follow_the_page_between_light_and_dark(run_dir):
    html = write_report(run_dir, "BARD").read_text()
    figures = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))
    assert set(re.findall(r"(?:fill|stroke): ([^;\"]+)", figures)) <= {"none"} | {
        f"var(--{name})" for name in ("ink", "grid", "card", *(f"series-{i}" for i in range(1, 7)))
    }
    used = set(re.findall(r"var\((--[\w-]+)\)", html))
    light, dark = re.findall(r":root \{(.*?)\}", html, flags=re.DOTALL)
    assert used <= set(re.findall(r"(--[\w-]+):", light))
    assert set(re.findall(r"(--[\w-]+):", light)) == set(re.findall(r"(--[\w-]+):", dark))


def test_what_a_model_wrote_is_text_and_nothing_else(run_dir):
    hostile = "<script>alert(1)</script>\x1b[31m\u202e\x00</pre><img src=x onerror=y>&"
    samples = [Sample(hostile, hostile, hostile, hostile, hostile)]
    html = write_report(run_dir, hostile, samples).read_text()
    page = Page(html)
    assert not {"script", "img"} & set(page.tags)
    assert "<script>alert(1)</script>" in "".join(page.text)
    assert not set("\x1b\x00\u202e") & set(html)


def test_a_long_answer_is_cut_and_says_by_how_much(run_dir):
    text = "x" * (MODEL_TEXT_CAP + 1234)
    html = write_report(run_dir, "BARD", [Sample("rl", "8", "q", text, "wrong")]).read_text()
    assert "x" * MODEL_TEXT_CAP + " … (1,234 more characters)" in html
    assert "x" * (MODEL_TEXT_CAP + 1) not in html


def test_a_run_without_metrics_config_or_rl_still_has_a_report(tmp_path):
    write_results(tmp_path / "results.json", Results({}, {"sft": variant(0.5, 2.0)}))
    page = Page(write_report(tmp_path, "BARD").read_text())
    assert [name for name in page.ids if name.startswith("figure-")] == [
        "figure-length",
        "figure-accuracy",
    ]


def test_a_run_that_measured_nothing_says_so(tmp_path):
    write_results(tmp_path / "results.json", Results({"sft": 0.0}))
    assert "No variant was evaluated" in write_report(tmp_path, "BARD").read_text()


def test_a_report_without_results_is_refused(tmp_path):
    with pytest.raises(RunStateError, match=r"results\.json"):
        write_report(tmp_path, "BARD")


def test_a_diverged_run_is_still_drawn(run_dir):
    records = [
        r | {"sft/loss": None} if r["stage"] == "sft" else r
        for r in read_metrics(run_dir / "metrics.jsonl")
    ]
    figures = {figure.key: figure for figure in make_figures(RESULTS, records)}
    assert "ends at nan" in figures["loss"].alt


def test_budgets_over_several_octaves_are_drawn_evenly():
    wide = variant(0.5, 10.0)
    wide["by_budget"] = {
        str(2**k): {**wide["by_budget"]["4"], "mean_length": float(2**k)} for k in range(9, 14)
    }
    svg = make_figures(Results({}, {"rl": wide}), [])[0].svg
    places = [
        float(x)
        for x in re.findall(
            r'text-anchor: middle[^>]* x="([\d.]+)"[^>]*>(?:512|1024|2048|4096|8192)<', svg
        )
    ]
    gaps = [b - a for a, b in itertools.pairwise(places)]
    assert len(places) == 5
    assert max(gaps) - min(gaps) < 1


EXAMPLE = Example(
    [{"role": "user", "content": "8a-3b<budget>08</budget>"}], "8a-3b<budget>08</budget><think>"
)


def config():
    made = Config()
    made.run.name = "bard_tiny"
    made.budget.train, made.budget.held_out = [8, 12], [13]
    return made


def front_matter(card):
    return yaml.safe_load(card.split("---\n")[1])


def test_the_card_has_valid_front_matter_with_the_measured_numbers():
    front = front_matter(render_model_card(config(), RESULTS, EXAMPLE))
    assert (front["library_name"], front["pipeline_tag"]) == ("transformers", "text-generation")
    metrics = {m["type"]: m["value"] for m in front["model-index"][0]["results"][0]["metrics"]}
    assert metrics == {"accuracy": 0.69, "in_band": 0.7, "overrun": 0.3, "rel_err": 0.103}


def test_the_card_names_a_base_model_and_data_of_a_hub_but_no_local_path(tmp_path):
    made = config()
    made.student.path, made.data.source, made.data.rows.path = "org/base-8b", "rows", "org/chains"
    front = front_matter(render_model_card(made, RESULTS, EXAMPLE))
    assert (front["base_model"], front["datasets"]) == ("org/base-8b", ["org/chains"])
    made.student.path = made.data.rows.path = str(tmp_path)
    card = render_model_card(made, RESULTS, EXAMPLE)
    assert str(tmp_path) not in card
    assert not {"base_model", "datasets"} & set(front_matter(card))


@pytest.mark.parametrize(
    ("codec", "text"),
    [("digits", "'<budget>08</budget>'"), ("sentence", r"'\n\nThink for at most 8 tokens.'")],
)
def test_the_card_gives_the_budget_format_letter_by_letter(codec, text):
    made = config()
    made.budget.codec = codec
    card = render_model_card(made, RESULTS, EXAMPLE)
    assert f"    {text}\n" in card
    assert "```text\n8a-3b<budget>08</budget><think>\n```" in card


def test_a_prompt_cannot_break_out_of_its_code_block():
    example = Example(EXAMPLE.messages, "```\n# not a heading")
    card = render_model_card(config(), RESULTS, example)
    assert "````text\n```\n# not a heading\n````" in card


def test_the_adherence_table_has_a_row_per_budget_and_marks_the_held_out_one():
    card = render_model_card(config(), RESULTS, EXAMPLE)
    rows = [line for line in card.splitlines() if re.match(r"\| (\d|none|mean)", line)]
    assert [row.split("|")[1].strip() for row in rows] == ["4", "8", "13*", "30", "none", "mean"]
    assert rows[-1] == "| mean | | | 0.103 | .70 | .30 | .69 | |"


def test_a_card_without_an_evaluation_says_so(tmp_path):
    card = write_model_card(tmp_path, config(), Results(), EXAMPLE).read_text()
    assert "Not measured" in card
    assert "model-index" not in front_matter(card)


def test_the_configuration_hash_follows_settings_and_not_places():
    moved, changed = config(), config()
    moved.run.dir, changed.rl.lr = "elsewhere", 1e-3
    assert config_hash(moved) == config_hash(config())
    assert config_hash(changed) != config_hash(config())
