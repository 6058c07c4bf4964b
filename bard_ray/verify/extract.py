r"""Extract the answer from the text after the closing think tag, in linear time.

An answer with several results is not accepted: two different boxes are a hedge, and a hedge is
unparsable. Boxes joined by "and" form one answer that lists their contents; a box that holds a box
beside other text is a hedge.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bard_ray.verify.math.compare import compare_exact
from bard_ray.verify.math.finding import Finding
from bard_ray.verify.math.judge import judge
from bard_ray.verify.math.normalize import normalize

MAX_TEXT_CHARS = 20_000  # only the tail of a longer text is read, since answers come at the end
MAX_NESTED_BOXES = 4
MAX_ANSWERS = 16  # distinct answers in a text; more are always a hedge
MAX_JOINT_CHARS = 60  # between boxes that are parts of one answer
MAX_COMPARED_CHARS = 600  # longer answers are compared only as texts
OPEN_TAG, CLOSE_TAG = "<think>", "</think>"

_BOX = re.compile(r"\\(?:boxed|fbox)\s*+\{")
_ANY_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])")
# A backslash pair is one token, so that `\{` opens nothing while the brace after `\\` does.
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_TEXT_COMMAND = re.compile(r"\\(?:text\w*|mathrm|mathbf|mathsf)\s*\{([^{}]*)\}")
_LETTER = re.compile(r"\(?\s*([A-Za-z])\s*(?:\)?$|[).:].*$)")
# An explicit final answer: a plain number that ends a sentence or line, or a formula in $ or \\(.
_NUMBER = r"[-+]?+[0-9][0-9.,/]*+"
_FINAL = re.compile(
    r"\b(?i:final\s++answer\s*+(?:is\b\s*+:?|:)|answer\s*+:)[\s*]*+"
    rf"(?:\$([^$\n]{{1,600}}+)\$(?![0-9])|\\\((.{{1,600}}?)\\\)"
    rf"|((?:\\?\$)?{_NUMBER})(?=[*\s]*+(?:$|\n|[A-Z])))"
)
# Text allowed between boxes that list the parts of one answer, without markup: `, `, ` and `,
# ` papers and `, ` for part (a) and `, ` and y_2 = `.
_MARKUP = re.compile(r"\\(?:text\w*+|mbox|q?quad|[()\[\],;! ])|[{}$*]")
_JOINT = re.compile(
    r"\s*(?:[\w()]+\s+){0,3}(?:,|;|,?\s*\b(?:and|(or))\b)\s*(?:[A-Za-z]\w*\s*=)?\s*"
)
# `not \boxed{5} and \boxed{6}`: what is denied, or compared, is no part of an answer.
_DENIED = re.compile(
    r"\b(?i:not|no|nor|neither|never|cannot|without|except|unlike|instead|rather|wrong|incorrect"
    r"|false)\b|n['’]t\b|\\(?:not|neq?|neg|lnot)(?![A-Za-z])|[≠¬]"
)
_SENTENCE_END = re.compile(r"[.!?]\s|\n\s*\n")
_PHRASE = re.compile(
    r"\b(?i:answer)\b\s*+(?i:is\b)?\s*+:?[\s*$(]*+([A-Z])(?=[ \t*$)]*+(?:[.,;:]|$))", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Extraction:
    """The result of an extraction.

    Attributes:
        answer: the answer as written; empty if there is none.
        rule: how it was found (`boxed`, `phrase`, `whole_text`), or why there is none (`no_answer`,
            `empty`, `unclosed_box`, `hedge`).
    """

    answer: str
    rule: str


class UnclosedBoxError(ValueError):
    """A box opens and its brace never closes."""


def answer_part(text: str) -> str:
    """The part of a text that may hold the answer: its tail, without thinking.

    The text of a rollout begins after its closing think tag. If it contains further tags, the text
    before the last closing tag or after an opening one is thinking as well, and a box in it does
    not count.
    """
    tail = text[-MAX_TEXT_CHARS:].rpartition(CLOSE_TAG)[2]
    return tail.partition(OPEN_TAG)[0]


def extract_math(text: str) -> Extraction:
    r"""The box, or an explicit final-answer sentence if there is no box at all.

    "The final answer is $\\frac12$." or "Answer: 42" with a plain number or a formula in `$...$` or
    `\(...\)`. The last number of a text alone never counts.

    Args:
        text: answer part of a completion.

    Returns:
        The answer, or the rule for why there is none. Source: ours.
    """
    boxed = _extract_joined(text)
    if boxed.rule != "no_answer":
        return boxed
    stated = [next(filter(None, groups)) for groups in _FINAL.findall(answer_part(text))]
    return _agreed([answer.strip().rstrip(".,") for answer in stated], "phrase", _same_value)


def extract_boxed(text: str) -> Extraction:
    r"""Content of the last balanced `\boxed{...}`; all must be the same text or plain number.

    Args:
        text: answer part of a completion; only its last `MAX_TEXT_CHARS` characters are read.

    Returns:
        The answer, or the rule for why there is none. Source: ours.
    """
    try:
        boxes = [box.content for box in _boxes(answer_part(text))]
    except UnclosedBoxError:
        return Extraction("", "unclosed_box")
    return _agreed(boxes, "boxed", _same_text)


def _extract_joined(text: str) -> Extraction:
    """Like `extract_boxed`, but boxes joined by "and" are one answer, and equal values agree."""
    part = answer_part(text)
    try:
        boxes = list(_boxes(part))
    except UnclosedBoxError:
        return Extraction("", "unclosed_box")
    if len(boxes) == 1:  # the common case
        return _agreed([boxes[0].content], "boxed", _same_value)
    return _agreed([_listed(*group) for group in _groups(boxes, part)], "boxed", _same_value)


def extract_choice(text: str) -> Extraction:
    """Letter of a multiple-choice answer, upper case.

    It comes from the box, else from "the answer is (B)", else from a bare letter.

    Args:
        text: answer part of a completion.

    Returns:
        One letter A..Z, or the rule for why there is none. Source: ours.
    """
    boxed = extract_boxed(text)
    if boxed.answer:
        return _as_letter(boxed.answer, "boxed")
    if boxed.rule != "no_answer":
        return boxed
    tail = answer_part(text).strip()
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
        The string, or the rule for why there is none. Source: ours.
    """
    boxed = extract_boxed(text)
    whole = answer_part(text).strip()
    return Extraction(whole, "whole_text") if boxed.rule == "no_answer" and whole else boxed


def choice_letter(text: str) -> str:
    r"""Letter of a choice; empty if there is none.

    `B`, `(b)`, `B) 42`, `\textbf{(B)} 42` give `B`.
    """
    match = _LETTER.match(normalize(_TEXT_COMMAND.sub(r"\1", text)))
    return match.group(1).upper() if match else ""


def _as_letter(text: str, rule: str) -> Extraction:
    letter = choice_letter(text)
    return Extraction(letter, rule if letter else "no_answer")


@dataclass(frozen=True, slots=True)
class _Box:
    """Content of a box, and its position in the text."""

    content: str
    start: int
    end: int


def _boxes(text: str) -> Iterator[_Box]:
    position = 0
    while match := _BOX.search(text, position):
        position = _closing_brace(text, match.end())
        yield _Box(_unwrap(text[match.end() : position]), match.start(), position + 1)


def _groups(boxes: Sequence[_Box], text: str) -> list[tuple[list[str], str]]:
    """Contents of joined boxes, and the word that joins them.

    Boxes are not joined where a negation precedes the first of them in its sentence.
    """
    groups: list[tuple[list[str], str]] = []
    end, denied = 0, False
    for box in boxes:
        joint = _joint(text[end : box.start]) if groups and not denied else None
        if joint is None:
            denied = _is_denied(text[max(end, box.start - MAX_JOINT_CHARS) : box.start])
        contents, word = groups.pop() if joint else ([], "and")
        groups.append(([*contents, box.content], "or" if joint and joint[1] else word))
        end = box.end
    return groups


def _joint(between: str) -> re.Match[str] | None:
    if len(between) > MAX_JOINT_CHARS or _DENIED.search(between):
        return None
    return _JOINT.fullmatch(_MARKUP.sub(" ", between))


def _is_denied(before: str) -> bool:
    """Does a negation stand in the last sentence of the text before a box?"""
    return _DENIED.search(_SENTENCE_END.split(before)[-1]) is not None


def _listed(contents: Sequence[str], word: str) -> str:
    """Joined boxes as a list, or as one answer if they agree."""
    agreed = _agreed(contents, "boxed", _same_value)
    return rf"\text{{ {word} }}".join(contents) if agreed.rule == "hedge" else agreed.answer


def _agreed(answers: Sequence[str], rule: str, same: Callable[[str, str], bool]) -> Extraction:
    """The last answer if all others agree with it and none holds a box beside other text."""
    if not answers:
        return Extraction("", "no_answer")
    last, others = answers[-1].strip(), set(answers) - {answers[-1]}
    nested = any(map(_ANY_BOX.search, answers))
    if nested or len(others) > MAX_ANSWERS or not all(same(other, last) for other in others):
        return Extraction("", "hedge")
    return Extraction(last, rule if last else "empty")


def _same_text(answer: str, other: str) -> bool:
    return compare_exact(answer, other) is True


def _same_value(answer: str, other: str) -> bool:
    if max(len(answer), len(other)) > MAX_COMPARED_CHARS:
        return answer == other
    return judge(normalize(answer), normalize(other)).finding is Finding.EQUAL


def _closing_brace(text: str, start: int) -> int:
    depth = 1
    for match in _BRACE.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(match.group(), 0)
        if depth == 0:
            return match.start()
    # A later box may still be balanced, but trying each one would take quadratic time.
    raise UnclosedBoxError


def _unwrap(box: str) -> str:
    r"""Content of the innermost box of `\boxed{\boxed{...}}`, if a box contains only a box."""
    inner = box.strip()
    for _ in range(MAX_NESTED_BOXES):
        match = _BOX.match(inner)
        if match is None or _closing_brace(inner, match.end()) != len(inner) - 1:
            break
        inner = inner[match.end() : -1].strip()
    return inner
