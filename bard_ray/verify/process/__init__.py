"""Grading in child processes that are killed at their limits."""
