"""Formats of data sets: a format turns one row into questions and teacher chains.

A format is a file of `bard_ray.data.sources` with one frozen dataclass, or the user's own as
`module:Class`: `data.rows.format` names it, `data.rows.params` sets its fields.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, cast

from bard_ray.errors import ConfigError, DataError
from bard_ray.plugins import Registry
from bard_ray.records import Question

Record = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class TeacherChain:
    """One chain of a teacher.

    Attributes:
        think: the text between the think tags.
        answer_text: the text after them.
        origin: author of the chain, if the data set names it.
    """

    think: str
    answer_text: str
    origin: str = ""


@dataclass(frozen=True, slots=True)
class TeacherRow:
    """A question and its usable chains; empty if the teacher failed."""

    question: Question
    chains: tuple[TeacherChain, ...] = ()


@dataclass(frozen=True, slots=True)
class Hub:
    """A public data set of a format: its `data.rows.path`, `config` and `split`."""

    path: str
    config: str = ""
    split: str = "train"


@dataclass(frozen=True, slots=True)
class Row:
    """One row with its position in the data set, for error messages.

    Attributes:
        source: path or hub id.
        number: row number, from 1.
        record: columns under the format's names.
        skipped: counts of reasons for skipped rows, over the data set.
    """

    source: str
    number: int
    record: Record
    skipped: Counter[str] = field(default_factory=Counter)

    def text(self, *columns: str) -> str:
        """The first of these columns that exists, as non-blank text; numbers become text.

        Raises:
            DataError: the row has none of them, or the value is blank or not text.
        """
        column = self._present(columns)
        value = plain_text(self.record[column])
        if value is None or not value.strip():
            raise self.error(
                f"column {column!r} must be text and not blank", "Fix or remove the row."
            )
        return value

    def optional(self, *columns: str, default: str = "") -> str:
        """Like `text`, but with a default for missing and null columns."""
        present = [name for name in columns if not is_null(self.record.get(name))]
        return self.text(present[0]) if present else default

    def items(self, column: str) -> Sequence[object]:
        """A required list column; null becomes an empty list."""
        value = self.record[self._present((column,))]
        if value is not None and not isinstance(value, list):
            raise self.error(f"column {column!r} must be a list", "Fix or remove the row.")
        return value or []

    def inner(self, column: str) -> Row:
        """A column of named fields as a row; null becomes a row without fields."""
        value = self.record[self._present((column,))]
        if value is not None and not isinstance(value, Mapping):
            raise self.error(
                f"column {column!r} must be a mapping of names to values", "Fix or remove the row."
            )
        return Row(self.source, self.number, value or {}, self.skipped)

    def skip(self, reason: str) -> tuple[TeacherRow, ...]:
        """Count this row as skipped; returns an empty result."""
        self.skipped[reason] += 1
        return ()

    def error(self, problem: str, fix: str) -> DataError:
        """The error to raise for this row."""
        return DataError(self.source, f"row {self.number} {problem}", fix, dict(self.record))

    def _present(self, columns: tuple[str, ...]) -> str:
        for column in columns:
            if column in self.record:
                return column
        wanted = " or ".join(map(repr, columns))
        problem = f"has no column {wanted} (it has: {', '.join(self.record)})"
        raise self.error(problem, "Set data.rows.format, or data.rows.columns to its names.")


class Source:
    """Base class of formats.

    Attributes:
        question_columns: columns from which questions are read, including alternatives; other
            columns are not decoded. Empty: all columns are decoded.
        chain_columns: further columns from which chains are read.
        hubs: public data sets of this format.
        trap: a known pitfall of these data sets, one sentence, for the documentation.
        lenient: rows with a different gold answer for a known question are skipped and counted;
            otherwise they are an error.
    """

    question_columns: ClassVar[tuple[str, ...]] = ()
    chain_columns: ClassVar[tuple[str, ...]] = ()
    hubs: ClassVar[tuple[Hub, ...]] = ()
    trap: ClassVar[str] = ""
    lenient: ClassVar[bool] = False

    def read(self, row: Row, need_chains: bool) -> Iterable[TeacherRow]:
        """Questions of one row, with their chains if `need_chains`; often exactly one question.

        Raises:
            DataError: the row is malformed; `row.error` creates one that shows the row.
        """
        raise NotImplementedError

    def columns(self, need_chains: bool) -> tuple[str, ...]:
        """Columns to decode; empty: all."""
        if not self.question_columns:
            return ()
        return self.question_columns + (self.chain_columns if need_chains else ())


SOURCES: Registry[Source] = Registry(
    "data.rows", "bard_ray.data.sources", method="read", key="format"
)


def make_source(
    name: str, params: Mapping[str, object] | None = None, columns: Iterable[str] = ()
) -> Source:
    """The format `name`.

    Args:
        name: name of a built-in format, or `module:Class`.
        params: values of its fields.
        columns: names in a column map; each must be a column that the format reads.

    Raises:
        ConfigError: unknown format, invalid parameters, or a column it does not read.
    """
    source: object = SOURCES.build(name, params or {})
    if not isinstance(source, Source):
        fix = "Derive it from bard_ray.data.source.Source."
        raise ConfigError("data.rows.format", name, "is no format of data sets", fix)
    known = source.columns(need_chains=True)
    for column in columns:
        if known and column not in known:
            fix = f"It reads {', '.join(known)}."
            rule = f"is no column of the format {name}"
            raise ConfigError(f"data.rows.columns.{column}", column, rule, fix)
    return source


def is_null(value: object) -> bool:
    """Whether a value is missing: null, or NaN, which tables use for null."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def plain_text(value: object) -> str | None:
    """Text unchanged, a number as text (73 and 73.0 become `73`), None for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or is_null(value) or not isinstance(value, (int, float)):
        return None
    whole = isinstance(value, float) and value.is_integer()
    return str(int(cast(float, value)) if whole else value)
