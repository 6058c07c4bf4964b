"""BARD on Ray: budget-aware reasoning distillation. This package is the method; it imports no ray,
vllm or deepspeed.
"""
