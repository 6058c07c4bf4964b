"""Discrete-event simulation of the RL loop: what a step takes, on hardware one does not have."""
