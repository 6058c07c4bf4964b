"""`README.md` of an exported student: description, usage with a budget, budget adherence."""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from bard_ray.budget.codec import make_codec
from bard_ray.config.schema import Config
from bard_ray.evals.metrics import VariantSummary
from bard_ray.files import write_text
from bard_ray.records import NO_BUDGET, TokenBudget
from bard_ray.report.example import ExampleRequest, transformers_code, vllm_code
from bard_ray.report.page import environment
from bard_ray.report.results import Results
from bard_ray.report.table import budget_cell
from bard_ray.report.text import number, share

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def write_model_card(
    export_dir: str | Path,
    config: Config,
    results: Results,
    example: ExampleRequest,
    variant: str = "rl",
) -> Path:
    """Write `README.md` beside the weights; returns its path.

    Args:
        export_dir: Hugging Face model directory.
        config: the resolved configuration of the run.
        results: results of the evaluation; without `variant` the card states that there are none.
        example: one request for a budget.
        variant: entry of `results.variants` for these weights.
    """
    path = Path(export_dir) / "README.md"
    write_text(path, render_model_card(config, results, example, variant))
    return path


def render_model_card(
    config: Config, results: Results, example: ExampleRequest, variant: str = "rl"
) -> str:
    """The card as Markdown with YAML front matter."""
    summary = results.variants.get(variant)
    codec = make_codec(config.budget.codec)
    budget = TokenBudget((config.budget.train or [32])[0])
    trust = config.student.trust_remote_code
    return (
        environment()
        .get_template("model_card.md.j2")
        .render(
            front_matter=yaml.safe_dump(
                _front_matter(config, summary), sort_keys=False, allow_unicode=True
            ),
            config=config,
            variant=variant,
            budget_tokens=budget.tokens,
            budget_literal=repr(codec.encode(budget)),
            no_budget_text=codec.encode(NO_BUDGET) or "nothing is appended",
            request_code=_block("python", transformers_code(example, trust_remote_code=trust)),
            prompt=_block("text", example.prompt),
            vllm_code=_block("python", vllm_code(config.evaluate, trust_remote_code=trust)),
            rows=_rows(results, summary) if summary else [],
            training=_training(config, variant),
        )
    )


def _front_matter(config: Config, summary: VariantSummary | None) -> dict[str, Any]:
    """Metadata for model hubs, without local paths."""
    front: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    if _is_hub_id(config.student.path):
        front["base_model"] = config.student.path
    if config.data.source == "rows" and _is_hub_id(config.data.rows.path):
        front["datasets"] = [config.data.rows.path]
    front["tags"] = ["reasoning", "thinking-budget", "distillation", "grpo", "bard"]
    if summary:
        front["model-index"] = [
            {"name": config.run.name, "results": [_index_entry(config, summary)]}
        ]
    return front


def _index_entry(config: Config, summary: VariantSummary) -> dict[str, Any]:
    names = {
        "accuracy": "accuracy",
        "in_band": "in band",
        "overrun": "overrun",
        "rel_err": "mean |L-b|/b",
    }
    values = {key: summary[key] for key in names}  # type: ignore[literal-required]
    metrics = [
        {"type": key, "name": names[key], "value": round(v, 4)}
        for key, v in values.items()
        if v is not None
    ]
    dataset = (
        config.data.rows.path if _is_hub_id(config.data.rows.path) else f"{config.data.source} task"
    )
    return {
        "task": {"type": "text-generation"},
        "dataset": {"name": dataset, "type": "evaluation questions of the run"},
        "metrics": metrics,
    }


def _rows(results: Results, summary: VariantSummary) -> list[list[str]]:
    """The table of results: a row for each budget, then their means."""
    rows = [
        [
            budget_cell(label, results.held_out),
            number(p["mean_length"]),
            f"{number(p['p10'], 0)} to {number(p['p90'], 0)}",
            number(p["rel_err"], 3),
            share(p["in_band"]),
            share(p["overrun"]),
            share(p["accuracy"]),
            str(p["n"]),
        ]
        for label, p in summary["by_budget"].items()
    ]
    means = [number(summary["rel_err"], 3)]
    means += [share(summary["in_band"]), share(summary["overrun"]), share(summary["accuracy"])]
    return [*rows, ["mean", "", "", *means, ""]]


def _training(config: Config, variant: str) -> dict[str, str]:
    """Training settings of these weights, and the hash that identifies their configuration."""
    rl, distill = config.rl, config.distill
    facts = {}
    if config.sft.enabled:
        corpus = f"{distill.questions:,} x {distill.budgets_per_question}"
        facts["supervised questions x budgets"] = corpus
    if variant == "rl":
        facts["reinforcement learning"] = (
            f"{rl.steps} steps of {rl.prompts_per_step} prompts x {rl.group_size} answers,"
            f" lag at most {rl.max_lag}"
        )
        facts["reward"] = f"{rl.reward.name}, budget fidelity {rl.reward.fidelity.name}"
    return facts | {
        "seed": str(config.run.seed),
        "configuration": f"sha256 `{config_hash(config)}`",
    }


def config_hash(config: Config) -> str:
    """First 16 hex digits of the SHA-256 of a configuration, without the run's location."""
    content = asdict(config)
    content["run"].pop("dir")
    text = yaml.safe_dump(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _block(language: str, text: str) -> str:
    """A code block whose fence is longer than any run of backticks in the text."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _is_hub_id(path: str) -> bool:
    return bool(_HUB_ID.fullmatch(path)) and not Path(path).exists()
