"""Questions for RL and evaluation, by index, from the synthetic task or a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

from bard_ray.config.schema import DataConfig
from bard_ray.data.chain import chain_question
from bard_ray.data.rows import TeacherRow, evaluation_rows, load_rows
from bard_ray.errors import ConfigError
from bard_ray.records import Question
from bard_ray.streams import Stream, rng

_DRAWS = 100  # draws from the synthetic task per question of a smoke test


def training_questions(data: DataConfig, seed: int) -> Callable[[int], Question]:
    """The endless stream of RL questions.

    Question number `index` is a function of (data, seed, index).

    A data set is read in a new random order each epoch, without the questions held out for
    evaluation.

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

    There are `data.eval_questions` of them, or all rows of `data.rows.eval_path`.

    Raises:
        ConfigError, DataError: the task or the data set is not usable.
    """
    if data.source == "chain":
        return [
            chain_question(data.chain, seed, "eval", index) for index in range(data.eval_questions)
        ]
    if data.rows.eval_path:
        held_out = load_rows(evaluation_rows(data.rows), need_chains=False)
        return [row.question for row in held_out[: data.eval_questions]]
    return [row.question for row in split_rows(data, need_chains=False)[1]]


def smoke_questions(
    data: DataConfig, seed: int, count: int, taken: Iterable[Question]
) -> list[Question]:
    """Questions on which the students of candidate teachers are compared.

    None of them is an evaluation question, otherwise the choice would be tuned on the evaluation.
    The synthetic task has a separate split. From a data set they are a random sample of training
    rows that are in no candidate's corpus; once a teacher is chosen they may be trained on.

    Args:
        data: source of the questions.
        seed: seed of the run.
        count: number of questions; fewer if the data set has no more.
        taken: questions of the corpora of all candidates.

    Raises:
        ConfigError: no question is left.
        DataError: the data set is not usable.
    """
    out = list(taken)
    if data.source == "chain":
        out += eval_questions(data, seed)
    ids, texts = {question.id for question in out}, {question.messages for question in out}
    found: list[Question] = []
    for question in _smoke_draws(data, seed, count):
        if len(found) == count:
            break
        if question.id not in ids and question.messages not in texts:
            found.append(question)
            texts.add(question.messages)
    if not found:
        rule = "leaves no question of the data to compare the candidates' students on"
        raise ConfigError("distill.smoke.questions", len(ids), rule, "Lower it.")
    return found


def _smoke_draws(data: DataConfig, seed: int, count: int) -> Iterator[Question]:
    if data.source == "chain":
        yield from (
            chain_question(data.chain, seed, "smoke", index) for index in range(count * _DRAWS)
        )
        return
    rows = split_rows(data, need_chains=False)[0]
    for index in rng(seed, Stream.SMOKE).permutation(len(rows)).tolist():
        yield rows[index].question


def split_rows(
    data: DataConfig, need_chains: bool = True
) -> tuple[list[TeacherRow], list[TeacherRow]]:
    """Training rows and held-out rows of a data set.

    The last `data.eval_questions` questions are held out, unless the evaluation has a data set of
    its own.

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
