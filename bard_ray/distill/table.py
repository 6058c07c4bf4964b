"""Records of the pipeline as Parquet, one file per chunk. Equal records give equal bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bard_ray.distill.filter import Candidate, StepResult
from bard_ray.errors import DataError
from bard_ray.files import atomic_file
from bard_ray.records import Floats, Message, Outcome, Question, budget_label, parse_budget

if TYPE_CHECKING:
    import pyarrow as pa


def write_records(path: Path, results: Sequence[StepResult]) -> None:
    """Write records and their drop reasons; the file appears whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist([_to_row(*result) for result in results], schema=_schema())
    with atomic_file(path) as file:
        pq.write_table(table, file, compression="zstd")


def read_records(path: Path) -> list[StepResult]:
    """Read what `write_records` wrote.

    Raises:
        DataError: the file is missing or holds something else.
    """
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(path).to_pylist()
        return [_from_row(row) for row in rows]
    except (OSError, KeyError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        fix = "Delete its directory; it is computed again."
        raise DataError(str(path), f"cannot be read ({reason})", fix) from error


def _schema() -> pa.Schema:
    import pyarrow as pa

    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    logprobs = pa.list_(pa.float32())
    return pa.schema(
        [
            ("id", pa.string()),
            ("messages", pa.list_(message)),
            ("answer", pa.string()),
            ("kind", pa.string()),
            ("source", pa.string()),
            ("meta", pa.string()),
            ("think", pa.string()),
            ("answer_text", pa.string()),
            ("tokens", pa.list_(pa.int32())),
            ("budget", pa.string()),
            ("attempts", pa.int32()),
            ("origin", pa.string()),
            ("verdict", pa.string()),
            ("pass_rate", pa.float64()),
            ("teacher_logprobs", logprobs),
            ("student_logprobs", logprobs),
            ("sentence_ends", pa.list_(pa.int32())),
            ("reason", pa.string()),
        ]
    )


def _to_row(record: Candidate, reason: str) -> dict[str, Any]:
    question = record.question
    return {
        "id": question.id,
        "messages": [{"role": m.role, "content": m.content} for m in question.messages],
        "answer": question.answer,
        "kind": question.kind,
        "source": question.source,
        "meta": json.dumps(dict(question.meta), sort_keys=True, ensure_ascii=False),
        "think": record.think,
        "answer_text": record.answer_text,
        "tokens": record.tokens_T,
        "budget": budget_label(record.budget),
        "attempts": record.attempts,
        "origin": record.origin,
        "verdict": None if record.verdict is None else record.verdict.value,
        "pass_rate": record.pass_rate,
        "teacher_logprobs": record.teacher_logprobs_T,
        "student_logprobs": record.student_logprobs_T,
        "sentence_ends": list(record.sentence_ends),
        "reason": reason,
    }


def _from_row(row: dict[str, Any]) -> StepResult:
    question = Question(
        id=row["id"],
        messages=tuple(Message(m["role"], m["content"]) for m in row["messages"]),
        answer=row["answer"],
        kind=row["kind"],
        source=row["source"],
        meta=json.loads(row["meta"]),
    )
    record = Candidate(
        question,
        row["think"],
        row["answer_text"],
        np.asarray(row["tokens"], np.int32),
        budget=parse_budget(row["budget"]),
        attempts=row["attempts"],
        origin=row["origin"],
        verdict=None if row["verdict"] is None else Outcome(row["verdict"]),
        pass_rate=row["pass_rate"],
        teacher_logprobs_T=_floats(row["teacher_logprobs"]),
        student_logprobs_T=_floats(row["student_logprobs"]),
        sentence_ends=tuple(row["sentence_ends"]),
    )
    return record, row["reason"]


def _floats(values: list[float] | None) -> Floats | None:
    return None if values is None else np.asarray(values, np.float32)
