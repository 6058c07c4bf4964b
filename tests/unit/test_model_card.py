"""The model card of an exported student."""

import re

import pytest
import yaml

from bard_ray.config.schema import Config
from bard_ray.report.example import ExampleRequest
from bard_ray.report.model_card import config_hash, render_model_card, write_model_card
from bard_ray.report.results import Results
from tests.unit.pages import variant

RESULTS = Results({}, {"sft": variant(0.52), "rl": variant(0.69)}, {"held_out": [13]})

EXAMPLE = ExampleRequest(
    [{"role": "user", "content": "8a-3b<budget>08</budget>"}], "8a-3b<budget>08</budget><think>"
)


def config():
    made = Config()
    made.run.name = "bard_tiny"
    made.budget.train, made.budget.held_out = [8, 12], [13]
    return made


def front_matter(card):
    return yaml.safe_load(card.split("---\n")[1])


def rows(card):
    return [line for line in card.splitlines() if re.match(r"\| (\d|none|mean)", line)]


def test_the_card_has_valid_front_matter_with_the_measured_numbers():
    card = render_model_card(config(), RESULTS, EXAMPLE)
    assert card.startswith("---\n")
    front = front_matter(card)
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
    example = ExampleRequest(EXAMPLE.messages, "```\n# not a heading")
    card = render_model_card(config(), RESULTS, example)
    assert "````text\n```\n# not a heading\n````" in card


def test_the_adherence_table_has_a_row_per_budget_and_one_without():
    found = rows(render_model_card(config(), RESULTS, EXAMPLE))
    assert [row.split("|")[1].strip() for row in found] == ["4", "8", "13*", "30", "none", "mean"]
    assert found[4] == "| none | 42.0 | 39 to 43 | - | - | - | .97 | 256 |"
    assert found[-1] == "| mean |  |  | 0.103 | .70 | .30 | .69 |  |"


def test_a_card_without_an_evaluation_says_so(tmp_path):
    card = write_model_card(tmp_path, config(), Results(), EXAMPLE).read_text()
    assert "Not measured." in card
    assert "model-index" not in front_matter(card)


@pytest.mark.parametrize(
    ("variant_name", "distilled", "says", "says_not"),
    [
        ("rl", True, ["It was distilled", "(`product`)", "reward | product"], []),
        ("rl", False, ["by reinforcement learning"], ["distilled from", "supervised questions"]),
        ("sft", True, ["It was distilled", "supervised questions"], ["reinforcement learning"]),
    ],
)
def test_a_card_claims_only_the_training_that_its_weights_had(
    variant_name, distilled, says, says_not
):
    made = config()
    made.sft.enabled = distilled
    results = Results({}, {variant_name: variant(0.5)})
    card = render_model_card(made, results, EXAMPLE, variant_name)
    assert [text for text in says if text not in card] == []
    assert [text for text in says_not if text in card] == []


def test_the_configuration_hash_follows_settings_and_not_places():
    moved, changed = config(), config()
    moved.run.dir, changed.rl.lr = "elsewhere", 1e-3
    assert config_hash(moved) == config_hash(config())
    assert config_hash(changed) != config_hash(config())
