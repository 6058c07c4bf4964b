"""Measurement of the real roles' service times, and of the loop that the simulation predicts."""
