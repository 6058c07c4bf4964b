"""Rewards: functions of accuracy (the verdict) and budget fidelity (the thinking length).

`shapes/` holds the fidelity shapes, `library/` the rewards: one plug-in per file.
"""
