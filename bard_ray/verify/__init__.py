"""Grading: get the answer out of the text (`extract`), compare it exactly (`compare`), else ask
math-verify (`grade`).

`grade` must never run where it cannot be killed: see `process`, which runs it in a child process
    with hard limits.
"""
