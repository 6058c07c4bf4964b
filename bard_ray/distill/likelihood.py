"""How likely sentences of a chain are under teacher and student, and whose they are."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import numpy as np

from bard_ray.records import Floats


class Provenance(StrEnum):
    """Where a sentence of a distilled student comes from."""

    TEACHER = "teacher"
    STUDENT = "student"
    SHARED = "shared"
    BOOSTED = "boosted"


def sentence_probabilities(logprobs_T: Floats, ends: Sequence[int]) -> Floats:
    """Geometric mean of the token probabilities of each sentence.

    p_s = exp(mean of log p_t over the tokens t of sentence s).

    Args:
        logprobs_T: natural log-probs of the tokens, (T,).
        ends: index after the last token of each sentence, strictly ascending, the last one T.

    Returns:
        (S,), in [0, 1]. Source: DASD, sentence score.

    Raises:
        ValueError: the ends do not cut the tokens into sentences.
    """
    cuts = np.array([0, *ends])
    lengths = np.diff(cuts)
    if cuts[-1] != logprobs_T.size or np.any(lengths < 1):
        msg = f"ends {list(ends)} do not cut {logprobs_T.size} tokens into sentences"
        raise ValueError(msg)
    sums = np.add.reduceat(logprobs_T.astype(np.float64), cuts[:-1])
    return np.exp(sums / lengths).astype(np.float32)


def provenance(teacher: float, student: float, distilled: float, margin: float) -> Provenance:
    """Class of a sentence that the distilled student wrote.

    Boosted where the distilled student is surer than both by `margin`; else shared where teacher
    and student differ by less than that; else it is of the one that is surer.

    Args:
        teacher: p_T, of the teacher.
        student: p_S, of the student before the distillation.
        distilled: p_D, of the student after it.
        margin: differences below it do not count.

    Returns:
        The class. Source: classes of provenance tracing (2512.20908); the rule is ours.
    """
    if distilled - max(teacher, student) >= margin:
        return Provenance.BOOSTED
    if abs(teacher - student) < margin:
        return Provenance.SHARED
    return Provenance.TEACHER if teacher > student else Provenance.STUDENT
