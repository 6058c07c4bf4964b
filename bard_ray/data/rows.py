"""Questions and teacher chains from a data set: local JSONL, JSON or Parquet, or a hub id.

The format defines how a row is read: see `bard_ray.data.source` and the files of
`bard_ray.data.sources`.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bard_ray.config.schema import RowsConfig
from bard_ray.data.source import Record, Row, Source, TeacherChain, TeacherRow, make_source
from bard_ray.errors import ConfigError, DataError

__all__ = ["TeacherChain", "TeacherRow", "evaluation_rows", "load_rows"]

_log = logging.getLogger(__name__)


def evaluation_rows(cfg: RowsConfig) -> RowsConfig:
    """Location and format of the evaluation questions.

    With their own format they also use that format's parameters and column names; config, split and
    revision then default to those of the known data set.
    """
    if not cfg.eval_format:
        return replace(
            cfg,
            path=cfg.eval_path,
            config=cfg.eval_config or cfg.config,
            split=cfg.eval_split or cfg.split,
            revision=cfg.eval_revision or cfg.revision,
        )
    # The first of several configs counts.
    hubs = {hub.path: hub for hub in reversed(make_source(cfg.eval_format).hubs)}
    hub = hubs.get(cfg.eval_path.partition("@")[0])
    return RowsConfig(
        path=cfg.eval_path,
        format=cfg.eval_format,
        config=cfg.eval_config or (hub.config if hub else ""),
        split=cfg.eval_split or (hub.split if hub else "train"),
        revision=cfg.eval_revision or "main",
    )


def path_problems(path: str) -> Iterator[ConfigError]:
    """Problems with the path of a data set, found before anything is read."""
    if not path:
        fix = "Give a .jsonl, .json or .parquet file, or a hub id."
        yield ConfigError("data.rows.path", path, "is needed by data.source=rows", fix)


def load_rows(cfg: RowsConfig, path: str = "", need_chains: bool = True) -> list[TeacherRow]:
    """Read a whole data set.

    Args:
        cfg: its location, format and column names. A hub id may pin its revision:
            `owner/name@commit`.
        path: another file or hub id of the same format; empty: `cfg.path`.
        need_chains: also read the chains; otherwise only the questions.

    Returns:
        One item per question, in the order of the data set; chains of the same question are
        merged. Rows that a format cannot use are skipped, and their number is logged.

    Raises:
        ConfigError: no path is given, or the format is not usable.
        DataError: the data set is missing, unreadable, empty or malformed; names source and row.
    """
    name = path or cfg.path
    for problem in path_problems(name):
        raise problem
    source = make_source(cfg.format, cfg.params, cfg.columns)
    rows: dict[str, TeacherRow] = {}
    skipped: Counter[str] = Counter()
    columns = [cfg.columns.get(column, column) for column in source.columns(need_chains)]
    for number, record in enumerate(_records(name, cfg, columns), start=1):
        row = Row(name, number, _renamed(record, cfg.columns), skipped)
        for found in source.read(row, need_chains):
            _gather(rows, found, row, source)
    _report(name, skipped)
    if not rows:
        raise DataError(name, _nothing(skipped), "Give a data set with at least one usable row.")
    if need_chains and not any(row.chains for row in rows.values()):
        raise DataError(
            name, "has no usable chain in any row", "Give correct, complete teacher chains."
        )
    return list(rows.values())


def _renamed(record: Record, columns: Mapping[str, str]) -> Record:
    """The row with the format's column names; a mapped column replaces one of the same name."""
    if not columns:
        return record
    theirs = set(columns.values()) | set(columns)
    kept = {name: value for name, value in record.items() if name not in theirs}
    return kept | {ours: record[name] for ours, name in columns.items() if name in record}


def _report(name: str, skipped: Counter[str]) -> None:
    if skipped:
        shown = ", ".join(f"{reason} {count}" for reason, count in skipped.most_common())
        _log.warning("%s: %d rows left out (%s)", name, skipped.total(), shown)


def _nothing(skipped: Counter[str]) -> str:
    return f"has no usable row ({', '.join(skipped)})" if skipped else "is empty"


def _gather(rows: dict[str, TeacherRow], found: TeacherRow, row: Row, source: Source) -> None:
    known = rows.setdefault(found.question.id, found)
    if known is found:
        return
    ours, theirs = known.question, found.question
    same = ours == theirs
    if source.lenient:
        same = (ours.messages, ours.answer) == (theirs.messages, theirs.answer)
    if same:
        rows[theirs.id] = replace(known, chains=known.chains + found.chains)
    elif source.lenient:
        row.skip("question known with another answer")
    else:
        raise DataError(
            row.source,
            f"two different questions have the id {theirs.id!r}",
            "Give every question its own id.",
            theirs,
        )


def _records(source: str, cfg: RowsConfig, columns: Sequence[str]) -> Iterator[Record]:
    suffix = Path(source).suffix
    if suffix in {".jsonl", ".json", ".parquet"} and not Path(source).is_file():
        raise DataError(source, "no such file", "Check data.rows.path and data.rows.eval_path.")
    if suffix == ".jsonl":
        return _jsonl_records(source)
    if suffix == ".json":
        return _json_records(source)
    return _dataset_records(source, cfg, columns)


def _jsonl_records(source: str) -> Iterator[Record]:
    # Read line by line, so that errors name the line; columns may be of mixed type.
    with Path(source).open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise DataError(
                    source, f"line {number} is no JSON ({error})", "Fix the line.", line
                ) from error
            if not isinstance(record, dict):
                raise DataError(
                    source, f"line {number} is no JSON object", "Write one object a line.", line
                )
            yield record


def _json_records(source: str) -> Iterator[Record]:
    # Without `datasets`, which converts a column of mixed type to JSON, with quotes around texts.
    try:
        records = json.loads(Path(source).read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(source, f"is no JSON ({error})", "Fix it, or write .jsonl.") from error
    if not isinstance(records, list):
        raise DataError(source, "is no list of rows", "Write one list of objects, or .jsonl.")
    for number, record in enumerate(records, start=1):
        if not isinstance(record, dict):
            raise DataError(source, f"row {number} is no JSON object", "Fix the row.", record)
        yield record


def _dataset_records(source: str, cfg: RowsConfig, columns: Sequence[str]) -> Iterator[Record]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    name, _, revision = source.partition("@")
    try:
        if source.endswith(".parquet"):
            # Streaming reads the file in place instead of copying it into a cache.
            dataset = load_dataset("parquet", data_files=source, split="train", streaming=True)
        else:
            dataset = load_dataset(
                name, cfg.config or None, split=cfg.split, revision=revision or cfg.revision
            )
        known = dataset.column_names or ()
        # A row of chains can have megabytes, so only the required columns are decoded.
        wanted = [column for column in columns if column in known]
        yield from dataset.select_columns(wanted) if columns and wanted else dataset
    except (OSError, ValueError, DatasetsError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(
            source,
            f"cannot be read ({reason})",
            "Check data.rows.path, config, split and revision, and the network if it is a hub id.",
        ) from error
