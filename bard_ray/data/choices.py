"""Multiple-choice questions: options in a seeded order, lettered, as in GPQA.

The data set gives the correct option and the incorrect ones, without letters.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from string import ascii_uppercase

from bard_ray.errors import DataError
from bard_ray.records import Message, Question
from bard_ray.streams import Stream, rng

INSTRUCTION = r"Answer with the letter of the correct option in \boxed{}."


def choice_question(
    item_id: str, text: str, correct: str, incorrect: Sequence[str], seed: int
) -> Question:
    """A question whose options are in a random order determined by (seed, item id).

    Args:
        item_id: id of the item; with the seed it fixes the order.
        text: the question.
        correct: text of the correct option.
        incorrect: texts of the other options, 1 to 25 of them.
        seed: seed of the run.

    Returns:
        A question of kind `choice` whose gold answer is a letter. Source: ours.

    Raises:
        DataError: an option is blank, two options are equal, or there are too few or too many.
    """
    options = [option.strip() for option in (correct, *incorrect)]
    _require_options(item_id, options)
    order = rng(seed, Stream.CHOICES, zlib.crc32(item_id.encode())).permutation(len(options))
    lettered = [
        f"{letter}) {options[i]}" for letter, i in zip(ascii_uppercase, order, strict=False)
    ]
    gold = ascii_uppercase[order.tolist().index(0)]
    prompt = "\n".join((text.strip(), "", *lettered, "", INSTRUCTION))
    return Question(item_id, (Message("user", prompt),), gold, kind="choice")


def _require_options(item_id: str, options: Sequence[str]) -> None:
    source = f"question {item_id!r}"
    if not 2 <= len(options) <= len(ascii_uppercase):
        raise DataError(source, f"has {len(options)} options", "Give 2 to 26.")
    if not all(options):
        raise DataError(source, "has a blank option", "Fix or remove it.", options)
    if len(set(options)) != len(options):
        raise DataError(source, "has the same option twice", "Fix or remove it.", options)
