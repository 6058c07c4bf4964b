r"""Get the answer out of the text after the closing think tag.

This is pure string work, linear in the length of the text.

An answer that names several results is no answer: two different boxes are a hedge, and a hedge is
unparsable.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from bard_ray.verify.compare import compare_exact, normalise

MAX_TEXT_CHARS = 20_000  # only the tail of a longer text is read: an answer stands at the end
MAX_NESTED_BOXES = 4

_BOX = re.compile(r"\\(?:boxed|fbox)\s*+\{")
# A backslash pair is taken whole, so that `\{` opens nothing while the brace after `\\` does.
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_TEXT_COMMAND = re.compile(r"\\(?:text\w*|mathrm|mathbf|mathsf)\s*\{([^{}]*)\}")
_LETTER = re.compile(r"\(?\s*([A-Za-z])\s*(?:\)?$|[).:].*$)")
_PHRASE = re.compile(
    r"\b(?i:answer)\b\s*+(?i:is\b)?\s*+:?[\s*$(]*+([A-Z])(?=[ \t*$)]*+(?:[.,;:]|$))", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Extraction:
    """What was found.

    Attributes:
        answer: the answer as written; empty where there is none.
        rule: how it was found (`boxed`, `phrase`, `whole_text`), or why nothing was (`no_answer`,
            `empty`, `unclosed_box`, `hedge`).
    """

    answer: str
    rule: str


class UnclosedBoxError(ValueError):
    """A box opens and its brace never closes."""


def extract_boxed(text: str) -> Extraction:
    r"""Content of the last balanced `\boxed{...}`; all boxes must agree.

    Args:
        text: answer part of a completion; only its last `MAX_TEXT_CHARS` characters are read.

    Returns:
        The answer, or a rule that says why there is none. Source: ours.
    """
    try:
        boxes = [_unwrap(box) for box in _boxes(text[-MAX_TEXT_CHARS:])]
    except UnclosedBoxError:
        return Extraction("", "unclosed_box")
    if not boxes:
        return Extraction("", "no_answer")
    last = boxes[-1].strip()
    if any(compare_exact(box, last) is not True for box in set(boxes[:-1]) - {boxes[-1]}):
        return Extraction("", "hedge")
    return Extraction(last, "boxed" if last else "empty")


def extract_choice(text: str) -> Extraction:
    """Letter of a multiple-choice answer, upper case.

    It comes from the box, else from "the answer is (B)", else from a bare letter.

    Args:
        text: answer part of a completion.

    Returns:
        One letter A..Z, or a rule that says why there is none. Source: ours.
    """
    boxed = extract_boxed(text)
    if boxed.answer:
        return _as_letter(boxed.answer, "boxed")
    if boxed.rule != "no_answer":
        return boxed
    tail = text[-MAX_TEXT_CHARS:].strip()
    letters = set(_PHRASE.findall(tail))
    if len(letters) > 1:
        return Extraction("", "hedge")
    if letters:
        return Extraction(letters.pop(), "phrase")
    return Extraction("", "no_answer") if "\n" in tail else _as_letter(tail, "whole_text")


def extract_string(text: str) -> Extraction:
    """A plain string: from the box, else the whole text.

    Args:
        text: answer part of a completion.

    Returns:
        The string, or a rule that says why there is none. Source: ours.
    """
    boxed = extract_boxed(text)
    whole = text[-MAX_TEXT_CHARS:].strip()
    return Extraction(whole, "whole_text") if boxed.rule == "no_answer" and whole else boxed


def choice_letter(text: str) -> str:
    r"""Letter that stands for a choice; empty where there is none.

    `B`, `(b)`, `B) 42`, `\textbf{(B)} 42` give `B`.
    """
    match = _LETTER.match(normalise(_TEXT_COMMAND.sub(r"\1", text)))
    return match.group(1).upper() if match else ""


def _as_letter(text: str, rule: str) -> Extraction:
    letter = choice_letter(text)
    return Extraction(letter, rule if letter else "no_answer")


def _boxes(text: str) -> Iterator[str]:
    position = 0
    while match := _BOX.search(text, position):
        position = _closing_brace(text, match.end())
        yield text[match.end() : position]


def _closing_brace(text: str, start: int) -> int:
    depth = 1
    for match in _BRACE.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(match.group(), 0)
        if depth == 0:
            return match.start()
    # No later box can be balanced by fewer braces for sure,
    # and reading on from each would be quadratic.
    raise UnclosedBoxError


def _unwrap(box: str) -> str:
    r"""Content of `\boxed{\boxed{...}}`: the innermost, where a box holds nothing but a box."""
    inner = box.strip()
    for _ in range(MAX_NESTED_BOXES):
        match = _BOX.match(inner)
        if match is None or _closing_brace(inner, match.end()) != len(inner) - 1:
            break
        inner = inner[match.end() : -1].strip()
    return inner
