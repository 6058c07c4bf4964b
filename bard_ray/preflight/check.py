"""All rules of a configuration, checked before any actor starts.

`bard_ray.preflight.bounds` checks single fields, `bard_ray.preflight.room` lengths,
`bard_ray.preflight.roles` the processes, and `bard_ray.preflight.distill` the data pipeline. This
module has one function per section for the other rules between fields. Each yields a `ConfigError`
(field, value, rule, fix) for every broken rule, so the user sees all of them at once. A rule that
other code also relies on is a function of that code, called from here.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from bard_ray.budget.sampler import BudgetSource, list_problems
from bard_ray.config.schema import (
    BudgetConfig,
    ChainConfig,
    Config,
    RowsConfig,
    StudentConfig,
)
from bard_ray.data.chain import chain_problems, chain_question
from bard_ray.data.rows import path_problems
from bard_ray.data.source import make_source
from bard_ray.data.tiny_shape import shape_problems
from bard_ray.distill.corpus import base_problems
from bard_ray.errors import ConfigError, DataError, MultipleConfigError
from bard_ray.learn.correction import CORRECTIONS
from bard_ray.model_files import custom_code_refused
from bard_ray.preflight import distill, needs, roles, room
from bard_ray.preflight.bounds import BOUNDS, Problems, with_defaults
from bard_ray.preflight.memory import find_config
from bard_ray.records import NO_BUDGET, Question, TokenBudget
from bard_ray.rewards.trial import reward_problems

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_RUN_NAME = re.compile(r"\w[\w.-]*")
_DATA_SUFFIXES = (".json", ".jsonl", ".parquet")


def check(config: Config) -> None:
    """Check the whole configuration.

    Raises:
        ConfigError: one rule is broken.
        MultipleConfigError: several rules are broken; it holds one problem for each.
    """
    found = problems(config)
    if found:
        raise found[0] if len(found) == 1 else MultipleConfigError(*found)


def problems(config: Config) -> list[ConfigError]:
    """All broken rules; empty if the configuration can run.

    Invalid single fields come first, then rules between fields, each in schema order. The latter
    are checked with defaults in place of invalid fields; problems that mention one are omitted.
    """
    single = [problem for bound in BOUNDS for problem in bound.judge(config)]
    wrong = [problem.field for problem in single]
    sensible = with_defaults(config, wrong)
    between = [problem for section in SECTIONS for problem in section(sensible)]
    return single + [problem for problem in between if not _mentions(problem, wrong)]


def _mentions(problem: ConfigError, fields: Sequence[str]) -> bool:
    """Whether a problem mentions one of these fields."""
    text = str(problem)
    return any(re.search(rf"(?<![\w.]){re.escape(field)}(?![\w])", text) for field in fields)


def warnings(config: Config) -> list[str]:
    """Warnings about a valid configuration that probably does not do what is intended."""
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
    yield from shape_problems(config.student.tiny)


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
    """Check that a model with custom code is trusted, unless transformers implements it."""
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
        yield from chain_problems(config.data.chain)
    else:
        yield from _rows(config.data.rows)


def _rows(rows: RowsConfig) -> Problems:
    yield from path_problems(rows.path)
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
    wrong_lists = list(list_problems(config.budget))
    yield from wrong_lists
    yield from _duplicates(config.budget)
    if not wrong_lists:
        yield from _draws(config)
    yield from room.budget_problems(config)


def _draws(config: Config) -> Problems:
    """Draw once from each set of budgets that the schedule allows, so that errors show early."""
    try:
        BudgetSource.of(config.budget, config.rl, config.run.seed).rehearse(_trial_question(config))
    except ConfigError as problem:
        yield problem
    except DataError as problem:
        sampler, fix = config.budget.sampler, "For example {field: ops, low: 10, high: 14}."
        yield ConfigError("budget.sampler.params", sampler.params, problem.problem, fix)


def _trial_question(config: Config) -> Question:
    """A question of the synthetic task, or a stand-in for one of a data set not yet read."""
    if config.data.source == "rows":
        return Question("trial", (), "", meta=_AnyNumber())
    # All questions of the task have the same fields; an invalid task is reported elsewhere.
    return chain_question(ChainConfig(), config.run.seed, "rl", 0)


class _AnyNumber(dict[str, object]):
    """Meta that has every field a sampler may read, however it reads it."""

    def __missing__(self, key: str) -> object:
        return 0.5

    def __contains__(self, key: object) -> bool:
        return True

    def get(self, key: str, default: object = None) -> object:
        return self[key]


def _duplicates(budget: BudgetConfig) -> Problems:
    for name, values in (("train", budget.train), ("held_out", budget.held_out)):
        if len(set(values)) < len(values):
            yield ConfigError(
                f"budget.{name}", values, "names a budget twice", "Name each budget once."
            )


def _training(config: Config) -> Problems:
    if config.base.enabled:
        yield from base_problems(config.data, config.base.rows)


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
    if not needs.evaluates(config):
        return
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
    room.length_problems,
    _training,
    _correction,
    _reward,
    _evaluate,
    roles.rollout,
    roles.learner,
    roles.cluster,
)
