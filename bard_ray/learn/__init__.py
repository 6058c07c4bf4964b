"""What the learner computes: packing, token log-probs, losses, learning rates, batch order.

No engine in here.
"""
