"""Outputs of the pipeline's steps on disk, found again by what they depend on.

    <store>/<step>-<key>/
        part-00000.parquet, part-00001.parquet, ...   one chunk each: kept and dropped records
        part-00000.json, ...                          facts of the chunk; written last
        manifest.json                                 facts of the step; written when it is complete

A key is the digest of the step, its parameters and the key of its input. A part is written to a
temporary file, synced and renamed: a killed run leaves whole parts only, and the next one resumes
after them. Except for the seconds in the JSON files, nothing in the directory depends on when or by
how many processes it was computed.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bard_ray.distill.filter import Candidate, StepResult
from bard_ray.distill.table import read_records, write_records
from bard_ray.errors import DataError
from bard_ray.files import write_json

FORMAT = 1  # of the files; part of every key
MAX_EXAMPLES = 3  # dropped records shown for each reason


@dataclass(frozen=True, slots=True)
class StepFacts:
    """Figures of a step, or of one part of it.

    Attributes:
        name, key: of the step.
        records, questions: of its input.
        kept: records passed to the next step.
        dropped: the other records, by reason.
        examples: question ids of the first few dropped records, by reason.
        seconds: wall time with at least one of its chunks in work; chunks that an earlier command
            computed count with their own times.
        parts: chunks.
        reused: parts that an earlier command computed.
        counters: figures of the plug-in itself (`StepTools.counters`), summed over the chunks.
    """

    name: str
    key: str
    records: int = 0
    questions: int = 0
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)
    seconds: float = 0.0
    parts: int = 0
    reused: int = 0
    counters: dict[str, float] = field(default_factory=dict)

    @property
    def records_per_s(self) -> float | None:
        """Input records per second; None where the time was too short to measure."""
        return self.records / self.seconds if self.seconds > 0 else None

    def plus(self, other: StepFacts) -> StepFacts:
        """The sum of both, with the first few examples."""
        examples = {reason: list(ids) for reason, ids in self.examples.items()}
        for reason, ids in other.examples.items():
            examples[reason] = [*examples.get(reason, []), *ids][:MAX_EXAMPLES]
        return replace(
            self,
            records=self.records + other.records,
            questions=self.questions + other.questions,
            kept=self.kept + other.kept,
            dropped=dict(Counter(self.dropped) + Counter(other.dropped)),
            examples=examples,
            seconds=round(self.seconds + other.seconds, 4),
            parts=self.parts + other.parts,
            reused=self.reused + other.reused,
            counters={
                name: self.counters.get(name, 0) + other.counters.get(name, 0)
                for name in {**self.counters, **other.counters}
            },
        )

    def __str__(self) -> str:
        reasons = ", ".join(f"{reason} {n:,}" for reason, n in Counter(self.dropped).most_common())
        total = self.kept + sum(self.dropped.values())
        tail = f" ({reasons})" if reasons else ""
        return f"{self.name}: kept {self.kept:,} of {total:,}{tail}"


class StepStore:
    """The output of one step."""

    def __init__(self, root: Path, name: str, key: str) -> None:
        """Find or make its directory.

        Args:
            root: the store.
            name: of the step.
            key: digest of what the output depends on.
        """
        self.name, self.key = name, key
        self.path = root / f"{name}-{key[:16]}"
        self.path.mkdir(parents=True, exist_ok=True)

    def complete(self) -> StepFacts | None:
        """Facts of the whole step, if it is complete; all of its parts then count as reused."""
        facts = _read_json(self.path / "manifest.json")
        if facts is None or facts["key"] != self.key:
            return None
        whole = StepFacts(**facts["facts"])
        if not all(self.data_path(i).exists() for i in range(whole.parts)):
            return None
        return replace(whole, reused=whole.parts)

    def part(self, index: int, source: str) -> tuple[StepFacts, list[StepResult]] | None:
        """A part that exists.

        Args:
            index: of the part.
            source: digest of its input records (`fingerprint`).

        Returns:
            Its facts and records; None where there is none, or one with other input records.
        """
        facts = _read_json(self._facts_path(index))
        if facts is None or facts["source"] != source:
            return None
        data = self.data_path(index)
        if not data.exists() or _sha256(data) != facts["sha256"]:
            return None
        return replace(StepFacts(**facts["facts"]), reused=1), read_records(data)

    def write_part(
        self, index: int, source: str, results: Sequence[StepResult], facts: StepFacts
    ) -> None:
        """Write a part: its data first, then its facts, which make it valid."""
        write_records(self.data_path(index), results)
        content = {
            "source": source,
            "sha256": _sha256(self.data_path(index)),
            "facts": asdict(facts),
        }
        write_json(self._facts_path(index), content)

    def finish(self, identity: dict[str, Any], facts: StepFacts) -> None:
        """Mark the step as complete, and delete parts of an earlier, longer attempt."""
        for stale in self.path.glob("part-*"):
            if int(stale.stem.removeprefix("part-")) >= facts.parts:
                stale.unlink()
        write_json(
            self.path / "manifest.json",
            {"format": FORMAT, "key": self.key, "identity": identity, "facts": asdict(facts)},
        )

    def read(self, parts: int) -> Iterator[list[Candidate]]:
        """Kept records of every part, in order.

        Raises:
            DataError: a part is missing or damaged.
        """
        for index in range(parts):
            facts, path = _read_json(self._facts_path(index)), self.data_path(index)
            if facts is None or not path.exists() or _sha256(path) != facts["sha256"]:
                fix = "Delete its directory; it is computed again."
                raise DataError(str(path), "is missing or damaged", fix)
            yield kept(read_records(path))

    def data_path(self, index: int) -> Path:
        """Records of a part, kept and dropped."""
        return self.path / f"part-{index:05}.parquet"

    def _facts_path(self, index: int) -> Path:
        return self.path / f"part-{index:05}.json"


def kept(results: Sequence[StepResult]) -> list[Candidate]:
    """The records without a drop reason."""
    return [record for record, reason in results if not reason]


def tally(
    name: str, key: str, records: Sequence[Candidate], results: Sequence[StepResult]
) -> StepFacts:
    """Facts of one chunk."""
    dropped: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    for record, reason in results:
        if reason:
            dropped[reason] += 1
            shown = examples.setdefault(reason, [])
            if len(shown) < MAX_EXAMPLES:
                shown.append(record.question.id)
    return StepFacts(
        name,
        key,
        records=len(records),
        questions=len({record.question.id for record in records}),
        kept=len(results) - dropped.total(),
        dropped=dict(dropped),
        examples=examples,
        parts=1,
    )


def fingerprint(records: Sequence[Candidate]) -> str:
    """Digest of the fields that differ between records of one store."""
    hasher = hashlib.blake2b(digest_size=16)
    for r in records:
        for text in (r.question.id, r.question.answer, r.think, r.answer_text, r.origin):
            hasher.update(text.encode())
            hasher.update(b"\0")
        hasher.update(repr((r.budget, r.verdict, r.pass_rate)).encode())
    return hasher.hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_json(path: Path) -> dict[str, Any] | None:
    """Content of a file of the store; None where it is missing or broken."""
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content
