"""The labeled-operation chain task.

A question is a start digit and N lettered operations on a running value modulo 10.

`8a+1b*3c+1?` starts at 8, adds 1 (9), multiplies by 3 (7), adds 1 (8): the answer is 8. Every
operation has a letter, so a chain of thought that drops steps can still name its current step.
Source: ours (tiny task).
"""

from __future__ import annotations

import hashlib
import re
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from bard_ray.config.schema import ChainConfig
from bard_ray.errors import ConfigError
from bard_ray.records import Message, Question
from bard_ray.streams import Stream, rng

Split = Literal["train", "base", "eval", "smoke", "rl"]

LETTERS = string.ascii_lowercase
OP_PATTERN = re.compile(r"[+\-*][0-9]")

_STREAMS = {
    "train": Stream.TRAIN,
    "base": Stream.BASE,
    "eval": Stream.EVAL,
    "smoke": Stream.SMOKE,
    "rl": Stream.RL,
}
_HELD_OUT = ("eval", "smoke")
_EVAL_CLASSES = 8  # one text in this many is reserved for evaluation and never trained on
_MAX_DRAWS = 1000


@dataclass(frozen=True, slots=True)
class Chain:
    """A question of the task, parsed: the start digit and the operations (`+1`, `*3`) in order."""

    start: int
    ops: tuple[str, ...]

    @property
    def text(self) -> str:
        """The question as the student reads it: `8a+1b*3?`."""
        return f"{self.start}{''.join(map(''.join, zip(LETTERS, self.ops, strict=False)))}?"

    @property
    def values(self) -> list[int]:
        """Running value after each operation; the last one is the answer."""
        value, values = self.start, []
        for op in self.ops:
            value = apply_op(value, op)
            values.append(value)
        return values


def chain_question(cfg: ChainConfig, seed: int, split: Split, index: int) -> Question:
    """Question number `index` of a split; a pure function of its arguments.

    No text of the `eval` and `smoke` splits occurs in a training split: texts are divided by their
    hash, and draws from the wrong side are repeated.

    Raises:
        ConfigError: an operation is unknown, the lengths do not fit, or the task has too few
            different questions.
    """
    base = split == "base"
    for problem in chain_problems(cfg, ("base_min_ops" if base else "min_ops",)):
        raise problem
    shortest = cfg.base_min_ops if base else cfg.min_ops
    generator = rng(seed, _STREAMS[split], index)
    for _ in range(_MAX_DRAWS):
        num_ops = int(generator.integers(shortest, cfg.max_ops + 1))
        picks = generator.integers(len(cfg.ops), size=num_ops).tolist()
        chain = Chain(int(generator.integers(10)), tuple(cfg.ops[pick] for pick in picks))
        if _is_held_out(chain.text) == (split in _HELD_OUT):
            return _as_question(chain, f"chain-{split}-{index}")
    raise ConfigError(
        "data.chain.max_ops",
        cfg.max_ops,
        f"gives too few different questions for the {split} split",
        "Allow longer chains or more operations.",
    )


def chain_of(question: Question) -> Chain:
    """The parsed chain that `chain_question` put into `meta`.

    Raises:
        ConfigError: the question is not one of this task.
    """
    start, ops = question.meta.get("start"), question.meta.get("ops")
    if not isinstance(start, int) or not isinstance(ops, (list, tuple)):
        raise ConfigError(
            "distill.compressor",
            "drop_steps",
            f"can only shorten chains of the synthetic task, not {question.id!r}",
            "Use distill.compressor=hindsight for teacher chains of a data set.",
        )
    return Chain(start, tuple(cast("list[str]", ops)))


def step_text(chain: Chain, step: int, value: int, *, verbose: bool) -> str:
    """One step of a chain of thought.

    `a+19` verbose (3 tokens: letter, operation, value), `a9` plain (2 tokens).
    """
    return f"{LETTERS[step]}{chain.ops[step] if verbose else ''}{value}"


def gold_think(chain: Chain) -> str:
    """The teacher's chain of thought: every step, verbose, 3 tokens each."""
    steps = enumerate(chain.values)
    return "".join(step_text(chain, step, value, verbose=True) for step, value in steps)


def answer_text(answer: str) -> str:
    """The part after the closing think tag."""
    return f"\\boxed{{{answer}}}"


def chain_problems(
    cfg: ChainConfig, shortest: Sequence[str] = ("min_ops", "base_min_ops")
) -> Iterator[ConfigError]:
    """Problems between the fields of the task.

    Args:
        cfg: the task.
        shortest: fields that set a minimum number of operations.
    """
    bad = [op for op in cfg.ops if not OP_PATTERN.fullmatch(op)]
    if bad or not cfg.ops:
        rule = "needs one or more operations, each one of + - * and a digit"
        fix = """For example data.chain.ops='["+1","*3"]'."""
        yield ConfigError("data.chain.ops", cfg.ops, rule, fix)
    for name in shortest:
        if getattr(cfg, name) > cfg.max_ops:
            rule = f"must not exceed data.chain.max_ops ({cfg.max_ops})"
            fix = "Lower it, or raise data.chain.max_ops."
            yield ConfigError(f"data.chain.{name}", getattr(cfg, name), rule, fix)


def apply_op(value: int, op: str) -> int:
    """Value after one operation, modulo 10."""
    sign, operand = op[0], int(op[1])
    if sign == "*":
        return value * operand % 10
    return (value + (operand if sign == "+" else -operand)) % 10


def _is_held_out(text: str) -> bool:
    # Not a CRC: it is linear in the bits, so the held-out questions would be a biased sample.
    return hashlib.blake2b(text.encode(), digest_size=1).digest()[0] % _EVAL_CLASSES == 0


def _as_question(chain: Chain, name: str) -> Question:
    return Question(
        id=name,
        messages=(Message("user", chain.text),),
        answer=str(chain.values[-1]),
        kind="integer",
        source="chain",
        meta={"start": chain.start, "ops": list(chain.ops)},
    )
