"""Measured memory of supervised runs, compared with the memory plan.

    python -m benchmarks.memory_plan [--steps 20] [--json FILE]

Students of three shapes are trained on corpora of `--rows` rows, each by the tiny recipe with all
other stages off: every role is up, and the learner takes `--steps` optimizer steps. The memory of
the run's processes is sampled every half second; each process counts with its largest resident
size, including libraries shared with other processes. Planned sizes are those of `bard-ray plan`
without the object store, of which only written pages take memory.

The last line printed is one JSON object; `ratio` is planned over measured memory of driver and
learner, for the case in which it is farthest from 1.
"""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.placement.plan import Plan, plan_placement
from bard_ray.config.load import load
from benchmarks.children import child_env, recipe_command
from benchmarks.common import ROOT, Arguments, Benchmark, Option, Record
from benchmarks.processes import peak_memory
from recipes.bard_tiny import config as recipe

POLL_S = 0.5
LIMIT_S = 900.0
MIB = float(1 << 20)
TRAINING = ("driver", "learner")  # roles of the ratio

# The stage `base` runs only where something uses its student: a small evaluation.
ONLY_BASE = ["sft_full.enabled=false", "sft.enabled=false", "rl.enabled=false"]
ONLY_BASE += ["evaluate.enabled=true", "evaluate.budgets=[8]", "data.eval_questions=8"]
ONLY_SFT = ["base.enabled=false", "sft_full.enabled=false", "rl.enabled=false"]
OWN_DATA = [
    "data.source=rows",
    "data.eval_questions=8",
    "budget.codec=sentence",
    "budget.held_out=[]",
    "distill.teachers={}",
    "distill.steps=[]",
    "distill.compressor.name=hindsight",
    "distill.budgets_per_question=1",
    "learner.zero_stage=2",
]


@dataclass(frozen=True)
class Case:
    """One student.

    Attributes:
        name: name of the case.
        vocab, hidden, layers, heads, kv_heads, mlp: its sizes; vocab 0 is the tiny student.
        max_len: longest sequence, and tokens of a row of the learner.
        batch_rows: rows of one optimizer step.
        overrides: further overrides of the recipe.
    """

    name: str
    vocab: int = 0
    hidden: int = 0
    layers: int = 0
    heads: int = 0
    kv_heads: int = 0
    mlp: int = 0
    max_len: int = 128
    batch_rows: int = 32
    overrides: tuple[str, ...] = ()


CASES = (
    Case("0.4M, 64 tokens, rows of 128"),
    Case("1.3M, 8k tokens, rows of 512", 8192, 96, 4, 4, 4, 288, 512, 32),
    Case("15M, 32k tokens, rows of 1024", 32_768, 256, 8, 8, 4, 768, 1024, 8),
    Case(
        "15M, sdpa and recompute", 32_768, 256, 8, 8, 4, 768, 1024, 8,
        ("learner.attention=sdpa", "learner.recompute=true"),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Found:
    """Bytes by role of one case; `measured` sums the peaks of all processes."""

    name: str
    planned: Mapping[str, float]
    measured: Mapping[str, float]


def write_student(case: Case, directory: Path) -> None:
    """Write a Qwen3 with random weights, and a tokenizer with one word per vocabulary entry."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    pad, eos, unk, *tags = "<pad>", "<eos>", "<unk>", "<think>", "</think>"
    words = [pad, eos, unk, *tags, *(f"w{n}" for n in range(case.vocab - 5))]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token=unk))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_tokens(tags)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        eos_token=eos,
        unk_token=unk,
        chat_template="{% for m in messages %}{{ m['content'] }}{% endfor %} <think>",
    ).save_pretrained(directory)
    config = Qwen3Config(
        vocab_size=case.vocab,
        hidden_size=case.hidden,
        intermediate_size=case.mlp,
        num_hidden_layers=case.layers,
        num_attention_heads=case.heads,
        num_key_value_heads=case.kv_heads,
        head_dim=case.hidden // case.heads,
        max_position_embeddings=case.max_len,
        tie_word_embeddings=True,
        eos_token_id=1,
        pad_token_id=0,
    )
    Qwen3ForCausalLM(config).save_pretrained(directory)


def write_rows(case: Case, rows: int, file: Path) -> None:
    """Write questions with chains of a fifth to all of the maximum length."""
    drawn, most = random.Random(0), case.max_len - 128
    with file.open("w") as out:
        for number in range(rows):
            count = drawn.randint(most // 5, most)
            think = " ".join(f"w{drawn.randrange(case.vocab - 5)}" for _ in range(count))
            row = {"question": f"{number} + 1 ?", "answer": str(number + 1), "think": think}
            out.write(json.dumps(row) + "\n")


def overrides_of(case: Case, rows: int, steps: int, directory: Path) -> list[str]:
    """The tiny recipe's overrides, with model and data written to `directory`."""
    common = [f"run.dir={directory}", "run.name=run", "evaluate.enabled=false"]
    size = [f"student.max_len={case.max_len}", f"learner.pack_len={case.max_len}"]
    epochs = steps * case.batch_rows / rows
    if not case.vocab:
        return [*common, *size, *ONLY_BASE, f"base.rows={rows}", f"base.epochs={epochs}"]
    write_student(case, directory / "model")
    write_rows(case, rows + 8, directory / "rows.jsonl")
    most = case.max_len - 128
    budgets = f"[{most // 4},{most // 2},{most}]"
    data = [f"student.path={directory / 'model'}", f"data.rows.path={directory / 'rows.jsonl'}"]
    lengths = [
        f"budget.train={budgets}",
        f"evaluate.budgets={budgets}",
        f"distill.questions={rows}",
    ]
    stage = [f"evaluate.max_new_tokens={case.max_len - 1}", f"sft.batch_rows={case.batch_rows}"]
    stage += [f"sft.epochs={epochs}", *case.overrides]
    return [*common, *size, *ONLY_SFT, *OWN_DATA, *data, *lengths, *stage]


def run_case(case: Case, rows: int, steps: int) -> Found:
    """Plan and run one case."""
    with tempfile.TemporaryDirectory() as temporary:
        overrides = overrides_of(case, rows, steps, Path(temporary))
        plan = plan_placement(load(recipe(), overrides))
        return Found(case.name, planned_bytes(plan), watch(recipe_command(*overrides)))


def planned_bytes(plan: Plan) -> dict[str, float]:
    """Planned bytes by role; for Ray, only its processes."""
    sizes: dict[str, float] = {r.name: r.count * r.memory.total for r in plan.roles}
    return sizes | {"driver": plan.driver.total, "ray": plan.ray.parts["process"]}


def watch(command: Sequence[str]) -> dict[str, float]:
    """Run a command; returns the sum of its processes' peaks, by role."""
    peaks: dict[int, tuple[str, float]] = {}
    until = time.monotonic() + LIMIT_S
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=child_env(), stdout=log, stderr=log)
        while process.poll() is None and time.monotonic() < until:
            peaks |= peak_memory(process.pid)
            time.sleep(POLL_S)
        if process.poll() != 0:
            process.terminate()
            process.wait(60)
            log.seek(0)
            sys.exit(f"the recipe failed:\n{log.read()[-2000:]}")
    return by_role(peaks)


def by_role(peaks: Mapping[int, tuple[str, float]]) -> dict[str, float]:
    """Sum over the processes of each role."""
    totals: dict[str, float] = defaultdict(float)
    for role, size in peaks.values():
        totals[role] += size
    return dict(totals)


def summarize(found: Sequence[Found]) -> Record:
    """Figures of the record; sizes in MiB."""
    cases: list[dict[str, Any]] = [
        {
            "case": case.name,
            "planned_mib": {role: round(size / MIB) for role, size in case.planned.items()},
            "measured_mib": {role: round(size / MIB) for role, size in case.measured.items()},
            "ratio": round(_training(case.planned) / _training(case.measured), 3),
        }
        for case in found
    ]
    worst = max(cases, key=lambda case: abs(math.log(case["ratio"])))
    return {"ratio": worst["ratio"], "cases": cases}


def _training(sizes: Mapping[str, float]) -> float:
    return sum(sizes[role] for role in TRAINING)


def render(record: Record) -> str:
    """One line per case and role: planned and measured MiB, and their ratio."""
    lines = [f"{'case':<32}{'role':<11}{'planned':>9}{'measured':>9}{'ratio':>7}"]
    for case in record["cases"]:
        for role, measured in case["measured_mib"].items():
            planned = case["planned_mib"].get(role, 0)
            shares = f"{planned:>9}{measured:>9}{planned / measured:>7.2f}"
            lines.append(f"{case['case']:<32}{role:<11}{shares}")
        lines.append(f"{case['case']:<32}{'training':<11}{'':>18}{case['ratio']:>7.2f}")
    return "\n".join(lines)


def measure(arguments: Arguments) -> list[Found]:
    """Run all cases in turn."""
    return [run_case(case, arguments.rows, arguments.steps) for case in CASES[: arguments.cases]]


OPTIONS = (
    Option("cases", len(CASES), 2, "students, the smallest first"),
    Option("rows", 6000, 1000, "of the corpus"),
    Option("steps", 20, 6, "optimizer steps of a case"),
)
BENCHMARK = Benchmark("memory_plan", __doc__, measure, summarize, render, OPTIONS)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
