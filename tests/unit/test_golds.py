"""A data set whose gold answers cannot be graded is refused before anything starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from actors.verifier.golds import validate_golds
from bard_ray.config.schema import Config, DataConfig, RowsConfig, VerifierConfig
from bard_ray.errors import DataError

GOOD = ["42", r"\frac{3}{4}", r"\sqrt{2}+1", "(1,2)", r"\text{east}", "12 cm"]


def config(path: Path, golds: list[str]) -> Config:
    lines = [
        json.dumps(
            {
                "id": f"row{i}",
                "question": "?",
                "answer": gold,
                "kind": "integer" if gold == "3.5" else "math",
                "think": ".",
            }
        )
        for i, gold in enumerate(golds)
    ]
    path.write_text("\n".join(lines))
    data = DataConfig("rows", rows=RowsConfig(str(path)), eval_questions=1)
    return Config(data=data, verifier=VerifierConfig(limit_s=10.0, memory_mb=1024))


async def test_gradable_golds_pass(tmp_path: Path) -> None:
    assert await validate_golds(config(tmp_path / "good.jsonl", GOOD)) == len(GOOD)


async def test_every_gold_that_is_not_graded_correct_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    with pytest.raises(DataError, match="2 of 8 gold answers") as caught:
        await validate_golds(config(path, [*GOOD[:3], "3.5", *GOOD[3:], r"\boxed{7"]))
    assert "row3: '3.5' is broken (gold_unparsable)" in str(caught.value)
    assert "row7" in str(caught.value)
    assert str(path) in str(caught.value)


async def test_the_synthetic_task_is_skipped() -> None:
    assert await validate_golds(Config()) == 0
