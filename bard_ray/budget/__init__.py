"""Thinking budgets.

The typed signal and its codecs, samplers, and measuring the thinking span on token ids.
"""
