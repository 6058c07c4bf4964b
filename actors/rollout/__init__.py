"""Rollout workers: vLLM engines behind the `Sampler` role."""
