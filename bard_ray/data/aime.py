"""Shared by the AIME sets: integer answers from 0 to 999, and mirrors with different columns."""

from __future__ import annotations

from bard_ray.data.flat import FlatSource
from bard_ray.data.source import Row

MAX_ANSWER = 999


class AimeSource(FlatSource):
    """One AIME year; the mirrors differ in the names of the columns, and in text or int answers."""

    ids = ("id", "ID", "problem_idx")
    questions = ("problem", "Problem", "question")
    answers = ("answer", "Answer")
    kind = "integer"

    def gold(self, row: Row, answer: str) -> str:
        """The answer as written: `073` stays text.

        Raises:
            DataError: the answer is not an integer from 0 to 999.
        """
        if not (answer.isascii() and answer.isdigit() and int(answer) <= MAX_ANSWER):
            problem = f"has the answer {answer!r}, which is not an integer from 0 to {MAX_ANSWER}"
            raise row.error(problem, "Fix or remove the row.")
        return answer
