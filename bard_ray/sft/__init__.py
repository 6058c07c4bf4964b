"""The loop of supervised stages; the loss is in `bard_ray.learn`."""
