"""What the learner computes: packing, token log-probs, losses, learning rates, batch order.

There is no engine in here.
"""
