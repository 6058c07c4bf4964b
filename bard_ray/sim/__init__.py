"""Discrete-event simulation of the RL loop: step times on clusters that are not at hand.

Service times and a workload go in (`model`), step records come out (`loop`); `study` derives both
from hardware figures.
"""
