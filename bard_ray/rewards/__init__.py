"""Rewards: accuracy from the verdict, budget fidelity from the thinking length, and how the two
compose.
"""
