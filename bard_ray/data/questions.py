"""Questions for RL and evaluation, by index, whatever they come from."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from bard_ray.config.schema import DataConfig
from bard_ray.data.chain import chain_question
from bard_ray.data.rows import TeacherRow, evaluation_rows, load_rows
from bard_ray.data.streams import Stream, rng
from bard_ray.errors import ConfigError
from bard_ray.records import Question


def training_questions(data: DataConfig, seed: int) -> Callable[[int], Question]:
    """The endless stream of RL questions.

    Question number `index` follows from (data, seed, index) alone.

    A data set is gone through in a new random order each epoch, without the questions held out for
    the evaluation.

    Raises:
        ConfigError, DataError: the task or the data set is not usable.
    """
    if data.source == "chain":
        return lambda index: chain_question(data.chain, seed, "rl", index)
    questions = [row.question for row in split_rows(data, need_chains=False)[0]]

    @lru_cache(maxsize=4)
    def order(epoch: int) -> list[int]:
        return rng(seed, Stream.RL, epoch).permutation(len(questions)).tolist()

    return lambda index: questions[order(index // len(questions))[index % len(questions)]]


def eval_questions(data: DataConfig, seed: int) -> list[Question]:
    """The held-out questions.

    There are `data.eval_questions` of them, or as many as `data.rows.eval_path` has.

    Raises:
        ConfigError, DataError: the task or the data set is not usable.
    """
    if data.eval_questions < 1:
        raise ConfigError(
            "data.eval_questions", data.eval_questions, "must be at least 1", "The default is 256."
        )
    if data.source == "chain":
        return [
            chain_question(data.chain, seed, "eval", index) for index in range(data.eval_questions)
        ]
    if data.rows.eval_path:
        held_out = load_rows(evaluation_rows(data.rows), need_chains=False)
        return [row.question for row in held_out[: data.eval_questions]]
    return [row.question for row in split_rows(data, need_chains=False)[1]]


def split_rows(
    data: DataConfig, need_chains: bool = True
) -> tuple[list[TeacherRow], list[TeacherRow]]:
    """Training rows and held-out rows of a data set.

    The last `data.eval_questions` rows are held out, unless the evaluation has a data set of its
    own.

    Raises:
        ConfigError: nothing would be left for training.
        DataError: the data set is not usable.
    """
    rows = load_rows(data.rows, need_chains=need_chains)
    if data.rows.eval_path:
        return rows, []
    if data.eval_questions >= len(rows):
        raise ConfigError(
            "data.eval_questions",
            data.eval_questions,
            f"must be smaller than the number of questions in {data.rows.path} ({len(rows)})",
            "Lower it, or give data.rows.eval_path.",
        )
    cut = len(rows) - max(0, data.eval_questions)
    return rows[:cut], rows[cut:]
