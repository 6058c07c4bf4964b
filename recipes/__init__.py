"""Recipes: one whole configuration each, as code.

`bard-ray run bard_tiny rl.max_lag=2` runs one; in the checkout, so does
`python recipes/bard_tiny.py rl.max_lag=2`.
"""

BUILT_IN = ("bard_8b", "bard_tiny")  # what `bard-ray` knows by name
