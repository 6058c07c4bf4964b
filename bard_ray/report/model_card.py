"""`README.md` of an exported student.

What it is, how to ask it for a budget, and how well it keeps to one.
"""

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
from bard_ray.report.example import Example, transformers_code, vllm_code
from bard_ray.report.results import Results
from bard_ray.report.table import budget_cell, number, share

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def write_model_card(
    export_dir: str | Path, config: Config, results: Results, example: Example, variant: str = "rl"
) -> Path:
    """Write `README.md` beside the weights; returns its path.

    Args:
        export_dir: Hugging Face model directory.
        config: the resolved configuration of the run.
        results: what the evaluation found; a card without `variant` says that nothing was measured.
        example: one request for a budget.
        variant: which entry of `results.variants` these weights are.
    """
    path = Path(export_dir) / "README.md"
    write_text(path, render_model_card(config, results, example, variant))
    return path


def render_model_card(
    config: Config, results: Results, example: Example, variant: str = "rl"
) -> str:
    """The card as Markdown with YAML front matter."""
    summary = results.variants.get(variant)
    front = yaml.safe_dump(_front_matter(config, summary), sort_keys=False, allow_unicode=True)
    parts = [f"---\n{front}---", f"# {config.run.name}", _INTRODUCTION, _usage(config, example)]
    parts += [_adherence(results, summary) if summary else "## Budget adherence\n\nNot measured."]
    return "\n\n".join([*parts, _training(config)]) + "\n"


_INTRODUCTION = (
    "A student that reasons inside a thinking budget its caller names. It was distilled from a reasoning teacher on\n"
    "chains compressed to several budgets, then trained with a reward that multiplies accuracy by budget fidelity."
)


def _front_matter(config: Config, summary: VariantSummary | None) -> dict[str, Any]:
    """Metadata for model hubs.

    Local paths are left out: they mean nothing on another machine.
    """
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


def _usage(config: Config, example: Example) -> str:
    """The text of a budget as a string literal, and one request with the prompt it becomes."""
    codec = make_codec(config.budget.codec)
    budget = TokenBudget((config.budget.train or [32])[0])
    trust = config.student.trust_remote_code
    unconstrained = codec.encode(NO_BUDGET) or "nothing is appended"
    return f"""## How to ask for a budget

A budget is the largest number of tokens between `{config.student.think_open}` and `{config.student.think_close}`,
neither tag counted. It is written at the end of the last user message; for {budget.tokens} tokens, as a string literal:

    {codec.encode(budget)!r}

Without a budget, {unconstrained}. The chat template does the rest: it renders the prompts of training.

{_block("python", transformers_code(example, trust_remote_code=trust))}

The prompt ends in the open think tag and contains all special tokens, so it is tokenized with `add_special_tokens=False`:

{_block("text", example.prompt)}

The completion is the thinking, `{config.student.think_close}` and the answer. With vLLM:

{_block("python", vllm_code(config.evaluate, trust_remote_code=trust))}

The numbers below were measured at temperature {config.evaluate.temperature:g}, without top-p or top-k; these are also the
defaults in `generation_config.json`. The student was not trained to answer without thinking (`enable_thinking=false`).
Trained budgets: {_numbers(config.budget.train)}. Held out: {_numbers(config.budget.held_out)}."""


def _adherence(results: Results, summary: VariantSummary) -> str:
    """The table a user chooses a budget by."""
    rows = [
        f"| {budget_cell(label, results.held_out)} | {number(p['mean_length'])} | {number(p['p10'], 0)} to "
        f"{number(p['p90'], 0)} | {number(p['rel_err'], 3)} | {share(p['in_band'])} | {share(p['overrun'])} | "
        f"{share(p['accuracy'])} | {p['n']} |"
        for label, p in summary["by_budget"].items()
    ]
    rows.append(
        f"| mean | | | {number(summary['rel_err'], 3)} | {share(summary['in_band'])} | {share(summary['overrun'])} | "
        f"{share(summary['accuracy'])} | |"
    )
    table = "\n".join(rows)
    return f"""## Budget adherence

L is the number of thinking tokens, b the budget. In band: |L - b| <= max(1, 0.1 b). Overrun: L > b. An asterisk marks a
budget that training never saw; the means are over token budgets.

| budget | mean L | p10 to p90 | mean \\|L-b\\|/b | in band | overrun | accuracy | answers |
|---|---|---|---|---|---|---|---|
{table}"""


def _training(config: Config) -> str:
    rl = config.rl
    reinforcement = f"{rl.steps} steps of {rl.prompts_per_step} prompts x {rl.group_size} answers, lag at most {rl.max_lag}"
    return f"""## Training

| | |
|---|---|
| supervised questions x budgets | {config.distill.questions:,} x {config.distill.budgets_per_question} |
| reinforcement learning | {reinforcement if rl.enabled else "none"} |
| reward | accuracy and budget fidelity, {rl.reward.name} ({rl.reward.fidelity.name}) |
| seed | {config.run.seed} |
| configuration | sha256 `{config_hash(config)}` |"""


def config_hash(config: Config) -> str:
    """First 16 hex digits of the SHA-256 of a configuration.

    Where a run lives does not enter it.
    """
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


def _numbers(values: list[int]) -> str:
    return ", ".join(map(str, values)) or "none"
