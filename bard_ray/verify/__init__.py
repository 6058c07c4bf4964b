"""Grading: extract the answer, compare it exactly, and fall back to math-verify.

`grade` must run in a process that can be killed: see `process`, which runs it in a child process
with hard limits.
"""
