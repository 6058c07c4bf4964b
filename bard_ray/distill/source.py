"""Questions, with the chains that the data set has, as records of the pipeline."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bard_ray.config.schema import DataConfig, RowsConfig
from bard_ray.data.chain import chain_question
from bard_ray.data.prompt import PromptFormat
from bard_ray.data.questions import split_rows
from bard_ray.data.rows import TeacherRow
from bard_ray.distill.filter import Candidate
from bard_ray.distill.identity import digest
from bard_ray.distill.pipeline import RecordSource
from bard_ray.records import Question

_BATCH_ROWS = 1024  # questions whose chains are tokenized at a time


def record_source(
    data: DataConfig, questions: int, seed: int, prompts: PromptFormat, *, chains: bool
) -> RecordSource:
    """The first training questions, fewer where the data has no more.

    Args:
        data: where they come from.
        questions: how many.
        seed: of the run; it decides the questions of the synthetic task.
        prompts: of the student, for the token ids of chains.
        chains: read the chains of a data set too; otherwise it need not have any.

    Raises:
        ConfigError, DataError: the data is not usable.
    """
    if data.source == "chain":
        key = digest(["chain", asdict(data.chain), seed, questions])
        return RecordSource(key, questions, lambda: _chain_records(data, seed, questions))
    rows = split_rows(data, need_chains=chains)[0][:questions]
    # Token ids of chains are part of the records, so another tokenizer is another source.
    tokenizer = tokenizer_digest(prompts) if chains else ""
    key = digest(["rows", _rows_identity(data), questions, chains, tokenizer])
    return RecordSource(key, len(rows), lambda: _row_records(rows, prompts))


def tokenizer_digest(prompts: PromptFormat) -> str:
    """Digest of a tokenizer and its think tags."""
    backend = getattr(prompts.tokenizer, "backend_tokenizer", None)
    tokenizer = prompts.tokenizer.name_or_path if backend is None else backend.to_str()
    return digest([tokenizer, [prompts.think_open, prompts.think_close]])


def question_record(question: Question) -> Candidate:
    """A question that has no chain yet."""
    return Candidate(question, "", "", np.empty(0, np.int32))


def _chain_records(data: DataConfig, seed: int, questions: int) -> Iterator[Candidate]:
    for index in range(questions):
        yield question_record(chain_question(data.chain, seed, "train", index))


def _row_records(rows: Iterable[TeacherRow], prompts: PromptFormat) -> Iterator[Candidate]:
    remaining = iter(rows)
    while batch := list(itertools.islice(remaining, _BATCH_ROWS)):
        ids = iter(prompts.text_ids([chain.think for row in batch for chain in row.chains]))
        for row in batch:
            if not row.chains:
                yield question_record(row.question)
            for chain in row.chains:
                yield Candidate(
                    row.question, chain.think, chain.answer_text, next(ids), origin=chain.origin
                )


def _rows_identity(data: DataConfig) -> dict[str, Any]:
    """What the rows depend on: settings, and the content of local files."""
    held_out = 0 if data.rows.eval_path else data.eval_questions
    return {"rows": asdict(data.rows), "held_out": held_out, "content": _content(data.rows)}


def _content(rows: RowsConfig) -> str:
    """Digest of a local file; a data set of the hub is identified by its revision."""
    path = Path(rows.path).expanduser()
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
