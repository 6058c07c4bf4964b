"""Supervised stages: the loop; the loss lives in `bard_ray.learn`."""
