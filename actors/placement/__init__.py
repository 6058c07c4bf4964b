"""Placement: the processes of a run, their bundles, and the models they load."""
