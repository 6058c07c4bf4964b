"""Rollout workers: vLLM engines behind the `Sampler` role.

Requests go client -> stream (one per worker) -> worker -> engine; groups of rollouts come back the
same way.
"""
