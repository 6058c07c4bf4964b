r"""Grade one answer with the grader of its kind.

Model text is parsed, never evaluated as code. Parsing may still take unbounded time or memory, and
this module has no limits: grade untrusted text through `bard_ray.verify.process.grading`.

A new kind of answer is one file in `bard_ray.verify.kinds`. Every verdict names the deciding rule,
so that an unexpected reward can be traced: the rules are the constants of
`bard_ray.verify.verdicts.Rule` and those of `bard_ray.verify.extract.Extraction`.
"""

from __future__ import annotations

from bard_ray.records import GradeItem, Outcome, Verdict
from bard_ray.verify.kinds import find_kind
from bard_ray.verify.verdicts import Rule, verdict


def grade(item: GradeItem) -> Verdict:
    """Grade one answer.

    Args:
        item: the text after the closing think tag, the gold answer, and its kind.

    Returns:
        CORRECT, WRONG or UNPARSABLE; BROKEN if the gold answer itself cannot be read, or the kind
        is not registered in this process.
    """
    grader = find_kind(item.kind)
    if grader is None:
        return verdict(Outcome.BROKEN, item.kind, Rule.UNKNOWN_KIND)
    return grader(item)
