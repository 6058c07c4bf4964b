"""RL data of open-instruct."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bard_ray.data.reading import last_user_text, read_chat
from bard_ray.data.source import SOURCES, Hub, Row, Source, TeacherRow, is_null
from bard_ray.records import AnswerKind, Question

# Kind of answers for each verifier of open-instruct.
_KINDS: dict[str, AnswerKind] = {
    "gsm8k": "math",
    "math": "math",
    "strict_math": "math",
    "string_matcher": "string",
}


@SOURCES.register("open_instruct")
@dataclass(frozen=True)
class OpenInstruct(Source):
    """`messages`, `ground_truth`, and in `dataset` the name of the verifier.

    Rows of verifiers without a counterpart here, such as `ifeval`, are skipped. Source: data set
    cards of the RLVR sets.
    """

    question_columns = ("id", "messages", "ground_truth", "dataset")
    lenient = True
    hubs = (Hub("allenai/RLVR-GSM"), Hub("allenai/RLVR-MATH"))
    trap = "Ground truth and verifier are text or lists of one; prompts may hold worked examples."

    def read(self, row: Row, need_chains: bool) -> Iterable[TeacherRow]:
        """The question; there are no chains."""
        verifier = _single(row, "dataset").lower()
        if verifier not in _KINDS:
            return row.skip(f"verifier {verifier}")
        if is_null(row.record.get("ground_truth", "")):
            return row.skip("no ground truth")
        messages = read_chat(row, "messages").messages
        question = Question(
            row.optional("id", default=last_user_text(messages)),
            messages,
            _single(row, "ground_truth").strip(),
            _KINDS[verifier],
            row.source,
        )
        return (TeacherRow(question),)


def _single(row: Row, column: str) -> str:
    """A text column, or a list of one text."""
    if not isinstance(row.record.get(column), list):
        return row.text(column)
    items = row.items(column)
    if len(items) != 1 or not isinstance(items[0], str) or not items[0].strip():
        raise row.error(f"column {column!r} must hold one text", "Fix or remove the row.")
    return items[0]
