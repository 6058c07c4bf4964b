"""Measuring service times of the real roles, and the loop that the simulation has to predict."""
