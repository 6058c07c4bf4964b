"""Checkpoint directories are written atomically and verified by checksum."""

from __future__ import annotations

import json

import pytest

from bard_ray.checkpoint import described_directory, is_complete, verify
from bard_ray.errors import RunStateError
from bard_ray.files import recover, write_json


def write(path, text="weights"):
    with described_directory(path, step=3) as partial:
        (partial / "sub").mkdir()
        (partial / "sub" / "model.bin").write_text(text)


def test_a_finished_directory_is_complete_and_verifies(tmp_path):
    write(tmp_path / "c")
    assert is_complete(tmp_path / "c")
    assert verify(tmp_path / "c") == {"step": 3}


def test_a_crash_while_writing_keeps_the_old_directory(tmp_path):
    write(tmp_path / "c", "old")

    def crash():
        with described_directory(tmp_path / "c") as partial:
            (partial / "half").write_text("new")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        crash()
    assert (tmp_path / "c" / "sub" / "model.bin").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_a_crash_between_the_two_renames_is_recovered(tmp_path):
    write(tmp_path / "c", "old")
    (tmp_path / "c").rename(tmp_path / ".c.old")
    recover(tmp_path / "c")
    assert is_complete(tmp_path / "c")
    write(tmp_path / "c", "new")
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_a_missing_or_short_file_is_not_complete(tmp_path):
    write(tmp_path / "c")
    (tmp_path / "c" / "sub" / "model.bin").write_text("w")
    assert not is_complete(tmp_path / "c")
    assert not is_complete(tmp_path / "nowhere")


def test_a_changed_file_of_the_same_size_does_not_verify(tmp_path):
    write(tmp_path / "c")
    (tmp_path / "c" / "sub" / "model.bin").write_text("WEIGHTS")
    with pytest.raises(RunStateError, match=r"model\.bin"):
        verify(tmp_path / "c")


def test_json_is_replaced_atomically(tmp_path):
    write_json(tmp_path / "s.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "s.json", {"a": object()})
    assert json.loads((tmp_path / "s.json").read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["s.json"]
