"""The supervised corpora: built, kept as JSONL, and turned into sequences for the learner."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from bard_ray.budget.sampler import train_budgets
from bard_ray.budget.signal import NO_BUDGET, Budget, TokenBudget, label, parse
from bard_ray.config.schema import BudgetConfig, ChainConfig, DataConfig, DistilConfig
from bard_ray.data.chain import Split, answer_text, chain_of, chain_question, gold_think
from bard_ray.data.prompt import PromptFormat
from bard_ray.data.questions import split_rows
from bard_ray.data.rows import TeacherChain, TeacherRow
from bard_ray.data.streams import Stream, rng
from bard_ray.distill.compress import drop_steps, hindsight_budget, jittered_target
from bard_ray.errors import ConfigError, DataError
from bard_ray.records import DistilRow, Message, Question, TrainSequence

TokenCounter = Callable[[Sequence[str]], list[int]]
GoldStage = Literal["base", "sft_full"]

# Rows tokenised at a time: enough to be fast, few enough for long chains to fit the memory.
_BATCH_ROWS = 4096


def gold_corpus(data: DataConfig, num_rows: int, seed: int, stage: GoldStage) -> list[DistilRow]:
    """Teacher chains as they are, with prompts that name no budget.

    Args:
        data: where they come from.
        num_rows: rows wanted. A data set gives the first chain of every question, then the second
            ones, and so on, until it has no more; 0 means all it has.
        seed: of the run.
        stage: whose corpus; `base` has questions of its own, short ones among them.

    Raises:
        ConfigError: the synthetic task is asked for no rows, or cannot be drawn from.
        DataError: the data set is not usable.
    """
    if data.source == "chain":
        if num_rows < 1:
            raise ConfigError(
                f"{stage}.rows",
                num_rows,
                "must be at least 1",
                "The tiny recipe uses 8000 and 15000.",
            )
        split: Split = "base" if stage == "base" else "train"
        return [_gold_row(data.chain, seed, split, index) for index in range(num_rows)]
    rows = [
        DistilRow(row.question, NO_BUDGET, chain.think, chain.answer_text)
        for row, chain in _by_turns(split_rows(data)[0])
    ]
    return rows[:num_rows] if num_rows > 0 else rows


def budget_corpus(
    data: DataConfig,
    budget: BudgetConfig,
    distil: DistilConfig,
    seed: int,
    count_tokens: TokenCounter,
) -> list[DistilRow]:
    """The budgeted corpus, in random order.

    A `none_share` of unconstrained gold rows is mixed in.

    Args:
        data: where questions and chains come from.
        budget: the budgets taught.
        distil: the compressor, and how many questions and budgets.
        seed: of the run; the corpus follows from it.
        count_tokens: lengths of texts in tokens of the student (`PromptFormat.count_tokens`).

    Raises:
        ConfigError: a number is out of range, or compressor and data do not go together.
        DataError: the data set is not usable.
    """
    _check(budget, distil)
    if distil.compressor == "drop_steps":
        if data.source != "chain":
            raise ConfigError(
                "distil.compressor",
                "drop_steps",
                "can only shorten chains of the synthetic task",
                "Use distil.compressor=hindsight for a data set.",
            )
        rows = list(_compressed_rows(data.chain, train_budgets(budget), distil, seed))
        spare = [
            _gold_row(data.chain, seed, "train", _used(distil) + i)
            for i in range(_none_rows(rows, budget))
        ]
    else:
        teacher = _teacher_rows(data, distil, seed)
        rows = _hindsight_rows(teacher, train_budgets(budget), distil, count_tokens)
        picks = rng(seed, Stream.DISTIL).integers(len(rows), size=_none_rows(rows, budget))
        spare = [
            DistilRow(rows[i].question, NO_BUDGET, rows[i].think, rows[i].answer_text)
            for i in picks
        ]
    rows += spare
    return [rows[i] for i in rng(seed, Stream.SHUFFLE).permutation(len(rows))]


def to_sequences(
    rows: Sequence[DistilRow], prompts: PromptFormat, max_len: int
) -> tuple[list[TrainSequence], int]:
    """Tokenise a corpus; the mask is True on the completion only.

    Args:
        rows: the corpus.
        prompts: of the student.
        max_len: longest sequence in tokens, prompt and eos included.

    Returns:
        The sequences, in order, and the number of rows dropped because they are longer. None is
        cut: a chain without its end teaches not to end.

    Raises:
        ConfigError: every row is too long, or the codec cannot write a budget.
    """
    sequences = []
    for first in range(0, len(rows), _BATCH_ROWS):
        for prompt_T, completion_T in prompts.row_ids(rows[first : first + _BATCH_ROWS]):
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


def write_corpus(path: str | Path, rows: Iterable[DistilRow]) -> None:
    """Write one JSON object a line. The file appears whole or not at all."""
    target = Path(path)
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    with aside.open("w", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(_to_json(row), ensure_ascii=False)}\n" for row in rows)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(target)


def read_corpus(path: str | Path) -> list[DistilRow]:
    """Read what `write_corpus` wrote.

    Raises:
        DataError: the file is missing or a line is not a row.
    """
    try:
        with Path(path).open(encoding="utf-8") as file:
            lines = list(file)
    except OSError as error:
        raise DataError(
            str(path), f"cannot be read ({error.strerror})", "Run the distil stage again."
        ) from error
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(_from_json(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                str(path),
                f"line {number} is no corpus row",
                "Delete the file; it is built again.",
                line,
            ) from error
    return rows


def _check(budget: BudgetConfig, distil: DistilConfig) -> None:
    num_budgets = len(train_budgets(budget))
    if not 0 <= budget.none_share < 1:
        raise ConfigError(
            "budget.none_share", budget.none_share, "must lie in [0, 1)", "The default is 0.05."
        )
    if distil.questions < 1:
        raise ConfigError(
            "distil.questions", distil.questions, "must be at least 1", "The default is 10000."
        )
    most = (
        num_budgets
        if distil.contrastive and distil.compressor == "drop_steps"
        else distil.budgets_per_question
    )
    if not 1 <= distil.budgets_per_question <= most:
        raise ConfigError(
            "distil.budgets_per_question",
            distil.budgets_per_question,
            f"must lie in 1..{num_budgets}, the number of different budgets in budget.train",
            "Lower it or name more budgets.",
        )


def _used(distil: DistilConfig) -> int:
    """Questions of the train split that budgeted rows are made from."""
    return distil.questions * (1 if distil.contrastive else distil.budgets_per_question)


def _none_rows(rows: Sequence[DistilRow], budget: BudgetConfig) -> int:
    """How many unconstrained rows to add, so that they are `none_share` of all."""
    return round(len(rows) * budget.none_share / (1 - budget.none_share))


def _gold_row(cfg: ChainConfig, seed: int, split: Split, index: int) -> DistilRow:
    question = chain_question(cfg, seed, split, index)
    return DistilRow(
        question, NO_BUDGET, gold_think(chain_of(question)), answer_text(question.answer)
    )


def _compressed_rows(
    cfg: ChainConfig, budgets: list[int], distil: DistilConfig, seed: int
) -> Iterator[DistilRow]:
    for index in range(_used(distil)):
        question = chain_question(cfg, seed, "train", index)
        chain = chain_of(question)
        generator = rng(seed, Stream.DISTIL, index)
        if distil.contrastive:
            chosen = generator.permutation(budgets)[: distil.budgets_per_question].tolist()
        else:
            chosen = [_tied_budget(len(chain.ops), cfg, budgets, generator)]
        for tokens in chosen:
            think = drop_steps(chain, jittered_target(tokens, distil.jitter, generator), generator)
            yield DistilRow(question, TokenBudget(tokens), think, answer_text(question.answer))


def _tied_budget(
    num_ops: int, cfg: ChainConfig, budgets: list[int], generator: np.random.Generator
) -> int:
    """The one budget of a question: longer for harder questions, all budgets covered alike.

    Natural chains are like that, and it is what contrast mends: a single budget drawn independently
    of the question teaches adherence just as well (measured), so that would be no ablation.
    """
    quantile = (num_ops - cfg.min_ops + generator.random()) / (cfg.max_ops - cfg.min_ops + 1)
    return budgets[int(quantile * len(budgets))]


def _teacher_rows(data: DataConfig, distil: DistilConfig, seed: int) -> list[TeacherRow]:
    if data.source == "chain":
        gold = (_gold_row(data.chain, seed, "train", index) for index in range(distil.questions))
        return [
            TeacherRow(row.question, (TeacherChain(row.think, row.answer_text),)) for row in gold
        ]
    return [row for row in split_rows(data)[0] if row.chains][: distil.questions]


def _hindsight_rows(
    teacher: Sequence[TeacherRow],
    budgets: list[int],
    distil: DistilConfig,
    count_tokens: TokenCounter,
) -> list[DistilRow]:
    """Natural chains under the budget they fit.

    A question gives several rows of different budgets, or its first chain only.
    """
    lengths = iter(count_tokens([chain.think for row in teacher for chain in row.chains]))
    most = distil.budgets_per_question if distil.contrastive else 1
    rows = []
    for row in teacher:
        fitting: dict[Budget, TeacherChain] = {}
        for chain in row.chains:
            fitting.setdefault(hindsight_budget(next(lengths), budgets), chain)
        rows += [
            DistilRow(row.question, b, c.think, c.answer_text)
            for b, c in list(fitting.items())[:most]
        ]
    return rows


def _by_turns(teacher: Sequence[TeacherRow]) -> Iterator[tuple[TeacherRow, TeacherChain]]:
    """First chains of all questions, then second ones, and so on."""
    for turn in range(max((len(row.chains) for row in teacher), default=0)):
        yield from ((row, row.chains[turn]) for row in teacher if turn < len(row.chains))


def _to_json(row: DistilRow) -> dict[str, object]:
    question = row.question
    return {
        "id": question.id,
        "messages": [{"role": m.role, "content": m.content} for m in question.messages],
        "answer": question.answer,
        "kind": question.kind,
        "source": question.source,
        "meta": dict(question.meta),
        "budget": label(row.budget),
        "think": row.think,
        "answer_text": row.answer_text,
    }


def _from_json(record: dict) -> DistilRow:
    question = Question(
        id=record["id"],
        messages=tuple(Message(m["role"], m["content"]) for m in record["messages"]),
        answer=record["answer"],
        kind=record["kind"],
        source=record["source"],
        meta=record["meta"],
    )
    return DistilRow(question, parse(record["budget"]), record["think"], record["answer_text"])
