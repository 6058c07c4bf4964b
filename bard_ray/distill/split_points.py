"""Where a chain of thought may be truncated: after a sentence, a line, or a step of the task."""

from __future__ import annotations

import re

# A step of the synthetic task: its letter, its operation where it is written verbosely, its value.
STEP = re.compile(r"([a-z])([+\-*][0-9])?([0-9])")

_STEPS = re.compile(rf"(?:{STEP.pattern})+")
_ENDS = re.compile(r"[.!?…][\"'”’)\]*]*(?=\s)|[。！？]|(?<=\S)(?=\s*\n)")
_DISPLAY = re.compile(r"\\\[.*?\\\]|\$\$.*?\$\$", re.DOTALL)


def split_points(text: str) -> list[int]:
    r"""Character offsets, ascending, such that `text[:offset]` is whole sentences, lines, or steps.

    Never inside `\[...\]` or `$$...$$`. The end of the text is not among them. Source: ours.
    """
    if _STEPS.fullmatch(text):
        found = [match.end() for match in STEP.finditer(text)]
    else:
        inside = [match.span() for match in _DISPLAY.finditer(text)]
        ends = sorted({match.end() for match in _ENDS.finditer(text)})
        found = [end for end in ends if not any(start < end < stop for start, stop in inside)]
    return [end for end in found if 0 < end < len(text.rstrip())]
