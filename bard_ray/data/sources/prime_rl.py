"""Data of prime-rl."""

from __future__ import annotations

from dataclasses import dataclass

from bard_ray.data.conversations import ConversationSource
from bard_ray.data.source import SOURCES
from bard_ray.records import AnswerKind


@SOURCES.register("prime_rl")
@dataclass(frozen=True)
class PrimeRl(ConversationSource):
    """`messages`, or `prompt` and `completion`, or the `question` and `answer` of environments.

    `messages` takes precedence. Source: prime-rl's documentation of SFT data.

    Attributes:
        kind: kind of the answers, which the format does not specify.
    """

    kind: AnswerKind = "math"

    chats = ("messages", "prompt", "question")
    golds = ("answer",)
    trap = "A row with both `messages` and `prompt` is read from `messages`."
