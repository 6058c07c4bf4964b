"""BARD on Ray: budget-aware reasoning distillation.

This package is the method: data, rewards, losses and loops. It imports no ray, vllm or deepspeed.
"""
