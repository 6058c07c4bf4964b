"""The learner group: DeepSpeed ranks behind the `Learner` role."""
