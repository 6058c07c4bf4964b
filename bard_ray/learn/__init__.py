"""What the learner computes: packing, token log-probs, losses, learning-rate schedules, batch order. No engine in here."""
