"""Rewards: accuracy from the verdict, fidelity from the length, and how they compose."""
