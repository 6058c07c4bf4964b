"""RL data of verl."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from bard_ray.data.reading import last_user_text, read_chat, require_kind
from bard_ray.data.source import SOURCES, Row, Source, TeacherRow
from bard_ray.records import AnswerKind, Question


@SOURCES.register("verl")
@dataclass(frozen=True)
class Verl(Source):
    """`prompt` (a chat), `reward_model.ground_truth`, `data_source`, `ability`, `extra_info.index`.

    Rows without a ground truth are skipped. Source: verl's documentation of its Parquet files.

    Attributes:
        kind: kind of the answers, which the format does not specify.
    """

    kind: AnswerKind = "math"

    question_columns = ("prompt", "reward_model", "data_source", "ability", "extra_info")
    trap = "Prompts may ask for `#### n` instead of a box, which is not what is graded here."

    def __post_init__(self) -> None:
        require_kind(self.kind)

    def read(self, row: Row, need_chains: bool) -> Iterable[TeacherRow]:
        """The question; there are no chains."""
        chat = read_chat(row, "prompt")
        reward = row.inner("reward_model")
        if not reward.optional("ground_truth"):
            return row.skip("no ground truth")
        source = row.optional("data_source", default="unknown")
        question = Question(
            _item_id(row, source) or last_user_text(chat.messages),
            chat.messages,
            reward.text("ground_truth").strip(),
            self.kind,
            row.source,
        )
        meta = {"data_source": source, "ability": row.optional("ability", default="unknown")}
        return (TeacherRow(replace(question, meta=meta)),)


def _item_id(row: Row, source: str) -> str:
    """Data source, split and index; empty if the row has no index."""
    if "extra_info" not in row.record:
        return ""
    extra = row.inner("extra_info")
    index, split = extra.optional("index"), extra.optional("split", default="all")
    return f"{source}-{split}-{index}" if index else ""
