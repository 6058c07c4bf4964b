"""The supervised corpora: built from records, stored as JSONL, tokenized for the learner."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from bard_ray.config.schema import ChainConfig, DataConfig
from bard_ray.data.chain import answer_text, chain_of, chain_question, gold_think
from bard_ray.data.prompt import PromptFormat
from bard_ray.data.questions import split_rows
from bard_ray.data.rows import TeacherChain, TeacherRow
from bard_ray.distill.filter import Candidate
from bard_ray.errors import ConfigError, DataError
from bard_ray.files import write_lines
from bard_ray.records import (
    NO_BUDGET,
    DistillRow,
    Message,
    Question,
    TrainSequence,
    budget_label,
    parse_budget,
)
from bard_ray.streams import Stream, rng

# Characters of chains that are tokenized at a time: enough to be fast. The tokenizer takes about a
# hundred bytes a token while it works.
_BATCH_CHARS = 1_000_000


def base_problems(data: DataConfig, num_rows: int) -> Iterator[ConfigError]:
    """What is wrong with the number of rows of the `base` stage."""
    if data.source == "chain" and num_rows < 1:
        rule = "the synthetic task has no end, so the stage must say how many rows it takes"
        fix = "Set base.rows to 1 or more, or base.enabled=false."
        yield ConfigError("base.rows", num_rows, rule, fix)


def base_corpus(data: DataConfig, num_rows: int, seed: int) -> list[DistillRow]:
    """The corpus of the stand-in for pretraining: natural chains, prompts without a budget.

    Args:
        data: where they come from. The synthetic task has separate questions for this stage, some
            of them short, with error-free chains.
        num_rows: rows wanted. A data set gives the first chain of every question, then the second
            ones, and so on, until it has no more; 0 means all of them.
        seed: of the run.

    Raises:
        ConfigError: `num_rows` is 0 for the synthetic task, or its settings are not usable.
        DataError: the data set is not usable.
    """
    if data.source == "chain":
        for problem in base_problems(data, num_rows):
            raise problem
        return [_gold_row(data.chain, seed, index) for index in range(num_rows)]
    rows = [
        DistillRow(row.question, NO_BUDGET, chain.think, chain.answer_text)
        for row, chain in _by_turns(split_rows(data)[0])
    ]
    return rows[:num_rows] if num_rows > 0 else rows


def natural_corpus(natural: Iterable[Candidate], num_rows: int) -> list[DistillRow]:
    """Filtered chains as their teacher wrote them, no budgets: the first `num_rows`; 0: all."""
    rows = [DistillRow(r.question, NO_BUDGET, r.think, r.answer_text) for r in natural]
    return rows[:num_rows] if num_rows > 0 else rows


def budget_corpus(
    compressed: Iterable[Candidate], natural: Sequence[Candidate], none_share: float, seed: int
) -> list[DistillRow]:
    """The budgeted corpus, in random order.

    Args:
        compressed: chains with their budgets.
        natural: chains as their teacher wrote them.
        none_share: share of rows without a budget, each with a natural chain; fewer where there are
            too few chains.
        seed: of the run.

    Raises:
        DataError: no chain is left.
    """
    rows = [DistillRow(r.question, r.budget, r.think, r.answer_text) for r in compressed]
    if not rows:
        fix = "The data report says at which step they were dropped; loosen it, or add questions."
        raise DataError("distill", "no chain is left after the last step", fix)
    wanted = min(len(natural), round(len(rows) * none_share / (1 - none_share)))
    picks = rng(seed, Stream.DISTILL).permutation(len(natural))[:wanted].tolist()
    rows += natural_corpus((natural[i] for i in sorted(picks)), 0)
    return [rows[i] for i in rng(seed, Stream.SHUFFLE).permutation(len(rows))]


def to_sequences(
    rows: Sequence[DistillRow], prompts: PromptFormat, max_len: int
) -> tuple[list[TrainSequence], int]:
    """Tokenize a corpus; the mask is True on the completion only.

    Args:
        rows: the corpus.
        prompts: of the student.
        max_len: longest sequence in tokens, prompt and eos included.

    Returns:
        The sequences, in order, and the number of longer rows, which are dropped. None is
        truncated: a chain without its end teaches the student not to end.

    Raises:
        ConfigError: every row is too long, or the codec cannot write a budget.
    """
    sequences = []
    for batch in _batches(rows):
        for prompt_T, completion_T in prompts.row_ids(batch):
            tokens_T = np.concatenate([prompt_T, completion_T])
            if tokens_T.size <= max_len:
                sequences.append(TrainSequence(tokens_T, np.arange(tokens_T.size) >= prompt_T.size))
    if rows and not sequences:
        raise ConfigError(
            "student.max_len",
            max_len,
            f"is shorter than every one of the {len(rows)} rows",
            "Raise it.",
        )
    return sequences, len(rows) - len(sequences)


def _batches(rows: Sequence[DistillRow]) -> Iterator[list[DistillRow]]:
    """Rows in order, a batch as soon as its chains have `_BATCH_CHARS` characters."""
    batch: list[DistillRow] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += len(row.think)
        if size >= _BATCH_CHARS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def write_corpus(path: str | Path, rows: Iterable[DistillRow]) -> None:
    """Write one JSON object per line. The file appears whole or not at all."""
    write_lines(path, (json.dumps(_to_json(row), ensure_ascii=False) for row in rows))


def read_corpus(path: str | Path) -> list[DistillRow]:
    """Read what `write_corpus` wrote.

    Raises:
        DataError: the file is missing or a line is not a row.
    """
    try:
        with Path(path).open(encoding="utf-8") as file:
            lines = list(file)
    except OSError as error:
        raise DataError(
            str(path), f"cannot be read ({error.strerror})", "Run the distill stage again."
        ) from error
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(_from_json(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                str(path),
                f"line {number} is no corpus row",
                "Delete the file; the next run builds it again.",
                line,
            ) from error
    return rows


def _gold_row(cfg: ChainConfig, seed: int, index: int) -> DistillRow:
    question = chain_question(cfg, seed, "base", index)
    return DistillRow(
        question, NO_BUDGET, gold_think(chain_of(question)), answer_text(question.answer)
    )


def _by_turns(teacher: Sequence[TeacherRow]) -> Iterator[tuple[TeacherRow, TeacherChain]]:
    """First chains of all questions, then second ones, and so on."""
    for turn in range(max((len(row.chains) for row in teacher), default=0)):
        yield from ((row, row.chains[turn]) for row in teacher if turn < len(row.chains))


def _to_json(row: DistillRow) -> dict[str, object]:
    question = row.question
    return {
        "id": question.id,
        "messages": [{"role": m.role, "content": m.content} for m in question.messages],
        "answer": question.answer,
        "kind": question.kind,
        "source": question.source,
        "meta": dict(question.meta),
        "budget": budget_label(row.budget),
        "think": row.think,
        "answer_text": row.answer_text,
    }


def _from_json(record: dict) -> DistillRow:
    question = Question(
        id=record["id"],
        messages=tuple(Message(m["role"], m["content"]) for m in record["messages"]),
        answer=record["answer"],
        kind=record["kind"],
        source=record["source"],
        meta=record["meta"],
    )
    return DistillRow(
        question, parse_budget(record["budget"]), record["think"], record["answer_text"]
    )
