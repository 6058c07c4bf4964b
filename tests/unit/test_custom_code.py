"""`student.trust_remote_code`: without it no Python code of a model directory runs, with it every
part that loads the student does.
"""

from __future__ import annotations

import numpy as np
import pytest

from actors.learner.model_dir import SideFiles
from actors.reference.worker import ReferenceWorker
from bard_ray.config.load import load
from bard_ray.config.schema import (
    ChainConfig,
    LearnerConfig,
    ReferenceConfig,
    StudentConfig,
    TinyModelConfig,
)
from bard_ray.data.prompt import load_prompt_format
from bard_ray.data.tiny_model import write_tiny_model
from bard_ray.distill.teacher import EngineSpec, prompt_format
from bard_ray.errors import ConfigError
from bard_ray.preflight.check import problems
from bard_ray.records import NO_BUDGET, Message, Question
from recipes import bard_tiny
from tests.custom_code import FILES, write_custom_model

CONFIGS = ReferenceConfig(precision="float32"), LearnerConfig(attention="eager", pack_len=64)
REFUSED = r"student\.trust_remote_code = False: .* Python code of its own.*trust_remote_code=true"


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("plain") / "model"
    write_tiny_model(path, TinyModelConfig(), ChainConfig(), seed=0, max_len=128)
    return str(path)


@pytest.fixture(scope="module")
def custom(plain, tmp_path_factory) -> str:
    return write_custom_model(plain, tmp_path_factory.mktemp("custom") / "model")


@pytest.fixture(autouse=True)
def _own_module_cache(tmp_path, monkeypatch):
    """transformers copies code that it runs; not into the user's cache."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "hf"))
    monkeypatch.syspath_prepend(str(tmp_path))


def test_the_check_refuses_it_before_anything_starts(plain, custom):
    def found(path: str, *overrides: str) -> list[ConfigError]:
        return problems(load(bard_tiny.config(), [f"student.path={path}", *overrides]))

    assert found(plain) == []
    assert found(custom, "student.trust_remote_code=true") == []
    (problem,) = found(custom)
    with pytest.raises(ConfigError, match=REFUSED):
        raise problem


def test_a_configuration_that_cannot_be_read_is_named(tmp_path):
    for content in ("{broken", '{"auto_map": {}, "model_type": "of tomorrow"}'):
        (tmp_path / "config.json").write_text(content)
        (problem,) = problems(load(bard_tiny.config(), [f"student.path={tmp_path}"]))
        assert problem.field == "student.path"
        assert "config.json that transformers cannot read" in problem.rule


def test_the_tokenizer_is_loaded_only_where_its_code_is_trusted(plain, custom):
    with pytest.raises(ConfigError, match=REFUSED):
        load_prompt_format(custom, StudentConfig(), "digits")
    question = Question("q", (Message("user", "8a+1b*3?"),), "7")
    trusted = load_prompt_format(custom, StudentConfig(trust_remote_code=True), "digits")
    assert type(trusted.tokenizer).__name__ == "OwnTokenizer"
    want = load_prompt_format(plain, StudentConfig(), "digits").prompt_ids(question, NO_BUDGET)
    np.testing.assert_array_equal(trusted.prompt_ids(question, NO_BUDGET), want)


def test_code_of_a_teacher_never_runs(custom):
    with pytest.raises(ConfigError, match=r"distill\.teachers = .*backend openai"):
        prompt_format(custom, EngineSpec(custom))


def test_the_reference_loads_it_only_where_its_code_is_trusted(plain, custom):
    with pytest.raises(ConfigError, match=REFUSED):
        ReferenceWorker(*CONFIGS).load(custom)

    def logprobs(path: str, *, trust: bool) -> np.ndarray:
        worker = ReferenceWorker(*CONFIGS, trust)
        worker.load(path)
        return worker.logprobs([np.arange(5, 30, dtype=np.int32)], temperature=1.0)[0]

    want = logprobs(plain, trust=False)
    np.testing.assert_array_equal(logprobs(custom, trust=True), want)


def test_code_is_copied_into_exports_only_where_it_is_trusted(custom):
    assert not set(SideFiles.read(custom).content) & set(FILES)
    kept = SideFiles.read(custom, code=True).content
    assert {name: kept[name].decode() for name in FILES} == FILES
