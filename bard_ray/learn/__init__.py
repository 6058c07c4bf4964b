"""The learner's math, without an engine.

Packing, token log-probs, losses and corrections, learning rates, batch order.
"""
