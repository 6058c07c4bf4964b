"""Thinking budgets: the typed signal and its codecs, samplers, and measuring the span."""
