"""docs/your_own.md as a new user walks it: its recipe and commands, with a model made here."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bard_ray.config.load import load
from tests.engines.runs import ROOT

pytestmark = [pytest.mark.engines, pytest.mark.slow, pytest.mark.timeout(900)]

PAGE = (ROOT / "docs" / "your_own.md").read_text()
# Less of everything, and learning rates for a small model, as the page says.
SIZE = [
    "data.eval_questions=8",
    "distill.questions=300",
    "sft.epochs=2",
    "sft.lr=2e-3",
    "sft.batch_rows=8",
    "sft.warmup_steps=5",
    "rl.lr=1e-4",
    "rl.steps=2",
    "rl.prompts_per_step=2",
    "rl.group_size=8",
    "rl.checkpoint_every=1",
    "verifier.cpus=0.1",
    "cluster.cpus=6",
    "cluster.object_store_mb=256",
]


def block(language: str) -> str:
    """The page's only block of a language."""
    (text,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return text


def commands() -> list[list[str]]:
    """Every `bard-ray` command of the page, in order, as arguments."""
    lines = re.findall(r"^bard-ray (.*)$", PAGE, re.MULTILINE)
    return [line.partition("#")[0].split() for line in lines]


def write_rows(path: Path) -> None:
    """The page's rows, then questions with chains of several lengths."""
    drawn, lines = random.Random(0), block("json").splitlines()
    for number in range(100, 300):
        topic = " ".join("".join(drawn.choices("aeiklmnoprstu", k=4)) for _ in range(12))
        question = f"{topic}: is {number} odd? 1 or 0."
        for halvings in (4, 10, 18):
            steps = [f"{number} minus {2 * n} is {number - 2 * n}." for n in range(halvings)]
            row = {"question": question, "answer": str(number % 2), "think": " ".join(steps)}
            lines.append(json.dumps(row))
    head, rest = lines[:3], lines[3:]
    drawn.shuffle(rest)
    path.write_text("\n".join([*head, *rest]) + "\n")


def write_model(directory: Path, texts: list[str]) -> None:
    """A Qwen3 of 1.2 M parameters with a byte-level tokenizer of its own."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    special = ["<pad>", "<eos>", "<user>", "<assistant>", "<think>", "</think>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        chat_template="{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}",
    ).save_pretrained(directory)
    config = Qwen3Config(
        vocab_size=640,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=5,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        eos_token_id=1,
        pad_token_id=0,
    )
    model = Qwen3ForCausalLM(config)
    assert 1e6 < model.num_parameters() < 1.5e6
    model.save_pretrained(directory)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a model, rows and the page's recipe."""
    root = tmp_path_factory.mktemp("mine")
    write_rows(root / "rows.jsonl")
    rows = [json.loads(line) for line in (root / "rows.jsonl").read_text().splitlines()]
    write_model(root / "my_model", [f"{row['question']} {row['think']}" for row in rows])
    (root / "my_recipe.py").write_text(block("python"))
    return root


def bard_ray(place: Path, *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "actors.cli", *arguments],
        cwd=place,
        env={k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def variants(place: Path, run: str) -> set[str]:
    return set(json.loads((place / "runs" / run / "results.json").read_text())["variants"])


def test_the_recipe_is_short_and_its_sizes_are_those_of_the_page():
    assert len([line for line in block("python").splitlines() if line.strip()]) <= 30
    names: dict = {}
    exec(block("python"), names)  # noqa: S102 our own page
    config = load(names["config"](), [])
    assert max(config.budget.train) + 128 <= config.student.max_len <= config.learner.pack_len
    assert max(config.budget.train) + 64 <= config.rl.max_new_tokens < config.student.max_len


def test_all_limits_that_are_too_small_are_reported_at_once(place: Path):
    sizes = ["budget.train=[4096]", "rl.lr=-1", "student.max_len=512"]
    out = bard_ray(place, "plan", "my_recipe.py", *sizes, code=2)
    for part in ("rl.lr", "budget.train", "student.max_len=", "rl.max_new_tokens=", "pack_len="):
        assert part in out, part


def test_the_page_works_as_written(place: Path):
    plan, data, run, from_stage, measured = commands()
    shown = bard_ray(place, *plan)
    assert "learner" in shown
    assert "GiB" in shown
    bard_ray(place, *data, *SIZE)
    report = json.loads((place / "runs" / "mine_data" / "data" / "report.json").read_text())
    contrast = {int(n): count for n, count in report["questions_by_budgets"].items()}
    assert sum(count for n, count in contrast.items() if n > 1) > sum(contrast.values()) / 2
    out = bard_ray(place, *run, *SIZE)
    assert "report.html" in out
    assert variants(place, "mine") == {"sft", "rl"}
    assert (place / "runs" / "mine" / "export" / "README.md").exists()
    bard_ray(place, *from_stage, *SIZE)
    assert variants(place, "rl2") == {"student", "rl"}
    assert not (place / "runs" / "rl2" / "data" / "sft.jsonl").exists()
    bard_ray(place, *measured, *SIZE)
    assert variants(place, "measured") == {"student"}
