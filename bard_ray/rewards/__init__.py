"""Rewards: accuracy from the verdict, fidelity from the thinking length, and what is made of them.

`shapes/` holds the fidelity shapes, `library/` the rewards: one plug-in a file.
"""
