"""BARD on Ray: budget-aware reasoning distillation. This package is the method.

It imports no ray, vllm or deepspeed.
"""
