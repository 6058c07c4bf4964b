"""Teacher chains from a data set: our own row format and the OpenR1-Math columns.

Source: column meanings of `openr1` from the data set card of open-r1/OpenR1-Math-220k.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bard_ray.config.schema import RowsConfig
from bard_ray.data.chain import answer_text
from bard_ray.errors import ConfigError, DataError
from bard_ray.records import Message, Question
from bard_ray.verify.kinds import known_kinds

Record = Mapping[str, object]

# As the data sets write them, whatever the student's tags are.
OPEN_TAG, CLOSE_TAG = "<think>", "</think>"
QUESTION_COLUMNS = {
    "rows": ("id", "question", "answer", "kind"),
    "openr1": ("uuid", "problem", "answer", "problem_type"),
}
CHAIN_COLUMNS = {
    "rows": ("think", "answer_text"),
    "openr1": ("generations", "correctness_math_verify", "is_reasoning_complete"),
}


@dataclass(frozen=True, slots=True)
class TeacherChain:
    """One chain of a teacher: the text between the think tags and the text after them."""

    think: str
    answer_text: str


@dataclass(frozen=True, slots=True)
class TeacherRow:
    """A question and the usable chains for it; none where the teacher failed."""

    question: Question
    chains: tuple[TeacherChain, ...] = ()


def load_rows(cfg: RowsConfig, path: str = "", need_chains: bool = True) -> list[TeacherRow]:
    """Read a whole data set.

    Args:
        cfg: where it is and how its columns are called.
        path: another file or hub id of the same format (evaluation questions); empty: `cfg.path`.
        need_chains: read the chains too; off, only the questions are read.

    Returns:
        One item per question, in the order of the data set; chains of the same question are
        gathered.

    Raises:
        ConfigError: no path is given.
        DataError: missing, unreadable, empty or malformed; names source and row.
    """
    source = path or cfg.path
    if not source:
        raise ConfigError(
            "data.rows.path", source, "is empty", "Give a .jsonl or .parquet file, or a hub id."
        )
    columns = QUESTION_COLUMNS[cfg.format] + (CHAIN_COLUMNS[cfg.format] if need_chains else ())
    parse = _PARSERS[cfg.format]
    rows: dict[str, TeacherRow] = {}
    for number, record in enumerate(_records(source, cfg, columns), start=1):
        _gather(rows, parse(_Reader(source, number, record), need_chains), source)
    if not rows:
        raise DataError(source, "is empty", "Give a data set with at least one row.")
    if need_chains and not any(row.chains for row in rows.values()):
        raise DataError(
            source, "has no usable chain in any row", "Give correct, complete teacher chains."
        )
    return list(rows.values())


@dataclass(frozen=True, slots=True)
class _Reader:
    """One record with its place in the data set, for error messages."""

    source: str
    number: int
    record: Record

    def text(self, column: str) -> str:
        """A text column that must be there and not blank; numbers are written as text."""
        if column not in self.record:
            known = ", ".join(self.record)
            problem = f"has no column {column!r} (it has: {known})"
            raise self.error(problem, "Rename the column or set data.rows.format.")
        value = self.record[column]
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or not value.strip():
            raise self.error(
                f"column {column!r} must be text and not blank", "Mend or remove the row."
            )
        return value

    def optional(self, column: str, default: str) -> str:
        """A text column that may be missing or null."""
        return default if self.record.get(column) is None else self.text(column)

    def items(self, column: str) -> Sequence[object]:
        """A list column that must be there; null reads as an empty list."""
        if column not in self.record:
            self.text(column)
        value = self.record[column]
        if value is not None and not isinstance(value, list):
            raise self.error(f"column {column!r} must be a list", "Mend or remove the row.")
        return value or []

    def error(self, problem: str, fix: str) -> DataError:
        """The error to raise for this record."""
        return DataError(self.source, f"row {self.number} {problem}", fix, dict(self.record))


def _parse_rows(reader: _Reader, need_chains: bool) -> TeacherRow:
    kind = reader.optional("kind", "math")
    if kind not in known_kinds():
        fix = f"Use one of {', '.join(known_kinds())}, or name your own in verifier.kinds."
        raise reader.error(f"has the unknown kind {kind!r}", fix)
    text = reader.text("question")
    question = Question(
        # Without an id, rows of one text are chains of one question.
        id=reader.optional("id", text),
        messages=(Message("user", text),),
        answer=reader.text("answer"),
        kind=kind,
        source=reader.source,
    )
    if not need_chains:
        return TeacherRow(question)
    think = reader.text("think")
    if CLOSE_TAG in think:
        raise reader.error(
            f"column 'think' holds {CLOSE_TAG}", "Put what follows the tag into 'answer_text'."
        )
    return TeacherRow(
        question, (_chain(think, reader.optional("answer_text", answer_text(question.answer))),)
    )


def _parse_openr1(reader: _Reader, need_chains: bool) -> TeacherRow:
    text, uuid = reader.text("problem"), reader.optional("uuid", "nan")
    question = Question(
        id=text if uuid.lower() == "nan" else uuid,
        messages=(Message("user", text),),
        answer=reader.text("answer"),
        kind="math",
        source=reader.source,
        meta={"problem_type": reader.optional("problem_type", "unknown")},
    )
    return TeacherRow(question, _openr1_chains(reader) if need_chains else ())


def _openr1_chains(reader: _Reader) -> tuple[TeacherChain, ...]:
    """Generations judged both correct (by math-verify) and complete."""
    generations = reader.items("generations")
    correct, complete = (
        reader.items("correctness_math_verify"),
        reader.items("is_reasoning_complete"),
    )
    if correct and complete and not len(generations) == len(correct) == len(complete):
        raise reader.error(
            f"has {len(generations)} generations but {len(correct)} and {len(complete)} judgements",
            "Mend or remove the row.",
        )
    chains = []
    for generation, *judgements in zip(generations, correct, complete, strict=False):
        # A complete generation closes its think tag and answers;
        # without both there is nothing to learn from.
        think, tag, answer = str(generation).partition(CLOSE_TAG)
        if all(judgements) and tag and answer.strip():
            chains.append(_chain(think, answer))
    return tuple(chains)


def _chain(think: str, answer: str) -> TeacherChain:
    return TeacherChain(
        think.partition(OPEN_TAG)[2] if OPEN_TAG in think else think, answer.rstrip()
    )


def _gather(rows: dict[str, TeacherRow], row: TeacherRow, source: str) -> None:
    known = rows.setdefault(row.question.id, row)
    if known is row:
        return
    if known.question != row.question:
        raise DataError(
            source,
            f"two different questions have the id {row.question.id!r}",
            "Give every question its own id.",
            row.question,
        )
    rows[row.question.id] = replace(known, chains=known.chains + row.chains)


def _records(source: str, cfg: RowsConfig, columns: Sequence[str]) -> Iterator[Record]:
    suffix = Path(source).suffix
    if suffix in {".jsonl", ".parquet"} and not Path(source).is_file():
        raise DataError(source, "no such file", "Check data.rows.path and data.rows.eval_path.")
    if suffix == ".jsonl":
        return _jsonl_records(source)
    return _dataset_records(source, cfg, columns)


def _jsonl_records(source: str) -> Iterator[Record]:
    # Read by hand, for the sake of the message, which names the line.
    # Columns of mixed type are no trouble either.
    with Path(source).open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise DataError(
                    source, f"line {number} is no JSON ({error})", "Mend the line.", line
                ) from error
            if not isinstance(record, dict):
                raise DataError(
                    source, f"line {number} is no JSON object", "Write one object a line.", line
                )
            yield record


def _dataset_records(source: str, cfg: RowsConfig, columns: Sequence[str]) -> Iterator[Record]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    try:
        if source.endswith(".parquet"):
            # Streaming reads the file where it lies instead of copying it into a cache.
            dataset = load_dataset("parquet", data_files=source, split="train", streaming=True)
        else:
            dataset = load_dataset(
                source, cfg.config or None, split=cfg.split, revision=cfg.revision
            )
        known = dataset.column_names or ()
        # Chains are megabytes a row: columns nobody asked for are not decoded.
        yield from dataset.select_columns([column for column in columns if column in known])
    except (OSError, ValueError, DatasetsError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(
            source,
            f"cannot be read ({reason})",
            "Check data.rows.path, config, split and revision, and the network if it is a hub id.",
        ) from error


_PARSERS: dict[str, Callable[[_Reader, bool], TeacherRow]] = {
    "rows": _parse_rows,
    "openr1": _parse_openr1,
}
