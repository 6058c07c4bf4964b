"""Data of TRL."""

from __future__ import annotations

from dataclasses import dataclass

from bard_ray.data.conversations import ConversationSource
from bard_ray.data.source import SOURCES
from bard_ray.records import AnswerKind


@SOURCES.register("trl")
@dataclass(frozen=True)
class Trl(ConversationSource):
    """`messages`, or `prompt` (text or a chat) with or without `completion`; `solution` is gold.

    Source: TRL's documentation of data set formats.

    Attributes:
        kind: kind of the answers, which the format does not specify.
    """

    kind: AnswerKind = "math"

    golds = ("solution", "answer", "ground_truth")
    trap = "The gold answer has no fixed column, and `solution` is often a worked one with a box."
