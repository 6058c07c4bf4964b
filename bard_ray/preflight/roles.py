"""Rules for the processes of a run: rollout workers, learner ranks, the cluster."""

from __future__ import annotations

import re

from bard_ray.config.schema import Config, LearnerConfig
from bard_ray.errors import ConfigError
from bard_ray.learn.precision import precision_problems
from bard_ray.preflight.bounds import Problems

CPU_BLOCK = 32  # tokens of the smallest cache block that vLLM's CPU engine can use
_ADDRESS = re.compile(r"local|auto|(ray://)?[\w.\-\[\]:]+:\d+")


def rollout(config: Config) -> Problems:
    """Rollout workers."""
    rollout = config.rollout
    if rollout.gpus == 0 and rollout.block_size < CPU_BLOCK:
        rule = f"is too small: vLLM has no CPU attention kernel for blocks under {CPU_BLOCK} tokens"
        fix = f"Set rollout.block_size={CPU_BLOCK}."
        yield ConfigError("rollout.block_size", rollout.block_size, rule, fix)
    if rollout.gpus > 0 and rollout.weight_load == "background":
        rule = "is for CPU workers; on a GPU vLLM loads weights in place"
        fix = "Set rollout.weight_load=auto."
        yield ConfigError("rollout.weight_load", rollout.weight_load, rule, fix)
    if 0 < rollout.gpus < 1 and rollout.gpu_memory_utilization > rollout.gpus:
        rule = f"exceeds the share of a device that rollout.gpus={rollout.gpus:g} asks for"
        fix = f"Set rollout.gpu_memory_utilization={rollout.gpus:g} or less."
        yield ConfigError(
            "rollout.gpu_memory_utilization", rollout.gpu_memory_utilization, rule, fix
        )
    if rollout.tensor_parallel > max(rollout.gpus, 1):
        rule = f"needs as many devices a worker, and rollout.gpus is {rollout.gpus:g}"
        fix = f"Set rollout.gpus={rollout.tensor_parallel}, or rollout.tensor_parallel=1."
        yield ConfigError("rollout.tensor_parallel", rollout.tensor_parallel, rule, fix)


def learner(config: Config) -> Problems:
    """Learner ranks."""
    learner = config.learner
    if learner.gpus > 1 or (learner.ranks > 1 and 0 < learner.gpus < 1):
        rule = "a rank uses one device, and two ranks cannot share one"
        yield ConfigError(
            "learner.gpus",
            learner.gpus,
            rule,
            "Set learner.gpus=1, and learner.ranks to the devices.",
        )
    yield from precision_problems(learner)
    if learner.attention == "flash_attention_2":
        yield from _flash_attention(learner)


def _flash_attention(learner: LearnerConfig) -> Problems:
    if learner.gpus == 0:
        rule = "runs on GPUs only, and learner.gpus is 0"
        yield ConfigError(
            "learner.attention", learner.attention, rule, "Set learner.attention=sdpa or eager."
        )
    if learner.precision == "float32":
        rule = "cannot be combined with flash_attention_2, which computes in half precision"
        yield ConfigError(
            "learner.precision", learner.precision, rule, "Set learner.precision=bfloat16."
        )


def cluster(config: Config) -> Problems:
    """Check the cluster's address."""
    if not _ADDRESS.fullmatch(config.cluster.address):
        rule = "must be local, auto, or the address of a head node"
        yield ConfigError(
            "cluster.address", config.cluster.address, rule, "For example 10.0.0.1:6379."
        )
