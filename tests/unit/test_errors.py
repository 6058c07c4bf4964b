"""Errors survive pickling and have messages and exit codes of their kind."""

from __future__ import annotations

import pickle

import pytest

from bard_ray import errors


@pytest.mark.parametrize(
    "error",
    [
        errors.ConfigError("rl.lr", 0, "must be above 0", "The default is 4e-4."),
        errors.DataError("rows.jsonl", "is empty", "Give rows.", row="{}"),
        errors.ResourceError("GPUs", 8, 0, "Add nodes."),
        errors.RunStateError("runs/x", "is in use", "Wait."),
        errors.CallTimeoutError("a step", 3.0),
        errors.WeightSyncError("names differ"),
        errors.MultipleConfigError(
            errors.ConfigError("rl.lr", 0, "must be above 0", "Raise it."),
            errors.ConfigError("rl.steps", 0, "must be at least 1", "Raise it."),
        ),
        errors.ActorLostError("learner rank 1", "its process was killed", "logs/learner-1.log"),
    ],
)
def test_an_error_survives_pickling_with_its_arguments(error):
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 our own bytes
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.exit_code == error.exit_code


def test_each_kind_of_error_has_its_exit_code():
    assert errors.ConfigError("a", 1, "b", "c").exit_code == 2
    assert errors.CallTimeoutError("a", 1.0).exit_code == 3
    assert errors.InvariantError("a").exit_code == 4


def test_the_offending_row_is_truncated_in_the_message():
    assert len(str(errors.DataError("s", "p", "f", row="x" * 10_000))) < 400


def test_the_first_error_of_nested_groups():
    inner = errors.WeightSyncError("lost")
    nested = ExceptionGroup("outer", [ExceptionGroup("inner", [inner]), ValueError("later")])
    assert errors.first_error(nested) is inner
