"""Grading: extract the answer, compare it exactly, else ask math-verify.

`grade` must never run where it cannot be killed: see `process`, which runs it in a child process
with hard limits.
"""
