"""Recipes: one whole configuration each, as code.

`python recipes/bard_tiny.py rl.max_lag=2` runs one.
"""
