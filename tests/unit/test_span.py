"""The thinking span on token ids: 5 is the closing tag."""

import numpy as np
import pytest

from bard_ray.budget.span import thinking_span


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([29, 28, 5, 6, 1], (2, True, 3)),
        ([5, 6, 1], (0, True, 1)),
        ([29, 5], (1, True, 2)),
        ([29, 28, 30], (3, False, 3)),
        ([29, 1], (2, False, 2)),  # gave up with eos: all of it was thinking
        ([29, 5, 28, 5, 6], (1, True, 2)),  # the first tag counts
        ([], (0, False, 0)),
    ],
)
def test_span(ids, expected):
    assert thinking_span(np.array(ids, np.int32), close_id=5) == expected
