"""Every rule a configuration has to obey, judged before any actor starts.

`bard_ray.preflight.bounds` bounds single fields and `bard_ray.preflight.roles` judges the
processes; here, one function per section holds the rules that tie fields together. A function
yields a `ConfigError` (field, value, rule, fix) for each rule that is broken, so that all of them
can be reported.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from bard_ray.budget.sampler import BudgetSource
from bard_ray.config.schema import (
    BudgetConfig,
    ChainConfig,
    Config,
    RowsConfig,
    StudentConfig,
)
from bard_ray.data.chain import chain_question
from bard_ray.data.source import make_source
from bard_ray.errors import ConfigError, DataError
from bard_ray.learn.correction import CORRECTIONS
from bard_ray.model_files import custom_code_refused
from bard_ray.preflight import distill, roles
from bard_ray.preflight.bounds import BOUNDS, Problems
from bard_ray.preflight.memory import find_config
from bard_ray.records import NO_BUDGET, Question, TokenBudget
from bard_ray.rewards.trial import reward_problems

# Tokens after the last thinking token: the closing tag, the answer and the end token. Chain:
# `</think> \boxed{ 7 }` and the end; rows: room for one boxed formula (ours).
ANSWER_TOKENS = {"chain": 5, "rows": 64}
# Tokens before the first thinking token, at least.
# Rows: a short question with its chat template (ours).
ROWS_PROMPT_TOKENS = 64

_OP = re.compile(r"[+\-*][0-9]")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_RUN_NAME = re.compile(r"\w[\w.-]*")
_DATA_SUFFIXES = (".json", ".jsonl", ".parquet")


def check(config: Config) -> None:
    """Judge the whole configuration.

    Raises:
        ConfigError: the first broken rule; `problems` gives all of them.
    """
    for problem in problems(config):
        raise problem


def problems(config: Config) -> list[ConfigError]:
    """Every broken rule, in the order of the schema's sections; empty if the configuration can run.

    Rules between fields are judged only once each field for itself makes sense.
    """
    single = [problem for bound in BOUNDS for problem in bound.judge(config)]
    return single or [problem for section in SECTIONS for problem in section(config)]


def warnings(config: Config) -> list[str]:
    """What a configuration without problems can run with, but probably should not."""
    return list(distill.warnings(config))


def _run(config: Config) -> Problems:
    # `run.fresh` deletes <dir>/<name>, so a name must never lead out of the directory.
    if not _RUN_NAME.fullmatch(config.run.name):
        rule = "must be a plain directory name of letters, digits, `_`, `-` and `.`"
        yield ConfigError("run.name", config.run.name, rule, "Rename the run.")
    if not config.run.dir:
        yield ConfigError(
            "run.dir", config.run.dir, "must name a directory", "The default is run.dir=runs."
        )


def _student(config: Config) -> Problems:
    student = config.student
    if not (
        student.think_open and student.think_close and student.think_open != student.think_close
    ):
        rule = "the two think tags must differ, and neither may be empty"
        yield ConfigError(
            "student.think_open", student.think_open, rule, "The defaults are <think> and </think>."
        )
    if student.path == "tiny":
        yield from _tiny_student(config)
    else:
        yield from list(_model_path(student)) or _custom_code(student)


def _tiny_student(config: Config) -> Problems:
    tiny = config.student.tiny
    if config.data.source != "chain":
        rule = "has a vocabulary for the synthetic task only"
        yield ConfigError(
            "student.path", "tiny", rule, "Set data.source=chain, or student.path to a real model."
        )
    if config.budget.codec != "digits":
        rule = "the tiny student cannot read sentences"
        yield ConfigError("budget.codec", config.budget.codec, rule, "Set budget.codec=digits.")
    tags = (config.student.think_open, config.student.think_close)
    if tags != ("<think>", "</think>"):
        rule = "the tiny student's vocabulary holds <think> and </think> only"
        yield ConfigError(
            "student.think_open", " ".join(tags), rule, "Leave both think tags at their defaults."
        )
    if tiny.hidden % tiny.heads or tiny.hidden // tiny.heads % 2:
        rule = f"must be an even multiple of student.tiny.heads ({tiny.heads})"
        yield ConfigError(
            "student.tiny.hidden", tiny.hidden, rule, f"For example {tiny.heads * 32}."
        )


def _model_path(student: StudentConfig) -> Problems:
    path = Path(student.path).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            rule = "is a directory without config.json, so not a Hugging Face model"
            yield ConfigError(
                "student.path", student.path, rule, "Point at the directory that holds config.json."
            )
    elif not _HUB_ID.fullmatch(student.path):
        rule = (
            "is neither `tiny`, nor a model directory that exists, nor a hub id such as owner/name"
        )
        yield ConfigError(
            "student.path", student.path, rule, "Check the spelling, or fetch the model first."
        )


def _custom_code(student: StudentConfig) -> Problems:
    """Ask transformers, which needs no code of a model's own where it has the model itself."""
    file = find_config(student)
    if student.trust_remote_code or file is None:
        return
    try:
        if "auto_map" in json.loads(file.read_text(encoding="utf-8")):
            from transformers import AutoConfig

            with custom_code_refused(student.path):
                AutoConfig.from_pretrained(file.parent, trust_remote_code=False)
    except ConfigError as problem:
        yield problem
    except (OSError, ValueError) as error:
        rule = f"has a config.json that transformers cannot read ({str(error).splitlines()[0]})"
        yield ConfigError("student.path", student.path, rule, "Use a model that it knows.")


def _data(config: Config) -> Problems:
    if config.data.source == "chain":
        yield from _chain(config.data.chain)
    else:
        yield from _rows(config.data.rows)


def _chain(chain: ChainConfig) -> Problems:
    for name in ("min_ops", "base_min_ops"):
        if getattr(chain, name) > chain.max_ops:
            rule = f"must not exceed data.chain.max_ops ({chain.max_ops})"
            yield ConfigError(
                f"data.chain.{name}", getattr(chain, name), rule, "Lower it, or raise max_ops."
            )
    bad = [op for op in chain.ops if not _OP.fullmatch(op)]
    if bad or not chain.ops:
        rule = "needs one or more operations, each one of + - * and a digit"
        yield ConfigError(
            "data.chain.ops", chain.ops, rule, """For example data.chain.ops='["+1","*3"]'."""
        )


def _rows(rows: RowsConfig) -> Problems:
    if not rows.path:
        rule = "is needed by data.source=rows"
        yield ConfigError(
            "data.rows.path", rows.path, rule, "Give a JSONL or Parquet file, or a hub id."
        )
    yield from _formats(rows)
    for name, path in (("path", rows.path), ("eval_path", rows.eval_path)):
        if _looks_local(path) and not Path(path).expanduser().exists():
            here = f"The working directory is {Path.cwd()}"
            fix = f"{here}; give an absolute path, or a hub id such as owner/name."
            yield ConfigError(f"data.rows.{name}", path, "is a file that does not exist", fix)


def _formats(rows: RowsConfig) -> Problems:
    try:
        make_source(rows.format, rows.params, rows.columns)
    except ConfigError as problem:
        yield problem
    if rows.eval_format and not rows.eval_path:
        rule = "is the format of data.rows.eval_path, which is empty"
        fix = "Give data.rows.eval_path, or clear it."
        yield ConfigError("data.rows.eval_format", rows.eval_format, rule, fix)
    try:
        make_source(rows.eval_format or "rows")
    except ConfigError as problem:
        yield ConfigError("data.rows.eval_format", rows.eval_format, str(problem.rule), problem.fix)


def _looks_local(path: str) -> bool:
    return path.startswith((".", "~", os.sep)) or path.endswith(_DATA_SUFFIXES)


def _budget(config: Config) -> Problems:
    budget = config.budget
    if not budget.train:
        yield ConfigError(
            "budget.train", [], "names no budget to teach", "For example budget.train=[8,16,24]."
        )
    both = sorted(set(budget.train) & set(budget.held_out))
    if both:
        rule = f"shares {both} with budget.train, so nothing is held out"
        yield ConfigError(
            "budget.held_out", budget.held_out, rule, "Take them out of one of the two lists."
        )
    yield from _duplicates(budget)
    if budget.train and not both:
        yield from _draws(config)
    lists = (("budget.train", budget.train), ("budget.held_out", budget.held_out))
    for name, values in (*lists, ("evaluate.budgets", config.evaluate.budgets)):
        yield from _possible(config, name, values)


def _draws(config: Config) -> Problems:
    """Draw once for each choice of budgets of the schedule, so that all objections come early."""
    try:
        BudgetSource.of(config.budget, config.rl, config.run.seed).rehearse(_trial_question(config))
    except ConfigError as problem:
        yield problem
    except DataError as problem:
        sampler, fix = config.budget.sampler, "For example {field: ops, low: 10, high: 14}."
        yield ConfigError("budget.sampler.params", sampler.params, problem.problem, fix)


def _trial_question(config: Config) -> Question:
    """A question of the synthetic task, or one of a data set that nobody has read yet."""
    if config.data.source == "rows":
        return Question("trial", (), "", meta=_AnyNumber())
    # Unless the task is broken, which is reported elsewhere, its questions have the same fields.
    return chain_question(ChainConfig(), config.run.seed, "rl", 0)


class _AnyNumber(dict[str, object]):
    """Meta that has every field a sampler may ask for."""

    def get(self, key: str, default: object = None) -> object:
        return 0.5


def _duplicates(budget: BudgetConfig) -> Problems:
    for name, values in (("train", budget.train), ("held_out", budget.held_out)):
        if len(set(values)) < len(values):
            yield ConfigError(
                f"budget.{name}", values, "names a budget twice", "Name each budget once."
            )


def _possible(config: Config, name: str, budgets: list[int]) -> Problems:
    """A budget below 2 has no room for a step; one above the limits could never be used up."""
    limit, why = _largest_budget(config)
    bad = [value for value in budgets if not 2 <= value <= limit]
    if bad:
        yield ConfigError(
            name,
            bad,
            f"every budget must be between 2 and {limit} tokens ({why})",
            "Change the budget.",
        )


def _largest_budget(config: Config) -> tuple[int, str]:
    """The largest number of thinking tokens that fits everywhere, and the field that sets it."""
    answer = ANSWER_TOKENS[config.data.source]
    limits = {
        f"student.max_len={config.student.max_len} less prompt and answer": (
            config.student.max_len - prompt_tokens(config) - answer
        ),
        f"evaluate.max_new_tokens={config.evaluate.max_new_tokens} less {answer} for the answer": (
            config.evaluate.max_new_tokens - answer
        ),
    }
    if config.rl.enabled:
        new = config.rl.max_new_tokens
        limits[f"rl.max_new_tokens={new} less {answer} for the answer"] = new - answer
    if config.budget.codec == "digits":
        limits["budget.codec=digits writes two digits"] = 99
    why = min(limits, key=lambda reason: limits[reason])
    return limits[why], why


def prompt_tokens(config: Config) -> int:
    """Tokens of the longest prompt.

    The number is exact for the synthetic task and its tokenizer, else the least to be expected.

    A chain of N operations is written as 1 + 2N + 1 tokens, then 3 for the budget and 1 for the
    open think tag.
    """
    return (
        2 * config.data.chain.max_ops + 6 if config.data.source == "chain" else ROWS_PROMPT_TOKENS
    )


def _lengths(config: Config) -> Problems:
    student, learner = config.student, config.learner
    if config.data.source == "chain":
        longest = prompt_tokens(config) + 3 * config.data.chain.max_ops + ANSWER_TOKENS["chain"]
        if student.max_len < longest:
            rule = f"is shorter than the longest teacher chain, {longest} tokens"
            yield ConfigError(
                "student.max_len", student.max_len, rule, "Raise it, or lower data.chain.max_ops."
            )
    if learner.pack_len < student.max_len:
        rule = f"must hold a sequence of student.max_len ({student.max_len}) tokens"
        yield ConfigError(
            "learner.pack_len", learner.pack_len, rule, f"Set it to {student.max_len} or more."
        )
    if learner.micro_tokens < learner.pack_len:
        rule = f"must hold one row of learner.pack_len ({learner.pack_len}) tokens"
        yield ConfigError(
            "learner.micro_tokens",
            learner.micro_tokens,
            rule,
            f"Set it to {learner.pack_len} or more.",
        )
    for name, value in (
        ("rl", config.rl.max_new_tokens),
        ("evaluate", config.evaluate.max_new_tokens),
    ):
        if value >= student.max_len:
            rule = f"leaves no room for a prompt in student.max_len ({student.max_len})"
            yield ConfigError(
                f"{name}.max_new_tokens", value, rule, "Lower it, or raise student.max_len."
            )


def _training(config: Config) -> Problems:
    if config.base.enabled and config.base.rows < 1 and config.data.source == "chain":
        rule = "the synthetic task has no end, so the stage must say how many rows it takes"
        fix = "Set base.rows to 1 or more, or base.enabled=false."
        yield ConfigError("base.rows", config.base.rows, rule, fix)


def _correction(config: Config) -> Problems:
    try:
        CORRECTIONS.build(config.rl.correction.name, config.rl.correction.params)
    except ConfigError as problem:
        yield problem


def _reward(config: Config) -> Problems:
    yield from reward_problems(
        config.rl.reward, [*map(TokenBudget, config.budget.train), NO_BUDGET]
    )


def _evaluate(config: Config) -> Problems:
    if not config.evaluate.budgets:
        rule, fix = "names no budget to measure", "For example evaluate.budgets=[8,16,24]."
        yield ConfigError("evaluate.budgets", [], rule, fix)
    if config.evaluate.samples > 1 and config.evaluate.temperature == 0:
        rule = "at temperature 0 every sample is the same"
        yield ConfigError(
            "evaluate.samples", config.evaluate.samples, rule, "Set evaluate.samples=1."
        )


SECTIONS = (
    _run,
    _student,
    _data,
    _budget,
    distill.problems,
    _lengths,
    _training,
    _correction,
    _reward,
    _evaluate,
    roles.rollout,
    roles.learner,
    roles.cluster,
)
