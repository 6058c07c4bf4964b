"""Rewards: accuracy from the verdict, fidelity from the thinking length, how they compose."""
