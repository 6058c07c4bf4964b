"""Evaluation: the budget sweep, and the metrics of budget adherence and accuracy."""
